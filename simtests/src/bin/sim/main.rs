//! Runs the simulation for people. `USAGE` below says what there is.

mod arguments;
mod many;
mod one;
mod planted;

use arguments::Arguments;
use raftkv_sim::world::options::Ring;
use simtests::laboratory;
use std::io::{self, Write};
use std::process::ExitCode;

const USAGE: &str = "\
usage: sim COMMAND [OPTION...]

  run      --seed N [--trace]            one seed; --trace prints every event, a line each: time, who, what, details
  options  --seed N                      what a seed stands for
  draw     --seed N -o FILE [--from MS] [--to MS] [--everything]
                                         a message-sequence picture (SVG) of a run or a window of it
  shrink   --seed N                      the shortest failing story near a failing seed, and how to see it
  many     --from A --count N [--jobs J] many seeds, with progress, faults fired and failing seeds
  report   --from A --count N [--jobs J] the same, with what every check was fed
  replay   [--jobs J]                    every seed that once found a bug
  planted  [--bug A,B] [--without C,D] [--seeds N] [--all] [--jobs J]
                                         plants bugs, and says which seed and check caught each first; with --all,
                                         how many of the seeds each check caught

The first four take --set NAME=VALUE, as often as wanted, to change what the seed stands for. All but options take --ring 1, for the
server's own driver loop under madsim; run, draw and shrink take --bug NAME to plant a bug. Both need another build, which is made.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(words: &[String]) -> Result<bool, String> {
    let (command, rest) = words.split_first().ok_or(USAGE)?;
    let (known, action): (&[&str], Action) = match command.as_str() {
        "run" => (&["--seed", "--ring", "--set", "--bug", "--trace"], one::run),
        "options" => (&["--seed", "--set"], one::options),
        "draw" => (
            &["--seed", "--ring", "--set", "--bug", "-o", "--from", "--to", "--everything"],
            one::draw,
        ),
        "shrink" => (&["--seed", "--ring", "--set", "--bug"], one::shrink),
        "many" => (&["--ring", "--from", "--count", "--jobs"], many::many),
        "report" => (&["--ring", "--from", "--count", "--jobs"], many::report),
        "replay" => (&["--ring", "--jobs"], many::replay),
        "planted" => {
            (&["--ring", "--bug", "--without", "--seeds", "--all", "--jobs"], planted::hunt)
        }
        _ => return Err(USAGE.into()),
    };
    let arguments = Arguments::read(rest, known)?;
    let needs_laboratory =
        command == "planted" || arguments.has("--bug") || arguments.ring()? == Ring::Driver;
    if needs_laboratory && !laboratory::IS_HERE {
        let status = laboratory::command(words).status();
        return Ok(status.map_err(|error| format!("cargo does not start: {error}"))?.success());
    }
    action(&arguments)
}

type Action = fn(&Arguments) -> Result<bool, String>;

/// Prints a line. A reader that has gone is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

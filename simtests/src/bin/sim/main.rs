//! Runs the simulation for people. `USAGE` below says what there is.

mod arguments;
mod many;
mod one;
mod planted;

use arguments::Arguments;
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
  planted  [--bug A,B] [--without C,D] [--seeds N] [--jobs J]
                                         plants bugs, and says which seed and check caught each

The first four take --set NAME=VALUE, as often as wanted, to change what the seed stands for, and --bug NAME to plant a bug.";

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
    let read = |known: &[&str]| Arguments::read(rest, known);
    let read_one = |known: &[&str]| {
        let known: Vec<&str> = [known, &["--seed", "--set", "--bug"]].concat();
        let arguments = Arguments::read(rest, &known)?;
        Ok::<_, String>((planted::needs_other_build(&arguments), arguments))
    };
    let (elsewhere, arguments, action): (bool, Arguments, Action) = match command.as_str() {
        "run" => with(read_one(&["--trace"])?, one::run),
        "options" => with(read_one(&[])?, one::options),
        "draw" => with(read_one(&["-o", "--from", "--to", "--everything"])?, one::draw),
        "shrink" => with(read_one(&[])?, one::shrink),
        "many" => (false, read(&["--from", "--count", "--jobs"])?, many::many),
        "report" => (false, read(&["--from", "--count", "--jobs"])?, many::report),
        "replay" => (false, read(&["--jobs"])?, many::replay),
        "planted" => (!planted::IS_HERE, read(planted::KNOWN)?, planted::hunt),
        _ => return Err(USAGE.into()),
    };
    if elsewhere {
        return planted::run_elsewhere(words);
    }
    action(&arguments)
}

type Action = fn(&Arguments) -> Result<bool, String>;

fn with((elsewhere, arguments): (bool, Arguments), action: Action) -> (bool, Arguments, Action) {
    (elsewhere, arguments, action)
}

/// Prints a line. A reader that has gone is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

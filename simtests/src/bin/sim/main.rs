//! Runs the simulation for people.
//!
//! ```text
//! sim run --seed N [--trace]                one seed; --trace prints every event
//! sim many --from A --count N [--jobs J]    many seeds, with progress and a summary
//! sim options --seed N                      what a seed stands for
//! sim planted [--bug A,B] [--without C,D] [--seeds N] [--jobs J]
//!                                           plants bugs, and says which seed and check caught each
//! ```

mod arguments;
mod planted;

use arguments::Arguments;
use raftkv_sim::world::Story;
use raftkv_sim::world::options::Options;
use simtests::{Verdict, campaign, run_seed};
use std::io::{self, Write};
use std::process::ExitCode;

const USAGE: &str = "usage: sim run | many | options | planted, each with options; they are named at the top of its source";

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
    let (command, words) = words.split_first().ok_or(USAGE)?;
    let read = |known| Arguments::read(words, known);
    match command.as_str() {
        "run" => run(&read(&["--seed", "--trace"])?),
        "many" => many(&read(&["--from", "--count", "--jobs"])?),
        "options" => {
            let seed = read(&["--seed"])?.required("--seed")?;
            say(&format!("{:#?}", Options::draw(seed)));
            Ok(true)
        }
        "planted" => planted::run(&read(planted::KNOWN)?, words),
        _ => Err(USAGE.into()),
    }
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    let story = arguments.has("--trace").then(Story::default);
    let seed = arguments.required("--seed")?;
    let Verdict { report, failure, .. } = run_seed(seed, story.clone());
    if let Some(story) = story {
        say(story.borrow().trim_end());
    }
    if let Some(report) = report {
        say(&format!("{report:#?}"));
    }
    say(&failure.as_ref().map_or("passed".into(), |failure| format!("FAILED: {failure}")));
    Ok(failure.is_none())
}

fn many(arguments: &Arguments) -> Result<bool, String> {
    let (from, count) = (arguments.required("--from")?, arguments.required("--count")?);
    let end = from.checked_add(count).ok_or("--from plus --count is too large")?;
    let seeds: Vec<u64> = (from..end).collect();
    let summary = campaign::run(&seeds, arguments.jobs()?, |verdict, summary| {
        if let Some(failure) = &verdict.failure {
            eprintln!("seed {}: {failure}", verdict.seed);
        }
        if summary.seeds.is_multiple_of(100) {
            let failed = summary.failures.len();
            eprintln!("{} of {count}, {failed} failed, {} to 1", summary.seeds, summary.ratio());
        }
    });
    say(summary.to_string().trim_end());
    Ok(summary.failures.is_empty())
}

/// Prints a line. A reader that has gone is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

//! Runs the simulation for people.
//!
//! ```text
//! sim run --seed N [--trace]                one seed; --trace prints every event
//! sim many --from A --count N [--jobs J]    many seeds, with progress and a summary
//! sim options --seed N                      what a seed stands for
//! ```

use raftkv_sim::world::Story;
use raftkv_sim::world::options::Options;
use simtests::{Verdict, campaign, run_seed};
use std::io::{self, Write};
use std::process::ExitCode;

const USAGE: &str = "usage: sim run --seed N [--trace] | sim many --from A --count N [--jobs J] | sim options --seed N";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<bool, String> {
    match arguments.first().map(String::as_str) {
        Some("run") => run(number(arguments, "--seed")?, has(arguments, "--trace")),
        Some("many") => {
            let (from, count) = (number(arguments, "--from")?, number(arguments, "--count")?);
            let jobs = match has(arguments, "--jobs") {
                true => number(arguments, "--jobs")? as usize,
                false => campaign::all_processors(),
            };
            many(from, count, jobs)
        }
        Some("options") => {
            say(&format!("{:#?}", Options::draw(number(arguments, "--seed")?)));
            Ok(true)
        }
        _ => Err(USAGE.into()),
    }
}

fn run(seed: u64, trace: bool) -> Result<bool, String> {
    let story = trace.then(Story::default);
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

fn many(from: u64, count: u64, jobs: usize) -> Result<bool, String> {
    let end = from.checked_add(count).ok_or("--from plus --count is too large")?;
    let seeds: Vec<u64> = (from..end).collect();
    let summary = campaign::run(&seeds, jobs, |verdict, summary| {
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

fn has(arguments: &[String], name: &str) -> bool {
    arguments.iter().any(|argument| argument == name)
}

fn number(arguments: &[String], name: &str) -> Result<u64, String> {
    let at = arguments.iter().position(|argument| argument == name);
    let value = at.and_then(|at| arguments.get(at + 1));
    let value = value.ok_or_else(|| format!("{name} is missing; {USAGE}"))?;
    value.parse().map_err(|_| format!("{name} wants a number, not {value:?}"))
}

/// Prints a line. A reader that has gone is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

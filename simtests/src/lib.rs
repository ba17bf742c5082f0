//! Running many seeds of the simulation: on several threads, with a summary, and one line for each failure that reproduces it.

pub mod campaign;
pub mod laboratory;
pub mod picture;
pub mod planted;
pub mod settings;
pub mod shrink;
pub mod summary;

use raftkv_sim::check::Violation;
use raftkv_sim::world::options::{Options, Ring};
use raftkv_sim::world::{Report, Run, Story, World};
use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

/// How one seed's run ended.
#[derive(Debug)]
pub struct Verdict {
    /// The seed.
    pub seed: u64,
    /// What ran the nodes.
    pub ring: Ring,
    /// What the run did; `None` when the code under test panicked.
    pub report: Option<Report>,
    /// What was wrong, if anything.
    pub failure: Option<String>,
}

/// Runs one seed, and tells `story` what happens.
pub fn run_seed(ring: Ring, seed: u64, story: Option<Story>) -> Verdict {
    run_options(Options { ring, ..Options::draw(seed) }, story)
}

/// Runs a world with these options. A panic of the code under test is a failure.
pub fn run_options(options: Options, story: Option<Story>) -> Verdict {
    let (ring, seed) = (options.ring, options.seed);
    match panic::catch_unwind(AssertUnwindSafe(|| World::new(options, story).run())) {
        Ok(Run { report, result }) => {
            let failure = result.err().map(|violation: Violation| violation.to_string());
            Verdict { seed, ring, report: Some(report), failure }
        }
        Err(payload) => {
            let failure = format!("panic: {}", message(payload.as_ref()));
            Verdict { seed, ring, report: None, failure: Some(failure) }
        }
    }
}

/// Seeds that once found a bug in this ring.
pub fn regressions(ring: Ring) -> Vec<u64> {
    let seeds = match ring {
        Ring::Models => include_str!("../seeds/regressions.txt"),
        Ring::Driver => include_str!("../seeds/regressions-ring1.txt"),
    };
    seeds
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            let seed = line.split_whitespace().next().and_then(|word| word.parse().ok());
            seed.unwrap_or_else(|| panic!("a line starts with its seed: {line}"))
        })
        .collect()
}

/// How to see a seed's run again.
pub fn reproduce(ring: Ring, seed: u64) -> String {
    let ring = match ring {
        Ring::Models => "",
        Ring::Driver => " --ring 1",
    };
    format!("cargo run --release -p simtests --bin sim -- run --seed {seed}{ring} --trace")
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("without words")
}

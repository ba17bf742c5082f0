//! Proof that the simulation notices what it should: bugs are planted in the core, one at a time, and seeds are run until one fails.
//!
//! The bugs are only in a build with `--cfg planted_bugs`, which has a directory of its own and holds nothing but the simulator.

use std::path::Path;
use std::process::Command;

/// Builds the simulator with the bugs in it, and runs it with these arguments.
pub fn command(arguments: &[String]) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace root");
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command
        .current_dir(root)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", format!("{flags} --cfg planted_bugs"))
        .env("CARGO_PROFILE_TEST_DEBUG", "0")
        .args(["run", "--quiet", "--profile", "test", "-p", "simtests", "--bin", "sim"])
        .args(["--target-dir", "target/planted", "--"])
        .args(arguments);
    command
}

#[cfg(planted_bugs)]
pub use hunt::{Hunt, Outcome, hunt};

#[cfg(planted_bugs)]
mod hunt {
    use crate::run_seed;
    use raftkv_core::planted::{self, Bug};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::{fmt, thread};

    /// What to hunt, and for how long.
    #[derive(Clone, Debug)]
    pub struct Hunt {
        /// The bugs, one after the other on each thread.
        pub bugs: Vec<Bug>,
        /// Seeds tried at most, from 0 on.
        pub seeds: u64,
        /// Threads.
        pub jobs: usize,
    }

    /// How a hunt for one bug ended.
    #[derive(Clone, Debug)]
    pub struct Outcome {
        /// The bug.
        pub bug: Bug,
        /// Seeds that were run.
        pub seeds: u64,
        /// What the last of them failed with; `None` if the bug got away.
        pub failure: Option<String>,
    }

    /// Hunts every bug. `on_outcome` is told of each as its hunt ends.
    pub fn hunt(hunt: &Hunt, on_outcome: impl Fn(&Outcome) + Sync) {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..hunt.jobs.max(1) {
                scope.spawn(|| {
                    while let Some(&bug) = hunt.bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        on_outcome(&hunt_one(bug, hunt.seeds));
                    }
                });
            }
        });
    }

    fn hunt_one(bug: Bug, seeds: u64) -> Outcome {
        planted::plant(Some(bug));
        let failing = (0..seeds).find_map(|seed| Some((seed, run_seed(seed, None).failure?)));
        planted::plant(None);
        let tried = failing.as_ref().map_or(seeds, |(seed, _)| seed + 1);
        Outcome { bug, seeds: tried, failure: failing.map(|(_, failure)| failure) }
    }

    impl fmt::Display for Outcome {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let name = format!("{:?}", self.bug);
            let got_away = "NOT CAUGHT";
            write!(
                f,
                "{name:<34} {:>5}  {}",
                self.seeds,
                self.failure.as_deref().unwrap_or(got_away)
            )
        }
    }
}

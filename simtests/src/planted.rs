//! Proof that the simulation notices what it should: bugs are planted in the core, one at a time, and seeds are run until one fails.
//!
//! The bugs are only in a build of its own ([`crate::laboratory`]).

#[cfg(planted_bugs)]
pub use hunt::{Hunt, Outcome, hunt};

#[cfg(planted_bugs)]
mod hunt {
    use crate::run_seed;
    use crate::shrink::property_of;
    use raftkv_core::planted::{self, Bug};
    use raftkv_sim::world::options::Ring;
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::{fmt, thread};

    /// So much of what a check says is shown.
    const WORDS_MAX: usize = 200;

    /// What to hunt, and for how long.
    #[derive(Clone, Debug)]
    pub struct Hunt {
        /// What runs the nodes.
        pub ring: Ring,
        /// The bugs, one after the other on each thread.
        pub bugs: Vec<Bug>,
        /// Seeds tried at most, from 0 on.
        pub seeds: u64,
        /// Threads.
        pub jobs: usize,
        /// Whether all seeds are run, to see which checks catch a bug and how often, not only the first.
        pub all: bool,
    }

    /// How a hunt for one bug ended.
    #[derive(Clone, Debug)]
    pub struct Outcome {
        /// The bug.
        pub bug: Bug,
        /// Seeds that were run.
        pub seeds: u64,
        /// What the first that failed did so with; `None` if the bug got away.
        pub failure: Option<String>,
        /// How many seeds failed each property.
        pub caught_by: BTreeMap<String, u64>,
    }

    /// Hunts every bug. `on_outcome` is told of each as its hunt ends.
    pub fn hunt(hunt: &Hunt, on_outcome: impl Fn(&Outcome) + Sync) {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..hunt.jobs.max(1) {
                scope.spawn(|| {
                    while let Some(&bug) = hunt.bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        on_outcome(&hunt_one(hunt, bug));
                    }
                });
            }
        });
    }

    fn hunt_one(hunt: &Hunt, bug: Bug) -> Outcome {
        planted::plant(Some(bug));
        let mut outcome =
            Outcome { bug, seeds: hunt.seeds, failure: None, caught_by: BTreeMap::new() };
        for seed in 0..hunt.seeds {
            let Some(failure) = run_seed(hunt.ring, seed, None).failure else { continue };
            *outcome.caught_by.entry(property_of(&failure).to_owned()).or_default() += 1;
            if outcome.failure.is_none() {
                outcome.seeds = seed + 1;
                outcome.failure = Some(failure);
            }
            if !hunt.all {
                break;
            }
        }
        planted::plant(None);
        outcome
    }

    impl fmt::Display for Outcome {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let name = format!("{:?}", self.bug);
            let how = self.failure.as_deref().unwrap_or("NOT CAUGHT");
            let end = how.floor_char_boundary(WORDS_MAX);
            write!(f, "{name:<34} {:>5}  {}", self.seeds, &how[..end])?;
            match self.caught_by.values().sum::<u64>() {
                0 | 1 => Ok(()),
                _ => write!(f, "\n  {:?}", self.caught_by),
            }
        }
    }
}

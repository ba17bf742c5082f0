//! Proof that the simulation notices what it should: bugs are planted in the core, one at a time, and seeds are run until one fails.
//!
//! The bugs are only in a build of its own ([`crate::laboratory`]).

#[cfg(planted_bugs)]
pub use hunt::{Hunt, Outcome, hunt};

#[cfg(planted_bugs)]
mod hunt {
    use crate::run_seed;
    use raftkv_core::planted::{self, Bug};
    use raftkv_sim::world::options::Ring;
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
                        on_outcome(&hunt_one(hunt.ring, bug, hunt.seeds));
                    }
                });
            }
        });
    }

    fn hunt_one(ring: Ring, bug: Bug, seeds: u64) -> Outcome {
        planted::plant(Some(bug));
        let failing = (0..seeds).find_map(|seed| Some((seed, run_seed(ring, seed, None).failure?)));
        planted::plant(None);
        let tried = failing.as_ref().map_or(seeds, |(seed, _)| seed + 1);
        Outcome { bug, seeds: tried, failure: failing.map(|(_, failure)| failure) }
    }

    impl fmt::Display for Outcome {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let name = format!("{:?}", self.bug);
            let how = self.failure.as_deref().unwrap_or("NOT CAUGHT");
            let end = how.floor_char_boundary(WORDS_MAX);
            write!(f, "{name:<34} {:>5}  {}", self.seeds, &how[..end])
        }
    }
}

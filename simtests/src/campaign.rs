//! Many seeds on several threads. Each run is single threaded; only the handing out of seeds is shared.

use crate::summary::Summary;
use crate::{Verdict, run_seed};
use raftkv_sim::world::options::Ring;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// Runs `seeds` on `jobs` threads. `on_verdict` is told of each as it ends.
pub fn run(
    ring: Ring,
    seeds: &[u64],
    jobs: usize,
    on_verdict: impl Fn(&Verdict, &Summary) + Sync,
) -> Summary {
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let summary = Mutex::new(Summary::default());
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = run_seed(ring, seed, None);
                    let mut summary =
                        summary.lock().expect("nothing panics while it holds the lock");
                    summary.add(&verdict);
                    summary.wall = began.elapsed();
                    on_verdict(&verdict, &summary);
                }
            });
        }
    });
    summary.into_inner().expect("nothing panics while it holds the lock")
}

/// As many threads as there are processors.
pub fn all_processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

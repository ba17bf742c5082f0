//! Whether and when the data centre is lost, drawn from a seed of its own.

use crate::random::{Draw, Ppm};
use raftkv_core::rng::Seed;
use raftkv_core::time::Span;

/// The disaster of one run.
#[derive(Clone, Copy, Debug)]
pub struct DisasterOptions {
    /// When the data centre is lost, if ever; as soon after as there is a backup.
    pub after: Option<Span>,
    /// Voters of the cluster that is restored: 1, 3 or 5.
    pub voters: u32,
    /// Whether the old machines come back later, with their disks.
    pub old_nodes_wake: bool,
    /// Whether the restored cluster is lost, too.
    pub again: Ppm,
}

impl DisasterOptions {
    /// The disaster of the run that a seed stands for.
    pub fn draw(seed: Seed) -> Self {
        let mut rng = seed.fork("disaster options");
        let after = rng.span(Span::from_millis(3_000), Span::from_millis(40_000));
        DisasterOptions {
            after: rng.happens(Ppm::percent(40)).then_some(after),
            voters: *rng.pick(&[1, 3, 3, 5]),
            old_nodes_wake: rng.happens(Ppm::percent(60)),
            again: Ppm::percent(20),
        }
    }
}

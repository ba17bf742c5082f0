//! What makes the backups of one run different from another's, drawn from a seed of their own.

use crate::model::store::{Damage, Outage, StoreFaults};
use crate::random::{Draw, Ppm};
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::config::Retention;
use raftkv_core::backup::create::Bounds;
use raftkv_core::rng::{Rng, Seed};
use raftkv_core::time::Span;

/// The backups of one run.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// Mean time between two jobs of the operator; never, if none are wanted before the end of the chaos.
    pub every: Option<Span>,
    /// The operator's process dies at one of its steps.
    pub kill: Ppm,
    /// A job of the operator is one that is not done every day.
    pub errands: Ppm,
    /// Keys a backup is sealed for; none: it is not encrypted.
    pub recipients: u32,
    /// How chunks are compressed.
    pub compression: Compression,
    /// Chunks and parts.
    pub bounds: Bounds,
    /// The store.
    pub store: StoreFaults,
    /// Mean time between two strikes against the store or the keys.
    pub strike_every: Span,
    /// What the store may be like for a while.
    pub outages: Vec<Outage>,
    /// What may happen to objects.
    pub damages: Vec<Damage>,
    /// The metadata of a complete backup is lost as well when something happens to the store.
    pub loses_metadata: Ppm,
    /// Whether the newest key is replaced now and then.
    pub rotates: bool,
    /// Mean time between two runs of retention; never, if there is none.
    pub prune_every: Option<Span>,
    /// By which rules it goes.
    pub rules: Retention,
    /// Whether nodes make backups for their cluster, on schedule and when asked.
    pub by_cluster: bool,
    /// Stores to which nodes copy their backups.
    pub copies: u32,
    /// How many stores must have a node's backup before it counts, the primary one included.
    pub required_copies: u32,
    /// The stores with copies.
    pub copy_store: StoreFaults,
    /// Whether these run retention after them, by the same rules, where the schedule or the rules say so.
    pub nodes_prune: bool,
}

impl BackupOptions {
    /// No job before it is asked for, and a good store.
    pub fn calm() -> Self {
        BackupOptions {
            every: None,
            kill: Ppm::NEVER,
            errands: Ppm::NEVER,
            recipients: 1,
            compression: Compression::Gzip { level: 1 },
            bounds: Bounds { chunk_bytes: 4096, part_bytes: 8192, ..Bounds::default() },
            store: StoreFaults::none(),
            strike_every: Span::from_millis(5_000),
            outages: Vec::new(),
            damages: Vec::new(),
            loses_metadata: Ppm::NEVER,
            rotates: false,
            prune_every: None,
            rules: Retention::default(),
            by_cluster: false,
            copies: 0,
            required_copies: 1,
            copy_store: StoreFaults::none(),
            nodes_prune: false,
        }
    }

    /// The backups of the run that a seed stands for.
    pub fn draw(seed: Seed) -> Self {
        let mut copies = seed.fork("copy options");
        let mut keeps = seed.fork("keep options");
        let mut rng = seed.fork("backup options");
        let rng = &mut rng;
        BackupOptions {
            every: Some(Span::from_millis(*rng.pick(&[2_000, 5_000, 10_000, 20_000]))),
            kill: *rng.pick(&[Ppm::NEVER, Ppm(5_000), Ppm(50_000)]),
            errands: Ppm::percent(*seed.fork("errand options").pick(&[0, 5, 20])),
            recipients: *rng.pick(&[0, 1, 1, 2, 3]),
            compression: *rng.pick(&[Compression::None, Compression::Gzip { level: 1 }]),
            bounds: Bounds {
                chunk_bytes: *rng.pick(&[4096, 16 << 10, 1 << 20]),
                chunks_in_flight: rng.between(1, 6) as usize,
                part_bytes: *rng.pick(&[1000, 8192, 1 << 20]),
                parts_in_flight: rng.between(1, 3) as usize,
                ..Bounds::default()
            },
            store: store(rng),
            strike_every: Span::from_millis(*rng.pick(&[1_000, 5_000, 20_000])),
            outages: some(rng, &Outage::ALL),
            damages: some(rng, &Damage::ALL),
            loses_metadata: Ppm::percent(*seed.fork("loss options").pick(&[0, 0, 2, 10])),
            rotates: rng.happens(Ppm::percent(30)),
            by_cluster: rng.happens(Ppm::percent(50)),
            copies: *copies.pick(&[0, 0, 1, 1, 2]),
            required_copies: *copies.pick(&[1, 1, 2, 3]),
            copy_store: store(&mut copies),
            prune_every: rng
                .happens(Ppm::percent(50))
                .then(|| Span::from_millis(*rng.pick(&[1_000, 5_000, 20_000]))),
            rules: Retention {
                retention_days: *rng.pick(&[0, 1]),
                max_backups: *rng.pick(&[0, 1, 1, 2, 3]),
                min_backups: *rng.pick(&[2, 2, 3]),
                keep_hourly: *keeps.pick(&[0, 0, 0, 1, 2]),
                keep_daily: *keeps.pick(&[0, 0, 0, 1, 2]),
                keep_weekly: *keeps.pick(&[0, 0, 0, 1]),
                keep_monthly: *keeps.pick(&[0, 0, 0, 1, 2]),
                prune_on_backup: true,
            },
            nodes_prune: rng.happens(Ppm::percent(50)),
        }
    }
}

fn store(rng: &mut Rng) -> StoreFaults {
    let bad = |rng: &mut Rng, max: u64| match rng.happens(Ppm::percent(60)) {
        true => Ppm::NEVER,
        false => Ppm(rng.below(max) as u32),
    };
    StoreFaults {
        latency_mean: Span::from_millis(*rng.pick(&[1, 10, 100])),
        timeout: Span::from_millis(*rng.pick(&[500, 3_000])),
        transient: bad(rng, 50_000),
        request_lost: bad(rng, 50_000),
        answer_lost: bad(rng, 50_000),
        late: bad(rng, 50_000),
        retried: bad(rng, 200_000),
        stale_listing: bad(rng, 1_000_000),
        staleness: Span::from_millis(*rng.pick(&[500, 10_000])),
    }
}

fn some<T: Copy>(rng: &mut Rng, all: &[T]) -> Vec<T> {
    let kept = Ppm::percent(*rng.pick(&[0, 30, 80]));
    all.iter().copied().filter(|_| rng.happens(kept)).collect()
}

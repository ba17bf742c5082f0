//! Everything that makes one run different from another, drawn from its seed: swarm testing.
//!
//! Each run switches whole kinds of faults off, so that rare ones are not drowned by frequent ones, and draws sizes and limits
//! small enough that snapshots, segment changes and cut-offs happen within a minute. Source: Groce et al., "Swarm Testing", 2012.

use crate::client::workload::{Mix, WorkloadOptions};
use crate::model::clock::ClockFaults;
use crate::model::disk::DiskFaults;
use crate::model::network::NetworkFaults;
use crate::random::{Draw, Ppm};
use crate::world::backups::options::BackupOptions;
use crate::world::disaster::DisasterOptions;
use crate::world::driven::DriverOptions;
use raftkv_core::config::Config;
use raftkv_core::rng::{Rng, Seed};
use raftkv_core::time::Span;
use std::ops::Range;

/// A kind of thing that can go wrong at a moment, beside what disks and networks do all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A node's process is killed.
    Kill,
    /// A node loses power.
    PowerCut,
    /// All nodes lose power at once.
    PowerCutAll,
    /// A node stops for a while, then goes on with what queued up.
    Pause,
    /// A node becomes slow.
    Slow,
    /// Links between nodes are cut.
    Partition,
    /// A client's way to a node is cut.
    ClientPartition,
    /// Links are clogged one by one, and cleared in another order.
    SwizzleClog,
    /// A calendar clock jumps or stands still.
    ClockStep,
    /// A disk is full for a while.
    DiskFull,
    /// A node loses its disk, and joins anew.
    DiskLoss,
    /// Bits flip in a node's files.
    BitRot,
    /// Writes that were reported done never were.
    LostWrite,
    /// A write went to another place.
    MisdirectedWrite,
    /// A file vanishes.
    LostFile,
    /// The leader is cut off, in one direction or both.
    LeaderPartition,
    /// A node's links carry little.
    SlowLink,
    /// A process is ended again and again.
    RestartStorm,
    /// All processes stop for a while.
    PauseAll,
    /// The operator asks for a hand-over of leadership.
    LeaderTransfer,
    /// The operator asks for a snapshot.
    SnapshotSave,
    /// A spare machine joins, as a voter or as a learner.
    MemberJoin,
    /// A spare machine is made a member before it asks, or never asks.
    MemberAdd,
    /// A learner becomes a voter.
    MemberPromote,
    /// A member is removed; now and then its process is started again and again.
    MemberRemove,
    /// A member is removed, and a spare machine joins.
    MemberReplace,
    /// The leader hands over and is removed.
    LeaderRemove,
    /// The operator asks the cluster for a backup.
    BackupRun,
    /// The operator sets a schedule for backups, ends it, pauses or resumes it.
    BackupSchedule,
    /// The node that makes a backup for the cluster loses power.
    MakerPowerCut,
    /// The process of the node that makes a backup for the cluster is killed; its machine goes on.
    MakerKilled,
    /// Nodes lose power about when they publish a snapshot, now and then, from now on.
    SnapshotPowerCut,
    /// All nodes lose power about when a change of membership is applied, once, from now on.
    MembershipPowerCut,
    /// The leader is cut off, overtaken, and loses power when it installs its successor's snapshot.
    LeaderOvertaken,
    /// A node is told to stop, hands over, and is started again.
    Stop,
    /// A machine's disk goes back to an older state.
    RollBack,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [FaultKind; 36] = [
        FaultKind::Kill,
        FaultKind::PowerCut,
        FaultKind::PowerCutAll,
        FaultKind::Pause,
        FaultKind::Slow,
        FaultKind::Partition,
        FaultKind::ClientPartition,
        FaultKind::SwizzleClog,
        FaultKind::ClockStep,
        FaultKind::DiskFull,
        FaultKind::DiskLoss,
        FaultKind::BitRot,
        FaultKind::LostWrite,
        FaultKind::MisdirectedWrite,
        FaultKind::LostFile,
        FaultKind::LeaderPartition,
        FaultKind::SlowLink,
        FaultKind::RestartStorm,
        FaultKind::PauseAll,
        FaultKind::LeaderTransfer,
        FaultKind::SnapshotSave,
        FaultKind::MemberJoin,
        FaultKind::MemberAdd,
        FaultKind::MemberPromote,
        FaultKind::MemberRemove,
        FaultKind::MemberReplace,
        FaultKind::LeaderRemove,
        FaultKind::BackupRun,
        FaultKind::BackupSchedule,
        FaultKind::MakerPowerCut,
        FaultKind::SnapshotPowerCut,
        FaultKind::LeaderOvertaken,
        FaultKind::Stop,
        FaultKind::RollBack,
        FaultKind::MembershipPowerCut,
        FaultKind::MakerKilled,
    ];

    /// Kinds that are drawn by themselves, so that they change no other option: from what, and how often it is in.
    const APART: [(FaultKind, &str, Ppm); 2] = [
        (FaultKind::MembershipPowerCut, "membership power cut", Ppm::percent(50)),
        (FaultKind::MakerKilled, "maker killed", Ppm::percent(50)),
    ];
}

/// What runs the nodes. The models around them are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ring {
    /// Ring 0: the world's own event loop hands inputs to the core.
    #[default]
    Models,
    /// Ring 1: the server's driver loop, on madsim's executor. Only with `--cfg madsim`.
    Driver,
}

/// One run's options.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where all randomness of the run comes from.
    pub seed: u64,
    /// What runs the nodes.
    pub ring: Ring,
    /// How the drivers of ring 1 are.
    pub driver: DriverOptions,
    /// Voters at the start: 1, 3 or 5.
    pub voters: u32,
    /// Learners at the start.
    pub learners: u32,
    /// Machines with empty disks, which may become members.
    pub spares: u32,
    /// How long anything may happen.
    pub chaos: Span,
    /// How long the cluster may take to be well again once everything is mended.
    pub recovery: Span,
    /// Kinds of fault that may strike.
    pub faults: Vec<FaultKind>,
    /// Mean time between two of them.
    pub fault_every: Span,
    /// Which of the moments that are drawn are used, counted from 0: all, unless a story is being made shorter.
    pub strikes: Range<u64>,
    /// Whether one of the nodes that a quorum can spare stays dead after the chaos.
    pub leave_dead: bool,
    /// Between nodes.
    pub network: NetworkFaults,
    /// Between clients and nodes.
    pub client_network: NetworkFaults,
    /// Every node's disk.
    pub disk: DiskFaults,
    /// Every node's clocks.
    pub clock: ClockFaults,
    /// A node takes up to this long to handle what has arrived.
    pub busy: Span,
    /// Every node's configuration, but for its address.
    pub config: Config,
    /// Clients that ask.
    pub clients: u32,
    /// Clients that watch.
    pub watchers: u32,
    /// What clients ask.
    pub workload: WorkloadOptions,
    /// Whether and when all machines are lost.
    pub disaster: DisasterOptions,
    /// Backups, and what goes wrong with them.
    pub backups: BackupOptions,
    /// Compare every answer with the reference model: slow, so not on every seed.
    pub with_reference: bool,
}

impl Options {
    /// A calm run: three nodes, nothing fails.
    pub fn calm(seed: u64) -> Options {
        Options {
            seed,
            ring: Ring::Models,
            driver: DriverOptions::CALM,
            voters: 3,
            learners: 0,
            spares: 0,
            chaos: Span::from_millis(10_000),
            recovery: Span::from_millis(60_000),
            faults: Vec::new(),
            fault_every: Span::from_millis(1_000),
            strikes: 0..u64::MAX,
            leave_dead: false,
            network: NetworkFaults::none(),
            client_network: NetworkFaults::none(),
            disk: DiskFaults::none(),
            clock: ClockFaults::default(),
            busy: Span(50_000),
            // A simulated disk holds every byte that is reserved.
            config: Config { segment_bytes: 1 << 20, ..Config::default() },
            clients: 4,
            watchers: 1,
            workload: WorkloadOptions {
                mix: Mix { put: 30, get: 20, range: 10, delete: 8, txn: 15, lease: 5, compact: 1 },
                keys: 20,
                value_bytes: 60,
                think: Span::from_millis(100),
                sessions: Ppm::percent(80),
                pipeline: 1,
                reads_anywhere: Ppm::NEVER,
                alike: false,
            },
            disaster: DisasterOptions::default(),
            backups: BackupOptions::calm(),
            with_reference: seed.is_multiple_of(8),
        }
    }

    /// The run that a seed stands for.
    pub fn draw(seed: u64) -> Options {
        let mut rng = Seed::from_number(seed).fork("options");
        let voters = *rng.pick(&[1, 3, 3, 3, 3, 3, 5, 5]);
        let learners = *rng.pick(&[0, 0, 0, 1, 2]);
        let spares = *rng.pick(&[0, 0, 1, 1, 2]);
        let calm = Options::calm(seed);
        let mut options = Options {
            driver: DriverOptions::draw(Seed::from_number(seed)),
            voters,
            learners,
            spares,
            chaos: rng.span(Span::from_millis(55_000), Span::from_millis(75_000)),
            faults: some_faults(&mut rng),
            fault_every: rng.span(Span::from_millis(500), Span::from_millis(5_000)),
            leave_dead: rng.happens(Ppm::percent(20)),
            network: network(&mut rng),
            client_network: client_network(&mut rng),
            disk: disk(&mut rng),
            clock: clock(&mut rng),
            busy: Span(*rng.pick(&[0, 20_000, 200_000, 5_000_000])),
            clients: rng.between(1, 6) as u32,
            watchers: rng.below(3) as u32,
            workload: workload(&mut rng),
            disaster: DisasterOptions::draw(Seed::from_number(seed)),
            backups: BackupOptions::draw(Seed::from_number(seed)),
            ..calm
        };
        options.config = config(&mut rng);
        for (kind, name, kept) in FaultKind::APART {
            if Seed::from_number(seed).fork(name).happens(kept) {
                options.faults.push(kind);
            }
        }
        options
    }
}

fn some_faults(rng: &mut Rng) -> Vec<FaultKind> {
    let kept = Ppm::percent(*rng.pick(&[20, 50, 80]));
    let is_apart = |kind: &FaultKind| FaultKind::APART.iter().any(|(apart, ..)| apart == kind);
    let others = FaultKind::ALL.into_iter().filter(|kind| !is_apart(kind));
    others.filter(|_| rng.happens(kept)).collect()
}

fn often(rng: &mut Rng, off: u32, max: Ppm) -> Ppm {
    if rng.happens(Ppm::percent(off)) {
        Ppm::NEVER
    } else {
        Ppm(rng.below(u64::from(max.0)) as u32)
    }
}

fn network(rng: &mut Rng) -> NetworkFaults {
    NetworkFaults {
        delay_min: Span(rng.between(50_000, 5_000_000)),
        delay_mean: Span(*rng.pick(&[100_000, 1_000_000, 5_000_000, 30_000_000])),
        loss: often(rng, 50, Ppm::percent(30)),
        corrupt: often(rng, 70, Ppm::percent(5)),
        duplicate: often(rng, 50, Ppm::percent(30)),
        replay: often(rng, 60, Ppm::percent(5)),
        ordered: rng.happens(Ppm::percent(50)),
        capacity: *rng.pick(&[8, 64, 1024, usize::MAX]),
    }
}

fn client_network(rng: &mut Rng) -> NetworkFaults {
    // A connection carries a request once or not at all: it may only be lost or late.
    NetworkFaults { loss: often(rng, 50, Ppm::percent(5)), ..NetworkFaults::none() }
}

fn disk(rng: &mut Rng) -> DiskFaults {
    DiskFaults {
        access_mean: Span(*rng.pick(&[5_000, 50_000, 500_000])),
        sync_mean: Span(*rng.pick(&[50_000, 500_000, 5_000_000, 30_000_000])),
        hang: often(rng, 70, Ppm(2_000)),
        read_error: often(rng, 80, Ppm(20_000)),
        write_error: often(rng, 80, Ppm(500)),
        sync_error: often(rng, 80, Ppm(500)),
    }
}

fn clock(rng: &mut Rng) -> ClockFaults {
    ClockFaults { drift: often(rng, 30, Ppm::percent(5)), steps: rng.happens(Ppm::percent(50)) }
}

fn workload(rng: &mut Rng) -> WorkloadOptions {
    let mut weight = |usual: u64| {
        if rng.happens(Ppm::percent(20)) { 0 } else { rng.between(1, 2 * usual) as u32 }
    };
    let mix = Mix {
        put: weight(30).max(5),
        get: weight(20),
        range: weight(10),
        delete: weight(8),
        txn: weight(15),
        lease: weight(5),
        compact: weight(2),
    };
    let pipeline = *rng.pick(&[1, 1, 2, 4, 8]);
    WorkloadOptions {
        mix,
        keys: *rng.pick(&[1, 5, 20, 200]),
        value_bytes: *rng.pick(&[10, 100, 2_000]),
        // Who may ask for more at a time does not ask for more in all.
        think: Span::from_millis(*rng.pick(&[10, 50, 200, 1_000]) * u64::from(pipeline)),
        sessions: Ppm::percent(*rng.pick(&[0, 50, 100])),
        pipeline,
        reads_anywhere: Ppm::percent(*rng.pick(&[0, 20, 80])),
        alike: rng.happens(Ppm::percent(30)),
    }
}

fn config(rng: &mut Rng) -> Config {
    let mut config = Config {
        snapshot_entries: *rng.pick(&[20, 50, 200, 500, 8_192]),
        snapshot_interval: Span::from_millis(*rng.pick(&[2_000, 20_000, 120_000])),
        snapshots_kept: rng.between(1, 3) as usize,
        segment_bytes: *rng.pick(&[4 << 10, 16 << 10, 64 << 10]),
        trailing_entries: *rng.pick(&[0, 10, 100, 4_096]),
        history_revisions: *rng.pick(&[0, 20, 200, 100_000]),
        ..Config::default()
    };
    config.backup_lease = Span::from_millis(*rng.pick(&[5_000, 15_000, 60_000]));
    config.limits.inflight_requests = *rng.pick(&[2, 64, 65_536]);
    config.limits.watch_backlog_events = *rng.pick(&[4, 65_536]);
    config
}

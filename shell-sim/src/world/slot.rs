//! One place for a node: a machine with its disk and clocks, and the process that runs on it, if any.

use super::damage::Place;
use super::driven::{self, View};
use super::founding::Founding;
use super::log_map::LogMap;
use super::options::Options;
use super::process;
use super::rollback::Image;
use super::{OPERATOR_HOST, WATCHER_HOSTS};
use crate::check::Violation;
use crate::model::clock::ClockModel;
use crate::model::disk::{Disk, DiskCounts, SECTOR_BYTES};
use crate::model::network::Host;
use crate::random::Draw;
use crate::time::SimTime;
use raftkv_core::api::{NodeStatus, Role};
use raftkv_core::backup::BackupId;
use raftkv_core::boot::{Boot, Genesis};
use raftkv_core::ids::{Identity, OpId, ReqId};
use raftkv_core::io::{FileName, Input};
use raftkv_core::kv::KvState;
use raftkv_core::node::Node;
use raftkv_core::rng::{Rng, Seed};
use raftkv_core::time::{Mono, Span};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A node that is run this often without time going on is stuck.
const SPINS_MAX: u32 = 10_000;

/// A machine.
#[derive(Debug)]
pub(super) struct Slot {
    /// The operator's number for the member that lives here.
    pub(super) member: u32,
    /// Who the data directory belongs to.
    pub(super) identity: Identity,
    pub(super) disk: Disk,
    pub(super) clock: ClockModel,
    pub(super) process: Process,
    /// Arrived, not handled yet.
    pub(super) inbox: VecDeque<Input>,
    /// Not before this does the process handle anything.
    pub(super) free_at: SimTime,
    /// It takes up to this long to handle what has arrived.
    pub(super) busy: Span,
    /// Who waits for an answer: the client and its attempt.
    pub(super) requests: BTreeMap<ReqId, (Host, u64)>,
    pub(super) next_request: u64,
    /// Watches that have said from where they run.
    pub(super) running_watches: BTreeSet<ReqId>,
    /// Requests below this came before the node last installed a snapshot.
    pub(super) installed_before: u64,
    /// How often a process here has asked the object store for something.
    pub(super) blobs: u64,
    /// Under which the process asks the object store.
    pub(super) store_session: u64,
    /// When the node last handled anything, by its own clock.
    pub(super) ran_at: Mono,
    pub(super) boots: u64,
    /// The disk's faults when the process was started: later ones explain a failure.
    pub(super) faults_at_boot: DiskCounts,
    /// Someone flipped bits or emptied the disk since it was last known good.
    pub(super) damaged: bool,
    /// What the node was when it was told to stop, if it was.
    pub(super) told_to_stop: Option<Role>,
    /// A cluster was restored: this machine's data directory is made from that, unless it is there.
    pub(super) founding: Option<Founding>,
    /// Backups that a process here has begun to upload.
    pub(super) uploads: BTreeSet<BackupId>,
    /// The disk as it was, to be put back.
    pub(super) image: Option<Image>,
    /// Its disk was put back to an older state: the last entry it held before, until it holds that again.
    pub(super) forgot: Option<(u64, u64)>,
    /// Which parts of the log's files damage can be told apart in.
    pub(super) log_map: LogMap,
    /// Handled this often without time going on.
    pub(super) spins: u32,
    /// What the node last said about itself.
    pub(super) status: Option<Box<NodeStatus>>,
}

/// What runs on a machine.
#[derive(Debug)]
pub(super) enum Process {
    /// Nothing, until then.
    Down {
        /// When it is started again.
        until: SimTime,
    },
    /// The data directory is being read.
    Booting {
        /// The reader.
        boot: Box<Boot>,
        /// The disk operation it waits for, and whether bytes are expected.
        waits_for: OpId,
    },
    /// The data directory of a restored cluster's member is being made.
    Founding {
        /// What is left to be done.
        genesis: Box<Genesis>,
        /// The disk operation it waits for.
        waits_for: OpId,
    },
    /// A node.
    Running {
        /// The node.
        node: Box<Node>,
        /// When it wants to be woken.
        wake: SimTime,
    },
    /// A node in a driver.
    Driven {
        /// Whether it was stopped, and not let go on.
        is_stopped: bool,
        /// How much it has said in this turn.
        outputs: usize,
        /// How the node was after its last turn.
        view: Option<Box<View>>,
    },
    /// The disk is empty: an operator must let the member join anew.
    Vacant,
}

impl Slot {
    /// A machine with an empty disk, for this member of a run's first cluster.
    pub(super) fn new(options: &Options, member: u32, now: SimTime, seed: &Seed) -> Self {
        Slot {
            member,
            identity: process::first_identity(options.seed, member),
            disk: Disk::new(options.disk, seed.fork(&format!("disk {member}"))),
            clock: ClockModel::new(now, options.clock, seed.fork(&format!("clock {member}"))),
            process: Process::Vacant,
            inbox: VecDeque::new(),
            free_at: now,
            busy: options.busy,
            requests: BTreeMap::new(),
            next_request: 1,
            running_watches: BTreeSet::new(),
            installed_before: 0,
            blobs: 0,
            store_session: 0,
            ran_at: Mono(0),
            boots: 0,
            faults_at_boot: DiskCounts::default(),
            damaged: false,
            told_to_stop: None,
            founding: None,
            uploads: BTreeSet::new(),
            image: None,
            forgot: None,
            log_map: LogMap::default(),
            spins: 0,
            status: None,
        }
    }

    /// The machine's address in the network.
    pub(super) fn host(&self) -> Host {
        Host(self.member - 1)
    }

    /// When something has to be done here next, apart from the disk.
    pub(super) fn next_wake(&self) -> SimTime {
        match &self.process {
            Process::Down { until } => *until,
            Process::Booting { .. } | Process::Founding { .. } | Process::Vacant => SimTime::NEVER,
            Process::Driven { is_stopped: false, .. } if self.inbox.is_empty() => SimTime::NEVER,
            Process::Driven { .. } => self.free_at,
            Process::Running { wake, .. } => {
                let wanted = if self.inbox.is_empty() { *wake } else { SimTime(0) };
                wanted.max(self.free_at)
            }
        }
    }

    /// Whether the disk misbehaved since the process was started.
    pub(super) fn disk_has_failed(&self) -> bool {
        let (now, then) = (self.disk.counts(), self.faults_at_boot);
        (now.read_errors, now.write_errors, now.sync_errors, now.full)
            != (then.read_errors, then.write_errors, then.sync_errors, then.full)
    }

    /// Whether somebody waits for an answer here; a watch is no question.
    pub(super) fn owes(&self) -> bool {
        let is_watch = |client: &Host| (WATCHER_HOSTS..OPERATOR_HOST).contains(&client.0);
        self.requests.values().any(|(client, _)| !is_watch(client))
    }

    /// A snapshot file, to be damaged.
    pub(super) fn some_snapshot(&self, rng: &mut Rng) -> Option<Place> {
        let files: Vec<(FileName, u64)> = self
            .disk
            .listing()
            .into_iter()
            .filter(|(name, _)| matches!(name, FileName::Snapshot(_)))
            .collect();
        if files.is_empty() {
            return None;
        }
        let (file, length) = *rng.pick(&files);
        let length = length as usize;
        // A chunk of it, or less.
        let start = rng.below(length.max(1) as u64) as usize;
        Some(Place { file, range: start..length.min(start + SECTOR_BYTES), what: "snapshot" })
    }

    /// The identity, to be damaged.
    pub(super) fn identity_place(&self) -> Option<Place> {
        let length = self.disk.contents(FileName::Identity)?.len();
        Some(Place { file: FileName::Identity, range: 0..length, what: "identity" })
    }

    /// The state of the node, while it runs.
    pub(super) fn state(&self) -> Option<&KvState> {
        match &self.process {
            Process::Running { node, .. } => Some(node.state()),
            Process::Driven { view, .. } => view.as_ref().map(|view| &view.state),
            _ => None,
        }
    }

    /// Entries of the log that the node holds in memory, while it runs.
    pub(super) fn log_entries(&self) -> Option<u64> {
        match &self.process {
            Process::Running { node, .. } => Some(driven::log_entries(node)),
            Process::Driven { view, .. } => view.as_ref().map(|view| view.log_entries),
            _ => None,
        }
    }

    /// Whether a node runs here.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.process, Process::Running { .. } | Process::Driven { .. })
    }

    /// A name for a disk operation of the shell's own, above the nodes' so that a late completion is never mistaken.
    pub(super) fn name_operation(&mut self) -> OpId {
        self.next_request += 1;
        OpId(1 << 63 | self.next_request)
    }

    /// The node was run, and time goes on or does not; a violation when it has not gone on for too long.
    pub(super) fn count_spin(&mut self, time_goes_on: bool) -> Result<(), Violation> {
        self.spins = if time_goes_on { 0 } else { self.spins + 1 };
        if self.spins > SPINS_MAX {
            let detail = format!("node {} wants to wake at once, for ever", self.identity.node);
            return Err(Violation::new("progress", detail));
        }
        Ok(())
    }
}

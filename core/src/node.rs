//! The coordinator: routes inputs to the machines, and their results to each other and to the outside. It knows every machine;
//! they do not know each other.
//!
//! Invariants ([`Node::check`]): compacted log <= snapshot <= applied <= commit <= last; nothing that depends on the disk leaves before
//! the disk's completion came in; every request is answered once.

mod apply;
mod backups;
mod check;
mod clients;
mod clock;
pub mod copies;
mod gates;
mod making;
mod members;
mod peers;
mod proposals;
mod removal;
mod snapshots;
mod stop;
mod trial;
mod views;

use crate::api::{Error, MemberInfo, Request, Response};
use crate::backup::machine::ActionResult;
use crate::boot::Image;
use crate::config::Config;
use crate::consensus::reads::Reads;
use crate::consensus::{Consensus, Effects, Persist, Restart};
use crate::ids::{Identity, NodeId, OpId, ReqId};
use crate::io::{DiskDone, DiskError, DiskOp, Halt, Input, Output};
use crate::kv::{KvState, Watches};
use crate::log::{Event, Level};
use crate::planted::{self, Bug};
use crate::rng::Seed;
use crate::time::{Mono, Now, Span};
use crate::wal::{WalRecord, WalWriter};
use crate::wire::peer::RaftMessage;
use clock::LeaderClock;
use gates::{Gates, Released};
use proposals::Proposals;
use snapshots::Snapshots;
use std::collections::{BTreeMap, VecDeque};
use views::Views;

/// Ticks handed to raft at once after the process was suspended.
const CATCH_UP_TICKS_MAX: u32 = 3;

/// Why the node wants to wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Raft's clock; everything that may wait for a tick hangs on it.
    RaftTick,
    /// A read must be tried again.
    ReadRetry,
    /// The snapshot being made goes on after a rest.
    SnapshotRest,
    /// A lease ends.
    LeaseEnd,
    /// A piece of the state can be read for a backup.
    BackupFeed,
}

/// A broken invariant. In a simulation it fails the run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broken invariant: {0}")]
pub struct Broken(pub String);

/// One node of a cluster.
#[derive(Debug)]
pub struct Node {
    identity: Identity,
    config: Config,
    now: Now,
    consensus: Consensus,
    wal: WalWriter,
    state: KvState,
    /// Whom to talk to before there is a state that says so.
    first_peers: Vec<MemberInfo>,
    /// Index and term of the last entry applied.
    applied: (u64, u64),
    watches: Watches,
    reads: Reads,
    /// Requests that wait for a read index.
    reading: BTreeMap<ReqId, Request>,
    proposals: Proposals,
    clock: LeaderClock,
    gates: Gates,
    /// The newest term that is on stable storage here.
    durable_term: u64,
    /// The newest commit index that is; it is written with other things, and with the commit of a change of membership.
    durable_commit: u64,
    disk: BTreeMap<OpId, DiskUse>,
    snapshots: Snapshots,
    views: Views,
    members: members::Changes,
    maker: making::Maker,
    copier: copies::Copier,
    duty: backups::Duty,
    removal: removal::Removal,
    stopping: stop::Stopping,
    was: Standing,
    outbox: VecDeque<Output>,
    next_op: u64,
    next_tick: Mono,
    /// When a leader was known last.
    leader_seen: Mono,
    halted: bool,
}

/// What a disk operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DiskUse {
    /// A record of the log: a failure stops the node.
    Append {
        /// The record's number.
        sequence: u64,
    },
    /// The snapshot being written.
    SnapshotWrite,
    /// A snapshot being read for this peer.
    SnapshotSend(NodeId),
    /// The snapshot being received.
    SnapshotReceive {
        /// The receiver's name for the operation.
        ticket: u64,
    },
    /// The identity: a failure stops the node.
    Identity,
    /// Clearing away: a failure is a warning.
    Cleanup,
}

/// What this node was when last looked at, to notice changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    leads: bool,
    knows_all: bool,
    leader: Option<NodeId>,
    term: u64,
}

impl Node {
    /// A node from its checked data directory. `seed` must differ between two lives of a node.
    pub fn new(config: Config, image: Image, seed: Seed, now: Now) -> Self {
        let restart = Restart {
            node: image.identity.node,
            hard_state: image.hard_state,
            snapshot: image.snapshot.clone(),
            entries: image.entries,
        };
        let consensus = Consensus::new(&config, restart, &seed);
        let born = consensus.last_index();
        let mut wal = image.wal;
        wal.set_segment_bytes(config.segment_bytes);
        let read_retry = Span(config.tick.0 * u64::from(config.election_ticks) / 2);
        let mut node = Node {
            identity: image.identity,
            now,
            consensus,
            wal,
            applied: (image.snapshot.index, image.snapshot.term),
            first_peers: image.peers,
            watches: Watches::new(),
            reads: Reads::new(&seed, read_retry),
            reading: BTreeMap::new(),
            proposals: Proposals::default(),
            clock: LeaderClock::default(),
            gates: Gates::default(),
            durable_term: image.hard_state.term,
            durable_commit: image.hard_state.commit,
            disk: BTreeMap::new(),
            snapshots: Snapshots::new(&config, image.snapshots, image.joining, image.identity, now),
            views: Views::new(config.limits.views),
            members: members::Changes::new(image.snapshot.index),
            maker: making::Maker::new(&seed),
            copier: copies::Copier::new(born),
            duty: backups::Duty::default(),
            removal: removal::Removal::default(),
            stopping: stop::Stopping::default(),
            was: Standing::default(),
            outbox: VecDeque::new(),
            next_op: 1,
            next_tick: now.mono + config.tick,
            leader_seen: now.mono,
            halted: false,
            state: image.state,
            config,
        };
        image.warnings.into_iter().for_each(|warning| node.log(Level::Warn, warning));
        for file in image.leftovers {
            node.disk(DiskOp::Remove { file }, DiskUse::Cleanup);
        }
        node.announce_peers();
        node.notice_removal();
        if node.consensus.conf().voters == [node.identity.node] {
            node.consensus.campaign();
        }
        node
    }

    /// Whose node this is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Takes one input. Total: a bad request is a reply, a failed disk a halt.
    pub fn handle(&mut self, now: Now, input: Input) {
        if self.halted {
            return;
        }
        self.now = Now { mono: self.now.mono.max(now.mono), wall: now.wall };
        // An input before may have made this node a leader: what it proposes from now on is stamped by the clock of this leadership.
        self.notice_standing();
        match input {
            Input::Timeout => self.feed_making(),
            Input::Client { req, request } => self.on_client(req, request),
            Input::ClientGone { req } => self.on_client_gone(req),
            Input::Peer { from, frame } => self.on_peer(from, frame),
            Input::PeerUnreachable { peer } => {
                self.consensus.report_unreachable(peer);
            }
            Input::Disk { op, result } => self.on_disk(op, result),
            Input::Blob { op, result } => {
                self.on_making_result(ActionResult::Blob { op, result });
            }
            Input::Work { op, done } => self.on_work_done(op, done),
            Input::Shutdown => self.on_shutdown(),
        }
        self.on_time();
    }

    /// The next thing to do outside; `None` when all was said until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outbox.is_empty() && !self.halted {
            self.flush();
        }
        let output = self.outbox.pop_front();
        if matches!(output, Some(Output::Halt(_))) {
            self.outbox.clear();
        }
        output
    }

    /// When to hand in [`Input::Timeout`] at the latest, and why.
    pub fn poll_timeout(&self) -> Option<(Mono, Timer)> {
        if self.halted {
            return None;
        }
        // A lease whose end could not be proposed yet waits for the next tick.
        let lease_end = self.lease_end().filter(|at| *at > self.now.mono);
        let lease_end = lease_end.map(|at| (at, Timer::LeaseEnd));
        let retry = self.reads.deadline().map(|at| (at, Timer::ReadRetry));
        let feed = self.maker.wants_feed().then_some((self.now.mono, Timer::BackupFeed));
        let rest = self.snapshots.rest_end().map(|at| (at, Timer::SnapshotRest));
        [Some((self.next_tick, Timer::RaftTick)), lease_end, retry, feed, rest]
            .into_iter()
            .flatten()
            .min()
    }

    /// The state, for checkers.
    pub fn state(&self) -> &KvState {
        &self.state
    }

    /// Consensus, for checkers.
    pub fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    /// Index of the last entry applied.
    pub fn applied_index(&self) -> u64 {
        self.applied.0
    }

    fn on_time(&mut self) {
        let mut ticks = 0;
        while self.next_tick <= self.now.mono {
            if ticks == CATCH_UP_TICKS_MAX {
                self.next_tick = self.now.mono + self.config.tick;
                break;
            }
            ticks += 1;
            self.next_tick = self.next_tick + self.config.tick;
            self.consensus.tick();
        }
        // A lone voter may have elected itself just now. What hangs on leadership, the clock of its stamps above all, begins before anything
        // is proposed.
        self.notice_standing();
        if ticks > 0 {
            self.on_tick();
        }
        self.resume_snapshot();
        self.end_leases();
    }

    /// Work that hangs on raft's tick.
    fn on_tick(&mut self) {
        self.drive_membership();
        self.drive_removal();
        self.drive_snapshots();
        self.drive_history();
        self.drive_backups();
        self.give_up_reads();
        self.views.expire(self.now.mono);
        self.drive_stop();
    }

    /// Carries out everything that became possible, until nothing is left to do inside.
    fn flush(&mut self) {
        loop {
            self.submit_proposals();
            if self.consensus.can_read()
                && let Some(context) = self.reads.next_attempt(self.now.mono)
            {
                self.consensus.read_index(context);
            }
            match self.consensus.flush() {
                Some(effects) => self.carry_out(effects),
                None => break,
            }
            self.notice_standing();
            self.serve_reads();
            self.drive_snapshots();
            if self.halted {
                return;
            }
        }
        self.answer_membership();
        self.serve_watches();
    }

    fn carry_out(&mut self, effects: Effects) {
        let mut messages = effects.messages;
        if let Some(mut persist) = effects.persist {
            if self.durable_term < self.consensus.term() && !planted::is(Bug::LoneVoterSpeaksEarly)
            {
                // Whoever was elected by others has made its term durable before it asked them. A lone voter elects itself at once:
                // what it says in a term that a crash could make it forget must wait, or it would use the term twice.
                persist.messages.splice(0..0, std::mem::take(&mut messages));
            }
            self.persist(persist, messages);
        }
        if let Some(meta) = effects.install {
            self.install(meta);
        }
        if let Some(last) = effects.committed.last().map(|entry| entry.index) {
            for entry in effects.committed {
                self.apply(entry);
                if self.halted {
                    return;
                }
            }
            self.consensus.applied(last);
        }
        for (context, index) in effects.reads {
            self.reads.confirm(&context, index);
        }
    }

    /// Sends what may leave at once, then starts to make durable what the rest waits for.
    fn persist(&mut self, persist: Persist, at_once: Vec<RaftMessage>) {
        let Persist { number, hard_state, entries, snapshot, messages } = persist;
        self.send_all(at_once);
        // Only messages, or a commit index, which the log tells again: nothing to write, only earlier writes to wait for.
        let idle = hard_state.is_none() && entries.is_empty() && snapshot.is_none();
        let (mut last, mut commit) = (None, 0);
        if !idle {
            let mut hard_state = hard_state.unwrap_or_else(|| self.consensus.hard_state());
            if planted::is(Bug::VoteNotPersisted) {
                hard_state.vote = NodeId::NONE;
            }
            commit = hard_state.commit;
            let hard_state = Some(hard_state);
            let ops = self.wal.append(&WalRecord { hard_state, snapshot, entries });
            let sequence = self.wal.sequence();
            for op in ops {
                last = Some(self.disk(op, DiskUse::Append { sequence }));
            }
        }
        let term = self.consensus.term();
        let last = last.filter(|_| !planted::is(Bug::SentBeforeDurable));
        self.gates.push(last, Released { number, term, commit, messages });
        self.release();
    }

    /// Lets go of what the disk has made true.
    fn release(&mut self) {
        while let Some(released) = self.gates.pop() {
            self.durable_term = self.durable_term.max(released.term);
            self.durable_commit = self.durable_commit.max(released.commit);
            self.consensus.persisted(released.number);
            self.send_all(released.messages);
        }
    }

    fn on_disk(&mut self, op: OpId, result: Result<DiskDone, DiskError>) {
        let Some(purpose) = self.disk.remove(&op) else { return };
        match (purpose, result) {
            (DiskUse::Append { sequence }, Ok(_)) => {
                self.wal.handle_durable(sequence);
                self.gates.complete(op);
                self.release();
            }
            (DiskUse::Append { .. }, Err(error)) => {
                self.halt(Halt::DiskFailed { file: "the write-ahead log".into(), error });
            }
            (DiskUse::Cleanup, Ok(_)) => {}
            (DiskUse::Cleanup, Err(error)) => {
                self.log(Level::Warn, format!("an old file could not be removed: {error}"));
            }
            (DiskUse::SnapshotWrite, result) => self.on_snapshot_written(result),
            (DiskUse::SnapshotSend(peer), result) => self.on_snapshot_read(peer, result),
            (DiskUse::SnapshotReceive { ticket }, result) => {
                self.on_snapshot_received(ticket, result);
            }
            (DiskUse::Identity, Ok(_)) => {}
            (DiskUse::Identity, Err(error)) => {
                self.halt(Halt::DiskFailed { file: "the identity".into(), error });
            }
        }
    }

    /// Leadership came or went: requests that hang on it are told.
    fn notice_standing(&mut self) {
        let now = Standing {
            leads: self.consensus.is_leader(),
            knows_all: self.consensus.leads_and_knows_all(),
            leader: self.consensus.leader(),
            term: self.consensus.term(),
        };
        let was = std::mem::replace(&mut self.was, now);
        if was == now {
            return;
        }
        if was.leads && (!now.leads || was.term != now.term) {
            for req in self.proposals.take_appended() {
                let not_done = planted::is(Bug::UnknownCalledNotDone);
                self.reply_error(req, if not_done { self.not_leader() } else { Error::Unknown });
            }
            self.snapshots.stop_sending();
            self.give_up_choosing();
        }
        if now.leads && (!was.leads || now.knows_all && !was.knows_all) {
            let state_ms = self.state.log_time_ms();
            let stamp_ms = if was.leads { self.clock.log_time_ms(self.now) } else { 0 };
            self.clock.start(state_ms.max(stamp_ms), self.now);
        }
        if now.leader != was.leader {
            self.reads.retry_now();
            self.settle_transfer();
            let (term, leader) = (now.term, now.leader);
            self.log(
                Level::Info,
                match leader {
                    Some(node) if node == self.identity.node => format!("leading in term {term}"),
                    Some(node) => format!("following node {node} in term {term}"),
                    None => format!("no leader in term {term}"),
                },
            );
        }
    }

    fn disk(&mut self, action: DiskOp, purpose: DiskUse) -> OpId {
        let op = self.name_op();
        self.disk.insert(op, purpose);
        self.outbox.push_back(Output::Disk { op, action });
        op
    }

    fn name_op(&mut self) -> OpId {
        let op = OpId(self.next_op);
        self.next_op += 1;
        op
    }

    fn reply(&mut self, req: ReqId, response: Response) {
        self.outbox.push_back(Output::Reply { req, response });
    }

    fn reply_error(&mut self, req: ReqId, error: Error) {
        self.reply(req, Response::Error(error));
    }

    fn log(&mut self, level: Level, message: String) {
        self.outbox.push_back(Output::Event(Event { level, message }));
    }

    fn halt(&mut self, halt: Halt) {
        if self.halted {
            return;
        }
        self.halted = true;
        self.outbox.push_back(Output::Halt(halt));
    }
}

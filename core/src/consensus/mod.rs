//! Consensus: raft-rs behind plain data. What raft wants done comes out as [`Effects`]; nothing else of raft leaves this folder.
//!
//! Invariants
//! - Between taking a `Ready` and advancing past it no other call reaches raft: [`Consensus::flush`] does both in one function.
//! - Appends are asynchronous: the leader's messages leave at once, everybody else's wait in [`Effects::persist`] until the
//!   log record of the same number is on stable storage (thesis §10.2.1).
//! - Election timeouts come from our own generator (`pin`); raft's own draws are overwritten before they are ever read.
//! - Reads use ReadIndex (thesis §6.4) with a fresh context per attempt ([`reads`]); never leases.
//! - Proposals are only handed to raft while it leads, so nothing is ever forwarded.
//! - What comes from a peer is checked by [`guard`] before raft, which would panic on it, sees it.

mod convert;
pub mod guard;
pub mod membership;
mod memlog;
mod pin;
pub mod reads;

pub use guard::Suspicion;
pub use membership::{ConfChange, ConfStep};

use crate::api::Role;
use crate::config::Config;
use crate::ids::NodeId;
use crate::log::{ConfState, Entry, EntryKind, HardState};
use crate::planted::{self, Bug};
use crate::rng::Seed;
use crate::wire::peer::{RaftMessage, SnapshotMeta};
use bytes::Bytes;
use memlog::MemLog;
use pin::ElectionPin;
use raft::prelude::Message;
use raft::{GetEntriesContext, RawNode, SnapshotStatus, StateRole, Storage};

/// Bytes of entries in one append to a follower.
const APPEND_BYTES_MAX: u64 = 1 << 20;
/// Appends to one follower that are not answered yet.
const APPENDS_INFLIGHT_MAX: usize = 128;
/// Bytes of committed entries taken out of raft at once, so that one drain of outputs stays short.
const APPLY_BYTES_MAX: u64 = 1 << 20;

/// What a start needs from the disk.
#[derive(Debug)]
pub struct Restart {
    /// This node.
    pub node: NodeId,
    /// As recovered; `commit` is at least the snapshot's index.
    pub hard_state: HardState,
    /// The snapshot the log builds on; index 0 for a node that waits for its first.
    pub snapshot: SnapshotMeta,
    /// The entries behind it, without gaps.
    pub entries: Vec<Entry>,
}

/// What raft wants done, in this order: send, persist, install, apply, then look at reads.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be sent at once.
    pub messages: Vec<RaftMessage>,
    /// To be made durable; the messages in it may leave only then.
    pub persist: Option<Persist>,
    /// The state is replaced by the snapshot that was offered under this name.
    pub install: Option<SnapshotMeta>,
    /// Committed entries, to be applied in order.
    pub committed: Vec<Entry>,
    /// Reads that raft confirmed: context, and the index to wait for.
    pub reads: Vec<(Bytes, u64)>,
}

/// One step of durability.
#[derive(Debug)]
pub struct Persist {
    /// Hand this to [`Consensus::persisted`] when it and everything before it is durable.
    pub number: u64,
    /// Term or vote changed, entries follow, or a change of membership was committed: must be durable. `None` if only messages wait for earlier steps.
    pub hard_state: Option<HardState>,
    /// To be appended; replaces whatever the log holds from the first one's index on.
    pub entries: Vec<Entry>,
    /// The log starts anew behind this snapshot.
    pub snapshot: Option<SnapshotMeta>,
    /// To be sent once durable.
    pub messages: Vec<RaftMessage>,
}

/// Why nothing was proposed. Nothing was appended either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotProposed {
    /// Another node leads, or none.
    NotLeader,
    /// Leadership is being handed over, or too many bytes are not committed yet.
    Dropped,
}

/// How a follower stands, as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The last index known to be in its log.
    pub matched: u64,
    /// It answered within the last election timeout.
    pub recent_active: bool,
}

/// One node's part in consensus.
pub struct Consensus {
    raw: RawNode<MemLog>,
    pin: ElectionPin,
    /// The commit index when last looked at.
    commit_seen: u64,
    proposals: Vec<raft::prelude::Entry>,
}

impl Consensus {
    /// Starts from what the disk holds.
    pub fn new(config: &Config, restart: Restart, seed: &Seed) -> Self {
        let election = config.election_ticks.max(2) as usize;
        let raft_config = raft::Config {
            id: restart.node.0,
            election_tick: election,
            min_election_tick: election,
            max_election_tick: 2 * election,
            heartbeat_tick: (config.heartbeat_ticks.max(1) as usize).min(election - 1),
            applied: restart.snapshot.index,
            max_size_per_msg: APPEND_BYTES_MAX,
            max_inflight_msgs: APPENDS_INFLIGHT_MAX,
            check_quorum: !planted::is(Bug::QuorumNotChecked),
            pre_vote: true,
            batch_append: true,
            max_uncommitted_size: config.limits.inflight_bytes as u64 * 2 + APPEND_BYTES_MAX,
            max_committed_size_per_ready: APPLY_BYTES_MAX,
            ..raft::Config::default()
        };
        let log = MemLog::new(&restart);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&raft_config, log, &logger)
            .expect("the configuration above is valid and the log readable");
        let commit_seen = raw.raft.raft_log.committed;
        let pin = ElectionPin::new(seed, election);
        let mut consensus = Consensus { raw, pin, commit_seen, proposals: Vec::new() };
        consensus.pin.apply(&mut consensus.raw);
        // A node that starts has heard from no leader for who knows how long: it need not wait a whole timeout before it asks. With
        // pre-vote and check-quorum its asking disturbs nobody who has a leader.
        consensus.raw.raft.election_elapsed = election - 1;
        consensus
    }

    /// One unit of raft's time has passed.
    pub fn tick(&mut self) {
        // Raft takes it for granted that a candidate's log is durable. A lone voter elects itself within one call, so it must not
        // try while its own appends are on their way; any other candidate's requests wait for the disk anyway.
        let alone = self.raw.raft.prs().is_singleton();
        if alone && !self.is_leader() && self.raw.raft.raft_log.persisted < self.last_index() {
            return;
        }
        self.raw.tick();
        self.pin.apply(&mut self.raw);
    }

    /// Stand for election now. Used where waiting for the timeout makes no sense: a cluster of one.
    pub fn campaign(&mut self) {
        // The only error is having no vote, which the next conf change may bring.
        let _ = self.raw.campaign();
        self.pin.apply(&mut self.raw);
    }

    /// Takes a message from a peer. An error says that either side's log is not what it promised to be.
    pub fn step(&mut self, from: NodeId, message: RaftMessage) -> Result<(), Suspicion> {
        if !guard::is_well_formed(from, self.node(), &message) {
            return Ok(());
        }
        if !planted::is(Bug::SuspicionIgnored) {
            guard::check(&self.raw, &message)?;
        }
        let message = convert::message_in(message);
        // Errors mean "not now" (a peer raft does not know, a proposal dropped); the sender tries again.
        let _ = self.raw.step(message);
        if self.is_leader() && planted::is(Bug::EarlierTermCommitted) {
            let counted = self.raw.raft.mut_prs().maximal_committed_index().0;
            self.raw.raft.raft_log.commit_to(counted);
        }
        self.pin.apply(&mut self.raw);
        Ok(())
    }

    /// Queues entries' data for the next [`Self::flush`]. Nothing is promised yet.
    pub fn queue_proposal(&mut self, data: Bytes) {
        self.proposals.push(raft::prelude::Entry { data, ..Default::default() });
    }

    /// Hands the queued proposals to raft as one append. On success, the index of the first one and the term.
    pub fn submit_proposals(&mut self) -> Result<(u64, u64), NotProposed> {
        let entries = std::mem::take(&mut self.proposals);
        if entries.is_empty() {
            return Ok((self.last_index() + 1, self.term()));
        }
        self.propose(entries)
    }

    /// Proposes a change of membership. On success the index it will have; that it is applied there is not said: raft may replace
    /// it by an empty entry while another change is under way.
    pub fn propose_membership(&mut self, change: &ConfChange) -> Result<(u64, u64), NotProposed> {
        self.propose(vec![raft::prelude::Entry {
            entry_type: raft::prelude::EntryType::EntryConfChangeV2,
            data: membership::to_raft_bytes(change),
            ..Default::default()
        }])
    }

    fn propose(&mut self, entries: Vec<raft::prelude::Entry>) -> Result<(u64, u64), NotProposed> {
        if !self.is_leader() {
            return Err(NotProposed::NotLeader);
        }
        let first = self.last_index() + 1;
        let message = Message {
            msg_type: raft::prelude::MessageType::MsgPropose,
            from: self.raw.raft.id,
            entries: entries.into(),
            ..Default::default()
        };
        let outcome = self.raw.raft.step(message);
        self.pin.apply(&mut self.raw);
        outcome.map(|()| (first, self.term())).map_err(|_| NotProposed::Dropped)
    }

    /// Asks raft to confirm the commit index under a context that was never used before.
    pub fn read_index(&mut self, context: Bytes) {
        self.raw.read_index(context.to_vec());
        self.pin.apply(&mut self.raw);
    }

    /// Whether a read request has a chance now: raft drops it without a word otherwise.
    pub fn can_read(&self) -> bool {
        match self.raw.raft.state {
            StateRole::Leader => self.raw.raft.commit_to_current_term(),
            _ => self.leader().is_some(),
        }
    }

    /// Takes out what raft wants done. Empty when nothing is.
    pub fn flush(&mut self) -> Option<Effects> {
        if !self.raw.has_ready() {
            return None;
        }
        let mut ready = self.raw.ready();
        let mut effects = Effects {
            messages: convert::messages_out(ready.take_messages()),
            reads: ready
                .take_read_states()
                .into_iter()
                .map(|read| (Bytes::from(read.request_ctx), read.index))
                .collect(),
            committed: convert::entries_out(ready.take_committed_entries()),
            ..Effects::default()
        };
        let waiting = convert::messages_out(ready.take_persisted_messages());
        let entries = ready.take_entries();
        let snapshot = (!ready.snapshot().is_empty())
            .then(|| convert::snapshot_meta_out(ready.snapshot().get_metadata()));
        let must_sync = ready.must_sync() && !planted::is(Bug::TermNotPersisted);
        if let Some(meta) = &snapshot {
            self.raw.mut_store().restart_behind(meta);
            effects.install = Some(meta.clone());
        }
        if !entries.is_empty() {
            self.raw.mut_store().append(&entries);
        }
        let must_sync = self.learns_of_membership() || must_sync;
        let hard_state = must_sync.then(|| self.hard_state());
        effects.persist = Some(Persist {
            number: ready.number(),
            hard_state,
            entries: convert::entries_out(entries),
            snapshot,
            messages: waiting,
        });
        let number = ready.number();
        self.raw.advance_append_async(ready);
        if planted::is(Bug::AppliedBeforeDurable) {
            self.raw.on_persist_ready(number);
        }
        if let Some(meta) = &effects.install {
            // The snapshot's file is durable and its state in place, whatever becomes of the log record that says so. Raft must know
            // at once: between an installed snapshot and its applied index lie entries that nobody holds any more, and it would look
            // for them when it stands for election. Messages still wait for the record.
            self.raw.on_persist_ready(number);
            self.raw.advance_apply_to(meta.index);
        }
        Some(effects)
    }

    /// Whether a change of membership was committed since last asked. Elsewhere a commit index is learned again after a restart; but a node
    /// that forgot a change it has acted on, or told others it knows of, would look for a majority among nodes that are gone.
    fn learns_of_membership(&mut self) -> bool {
        let commit = self.commit_index();
        let before = std::mem::replace(&mut self.commit_seen, commit);
        self.raw.store().changes_membership(before, commit)
            && !planted::is(Bug::CommitNotPersistedWithMembership)
    }

    /// Everything up to this step is durable.
    pub fn persisted(&mut self, number: u64) {
        self.raw.on_persist_ready(number);
        if self.is_leader() && planted::is(Bug::AcknowledgedBeforeQuorum) {
            let persisted = self.raw.raft.raft_log.persisted;
            self.raw.raft.raft_log.commit_to(persisted);
        }
        self.pin.apply(&mut self.raw);
    }

    /// The state machine has applied up to `index`.
    pub fn applied(&mut self, index: u64) {
        self.raw.advance_apply_to(index);
        self.pin.apply(&mut self.raw);
    }

    /// Applies a membership entry; the configuration after it. A leader that is no member in it leads no more.
    pub fn apply_membership(&mut self, step: &ConfStep) -> Result<ConfState, String> {
        let outcome = self.raw.apply_conf_change(&membership::to_raft(step));
        if self.is_leader() && !self.raw.raft.promotable() {
            // raft-rs leaves it leading, and panics when such a leader commits.
            self.raw.raft.become_follower(self.term(), NodeId::NONE.0);
        }
        self.pin.apply(&mut self.raw);
        match outcome {
            Ok(conf) => {
                let conf = convert::conf_state_out(&conf);
                if !planted::is(Bug::StaleMembershipInSnapshot) {
                    self.raw.mut_store().set_conf(conf.clone());
                }
                Ok(conf)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// A snapshot file became durable: the log may be cut behind it, but for `trailing` entries, and it is what followers far
    /// behind are sent.
    pub fn snapshot_saved(&mut self, meta: SnapshotMeta, trailing: u64) {
        self.raw.mut_store().snapshot_saved(meta, trailing);
    }

    /// Whether a follower needs a newer snapshot than the newest durable one. Asking clears it.
    pub fn take_snapshot_wanted(&self) -> bool {
        self.raw.store().take_snapshot_wanted()
    }

    /// How the transfer of a snapshot to a follower ended. Without this raft never sends to it again.
    pub fn report_snapshot(&mut self, peer: NodeId, delivered: bool) {
        let status = if delivered { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(peer.0, status);
        self.pin.apply(&mut self.raw);
    }

    /// Frames to this peer are being lost.
    pub fn report_unreachable(&mut self, peer: NodeId) {
        self.raw.report_unreachable(peer.0);
        self.pin.apply(&mut self.raw);
    }

    /// Start handing leadership to a voter.
    pub fn transfer_leader(&mut self, to: NodeId) {
        self.raw.transfer_leader(to.0);
        self.pin.apply(&mut self.raw);
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        NodeId(self.raw.raft.id)
    }

    /// The newest term seen.
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Whether this node leads.
    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Whether this node leads and has applied an entry of its own term, so that it knows everything committed before.
    pub fn leads_and_knows_all(&self) -> bool {
        self.is_leader() && self.raw.raft.apply_to_current_term()
    }

    /// The leader of the current term, if known.
    pub fn leader(&self) -> Option<NodeId> {
        Some(NodeId(self.raw.raft.leader_id)).filter(|id| *id != NodeId::NONE)
    }

    /// What this node does.
    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate => Role::Candidate,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Follower if self.raw.raft.promotable() => Role::Follower,
            StateRole::Follower => Role::Learner,
        }
    }

    /// Index of the last entry of the log, durable or not.
    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// Index before the first entry held in memory.
    pub fn compacted_index(&self) -> u64 {
        self.raw.store().compacted_index()
    }

    /// The commit index.
    pub fn commit_index(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// The applied index, as raft was told.
    pub fn applied_index(&self) -> u64 {
        self.raw.raft.raft_log.applied
    }

    /// Term of an entry that is still held.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        self.raw.raft.raft_log.term(index).ok()
    }

    /// The hard state now.
    pub fn hard_state(&self) -> HardState {
        convert::hard_state_out(&self.raw.raft.hard_state())
    }

    /// The configuration now.
    pub fn conf(&self) -> &ConfState {
        self.raw.store().conf()
    }

    /// Whether a change of membership is on its way or half done.
    pub fn membership_in_flux(&self) -> bool {
        self.raw.raft.has_pending_conf() || !self.conf().voters_outgoing.is_empty()
    }

    /// How a follower stands; `None` for nodes outside the configuration.
    pub fn progress(&self, peer: NodeId) -> Option<Progress> {
        let progress = self.raw.raft.prs().get(peer.0)?;
        Some(Progress { matched: progress.matched, recent_active: progress.recent_active })
    }

    /// Followers that get nothing more before it is known what became of a snapshot.
    pub fn awaiting_snapshot(&self) -> impl Iterator<Item = NodeId> + '_ {
        let waits = |progress: &raft::Progress| progress.state == raft::ProgressState::Snapshot;
        let all = self.raw.raft.prs().iter().filter(move |(_, progress)| waits(progress));
        all.map(|(peer, _)| NodeId(*peer))
    }

    /// Entries that are still held, for tests and checks.
    pub fn entries(&self, low: u64, high: u64) -> Vec<Entry> {
        let held = self.raw.store().entries(low, high, None, GetEntriesContext::empty(false));
        convert::entries_out(held.unwrap_or_default())
    }
}

impl std::fmt::Debug for Consensus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consensus")
            .field("node", &self.node())
            .field("role", &self.role())
            .field("term", &self.term())
            .field("last", &self.last_index())
            .field("commit", &self.commit_index())
            .finish_non_exhaustive()
    }
}

/// Whether an applied entry is a command (the empty entry of a new leader is not).
pub fn is_command(entry: &Entry) -> bool {
    entry.kind == EntryKind::Normal && !entry.data.is_empty()
}

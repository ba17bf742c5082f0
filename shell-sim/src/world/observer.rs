//! Sees everything that happens in the world, and asks the checkers after every step.
//!
//! It follows each node's log by the records the node hands to its disk, so it knows which entry every node has at every
//! index, and which of them are on stable storage.

use super::configurations::{self, Configurations};
use crate::check::Violation;
use crate::check::election_safety::ElectionSafety;
use crate::check::hard_state::HardStates;
use crate::check::known_membership;
use crate::check::leader_completeness;
use crate::check::leader_quorum::LeaderQuorum;
use crate::check::log_matching::LogMatching;
use crate::check::own_term::OwnTermCommits;
use crate::check::promises;
use crate::check::quorum_durability;
use crate::check::recovery::DurableLogs;
use crate::check::state_machine_safety::StateMachineSafety;
use crate::time::SimTime;
use raftkv_core::api::{NodeStatus, Role};
use raftkv_core::boot::Image;
use raftkv_core::ids::{NodeId, OpId};
use raftkv_core::io::DiskOp;
use raftkv_core::kv::KvState;
use raftkv_core::log::{ConfState, Entry, HardState};
use raftkv_core::time::Span;
use raftkv_core::wal::{self, WalRecord};
use raftkv_core::wire::peer::{RaftMessage, SnapshotMeta};
use std::collections::BTreeMap;

/// The all-seeing one.
#[derive(Debug, Default)]
pub struct Observer {
    elections: ElectionSafety,
    hard_states: HardStates,
    matching: LogMatching,
    safety: StateMachineSafety,
    durable: DurableLogs,
    own_term: OwnTermCommits,
    leader_quorum: LeaderQuorum,
    entries: BTreeMap<(u64, u64), Entry>,
    logs: BTreeMap<NodeId, NodeLog>,
    on_the_way: BTreeMap<(NodeId, OpId), Appended>,
    counts: Counts,
    confs: Configurations,
    genesis: Option<(u64, KvState)>,
    /// When each entry was first applied anywhere.
    applied_at: BTreeMap<u64, SimTime>,
    elected_at: Vec<SimTime>,
    /// Some node's entries were replaced by others.
    replaced_tail: bool,
}

/// What the checkers were fed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Nodes looked at after a step.
    pub statuses: u64,
    /// Entries handed to disks or found there.
    pub entries: u64,
    /// Hard states handed to disks.
    pub hard_states: u64,
    /// Starts of nodes.
    pub boots: u64,
    /// Messages sent.
    pub messages: u64,
}

/// One node's log as it wrote it.
#[derive(Debug, Default)]
struct NodeLog {
    base: (u64, u64),
    terms: BTreeMap<u64, u64>,
    applied: u64,
}

/// What a node did since it was looked at before.
#[derive(Debug)]
pub struct Activity<'a> {
    /// Peers of which it has handled a message.
    pub heard: &'a [NodeId],
    /// How long it ran, by its own clock; a tick at most.
    pub ran: Span,
    /// Raft's election timeout.
    pub election_timeout: Span,
}

/// What becomes durable with a disk operation.
#[derive(Debug)]
struct Appended {
    hard_state: Option<HardState>,
    snapshot: Option<SnapshotMeta>,
    ids: Vec<(u64, u64)>,
}

impl Observer {
    /// The cluster starts at this log index, with these members.
    pub fn begin(&mut self, index: u64, conf: ConfState) {
        self.confs.begin(index, conf);
    }

    /// `node` asked its disk for something.
    pub fn on_disk_asked(
        &mut self,
        node: NodeId,
        op: OpId,
        action: &DiskOp,
    ) -> Result<(), Violation> {
        let Some(record) = wal::record::carried_by(action) else { return Ok(()) };
        if let Some(hard_state) = record.hard_state {
            self.counts.hard_states += 1;
            self.hard_states.written(node, hard_state)?;
        }
        self.append(node, &record)?;
        let ids = record.entries.iter().map(|entry| (entry.index, entry.term)).collect();
        let appended = Appended { hard_state: record.hard_state, snapshot: record.snapshot, ids };
        self.on_the_way.insert((node, op), appended);
        Ok(())
    }

    /// The disk of `node` has done something well.
    pub fn on_disk_done(&mut self, node: NodeId, op: OpId) {
        let Some(appended) = self.on_the_way.remove(&(node, op)) else { return };
        if let Some(snapshot) = &appended.snapshot {
            self.durable.restarted(node, snapshot);
        }
        self.durable.appended(node, &appended.ids);
        if let Some(hard_state) = appended.hard_state {
            self.hard_states.durable(node, hard_state);
        }
    }

    /// `node` sends a message.
    pub fn on_sent(&mut self, node: NodeId, message: &RaftMessage) -> Result<(), Violation> {
        self.counts.messages += 1;
        let log = self.logs.get(&node);
        let is_replaced = |index: u64, term: u64| {
            log.is_some_and(|log| log.terms.get(&index).is_none_or(|found| *found > term))
        };
        promises::kept(node, message, &self.hard_states, &self.durable, is_replaced)
    }

    /// The process of `node` has ended. Entries that were not durable yet, and that nobody else has, never were: a lone voter may use
    /// their index and term again, as it had told nobody. What its disk kept after all is seen when it starts.
    pub fn on_stop(&mut self, node: NodeId) {
        let own = self.on_the_way.iter().filter(|((owner, _), _)| *owner == node);
        let lost: Vec<(u64, u64)> = own.flat_map(|(_, appended)| appended.ids.clone()).collect();
        self.on_the_way.retain(|(owner, _), _| *owner != node);
        self.own_term.follows(node);
        self.leader_quorum.follows(node);
        for (index, term) in lost {
            let known = self.logs.iter().any(|(other, log)| {
                log.applied >= index || *other != node && log.terms.get(&index) == Some(&term)
            });
            if !known {
                self.matching.forget(index, term);
                self.entries.remove(&(index, term));
            }
        }
    }

    /// The disk of `node` was put back to an older state: what it promised before is not on it.
    pub fn forget(&mut self, node: NodeId) {
        self.hard_states.forget(node);
        self.durable.forget(node);
        self.logs.remove(&node);
    }

    /// `node` starts from what its disk holds.
    pub fn on_boot(&mut self, node: NodeId, image: &Image) -> Result<(), Violation> {
        if self.genesis.is_none() {
            self.genesis = Some((image.snapshot.index, image.state.clone()));
        }
        self.counts.boots += 1;
        self.hard_states.recovered(node, image.hard_state)?;
        let base = (image.snapshot.index, image.snapshot.term);
        self.durable.recovered(node, base, &image.entries)?;
        let log = self.logs.entry(node).or_default();
        log.base = (image.snapshot.index, image.snapshot.term);
        log.applied = image.snapshot.index;
        let record = WalRecord { entries: image.entries.clone(), ..WalRecord::default() };
        self.append(node, &record)
    }

    /// What `node` says about itself. Says whether it has just become leader.
    pub fn on_status(
        &mut self,
        now: SimTime,
        node: NodeId,
        status: &NodeStatus,
        conf: &ConfState,
        activity: &Activity<'_>,
    ) -> Result<bool, Violation> {
        self.counts.statuses += 1;
        let elected = status.role == Role::Leader && self.elections.leads(status.term, node)?;
        let log = self.logs.entry(node).or_default();
        if elected {
            self.elected_at.push(now);
            let has = |index: u64| log.terms.get(&index).copied();
            leader_completeness::elected(node, status.term, log.base.0, has, self.safety.log())?;
        }
        match status.role {
            Role::Leader => {
                let (term, commit) = (status.term, status.commit_index);
                self.own_term.leads(node, term, commit, log.terms.get(&commit).copied())?;
                let Activity { heard, ran, election_timeout } = *activity;
                self.leader_quorum.leads(node, term, conf, heard, ran, election_timeout)?;
            }
            _ => {
                self.own_term.follows(node);
                self.leader_quorum.follows(node);
            }
        }
        if status.applied_index > log.applied {
            let from = log.applied.max(log.base.0) + 1;
            let applied: Vec<(u64, Option<u64>)> = (from..=status.applied_index)
                .map(|index| (index, log.terms.get(&index).copied()))
                .collect();
            log.applied = status.applied_index;
            for (index, term) in applied {
                self.on_applied(node, index, term)?;
                self.applied_at.entry(index).or_insert(now);
            }
        }
        self.safety.state(node, status.applied_index, status.state_hash, status.revision)?;
        let base = self.logs.get(&node).map_or(0, |log| log.base.0);
        let change = self.confs.begun_at(status.applied_index);
        known_membership::check(node, change, base, self.hard_states.written_commit(node))?;
        let expected = self.confs.at(status.applied_index);
        if let Some(expected) = expected.filter(|expected| !configurations::same(expected, conf)) {
            let at = status.applied_index;
            let detail =
                format!("after entry {at} node {node} has {conf:?}, the log says {expected:?}");
            return Err(Violation::new("membership", detail));
        }
        Ok(elected)
    }

    /// What `node` has on stable storage, as far as it is known.
    pub fn durable_state(&self, node: NodeId) -> Option<HardState> {
        self.hard_states.durable_state(node)
    }

    /// Index and term of the last entry of `node`'s log that it holds durably; `None` when its log is empty.
    pub fn durable_last(&self, node: NodeId) -> Option<(u64, u64)> {
        self.durable.last(node)
    }

    /// Whether `node` durably holds the entry, or a snapshot that covers it.
    pub fn holds(&self, node: NodeId, index: u64, term: u64) -> bool {
        self.durable.holds(node, index, term)
    }

    /// The commit index that `node` has on stable storage.
    pub fn durable_commit(&self, node: NodeId) -> u64 {
        self.hard_states.durable_commit(node)
    }

    /// Every configuration.
    pub fn configurations(&self) -> &Configurations {
        &self.confs
    }

    /// What the checkers were fed.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// When each leader was elected.
    pub fn election_times(&self) -> &[SimTime] {
        &self.elected_at
    }

    /// Rare states that logs and configurations went through.
    pub fn rare(&self) -> impl Iterator<Item = &'static str> {
        let replaced = self.replaced_tail.then_some("a tail that was not committed was replaced");
        self.confs.rare().into_iter().chain(replaced)
    }

    /// How many terms had a leader.
    pub fn elections(&self) -> usize {
        self.elections.elections()
    }

    /// The state the cluster began with, and the index it stands for.
    pub fn genesis(&self) -> Option<(u64, KvState)> {
        self.genesis.clone()
    }

    /// Every applied entry, in order, and when it was first applied anywhere.
    pub fn applied_log(&self) -> Vec<(&Entry, SimTime)> {
        let at = |index| self.applied_at.get(&index).copied().unwrap_or(SimTime::NEVER);
        let log = self.safety.log();
        log.filter_map(|id| Some((self.entries.get(&id)?, at(id.0)))).collect()
    }

    /// Indexes, hashes and revisions of states that were seen.
    pub fn states(&self) -> &StateMachineSafety {
        &self.safety
    }

    fn on_applied(&mut self, node: NodeId, index: u64, term: Option<u64>) -> Result<(), Violation> {
        let Some(term) = term else {
            let detail =
                format!("node {node} applied entry {index}, which it never wrote to its log");
            return Err(Violation::new("state-machine safety", detail));
        };
        if !self.safety.applied(node, index, term)? {
            return Ok(());
        }
        let counted = self.confs.counted_by(index);
        let durable = &self.durable;
        let mut verdicts =
            counted.map(|conf| quorum_durability::committed(durable, conf, index, term));
        let first = verdicts.next().unwrap_or(Ok(()));
        let verdict =
            if first.is_ok() || verdicts.any(|verdict| verdict.is_ok()) { Ok(()) } else { first };
        drop(verdicts);
        self.confs.applied(index, term);
        verdict
    }

    fn append(&mut self, node: NodeId, record: &WalRecord) -> Result<(), Violation> {
        let log = self.logs.entry(node).or_default();
        if let Some(snapshot) = &record.snapshot {
            *log = NodeLog {
                base: (snapshot.index, snapshot.term),
                terms: BTreeMap::new(),
                applied: log.applied.max(snapshot.index),
            };
        }
        if let Some(first) = record.entries.first() {
            self.replaced_tail |=
                log.terms.get(&first.index).is_some_and(|term| *term != first.term);
            log.terms.split_off(&first.index);
        }
        self.counts.entries += record.entries.len() as u64;
        for entry in &record.entries {
            let before = match entry.index.checked_sub(1) {
                Some(index) if index == log.base.0 => Some(log.base.1),
                Some(index) => log.terms.get(&index).copied(),
                None => None,
            };
            self.matching.entry(entry, before)?;
            log.terms.insert(entry.index, entry.term);
            self.confs.proposed(entry);
            self.entries.entry((entry.index, entry.term)).or_insert_with(|| entry.clone());
        }
        Ok(())
    }
}

//! The properties a run must have, one a file. Each says where it comes from and is tested with a history that breaks it.
//!
//! A checker is fed facts by the world's observer and answers with a [`Violation`] at the first one that cannot be.

pub mod acknowledged;
pub mod answers;
pub mod backup_commit;
pub mod backup_listing;
pub mod backup_restore;
#[cfg(test)]
mod backup_testing;
pub mod bounded;
pub mod canaries;
pub mod cluster_backups;
pub mod election_safety;
pub mod exactly_once;
pub mod hard_state;
pub mod known_membership;
pub mod leader_completeness;
pub mod leader_quorum;
pub mod lease_bounds;
pub mod log_matching;
pub mod loss;
pub mod newest_restored;
pub mod nonces;
pub mod openers;
pub mod own_term;
pub mod pins;
pub mod promises;
pub mod quorum_durability;
pub mod rebirth;
pub mod rebuilt;
pub mod recovery;
pub mod refusal;
pub mod replay;
pub mod required_copies;
pub mod retention_kept;
pub mod revision;
pub mod rotation;
pub mod semantics;
pub mod serializability;
pub mod session_answers;
pub mod state_machine_safety;
pub mod watch;
pub mod work;

use crate::history::{History, Outcome};
use crate::random::Ppm;
use crate::time::SimTime;
use raftkv_core::api::{LeaseId, Request, WriteResult};
use raftkv_core::kv::{self, Action, KvState, StateHash};
use raftkv_core::log::Entry;
use replay::Replay;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a whole run after its end.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The state the cluster began with, and its index.
    pub genesis: (u64, KvState),
    /// Every entry that was applied, and when it first was.
    pub log: &'a [(&'a Entry, SimTime)],
    /// When each leader was elected.
    pub elections: &'a [SimTime],
    /// What clients did and saw.
    pub history: &'a History,
    /// The states of the nodes that live.
    pub ends: &'a [KvState],
    /// No clock ran faster than true by more than this.
    pub drift: Ppm,
    /// Also compare with the reference model, which takes much longer than all the rest.
    pub with_reference: bool,
}

/// Checks a whole run after its end, and gives the replay it was checked with, and which rare states it was in. `seen` gives the state hashes seen on the way, by index.
pub fn after(
    evidence: Evidence<'_>,
    seen: impl Fn(u64) -> Option<StateHash>,
) -> Result<(Replay, Vec<&'static str>), Violation> {
    let Evidence { genesis: (start, state), log, elections, history, ends, drift, with_reference } =
        evidence;
    let entries: Vec<&Entry> = log.iter().map(|(entry, _)| *entry).collect();
    let replay = replay::replay(start, state, &entries, seen)?;
    let applied_at: BTreeMap<u64, SimTime> =
        log.iter().map(|(entry, at)| (entry.index, *at)).collect();
    lease_bounds::check(history, &replay.steps, |index| applied_at.get(&index).copied(), drift)?;
    ends.iter().try_for_each(|end| acknowledged::check(history, &replay.events, end))?;
    revision::check(replay.steps.iter().map(|step| (step.index, step.revision)))?;
    exactly_once::check(&replay.events)?;
    session_answers::check(history)?;
    answers::check(history)?;
    if with_reference {
        semantics::check(&replay.steps, &replay.events)?;
    }
    serializability::check(history, &replay)?;
    watch::check(&history.watches, &replay.events)?;
    work::check(history)?;
    let rare = rare(history, &replay, &applied_at, elections);
    Ok((replay, rare))
}

/// Rare states that only the whole run shows.
fn rare(
    history: &History,
    replay: &Replay,
    applied_at: &BTreeMap<u64, SimTime>,
    elections: &[SimTime],
) -> Vec<&'static str> {
    let mut rare = Vec::new();
    let elected_between =
        |from: SimTime, to: SimTime| elections.iter().any(|at| from < *at && *at < to);
    let survivor = history.operations.iter().find(|operation| {
        matches!(operation.request, Request::Range(_))
            && matches!(operation.outcome, Outcome::Done(_))
            && operation.attempts > 1
            && elected_between(operation.call, operation.end)
    });
    rare.extend(survivor.map(|_| "a read survived a change of leader"));
    let mut written = BTreeSet::new();
    let mut granted: BTreeMap<LeaseId, SimTime> = BTreeMap::new();
    for step in &replay.steps {
        let at = applied_at.get(&step.index).copied().unwrap_or_default();
        if let Action::Write { session: Some(session), .. } = &step.command.action
            && !written.insert((session.session, session.sequence))
        {
            rare.push("a write stood in the log twice, and was applied once");
        }
        if let kv::Outcome::Write(Ok(WriteResult::Lease { id, .. })) = &step.outcome {
            granted.insert(*id, at);
        }
        let moved = step
            .leases_expired
            .iter()
            .filter_map(|lease| granted.get(lease))
            .any(|since| elected_between(*since, at));
        if moved {
            rare.push("a lease ended under another leader than it began");
        }
    }
    let watchers: BTreeSet<u32> = history.watches.iter().map(|run| run.watcher).collect();
    if history.watches.len() > watchers.len() {
        rare.push("a watch was taken up again");
    }
    if history.watches.iter().any(|run| run.after_compaction) {
        rare.push("a watch was overtaken by compaction");
    }
    rare
}

/// What is said about a violation is no longer.
const DETAIL_BYTES_MAX: usize = 2_000;

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{property}: {detail}")]
pub struct Violation {
    /// Which property.
    pub property: &'static str,
    /// What gave it away.
    pub detail: String,
}

impl Violation {
    /// A violation of `property`. Details that are very long are cut.
    pub fn new(property: &'static str, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
        Violation { property, detail }
    }
}

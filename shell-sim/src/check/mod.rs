//! The properties a run must have, one a file. Each says where it comes from and is tested with a history that breaks it.
//!
//! A checker is fed facts by the world's observer and answers with a [`Violation`] at the first one that cannot be.

pub mod acknowledged;
pub mod bounded;
pub mod election_safety;
pub mod exactly_once;
pub mod hard_state;
pub mod leader_completeness;
pub mod lease_bounds;
pub mod log_matching;
pub mod own_term;
pub mod promises;
pub mod quorum_durability;
pub mod recovery;
pub mod replay;
pub mod revision;
pub mod semantics;
pub mod serializability;
pub mod state_machine_safety;
pub mod watch;
pub mod work;

use crate::history::History;
use crate::random::Ppm;
use crate::time::SimTime;
use raftkv_core::kv::{KvState, StateHash};
use raftkv_core::log::Entry;
use std::collections::BTreeMap;

/// What is known of a whole run after its end.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The state the cluster began with, and its index.
    pub genesis: (u64, KvState),
    /// Every entry that was applied, and when it first was.
    pub log: &'a [(&'a Entry, SimTime)],
    /// What clients did and saw.
    pub history: &'a History,
    /// The states of the nodes that live.
    pub ends: &'a [KvState],
    /// No clock ran faster than true by more than this.
    pub drift: Ppm,
    /// Also compare with the reference model, which takes much longer than all the rest.
    pub with_reference: bool,
}

/// Checks a whole run after its end. `seen` gives the state hashes seen on the way, by index.
pub fn after(
    evidence: Evidence<'_>,
    seen: impl Fn(u64) -> Option<StateHash>,
) -> Result<(), Violation> {
    let Evidence { genesis: (start, state), log, history, ends, drift, with_reference } = evidence;
    let entries: Vec<&Entry> = log.iter().map(|(entry, _)| *entry).collect();
    let replay = replay::replay(start, state, &entries, seen)?;
    let applied_at: BTreeMap<u64, SimTime> =
        log.iter().map(|(entry, at)| (entry.index, *at)).collect();
    lease_bounds::check(history, &replay.steps, |index| applied_at.get(&index).copied(), drift)?;
    ends.iter().try_for_each(|end| acknowledged::check(history, &replay.events, end))?;
    revision::check(replay.steps.iter().map(|step| (step.index, step.revision)))?;
    exactly_once::check(&replay.events)?;
    if with_reference {
        semantics::check(&replay.steps, &replay.events)?;
    }
    serializability::check(history, &replay)?;
    watch::check(&history.watches, &replay.events)?;
    work::check(history)
}

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
    /// A violation of `property`.
    pub fn new(property: &'static str, detail: impl Into<String>) -> Self {
        Violation { property, detail: detail.into() }
    }
}

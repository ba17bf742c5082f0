//! The properties a run must have, one a file. Each says where it comes from and is tested with a history that breaks it.
//!
//! A checker is fed facts by the world's observer and answers with a [`Violation`] at the first one that cannot be.

pub mod election_safety;
pub mod exactly_once;
pub mod hard_state;
pub mod log_matching;
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
use raftkv_core::kv::{KvState, StateHash};
use raftkv_core::log::Entry;

/// Checks a whole run after its end: the log that was applied from `genesis` on, the state hashes seen on the way, and what clients saw. `with_reference` also
/// compares with the reference model, which takes much longer than all the rest.
pub fn after(
    genesis: (u64, KvState),
    log: &[&Entry],
    seen: impl Fn(u64) -> Option<StateHash>,
    history: &History,
    with_reference: bool,
) -> Result<(), Violation> {
    let (start, state) = genesis;
    let replay = replay::replay(start, state, log, seen)?;
    revision::check(replay.steps.iter().map(|step| (step.index, step.revision)))?;
    exactly_once::check(&replay.events)?;
    if with_reference {
        semantics::check(&replay.steps, &replay.events)?;
    }
    serializability::check(history, &replay)?;
    history.watches.iter().try_for_each(|run| watch::check(run, &replay.events))?;
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

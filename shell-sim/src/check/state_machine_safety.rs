//! State-machine safety: every node applies the same entry at an index, and has the same state after it. Raft paper, figure 3.
//!
//! What was applied once stays committed, so this also is leader completeness: a leader that lacked a committed entry would
//! sooner or later make somebody apply another one there.

use super::Violation;
use raftkv_core::api::Revision;
use raftkv_core::ids::NodeId;
use raftkv_core::kv::StateHash;
use std::collections::BTreeMap;

/// The one log that was applied, and the states it led to.
#[derive(Debug, Default)]
pub struct StateMachineSafety {
    terms: BTreeMap<u64, u64>,
    states: BTreeMap<u64, (StateHash, Revision, NodeId)>,
}

impl StateMachineSafety {
    /// `node` applied the entry at `index`, which is of `term` (and by log matching known by both). Says whether it is the first to do so.
    pub fn applied(&mut self, node: NodeId, index: u64, term: u64) -> Result<bool, Violation> {
        match self.terms.insert(index, term) {
            None => Ok(true),
            Some(other) if other == term => Ok(false),
            Some(other) => Err(Violation::new(
                "state-machine safety",
                format!(
                    "node {node} applied entry {index} of term {term}, another node that of term {other}"
                ),
            )),
        }
    }

    /// After `index`, `node` has this state.
    pub fn state(
        &mut self,
        node: NodeId,
        index: u64,
        hash: StateHash,
        revision: Revision,
    ) -> Result<(), Violation> {
        let (known, known_revision, first) =
            *self.states.entry(index).or_insert((hash, revision, node));
        if (known, known_revision) == (hash, revision) {
            return Ok(());
        }
        Err(Violation::new(
            "equal state hashes",
            format!(
                "after entry {index} node {first} is at revision {known_revision} with state {known}, node {node} at {revision} with {hash}"
            ),
        ))
    }

    /// Index and term of every entry that was applied anywhere, in order.
    pub fn log(&self) -> impl Iterator<Item = (u64, u64)> {
        self.terms.iter().map(|(index, term)| (*index, *term))
    }

    /// The state hash that was seen after `index`, if anybody looked.
    pub fn hash_at(&self, index: u64) -> Option<StateHash> {
        self.states.get(&index).map(|(hash, _, _)| *hash)
    }

    /// The newest state seen: index, hash and revision.
    pub fn newest(&self) -> Option<(u64, StateHash, Revision)> {
        self.states.last_key_value().map(|(index, (hash, revision, _))| (*index, *hash, *revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_entry_or_another_state_is_noticed() {
        let (a, b) = (NodeId::new(1, 0), NodeId::new(2, 0));
        let mut other = StateHash::default();
        other.add(&[b"x"]);
        let mut check = StateMachineSafety::default();
        assert_eq!(check.applied(a, 3, 1), Ok(true));
        assert_eq!(check.applied(b, 3, 1), Ok(false));
        assert!(check.applied(b, 3, 2).is_err());
        assert_eq!(check.state(a, 3, other, 7), Ok(()));
        assert_eq!(check.state(b, 3, other, 7), Ok(()));
        assert!(check.state(b, 3, StateHash::default(), 7).is_err());
        assert!(check.state(b, 3, other, 8).is_err());
    }
}

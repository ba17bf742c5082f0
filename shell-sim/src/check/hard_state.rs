//! A node's term never falls and it votes once in a term, across crashes too. Raft paper, figure 2, "persistent state".

use super::Violation;
use raftkv_core::ids::NodeId;
use raftkv_core::log::HardState;
use std::collections::BTreeMap;

/// What every node has on stable storage, and what that promises.
#[derive(Debug, Default)]
pub struct HardStates {
    durable: BTreeMap<NodeId, HardState>,
    written: BTreeMap<NodeId, HardState>,
}

impl HardStates {
    /// `node` hands `state` to its disk.
    pub fn written(&mut self, node: NodeId, state: HardState) -> Result<(), Violation> {
        follows(node, self.written.get(&node), &state)?;
        self.written.insert(node, state);
        Ok(())
    }

    /// `state` of `node` has reached stable storage.
    pub fn durable(&mut self, node: NodeId, state: HardState) {
        self.durable.insert(node, state);
    }

    /// The disk of `node` was put back to an older state: nothing it promised before counts.
    pub fn forget(&mut self, node: NodeId) {
        self.durable.remove(&node);
        self.written.remove(&node);
    }

    /// What `node` has on stable storage, as far as it is known.
    pub fn durable_state(&self, node: NodeId) -> Option<HardState> {
        self.durable.get(&node).copied()
    }

    /// The commit index that `node` has on stable storage.
    pub fn durable_commit(&self, node: NodeId) -> u64 {
        self.durable.get(&node).map_or(0, |state| state.commit)
    }

    /// The commit index that `node` has handed to its disk.
    pub fn written_commit(&self, node: NodeId) -> u64 {
        self.written.get(&node).map_or(0, |state| state.commit)
    }

    /// `node` found `state` on its disk.
    pub fn recovered(&mut self, node: NodeId, state: HardState) -> Result<(), Violation> {
        follows(node, self.durable.get(&node), &state)?;
        self.written.insert(node, state);
        // Recovery made durable whatever it found.
        self.durable.insert(node, state);
        Ok(())
    }
}

fn follows(node: NodeId, before: Option<&HardState>, state: &HardState) -> Result<(), Violation> {
    let Some(before) = before else { return Ok(()) };
    let voted_twice =
        state.term == before.term && before.vote != NodeId::NONE && state.vote != before.vote;
    if state.term < before.term || voted_twice {
        let detail = format!("node {node} goes from {before:?} to {state:?}");
        return Err(Violation::new("hard state", detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(term: u64, vote: u32) -> HardState {
        HardState { term, vote: NodeId::new(vote, 0), commit: 0 }
    }

    #[test]
    fn falling_terms_second_votes_and_forgotten_votes_are_noticed() {
        let node = NodeId::new(1, 0);
        let mut check = HardStates::default();
        assert_eq!(check.written(node, state(1, 0)), Ok(()));
        assert_eq!(check.written(node, state(1, 2)), Ok(()));
        assert!(check.written(node, state(1, 3)).is_err());
        assert!(check.written(node, state(0, 0)).is_err());
        check.durable(node, state(1, 2));
        assert_eq!(check.written(node, state(2, 3)), Ok(()));
        assert_eq!(check.recovered(node, state(1, 2)), Ok(()), "what was not durable may be lost");
        assert!(check.recovered(node, state(1, 0)).is_err());
    }
}

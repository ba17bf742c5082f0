//! Changes of membership: as log entries of our own making, and as raft wants them.
//!
//! A single change is applied at once; several go through joint consensus (thesis §4.3), which the leader leaves by proposing
//! an empty change as soon as the joint one is applied.

use super::Consensus;
use crate::ids::NodeId;
use bytes::Bytes;
use protobuf::Message as _;
use raft::prelude::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};
use serde::{Deserialize, Serialize};

/// What one step does to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfStepKind {
    /// Make it a voter.
    AddVoter,
    /// Make it a learner.
    AddLearner,
    /// Take it out.
    Remove,
}

/// What an entry changes, without its story. Empty: leave the joint configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfStep {
    /// The changes, made as one.
    pub changes: Vec<(ConfStepKind, NodeId)>,
}

/// A membership entry's data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfChange {
    /// What consensus changes.
    pub step: ConfStep,
    /// What the member table changes: an encoded `kv::MemberChange`, or nothing.
    pub change: Bytes,
}

impl ConfChange {
    /// The entry's data.
    pub fn encode(&self) -> Bytes {
        postcard::to_stdvec(self).expect("plain data serializes").into()
    }

    /// From an entry's data.
    pub fn decode(data: &[u8]) -> Option<ConfChange> {
        match postcard::take_from_bytes(data) {
            Ok((change, [])) => Some(change),
            _ => None,
        }
    }
}

impl Consensus {
    /// Whether a majority of the voters, in a joint configuration of both kinds, is known to keep a commit index of at least `index` on its
    /// disks; `own` is the one on this leader's disk.
    pub fn majority_keeps_commit(&self, index: u64, own: u64) -> bool {
        let keeps = |voter: &&NodeId| {
            if **voter == self.node() {
                return own >= index;
            }
            let progress = self.raw.raft.prs().get(voter.0);
            progress.is_some_and(|progress| progress.committed_index >= index)
        };
        let majority = |voters: &Vec<NodeId>| {
            voters.is_empty() || voters.iter().filter(keeps).count() * 2 > voters.len()
        };
        let conf = self.conf();
        self.is_leader() && majority(&conf.voters) && majority(&conf.voters_outgoing)
    }
}

/// raft's form of a step.
pub(super) fn to_raft(step: &ConfStep) -> ConfChangeV2 {
    let mut raft = ConfChangeV2::default();
    let changes: Vec<ConfChangeSingle> = step
        .changes
        .iter()
        .map(|(kind, node)| {
            let change_type = match kind {
                ConfStepKind::AddVoter => ConfChangeType::AddNode,
                ConfStepKind::AddLearner => ConfChangeType::AddLearnerNode,
                ConfStepKind::Remove => ConfChangeType::RemoveNode,
            };
            ConfChangeSingle { node_id: node.0, change_type, ..Default::default() }
        })
        .collect();
    if changes.len() > 1 {
        raft.set_transition(ConfChangeTransition::Explicit);
    }
    raft.set_changes(changes.into());
    raft
}

/// raft's encoding, which it wants to find in entries it checks.
pub(super) fn to_raft_bytes(change: &ConfChange) -> Bytes {
    let mut raft = to_raft(&change.step);
    raft.context = change.change.clone();
    raft.write_to_bytes().expect("plain data serializes").into()
}

/// From raft's encoding, which only this process has written: entries from outside come in our own form.
pub(super) fn from_raft_bytes(data: &[u8]) -> ConfChange {
    let mut raft = ConfChangeV2::default();
    raft.merge_from_bytes(data).expect("this process encoded it");
    let changes = raft.get_changes().iter().map(|single| {
        let kind = match single.get_change_type() {
            ConfChangeType::AddNode => ConfStepKind::AddVoter,
            ConfChangeType::AddLearnerNode => ConfStepKind::AddLearner,
            ConfChangeType::RemoveNode => ConfStepKind::Remove,
        };
        (kind, NodeId(single.node_id))
    });
    ConfChange { step: ConfStep { changes: changes.collect() }, change: raft.context.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_forms_hold_the_same(changes in proptest::collection::vec((0..3u8, 1..u64::MAX), 0..4), context: Vec<u8>) {
            let changes = changes.into_iter().map(|(kind, node)| {
                let kind = [ConfStepKind::AddVoter, ConfStepKind::AddLearner, ConfStepKind::Remove][kind as usize];
                (kind, NodeId(node))
            });
            let change = ConfChange { step: ConfStep { changes: changes.collect() }, change: context.into() };
            prop_assert_eq!(&from_raft_bytes(&to_raft_bytes(&change)), &change);
            prop_assert_eq!(ConfChange::decode(&change.encode()), Some(change));
        }

        #[test]
        fn garbage_is_refused(data: Vec<u8>) {
            let _ = ConfChange::decode(&data);
        }
    }
}

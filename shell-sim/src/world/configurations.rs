//! Every configuration of the cluster: those that were in force, the newest, and what may come next.
//!
//! raft-rs changes the configuration when an entry is *applied*, one change at a time. So a member may act on any configuration from the
//! one it is sure to know on to the newest, and the newest may be followed by what any entry says that is not applied yet.
//! Source: Ongaro's thesis §4.3; what raft-rs makes of it is in its `confchange` module.

use raftkv_core::consensus::membership::ConfStepKind;
use raftkv_core::consensus::{ConfChange, ConfStep};
use raftkv_core::ids::NodeId;
use raftkv_core::log::{ConfState, Entry, EntryKind};
use std::collections::{BTreeMap, BTreeSet};

/// All configurations.
#[derive(Debug, Default)]
pub struct Configurations {
    /// By the index of the entry that brought them.
    applied: BTreeMap<u64, ConfState>,
    /// Changes that stand in some log and were not applied: by index and term.
    proposed: BTreeMap<(u64, u64), ConfStep>,
    /// The newest index applied anywhere.
    applied_index: u64,
    /// Nodes that were members once.
    removed: BTreeSet<NodeId>,
    /// A change that stood in a log was replaced by another leader's entry.
    lost_change: bool,
}

impl Configurations {
    /// The cluster starts with this one.
    pub fn begin(&mut self, index: u64, conf: ConfState) {
        self.applied_index = index;
        self.applied.insert(index, conf);
    }

    /// Some node has this entry in its log.
    pub fn proposed(&mut self, entry: &Entry) {
        if entry.kind == EntryKind::Membership
            && entry.index > self.applied_index
            && let Some(change) = ConfChange::decode(&entry.data)
        {
            self.proposed.insert((entry.index, entry.term), change.step);
        }
    }

    /// Some node is the first to apply the entry at `index`. Says whether it changed the configuration.
    pub fn applied(&mut self, index: u64, term: u64) -> bool {
        self.applied_index = self.applied_index.max(index);
        let step = self.proposed.remove(&(index, term));
        while self.proposed.first_key_value().is_some_and(|((at, _), _)| *at <= index) {
            self.proposed.pop_first();
            self.lost_change = true;
        }
        let Some(step) = step else { return false };
        let next = after(self.newest(), &step);
        let before: BTreeSet<NodeId> = self.newest().members().collect();
        let gone: Vec<NodeId> =
            before.into_iter().filter(|node| next.members().all(|other| other != *node)).collect();
        self.removed.extend(gone);
        self.applied.insert(index, next);
        true
    }

    /// The newest one that was applied anywhere.
    pub fn newest(&self) -> &ConfState {
        self.applied.last_key_value().map(|(_, conf)| conf).expect("a cluster begins with one")
    }

    /// How many there were, the first one included.
    pub fn count(&self) -> usize {
        self.applied.len()
    }

    /// The one in force for a node that has applied up to `index`.
    pub fn at(&self, index: u64) -> Option<&ConfState> {
        self.applied.range(..=index).next_back().map(|(_, conf)| conf)
    }

    /// The index of the entry that brought that one.
    pub fn begun_at(&self, index: u64) -> u64 {
        self.applied.range(..=index).next_back().map_or(0, |(begun, _)| *begun)
    }

    /// Those by which a leader may have counted the entry at `index`: the newest before it, and, as the leader may not have applied that
    /// yet, the one before that. (Older ones are out: no second change is proposed before the first is applied.)
    pub fn counted_by(&self, index: u64) -> impl Iterator<Item = &ConfState> {
        self.applied.range(..index).rev().take(2).map(|(_, conf)| conf)
    }

    /// All that may be in force now or next, if nobody has forgotten what was applied up to `known`.
    pub fn in_force(&self, known: u64) -> Vec<ConfState> {
        let oldest = self.applied.range(..=known).next_back().map_or(0, |(index, _)| *index);
        let next = self.proposed.values().map(|step| after(self.newest(), step));
        self.applied.range(oldest..).map(|(_, conf)| conf.clone()).chain(next).collect()
    }

    /// Rare states that the configurations went through.
    pub fn rare(&self) -> Vec<&'static str> {
        let mut rare = Vec::new();
        if self.lost_change {
            rare.push("a change of membership was lost to another leader");
        }
        let mut confs = self.applied.values();
        if confs.next().is_some_and(|first| first.voters.len() == 1)
            && confs.any(|conf| conf.voters.len() > 1)
        {
            rare.push("a lone voter got company");
        }
        rare
    }

    /// Whether `node` was a member and is none any more.
    pub fn was_removed(&self, node: NodeId) -> bool {
        self.removed.contains(&node)
    }
}

/// Whether two say the same; order means nothing.
pub fn same(one: &ConfState, other: &ConfState) -> bool {
    let sets = |conf: &ConfState| {
        [&conf.voters, &conf.voters_outgoing, &conf.learners, &conf.learners_next]
            .map(|nodes| nodes.iter().copied().collect::<BTreeSet<_>>())
    };
    one == other || sets(one) == sets(other)
}

fn after(conf: &ConfState, step: &ConfStep) -> ConfState {
    let mut next = conf.clone();
    if step.changes.is_empty() {
        next.voters_outgoing.clear();
        next.learners.append(&mut next.learners_next);
        return next;
    }
    if step.changes.len() > 1 {
        next.voters_outgoing.clone_from(&conf.voters);
    }
    for (kind, node) in &step.changes {
        for nodes in [&mut next.voters, &mut next.learners, &mut next.learners_next] {
            nodes.retain(|other| other != node);
        }
        match kind {
            ConfStepKind::AddVoter => next.voters.push(*node),
            ConfStepKind::AddLearner if next.voters_outgoing.contains(node) => {
                next.learners_next.push(*node);
            }
            ConfStepKind::AddLearner => next.learners.push(*node),
            ConfStepKind::Remove => {}
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(member: u32, incarnation: u32) -> NodeId {
        NodeId::new(member, incarnation)
    }

    fn entry(index: u64, term: u64, changes: &[(ConfStepKind, NodeId)]) -> Entry {
        let step = ConfStep { changes: changes.to_vec() };
        let data = ConfChange { step, change: Default::default() }.encode();
        Entry { index, term, kind: EntryKind::Membership, data }
    }

    #[test]
    fn a_replacement_goes_through_a_joint_configuration() {
        let [a, b, c, new] = [node(1, 0), node(2, 0), node(3, 0), node(3, 1)];
        let mut confs = Configurations::default();
        confs.begin(1, ConfState { voters: vec![a, b, c], ..ConfState::default() });
        let replace = [(ConfStepKind::Remove, c), (ConfStepKind::AddLearner, new)];
        confs.proposed(&entry(5, 2, &replace));
        confs.proposed(&entry(5, 3, &[(ConfStepKind::Remove, b)]));
        assert_eq!(confs.in_force(4).len(), 3, "either may come");
        assert!(confs.applied(5, 2));
        assert_eq!(confs.in_force(5).len(), 1, "the other one cannot be applied any more");
        let joint = confs.newest();
        assert_eq!((&joint.voters, &joint.voters_outgoing), (&vec![a, b], &vec![a, b, c]));
        assert!(!confs.was_removed(c), "it still counts");
        confs.proposed(&entry(6, 2, &[]));
        assert!(confs.applied(6, 2));
        assert!(confs.was_removed(c));
        confs.proposed(&entry(9, 2, &[(ConfStepKind::AddVoter, new)]));
        assert!(!confs.applied(8, 2) && confs.applied(9, 2));
        assert_eq!(confs.newest().voters, [a, b, new]);
        assert_eq!(confs.newest().learners, []);
        assert_eq!(confs.in_force(8).len(), 2, "some may not know the newest");
        assert_eq!(confs.counted_by(9).next(), confs.at(8));
    }
}

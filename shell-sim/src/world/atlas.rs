//! The fault atlas: which losses the cluster must survive. Beyond it only silence or a refusal is right, so a run stays within.
//!
//! Rule: in every configuration that may be in force, for the oldest that some member may still act on up to any that may come next,
//! and in what it becomes when those who are to be removed are gone, a majority of the voters has a good disk. A disk is good again when
//! it was read back whole, or when its member has joined anew, which is another node. A learner whose disk is bad counts as a voter: it
//! may be promoted before anybody notices. Who is removed counts until the others can do without it, which is the product's to see to.

use crate::time::SimTime;
use raftkv_core::ids::NodeId;
use raftkv_core::log::ConfState;
use std::collections::{BTreeMap, BTreeSet};

/// What the cluster has to do without.
#[derive(Debug, Default)]
pub struct Atlas {
    lost: BTreeSet<NodeId>,
    /// Members whose removal was asked for.
    leaving: BTreeMap<u32, Leaving>,
}

/// What may still come of having asked for a member's removal, once or several times.
#[derive(Debug, Default)]
struct Leaving {
    /// So many requests have no outcome yet.
    open: u32,
    /// Until then one whose outcome will never be known may be carried out.
    in_doubt: Option<SimTime>,
}

impl Atlas {
    /// The disk of `node` is bad from now on, or nobody will ever start it again.
    pub fn lose(&mut self, node: NodeId) {
        self.lost.insert(node);
    }

    /// The disk of `node` was read back, and holds what it promised.
    pub fn regain(&mut self, node: NodeId) {
        self.lost.remove(&node);
    }

    /// The removal of this member is asked for.
    pub fn leave(&mut self, member: u32) {
        self.leaving.entry(member).or_default().open += 1;
    }

    /// One request to remove this member was done or refused: that one will not remove it any more.
    pub fn settle(&mut self, member: u32) {
        let leaving = self.leaving.entry(member).or_default();
        leaving.open = leaving.open.saturating_sub(1);
    }

    /// What becomes of one request to remove this member will never be known; it may be carried out until then.
    pub fn doubt(&mut self, member: u32, until: SimTime) {
        self.settle(member);
        let leaving = self.leaving.entry(member).or_default();
        leaving.in_doubt = leaving.in_doubt.max(Some(until));
    }

    /// Whether somebody has asked for the removal of this member, and it may yet be carried out.
    fn is_leaving(&self, now: SimTime, member: u32) -> bool {
        let leaving = self.leaving.get(&member);
        leaving.is_some_and(|it| it.open > 0 || it.in_doubt.is_some_and(|until| until >= now))
    }

    /// Whether this node's disk is bad.
    pub fn is_lost(&self, node: NodeId) -> bool {
        self.lost.contains(&node)
    }

    /// Whether the cluster can do without `node`, too: for ever. `present` are the members that have a disk.
    pub fn can_spare(
        &self,
        now: SimTime,
        node: NodeId,
        in_force: &[ConfState],
        present: &BTreeSet<NodeId>,
    ) -> bool {
        self.is_safe(now, Some(node), None, in_force, present)
    }

    /// Whether the member can be removed as things are. It may have been asked for before.
    pub fn can_remove(
        &self,
        now: SimTime,
        member: u32,
        in_force: &[ConfState],
        present: &BTreeSet<NodeId>,
    ) -> bool {
        self.is_safe(now, None, Some(member), in_force, present)
    }

    fn is_safe(
        &self,
        now: SimTime,
        lost: Option<NodeId>,
        removed: Option<u32>,
        in_force: &[ConfState],
        present: &BTreeSet<NodeId>,
    ) -> bool {
        let is_lost = |node: &NodeId| Some(*node) == lost || self.lost.contains(node);
        let is_good = |voter: &&NodeId| present.contains(*voter) && !is_lost(voter);
        let leaves = |voter: &&NodeId| {
            let member = voter.member();
            self.is_leaving(now, member) || Some(member) == removed
        };
        in_force.iter().all(|conf| {
            let learners = conf.learners.iter().chain(&conf.learners_next);
            let bad_learners = learners.filter(|learner| is_lost(learner)).count();
            [&conf.voters, &conf.voters_outgoing].into_iter().all(|voters| {
                // At worst the good ones among those who are to go are gone, and the bad ones stay.
                let good = voters.iter().filter(is_good).filter(|voter| !leaves(voter)).count();
                let bad = voters.iter().filter(|voter| !is_good(voter)).count();
                voters.is_empty() || good > bad + bad_learners
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(member: u32, incarnation: u32) -> NodeId {
        NodeId::new(member, incarnation)
    }

    fn voters(voters: &[NodeId]) -> ConfState {
        ConfState { voters: voters.to_vec(), ..ConfState::default() }
    }

    #[test]
    fn a_majority_stays_good_in_every_configuration() {
        let [a, b, c, new] = [node(1, 0), node(2, 0), node(3, 0), node(3, 1)];
        let present = BTreeSet::from([a, b, c, new]);
        let mut atlas = Atlas::default();
        let now = SimTime(0);
        let old = voters(&[a, b, c]);
        assert!(atlas.can_spare(now, a, std::slice::from_ref(&old), &present));
        assert!(!atlas.can_spare(now, a, &[voters(&[a])], &present));
        atlas.lose(c);
        assert!(!atlas.can_spare(now, a, std::slice::from_ref(&old), &present));
        let replaced = voters(&[a, b, new]);
        assert!(atlas.can_spare(now, a, std::slice::from_ref(&replaced), &present));
        assert!(!atlas.can_spare(now, a, &[old.clone(), replaced], &present), "the old one counts");
        atlas.regain(c);
        assert!(atlas.can_spare(now, a, &[old], &present));
    }

    #[test]
    fn who_may_be_removed_or_promoted_counts() {
        let [a, b, c, d] = [1, 2, 3, 4].map(|member| node(member, 0));
        let present = BTreeSet::from([a, b, c, d]);
        let mut atlas = Atlas::default();
        let conf = [voters(&[a, b, c])];
        atlas.leave(2);
        assert!(!atlas.can_spare(SimTime(99), a, &conf, &present), "it may be done any time");
        atlas.doubt(2, SimTime(9));
        assert!(!atlas.can_spare(SimTime(9), a, &conf, &present));
        assert!(atlas.can_spare(SimTime(10), a, &conf, &present), "nobody will do it any more");
        (0..2).for_each(|_| atlas.leave(2));
        atlas.settle(2);
        assert!(!atlas.can_spare(SimTime(10), a, &conf, &present), "asked for twice");
        atlas.settle(2);
        assert!(atlas.can_spare(SimTime(10), a, &conf, &present));
        assert!(atlas.can_remove(SimTime(10), 1, &[voters(&[a, b])], &present), "b goes on alone");
        assert!(!atlas.can_remove(SimTime(10), 1, &[voters(&[a])], &present), "nobody is left");
        let with_learner = [ConfState { learners: vec![d], ..voters(&[a, b, c]) }];
        assert!(atlas.can_spare(SimTime(10), d, &with_learner, &present));
        atlas.lose(d);
        assert!(!atlas.can_spare(SimTime(10), a, &with_learner, &present), "d may be promoted");
        assert!(atlas.can_remove(SimTime(10), 1, &conf, &present));
        atlas.leave(1);
        assert!(atlas.can_remove(SimTime(10), 1, &conf, &present), "once more");
        assert!(atlas.can_remove(SimTime(10), 2, &conf, &present), "c goes on alone");
        atlas.lose(b);
        assert!(!atlas.can_remove(SimTime(10), 1, &conf, &present), "b is half of those who stay");
    }
}

//! The fault atlas: which damage the cluster must survive. Beyond it only silence or a refusal is right, so a run stays within.
//!
//! Rule: of the voters a majority always has a good disk. A disk that was lost or damaged stays bad until its member has joined anew, is
//! a voter, and holds everything that had been applied anywhere by then.

use raftkv_core::ids::NodeId;
use std::collections::BTreeMap;

/// Which members' disks are bad.
#[derive(Debug, Default)]
pub struct Atlas {
    voters: usize,
    bad: BTreeMap<u32, Bad>,
}

#[derive(Debug)]
struct Bad {
    /// Who lived there when it happened: another incarnation has to take over.
    node: NodeId,
    /// The newest applied entry when the new incarnation was first seen as a voter.
    goal: Option<u64>,
}

impl Atlas {
    /// A cluster of so many voters, all good.
    pub fn new(voters: usize) -> Self {
        Atlas { voters, bad: BTreeMap::new() }
    }

    /// Whether this member's disk may be damaged now.
    pub fn may_damage(&self, member: u32) -> bool {
        !self.bad.contains_key(&member) && (self.bad.len() + 1) * 2 < self.voters
    }

    /// Whether this member's disk is bad.
    pub fn is_bad(&self, member: u32) -> bool {
        self.bad.contains_key(&member)
    }

    /// The disk of `node` is bad from now on.
    pub fn damage(&mut self, node: NodeId) {
        self.bad.insert(node.member(), Bad { node, goal: None });
    }

    /// `node` is a voter and has applied up to `applied`; the newest applied entry anywhere is `newest`, and up to `known` every good
    /// member has it on stable storage that the log is committed. (Membership counts from when it is known to be committed: as long as
    /// a restart can make members forget that `node` votes, they could not do without the ones that voted before it.)
    pub fn is_voter(&mut self, node: NodeId, applied: u64, newest: u64, known: u64) {
        let Some(bad) = self.bad.get_mut(&node.member()) else { return };
        if bad.node == node {
            return;
        }
        let goal = *bad.goal.get_or_insert(newest);
        if applied >= goal && known >= goal {
            self.bad.remove(&node.member());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_stays_good_until_the_lost_one_has_caught_up() {
        let mut atlas = Atlas::new(3);
        assert!(atlas.may_damage(1));
        atlas.damage(NodeId::new(1, 0));
        assert!(!atlas.may_damage(1) && !atlas.may_damage(2));
        atlas.is_voter(NodeId::new(1, 0), 100, 100, 100);
        assert!(!atlas.may_damage(2), "the same incarnation has not been replaced");
        atlas.is_voter(NodeId::new(1, 1), 50, 100, 100);
        assert!(!atlas.may_damage(2), "it has not caught up");
        atlas.is_voter(NodeId::new(1, 1), 100, 120, 99);
        assert!(!atlas.may_damage(2), "others could forget that it votes");
        atlas.is_voter(NodeId::new(1, 1), 100, 120, 100);
        assert!(atlas.may_damage(2));
        assert!(!Atlas::new(1).may_damage(1));
    }
}

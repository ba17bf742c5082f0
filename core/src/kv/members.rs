//! The member table: who listens where, and the highest incarnation each member number ever had.
//!
//! Invariant: no member is present with an incarnation above the one remembered for its number, so a node that comes back
//! after losing its disk can always be given a name nobody ever voted under.

use super::command::MemberChange;
use super::hash::StateHash;
use crate::api::{MemberInfo, MemberRole};
use crate::ids::NodeId;
use imbl::OrdMap;
use std::ops::Bound;

/// All members.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    members: OrdMap<(u32, u32), MemberInfo>,
    incarnations: OrdMap<u32, u32>,
    hash: StateHash,
}

impl Members {
    /// Hash over members and incarnations.
    pub(super) fn hash(&self) -> StateHash {
        self.hash
    }

    /// Every member, by number and incarnation.
    pub(super) fn iter(&self) -> impl Iterator<Item = &MemberInfo> {
        self.members.values()
    }

    /// The newest incarnation of a member that is present.
    pub(super) fn get(&self, member: u32) -> Option<&MemberInfo> {
        let ((found, _), info) = self.members.get_prev(&(member, u32::MAX))?;
        (*found == member).then_some(info)
    }

    /// The first member after the one of this number and incarnation.
    pub(super) fn after(&self, after: Option<(u32, u32)>) -> Option<&MemberInfo> {
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.members.range::<_, (u32, u32)>((from, Bound::Unbounded));
        rest.next().map(|(_, info)| info)
    }

    /// The first number after this one that was ever used, with its highest incarnation.
    pub(super) fn incarnation_after(&self, after: Option<u32>) -> Option<(u32, u32)> {
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.incarnations.range::<_, u32>((from, Bound::Unbounded));
        rest.next().map(|(member, incarnation)| (*member, *incarnation))
    }

    /// The highest incarnation a number ever had.
    pub(super) fn incarnation(&self, member: u32) -> Option<u32> {
        self.incarnations.get(&member).copied()
    }

    /// Removes and adds as told.
    pub(super) fn apply(&mut self, change: &MemberChange) {
        change.remove.iter().for_each(|node| self.remove(*node));
        change.upsert.iter().for_each(|info| self.upsert(info.clone()));
    }

    /// Adds a member, or replaces what is known of it.
    fn upsert(&mut self, info: MemberInfo) {
        let node = info.node;
        self.load(info);
        self.remember(node.member(), node.incarnation());
    }

    /// Adds a member without remembering its incarnation.
    pub(super) fn load(&mut self, info: MemberInfo) {
        let node = info.node;
        self.remove(node);
        self.hash.add(&member_parts(&info, &member_head(&info)));
        self.members.insert((node.member(), node.incarnation()), info);
    }

    /// Remembers that a member number had this incarnation.
    pub(super) fn remember(&mut self, member: u32, incarnation: u32) {
        let known = self.incarnation(member);
        if known.is_none_or(|known| known < incarnation) {
            if let Some(known) = known {
                self.hash.remove(&[&incarnation_bytes(member, known)]);
            }
            self.hash.add(&[&incarnation_bytes(member, incarnation)]);
            self.incarnations.insert(member, incarnation);
        }
    }

    fn remove(&mut self, node: NodeId) {
        if let Some(old) = self.members.remove(&(node.member(), node.incarnation())) {
            self.hash.remove(&member_parts(&old, &member_head(&old)));
        }
    }
}

fn member_parts<'a>(info: &'a MemberInfo, head: &'a [u8; 10]) -> [&'a [u8]; 2] {
    [head, info.address.as_bytes()]
}

/// What the hash sees of a member before its address: `M`, node id, role.
fn member_head(info: &MemberInfo) -> [u8; 10] {
    let mut bytes = [b'M'; 10];
    bytes[1..9].copy_from_slice(&info.node.0.to_le_bytes());
    bytes[9] = match info.role {
        MemberRole::Voter => 0,
        MemberRole::Learner => 1,
        MemberRole::Joining => 2,
    };
    bytes
}

/// What the hash sees of an incarnation: `I`, member, incarnation.
fn incarnation_bytes(member: u32, incarnation: u32) -> [u8; 9] {
    let mut bytes = [b'I'; 9];
    bytes[1..5].copy_from_slice(&member.to_le_bytes());
    bytes[5..9].copy_from_slice(&incarnation.to_le_bytes());
    bytes
}

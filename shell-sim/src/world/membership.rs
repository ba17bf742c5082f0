//! Membership: what changes it, what has come of a change, and which machines the cluster can do without.

use super::World;
use super::operator::Ended;
use super::slot::Process;
use crate::model::disk::Crash;
use crate::random::{Draw, Ppm};
use raftkv_core::api::{MemberRole, Request};
use raftkv_core::ids::NodeId;
use raftkv_core::log::ConfState;
use raftkv_core::time::Span;
use raftkv_core::wire::peer::PeerFrame;
use std::collections::BTreeSet;

/// A request whose outcome is not known may be carried out this much later: by a node that was paused, or far behind.
const LATE: Span = Span::from_millis(40_000);

impl World {
    /// Whether the cluster can do without the disk of this machine for ever.
    pub(super) fn can_spare(&self, at: usize) -> bool {
        let slot = &self.slots[at];
        if matches!(slot.process, Process::Vacant) || self.atlas.is_lost(slot.identity.node) {
            return false;
        }
        let present: BTreeSet<NodeId> = self.present().collect();
        self.atlas.can_spare(self.now, slot.identity.node, &self.in_force(&present), &present)
    }

    /// The nodes that have a disk, and were not removed.
    pub(super) fn present(&self) -> impl Iterator<Item = NodeId> {
        let settled = self.slots.iter().filter(|slot| !matches!(slot.process, Process::Vacant));
        let nodes = settled.map(|slot| slot.identity.node);
        nodes.filter(|node| !self.observer.configurations().was_removed(*node))
    }

    /// Configurations that may be in force now or next. Members far behind, or that a restart can make forget, hold old ones in force.
    fn in_force(&self, present: &BTreeSet<NodeId>) -> Vec<ConfState> {
        let confs = self.observer.configurations();
        let any = confs.in_force(u64::MAX);
        let members: BTreeSet<NodeId> = any.iter().flat_map(ConfState::members).collect();
        let knowing = members.intersection(present).filter(|node| !self.atlas.is_lost(**node));
        // A member that waits for its first snapshot knows of no configuration at all.
        let known =
            knowing.map(|node| self.observer.durable_commit(*node)).filter(|known| *known > 0);
        confs.in_force(known.min().unwrap_or(u64::MAX))
    }

    /// A spare machine is let in.
    pub(super) fn let_spare_join(&mut self) -> bool {
        let Some(at) = self.some_spare() else { return false };
        let member = self.slots[at].member;
        let learner = self.nemesis_rng().happens(Ppm::percent(25));
        self.operator.let_join(member, super::process::address(member), learner);
        true
    }

    /// A spare machine becomes a member before it has asked; now and then it never asks.
    pub(super) fn add_spare(&mut self) -> bool {
        let Some(at) = self.some_spare() else { return false };
        let member = self.slots[at].member;
        let address = super::process::address(member);
        let learner = self.nemesis_rng().happens(Ppm::percent(50));
        self.operator.ask(Request::MemberAdd { member, address: address.clone(), learner });
        if self.nemesis_rng().happens(Ppm::percent(70)) {
            self.operator.let_join(member, address, learner);
        }
        true
    }

    /// A learner is made a voter, or is refused because it is behind.
    pub(super) fn promote_one(&mut self) -> bool {
        let learners = self.observer.configurations().newest().learners.clone();
        if learners.is_empty() {
            return false;
        }
        let member = self.nemesis_rng().pick(&learners).member();
        self.operator.ask(Request::MemberPromote { member });
        true
    }

    /// A member is removed, if those who stay can go on.
    pub(super) fn remove_one(&mut self, at: usize) -> bool {
        let slot = &self.slots[at];
        let present: BTreeSet<NodeId> = self.present().collect();
        let in_force = self.in_force(&present);
        if !self.is_member(at) || !self.atlas.can_remove(self.now, slot.member, &in_force, &present)
        {
            return false;
        }
        self.atlas.leave(slot.member);
        self.operator.ask(Request::MemberRemove { member: slot.member });
        true
    }

    /// The operator does not know what became of a removal, and may ask for it once more.
    fn repeat_removal(&mut self, member: u32) {
        let is_calm = self.options.faults.is_empty() || self.nemesis_is_resting();
        if !is_calm && self.nemesis_rng().happens(Ppm::percent(50)) {
            let at = member as usize - 1;
            if self.remove_one(at) {
                self.sometimes("a removal whose outcome was not known was asked for again");
            }
        }
    }

    /// The leader is told to hand over, and then removed.
    pub(super) fn remove_leader(&mut self) -> bool {
        let Some(at) = self.leading() else { return false };
        let voters = self.observer.configurations().newest().voters.clone();
        let here = self.slots[at].identity.node;
        let Some(heir) = voters.into_iter().find(|voter| *voter != here) else { return false };
        self.operator.ask(Request::LeaderTransfer { member: heir.member() });
        self.remove_one(at)
    }

    /// Who leads by its own account, in the highest term.
    pub(super) fn leading(&self) -> Option<usize> {
        let leads = |at: &usize| {
            let status = self.slots[*at].status.as_deref();
            self.slots[*at].is_running()
                && status.is_some_and(|status| status.role == raftkv_core::api::Role::Leader)
        };
        let leaders = (0..self.slots.len()).filter(leads);
        leaders.max_by_key(|at| self.slots[*at].status.as_deref().map(|status| status.term))
    }

    /// Takes note of what the operator was told.
    pub(super) fn hear_operator(&mut self) {
        while let Some(ended) = self.operator.poll_ended() {
            match ended {
                Ended::Joined(identity, peers) => self.settle(identity, peers),
                Ended::Done(Request::MemberRemove { member }) => self.on_member_removed(member),
                Ended::Done(Request::MemberPromote { .. }) => self.count("learner promoted"),
                Ended::Done(Request::MemberAdd { .. }) => self.count("member added"),
                Ended::Done(Request::LeaderTransfer { .. }) => {
                    self.sometimes("leadership was handed over");
                }
                Ended::Done(_) => {}
                Ended::Refused(Request::MemberRemove { member }) => self.atlas.settle(member),
                Ended::Unknown(Request::MemberRemove { member }) => {
                    self.atlas.doubt(member, self.now + LATE);
                    self.repeat_removal(member);
                }
                Ended::Refused(_) | Ended::Unknown(_) => {}
            }
        }
    }

    /// The operator was told that a member is removed: where trouble is asked for, it may switch the machine off at once, and empty it.
    fn on_member_removed(&mut self, member: u32) {
        self.atlas.settle(member);
        self.count("member removed");
        let at = member as usize - 1;
        let slot = &self.slots[at];
        if !self.options.faults.is_empty()
            && slot.is_running()
            && self.observer.configurations().was_removed(slot.identity.node)
            && self.nemesis_rng().happens(Ppm::percent(50))
        {
            self.sometimes("a removed node was switched off at once");
            self.empty(at);
        }
    }

    /// A node has learned that it is no member. Its machine is emptied, or the process is started again by somebody who does not know.
    pub(super) fn on_removed(&mut self, at: usize) {
        self.sometimes("a removed node stopped");
        if !self.nemesis_is_resting() && self.rng.happens(Ppm::percent(30)) {
            let pause = self.rng.span(Span::from_millis(100), Span::from_millis(3_000));
            self.crash(at, Crash::Process, self.now + pause);
        } else {
            self.empty(at);
        }
    }

    /// A frame leaves: notes what is rare about snapshots on their way.
    pub(super) fn notice_snapshot(&mut self, to: NodeId, frame: &PeerFrame) {
        let PeerFrame::SnapshotChunk { snapshot, offset, .. } = frame else { return };
        if !self.observer.configurations().newest().voters_outgoing.is_empty() {
            self.sometimes("snapshot on its way during a joint configuration");
        }
        if *offset == 0 && !self.snapshots_begun.insert((to, snapshot.index)) {
            self.sometimes("a snapshot's transfer began anew");
        }
    }

    /// Whether this machine belongs to a member of the newest configuration.
    pub(super) fn is_member(&self, at: usize) -> bool {
        let slot = &self.slots[at];
        let conf = self.observer.configurations().newest();
        !matches!(slot.process, Process::Vacant)
            && conf.members().any(|node| node == slot.identity.node)
    }

    /// Whether nothing is left to do about membership that is done without an operator.
    pub(super) fn membership_is_settled(&self) -> Result<(), String> {
        let conf = self.observer.configurations().newest();
        if !conf.voters_outgoing.is_empty() {
            return Err(format!("the cluster stays in a joint configuration: {conf:?}"));
        }
        let Some(leader) = self.leading().and_then(|at| self.slots[at].state()) else {
            return Ok(());
        };
        let waits = leader.members().find(|member| {
            let slot = &self.slots[member.node.member() as usize - 1];
            let runs = slot.is_running() && slot.identity.node == member.node;
            member.role == MemberRole::Joining && runs
        });
        waits
            .map_or(Ok(()), |member| Err(format!("member {} does not become a voter", member.node)))
    }

    fn some_spare(&mut self) -> Option<usize> {
        let is_spare = |at: &usize| {
            let slot = &self.slots[*at];
            matches!(slot.process, Process::Vacant) && !self.operator.lets_join(slot.member)
        };
        let spares: Vec<usize> = (0..self.slots.len()).filter(is_spare).collect();
        if spares.is_empty() { None } else { Some(*self.nemesis_rng().pick(&spares)) }
    }
}

//! A machine's disk goes back to an older state, as when a virtual machine is rolled back, or a copy of its disk takes its place.
//!
//! Within the atlas is what a cluster can survive: the disk counts as lost, so a majority must do without it, and that majority must hold
//! whatever this node has promised since the image was taken. Nobody else can vouch for a vote or for an entry that both the disk and the
//! others have forgotten, and a node that was rolled back beyond that looks like any that was away; so no run goes there.
//!
//! Within it a node notices and stops, and joins anew, or catches up before anybody has noticed, which makes its promises true again.

use super::World;
use super::log_map::LogMap;
use crate::model::disk::{Crash, CrashPolicy, DiskImage};
use crate::random::Draw;
use raftkv_core::ids::NodeId;
use raftkv_core::log::HardState;
use raftkv_core::time::Span;

/// A disk as it was.
#[derive(Debug)]
pub(super) struct Image {
    node: NodeId,
    disk: DiskImage,
    /// What was certainly on it.
    hard_state: HardState,
}

impl World {
    /// A machine loses power; an image is taken of its disk, which is put back later.
    pub(super) fn plan_roll_back(&mut self, at: usize) {
        if !self.is_member(at) || self.slots[at].image.is_some() {
            return;
        }
        self.power_cut(at);
        let slot = &mut self.slots[at];
        let node = slot.identity.node;
        let hard_state = self.observer.durable_state(node).unwrap_or_default();
        slot.image = Some(Image { node, disk: slot.disk.image(), hard_state });
        let rng = self.nemesis_rng();
        let wait = rng.span(Span::from_millis(500), Span::from_millis(12_000));
        self.roll_back_at(self.now + wait, at);
    }

    /// The image is put back, if the cluster can do without what that forgets.
    pub(super) fn roll_back(&mut self, at: usize) {
        let Some(image) = self.slots[at].image.take() else { return };
        let is_same = image.node == self.slots[at].identity.node;
        if !is_same || !self.is_member(at) || !self.can_spare(at) || !self.may_forget(&image) {
            return;
        }
        let until = self.now + self.some_downtime();
        self.crash(at, Crash::Power(CrashPolicy::DropAll), until);
        self.put_back(at, image.disk);
        self.count("disk rolled back");
    }

    /// The disk of a machine that is down becomes what it was.
    pub(super) fn put_back(&mut self, at: usize, image: DiskImage) {
        let slot = &mut self.slots[at];
        let node = slot.identity.node;
        slot.disk.restore(image);
        slot.log_map = LogMap::default();
        slot.damaged = true;
        slot.forgot = self.observer.durable_last(node);
        self.observer.forget(node);
        self.atlas.lose(node);
        self.note(at, "damage", "disk rolled back");
    }

    /// A node that was rolled back may have got back what it forgot.
    pub(super) fn look_for_forgotten(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        let node = slot.identity.node;
        if slot.forgot.is_some_and(|(index, term)| self.observer.holds(node, index, term)) {
            slot.forgot = None;
            self.atlas.regain(node);
            self.sometimes("a rolled-back node caught up before anybody noticed");
        }
    }

    /// Whether others vouch for all that the node has promised since.
    fn may_forget(&self, image: &Image) -> bool {
        let node = image.node;
        let confs = self.observer.configurations().in_force(image.hard_state.commit);
        // Whoever knows an older configuration only may decide by it alone.
        let [conf] = confs.as_slice() else { return false };
        let (Some(now), Some((index, term))) =
            (self.observer.durable_state(node), self.observer.durable_last(node))
        else {
            return false;
        };
        // A vote is only asked for in a term by somebody who is not beyond it.
        let beyond = |other: NodeId| {
            self.observer.durable_state(other).is_some_and(|state| state.term > now.term)
        };
        let votes = (image.hard_state.term, image.hard_state.vote) == (now.term, now.vote)
            || self.present().filter(|other| *other != node).all(beyond);
        let hold = |voters: &[NodeId]| {
            let holders = voters.iter().filter(|voter| {
                **voter != node
                    && !self.atlas.is_lost(**voter)
                    && self.observer.holds(**voter, index, term)
            });
            voters.is_empty() || holders.count() * 2 > voters.len()
        };
        votes && hold(&conf.voters) && hold(&conf.voters_outgoing)
    }
}

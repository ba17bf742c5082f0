//! Directed stories: the same world, with faults placed by hand instead of drawn.

use super::slot::Process;
use super::{Run, World};
use crate::check::Violation;
use crate::model::disk::{Crash, CrashPolicy, DiskImage};
use crate::model::network::Host;
use crate::time::SimTime;
use raftkv_core::api::{NodeStatus, Request, Role};
use raftkv_core::io::FileName;
use raftkv_core::time::Span;

/// A run that is told what goes wrong. Members are named by their numbers, from 1.
#[derive(Debug)]
pub struct Scenario {
    pub(super) world: World,
}

impl Scenario {
    /// Starts from a world that has not run yet.
    pub fn new(world: World) -> Self {
        Scenario { world }
    }

    /// Lets time pass.
    pub fn run_for(&mut self, span: Span) -> Result<(), Violation> {
        self.world.run_until(self.world.now + span)
    }

    /// Lets time pass until `condition` holds; a violation when it does not within a simulated minute.
    pub fn run_until(
        &mut self,
        what: &str,
        condition: impl Fn(&Scenario) -> bool,
    ) -> Result<(), Violation> {
        let end = self.world.now + Span::from_millis(60_000);
        while !condition(self) {
            if self.world.now >= end {
                return Err(Violation::new("scenario", format!("never came true: {what}")));
            }
            self.run_for(Span::from_millis(1))?;
        }
        Ok(())
    }

    /// Mends everything, demands that the cluster becomes well, and checks the whole run.
    pub fn finish(mut self) -> Run {
        self.world.options.chaos = Span(0);
        self.world.run()
    }

    /// The member that leads by its own account, in the highest term.
    pub fn leader(&self) -> Option<u32> {
        let leaders = self.statuses().filter(|(_, status)| status.role == Role::Leader);
        leaders.max_by_key(|(_, status)| status.term).map(|(member, _)| member)
    }

    /// What a member says about itself, while it runs.
    pub fn status(&self, member: u32) -> Option<&NodeStatus> {
        self.statuses().find(|(number, _)| *number == member).map(|(_, status)| status)
    }

    /// Requests answered well so far.
    pub fn acknowledged(&self) -> u64 {
        self.world.clients.iter().map(|client| client.acknowledged).sum()
    }

    /// Whether the member's disk has something under way.
    pub fn disk_is_busy(&self, member: u32) -> bool {
        self.world.slots[at(member)].disk.next_wake() != SimTime::NEVER
    }

    /// How often the member's disk has begun something.
    pub fn disk_operations(&self, member: u32) -> u64 {
        self.world.slots[at(member)].disk.counts().begun
    }

    /// How often the member has begun something on its disk or in the object store.
    pub fn actions(&self, member: u32) -> u64 {
        self.disk_operations(member) + self.world.slots[at(member)].blobs
    }

    /// Lets time pass until the member has begun something on its disk or in the object store for the `number`th time; a violation when
    /// it does not within a simulated minute.
    pub fn run_to_action(&mut self, member: u32, number: u64) -> Result<(), Violation> {
        let end = self.world.now + Span::from_millis(60_000);
        while self.actions(member) < number {
            if self.world.now >= end {
                let detail = format!("member {member} never comes to action {number}");
                return Err(Violation::new("scenario", detail));
            }
            let next = self.world.next_wake().max(self.world.now);
            self.world.run_until(next)?;
        }
        Ok(())
    }

    /// The number of the newest segment of the member's log; 0 for none.
    pub fn newest_segment(&self, member: u32) -> u64 {
        let files = self.world.slots[at(member)].disk.listing();
        let segments = files.into_iter().map(|(name, _)| match name {
            FileName::Wal(number) => number,
            _ => 0,
        });
        segments.max().unwrap_or(0)
    }

    /// Whether the member has not applied all that any member has.
    pub fn is_behind(&self, member: u32) -> bool {
        let newest = self.statuses().map(|(_, status)| status.applied_index).max();
        self.status(member).map(|status| status.applied_index) < newest
    }

    /// Cuts the member off from all others, in the directions given.
    pub fn isolate(&mut self, member: u32, hears: bool, is_heard: bool) {
        let host = Host(member - 1);
        for other in (0..self.world.slots.len() as u32).map(Host).filter(|other| *other != host) {
            if !is_heard {
                self.world.peers.cut(host, other);
            }
            if !hears {
                self.world.peers.cut(other, host);
            }
        }
    }

    /// Mends all links between nodes.
    pub fn heal_links(&mut self) {
        self.world.peers.heal_links();
    }

    /// The member's process stops, and goes on after `span` with what queued up.
    pub fn pause(&mut self, member: u32, span: Span) {
        let slot = &mut self.world.slots[at(member)];
        slot.free_at = self.world.now + span;
    }

    /// Ends the member's process; it is started again after `down`.
    pub fn crash(&mut self, member: u32, crash: Crash, down: Span) {
        let until = self.world.now + down;
        self.world.crash(at(member), crash, until);
    }

    /// Cuts the power of all members at once.
    pub fn crash_all(&mut self, policy: CrashPolicy, down: Span) {
        for member in 1..=self.world.slots.len() as u32 {
            self.crash(member, Crash::Power(policy), down);
        }
    }

    /// The operator asks for something, but does not insist.
    pub fn ask_operator(&mut self, request: Request) {
        self.world.operator.ask(request);
    }

    /// Somebody asks the member for something at its own machine, and does not wait for the answer.
    pub fn ask_at(&mut self, member: u32, request: Request) {
        self.world.ask_at(at(member), request);
    }

    /// The operator lets a spare machine join.
    pub fn let_join(&mut self, member: u32) {
        self.world.operator.let_join(member, super::process::address(member), false);
    }

    /// Voters of the newest configuration that anybody has applied.
    pub fn voters(&self) -> Vec<u32> {
        let conf = self.world.observer.configurations().newest();
        conf.voters.iter().map(|voter| voter.member()).collect()
    }

    /// Length of the snapshot that the member is writing or receiving.
    pub fn half_snapshot_bytes(&self, member: u32) -> Option<u64> {
        let listing = self.world.slots[at(member)].disk.listing();
        let temp = listing.iter().find(|(name, _)| matches!(name, FileName::SnapshotTemp(_)));
        temp.map(|(_, length)| *length)
    }

    /// There is (or is no longer) no space left on the member's disk.
    pub fn set_disk_full(&mut self, member: u32, is_full: bool) {
        self.world.slots[at(member)].disk.set_full(is_full);
    }

    /// A bit flips on the member's disk, in a place of this kind, and its power fails; whether there was such a place.
    pub fn rot(&mut self, member: u32, kind: &str) -> bool {
        self.world.rot(at(member), kind)
    }

    /// The member's disk is replaced by an empty one, and the operator lets it join anew.
    pub fn lose_disk(&mut self, member: u32) {
        let slot = &self.world.slots[at(member)];
        assert!(self.world.can_spare(at(member)), "a majority of disks must stay good");
        self.world.atlas.lose(slot.identity.node);
        self.world.vacate(at(member));
    }

    /// A copy of the member's disk. The member must be down.
    pub fn disk_image(&self, member: u32) -> DiskImage {
        let slot = &self.world.slots[at(member)];
        assert!(matches!(slot.process, Process::Down { .. }), "images are taken of stopped nodes");
        slot.disk.image()
    }

    /// The member's disk goes back to an older state. The member must be down.
    pub fn restore_disk(&mut self, member: u32, image: DiskImage) {
        let is_down = matches!(self.world.slots[at(member)].process, Process::Down { .. });
        assert!(is_down, "images are put back on stopped nodes");
        self.world.put_back(at(member), image);
    }

    fn statuses(&self) -> impl Iterator<Item = (u32, &NodeStatus)> {
        let running = self.world.slots.iter().filter(|slot| slot.is_running());
        running.filter_map(|slot| Some((slot.member, slot.status.as_deref()?)))
    }
}

fn at(member: u32) -> usize {
    member as usize - 1
}

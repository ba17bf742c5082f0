//! How the process of a node ends, and what becomes of its machine.
//!
//! Invariant: a process that ends of itself has a reason that was given to it: it was told to stop, its disk failed, it was removed, or
//! its disk does not hold what it promised.

use super::World;
use super::clients::ClientFrame;
use super::log_map::LogMap;
use super::process::address;
use super::slot::Process;
use crate::check::Violation;
use crate::model::disk::Crash;
use crate::model::network::Host;
use crate::random::Draw;
use crate::time::SimTime;
use raftkv_core::api::{MemberInfo, Role};
use raftkv_core::boot;
use raftkv_core::ids::Identity;
use raftkv_core::io::{FileName, Halt, Input};
use raftkv_core::time::Span;

impl World {
    /// Ends the process, and says when it is started again.
    pub(super) fn crash(&mut self, at: usize, crash: Crash, until: SimTime) {
        let slot = &mut self.slots[at];
        if matches!(slot.process, Process::Vacant) {
            return;
        }
        if let Some(drivers) = &mut self.drivers {
            drivers.end(at);
        }
        let was_booting = matches!(slot.process, Process::Booting { .. });
        let was_founding = matches!(slot.process, Process::Founding { .. });
        let is_temp = |(name, _): &(FileName, u64)| matches!(name, FileName::SnapshotTemp(_));
        let half_written = slot.disk.listing().iter().any(is_temp);
        let at_stake = slot.disk.crash(crash);
        slot.process = Process::Down { until };
        slot.inbox.clear();
        slot.running_watches.clear();
        slot.told_to_stop = None;
        self.backups.abandon(slot.store_session);
        slot.status = None;
        slot.free_at = self.now;
        let node = slot.identity.node;
        let waiting = std::mem::take(&mut slot.requests);
        self.observer.on_stop(node);
        for (client, attempt) in waiting.into_values() {
            self.wires.submit(self.now, Host(at as u32), client, ClientFrame::Broken { attempt });
        }
        self.trace.line(self.now, node, "crash", format_args!("{crash:?} at stake {at_stake}"));
        if was_booting {
            self.sometimes("crash during recovery");
        }
        if was_founding {
            self.sometimes("crash while a restored data directory was being made");
        }
        if half_written {
            self.sometimes("crash while a snapshot was being written or received");
        }
    }

    /// Tells a node to stop, as a service manager does.
    pub(super) fn tell_to_stop(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        let role = slot.status.as_deref().map(|status| status.role);
        if let Some(role) = role.filter(|_| slot.is_running() && slot.told_to_stop.is_none()) {
            slot.told_to_stop = Some(role);
            slot.inbox.push_back(Input::Shutdown);
            self.count("process told to stop");
            self.note(at, "stop", "told to");
        }
    }

    /// Empties the disk of a machine, whose member has to join anew.
    pub(super) fn vacate(&mut self, at: usize) {
        let (member, node) = (self.slots[at].member, self.slots[at].identity.node);
        let learner = self.observer.configurations().newest().learners.contains(&node);
        self.empty(at);
        self.operator.let_join(member, address(member), learner);
    }

    /// Empties the disk of a machine.
    pub(super) fn empty(&mut self, at: usize) {
        self.crash(at, Crash::Process, SimTime::NEVER);
        let slot = &mut self.slots[at];
        slot.disk.lose_everything();
        slot.log_map = LogMap::default();
        slot.process = Process::Vacant;
        slot.damaged = false;
        slot.forgot = None;
        slot.founding = None;
        let node = slot.identity.node;
        self.trace.line(self.now, node, "vacant", format_args!("disk replaced"));
    }

    /// A member that was let in again gets its data directory.
    pub(super) fn settle(&mut self, identity: Identity, peers: Vec<MemberInfo>) {
        let slot = &mut self.slots[identity.node.member() as usize - 1];
        assert!(matches!(slot.process, Process::Vacant), "only empty machines are let in");
        slot.identity = identity;
        for action in boot::joining(identity, peers) {
            slot.disk.provision(&action);
        }
        slot.process = Process::Down { until: self.now };
        self.trace.line(self.now, identity.node, "joining", format_args!("disk made ready"));
        self.sometimes(match identity.node.incarnation() {
            0 => "a new member joined",
            _ => "a member joined anew",
        });
    }

    /// The node says that it stops.
    pub(super) fn on_halt(&mut self, at: usize, halt: &Halt) -> Result<(), Violation> {
        let slot = &self.slots[at];
        let node = slot.identity.node;
        self.trace.line(self.now, node, "halt", format_args!("{halt}"));
        let legitimate = match halt {
            Halt::DiskFailed { .. } => slot.disk_has_failed(),
            Halt::Unreadable { .. } => false,
            Halt::Stopped => slot.told_to_stop.is_some(),
            Halt::Removed { .. } => {
                slot.damaged || self.observer.configurations().was_removed(node)
            }
            Halt::RolledBack { .. } => slot.damaged,
        };
        if !legitimate {
            return Err(Violation::new("halt", format!("node {node} stops for no reason: {halt}")));
        }
        match halt {
            Halt::Removed { .. } if self.observer.configurations().was_removed(node) => {
                self.on_removed(at);
                return Ok(());
            }
            Halt::Removed { .. } | Halt::RolledBack { .. } => {
                self.sometimes("a rolled-back node stopped");
                self.vacate(at);
                return Ok(());
            }
            Halt::DiskFailed { .. } => self.sometimes("a node stopped because of its disk"),
            Halt::Stopped => self.on_stopped(at),
            Halt::Unreadable { .. } => {}
        }
        let pause = self.rng.span(Span::from_millis(100), Span::from_millis(3_000));
        self.crash(at, Crash::Process, self.now + pause);
        Ok(())
    }

    fn on_stopped(&mut self, at: usize) {
        let slot = &self.slots[at];
        let led = slot.told_to_stop == Some(Role::Leader);
        let leads = slot.status.as_deref().is_some_and(|status| status.role == Role::Leader);
        self.sometimes("a node stopped as it was told");
        if led && !leads {
            self.sometimes("a leader that was told to stop handed over before");
        }
    }
}

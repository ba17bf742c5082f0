//! The second phase: everything is mended, and the cluster must be well again in bounded time.
//!
//! Well means: every member that should live runs; one leader, known to all; every client has had writes or reads answered
//! since the mending, and every member by itself a read; a backup was made and restores in memory; after the clients have stopped, all nodes have applied the same and have equal state hashes.

use super::World;
use super::options::FaultKind;
use super::slot::{Process, Slot};
use crate::check::{Violation, bounded};
use crate::client::Client;
use crate::model::disk::Crash;
use crate::random::Ppm;
use crate::time::SimTime;
use raftkv_core::api::Role;
use raftkv_core::kv::KvState;
use raftkv_core::time::Span;

/// A client that has heard so many refusals is served, though it wants nothing that can be done.
const REFUSALS: u64 = 20;
/// How often it is looked at.
const LOOK_EVERY: Span = Span::from_millis(100);

impl World {
    /// Mends everything and waits until the cluster is well.
    pub(super) fn recover(&mut self) -> Result<(), Violation> {
        self.mend();
        let deadline = self.now + self.options.recovery;
        let goal = |client: &Client| (client.acknowledged + 2, client.refused + REFUSALS);
        let goals: Vec<(u64, u64)> = self.clients.iter().map(goal).collect();
        self.backups.prove(self.now);
        self.wait_for(deadline, |world| world.is_serving(&goals))?;
        self.clients.iter_mut().for_each(|client| client.stop());
        self.watchers.iter_mut().for_each(|watcher| watcher.stop());
        // Leases last up to twenty seconds after the last word of a client.
        let deadline = deadline.max(self.now + Span::from_millis(30_000));
        self.wait_for(deadline, |world| world.is_settled())
    }

    /// When nobody asks any more, nothing may be left over.
    fn check_rest(&self) -> Result<(), Violation> {
        for slot in self.slots.iter().filter(|slot| self.lives(slot)) {
            let (Some(state), Some(log_entries)) = (slot.state(), slot.log_entries()) else {
                continue;
            };
            let held = bounded::Held {
                log_entries: if self.snapshots_may_rest() { 0 } else { log_entries },
                requests: u64::from(slot.owes()),
                leases: state.leases().len() as u64,
            };
            bounded::at_rest(slot.identity.node, held, &self.options.config)?;
        }
        Ok(())
    }

    /// After a snapshot that took long a node makes none for nine times as long, and its log is bounded in bytes only. Here a snapshot
    /// takes long when a disk hangs or a process is stopped.
    fn snapshots_may_rest(&self) -> bool {
        let stops = [FaultKind::Pause, FaultKind::PauseAll, FaultKind::Slow];
        self.options.disk.hang > Ppm::NEVER
            || stops.iter().any(|kind| self.options.faults.contains(kind))
    }

    /// The states of the members that live.
    pub(super) fn final_states(&self) -> Vec<KvState> {
        let living = self.slots.iter().filter(|slot| self.lives(slot));
        living.filter_map(|slot| slot.state().cloned()).collect()
    }

    /// Whether a member runs there.
    pub(super) fn lives(&self, slot: &Slot) -> bool {
        slot.is_running() && !self.observer.configurations().was_removed(slot.identity.node)
    }

    fn mend(&mut self) {
        self.trace.line(self.now, "world", "mend", format_args!(""));
        self.nemesis.rest();
        self.operator.rest();
        self.overtaking = None;
        self.disaster.rest();
        self.peers.heal(self.now);
        self.wires.heal(self.now);
        let dead = self.spared_member();
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            slot.busy = Span(50_000);
            slot.free_at = self.now;
            slot.clock.heal();
            slot.disk.heal();
            if Some(at) == dead {
                self.crash(at, Crash::Process, SimTime::NEVER);
            } else if let Process::Down { until } = &mut slot.process {
                *until = self.now;
            }
        }
    }

    /// The machine that stays dead: the last voter's that the cluster can do without.
    fn spared_member(&mut self) -> Option<usize> {
        if !self.options.leave_dead {
            return None;
        }
        let can_stay = |at: &usize| self.is_member(*at) && self.can_spare(*at);
        let at = (0..self.slots.len()).rev().find(can_stay)?;
        self.atlas.lose(self.slots[at].identity.node);
        self.sometimes("a member stays dead");
        Some(at)
    }

    fn wait_for(
        &mut self,
        deadline: SimTime,
        mut condition: impl FnMut(&mut World) -> Result<(), String>,
    ) -> Result<(), Violation> {
        loop {
            self.run_until(self.now + LOOK_EVERY)?;
            let Err(unmet) = condition(self) else { return Ok(()) };
            if self.now >= deadline {
                let bound = self.options.recovery.as_millis();
                let detail = format!("{bound} ms after everything was mended: {unmet}");
                return Err(Violation::new("liveness", detail));
            }
        }
    }

    fn is_serving(&mut self, goals: &[(u64, u64)]) -> Result<(), String> {
        let silent = self.probe().map(|at| self.slots[at].identity.node);
        self.one_leader()?;
        if let Some(node) = silent {
            return Err(format!("node {node} answers no reads"));
        }
        if !self.operator.is_done() {
            return Err("a member was not let in".into());
        }
        self.membership_is_settled()?;
        if !self.backups.is_proven() {
            return Err("no backup was made, or none restores".into());
        }
        for (number, (client, (done, refused))) in self.clients.iter().zip(goals).enumerate() {
            if client.acknowledged < *done && client.refused < *refused {
                return Err(format!("client {number} gets no answers"));
            }
        }
        Ok(())
    }

    fn is_settled(&self) -> Result<(), String> {
        if let Some(client) = self.clients.iter().find(|client| !client.has_stopped()) {
            return Err(format!("a client still waits for an answer: {}", client.waits_for()));
        }
        self.one_leader()?;
        let states: Vec<String> = self
            .live()
            .map(|status| {
                let (node, index) = (status.identity.node, status.applied_index);
                format!("{node} at {index} of {}: {}", status.last_index, status.state_hash)
            })
            .collect();
        let mut points =
            self.live().map(|status| (status.applied_index, status.last_index, status.state_hash));
        let first = points.next();
        if points.all(|point| Some(point) == first) {
            return self.check_rest().map_err(|held| held.detail);
        }
        Err(format!("the nodes' states differ: {}", states.join(", ")))
    }

    fn one_leader(&self) -> Result<(), String> {
        for slot in &self.slots {
            let stays_dead =
                matches!(slot.process, Process::Down { until: SimTime::NEVER } | Process::Vacant);
            let removed = self.observer.configurations().was_removed(slot.identity.node);
            if !stays_dead && !removed && (!slot.is_running() || slot.status.is_none()) {
                return Err(format!("node {} does not run", slot.identity.node));
            }
            if slot.told_to_stop.is_some() {
                return Err(format!("node {} was told to stop, and goes on", slot.identity.node));
            }
        }
        let leaders: Vec<String> = self
            .live()
            .filter(|status| status.role == Role::Leader)
            .map(|status| status.identity.node.to_string())
            .collect();
        let known: Vec<Option<String>> =
            self.live().map(|status| status.leader.map(|leader| leader.to_string())).collect();
        match leaders.as_slice() {
            [leader] if known.iter().all(|known| known.as_ref() == Some(leader)) => Ok(()),
            _ => Err(format!("leaders {leaders:?}, known leaders {known:?}")),
        }
    }

    fn live(&self) -> impl Iterator<Item = &raftkv_core::api::NodeStatus> {
        let members = self.slots.iter().filter(|slot| self.lives(slot));
        members.filter_map(|slot| slot.status.as_deref())
    }
}

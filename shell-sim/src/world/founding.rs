//! The data directory of a restored cluster's first member, written onto a new machine's disk as the restoring command does: operation by
//! operation, with everything that can go wrong with a disk.
//!
//! Invariant: a directory whose making was cut short is known as such when the machine starts, and is made anew; one that is whole is kept.

use super::World;
use super::slot::Process;
use crate::model::disk::Crash;
use crate::random::{Draw, Ppm};
use raftkv_core::api::MemberInfo;
use raftkv_core::boot::{self, Genesis, GenesisBase};
use raftkv_core::io::{DiskDone, DiskError};
use raftkv_core::time::Span;

/// What the directory is made from.
#[derive(Clone, Debug)]
pub(super) struct Founding {
    pub(super) members: Vec<MemberInfo>,
    pub(super) base: GenesisBase,
}

impl World {
    /// The directory is empty: it is made.
    pub(super) fn begin_founding(&mut self, at: usize, founding: Founding) {
        let slot = &mut self.slots[at];
        let Founding { members, base } = founding;
        let genesis = boot::genesis(slot.identity, members, base);
        self.trace.line(self.now, slot.identity.node, "founding", format_args!(""));
        self.go_on_founding(at, Box::new(genesis));
        self.maybe_lose_power(at);
    }

    /// It takes a moment only, so that no fault that strikes at any time would meet it.
    fn maybe_lose_power(&mut self, at: usize) {
        let mean = Span(self.options.disk.sync_mean.0 + self.options.disk.access_mean.0);
        let is_calm = self.options.faults.is_empty() || self.nemesis_is_resting();
        if !is_calm && self.nemesis_rng().happens(Ppm::percent(30)) {
            let soon = self.nemesis_rng().tail(Span(mean.0 * 2));
            self.crash_at(self.now + soon, at, true);
        }
    }

    /// Does the next operation, if there is one; then the node starts.
    fn go_on_founding(&mut self, at: usize, mut genesis: Box<Genesis>) {
        let slot = &mut self.slots[at];
        slot.process = match genesis.next() {
            None => Process::Down { until: self.now },
            Some(action) => {
                let waits_for = slot.name_operation();
                slot.disk.submit(self.now, waits_for, action);
                Process::Founding { genesis, waits_for }
            }
        };
    }

    /// The disk has done an operation, or has not.
    pub(super) fn on_founding_step_done(&mut self, at: usize, result: Result<DiskDone, DiskError>) {
        let down = Process::Down { until: self.now };
        let before = std::mem::replace(&mut self.slots[at].process, down);
        let Process::Founding { genesis, .. } = before else { return };
        match result {
            Ok(_) => self.go_on_founding(at, genesis),
            Err(_) => {
                self.sometimes("a restore met a failing disk");
                self.crash(at, Crash::Process, self.now + Span::from_millis(500));
            }
        }
    }
}

//! After the mending every member must answer a linearizable read by itself, however often clients could go elsewhere.

use super::World;
use super::clients::ClientFrame;
use crate::model::network::Host;
use crate::time::SimTime;
use raftkv_core::api::{KeyRange, RangeRequest, Request, Response};
use raftkv_core::time::Span;
use std::collections::BTreeMap;

/// The first host number of probes, one a machine.
pub(super) const PROBE_HOSTS: u32 = 400;
/// A question is asked again after this long.
const PATIENCE: Span = Span::from_millis(3_000);

/// What was asked of which machine.
#[derive(Debug, Default)]
pub(super) struct Probes {
    attempts: u64,
    asked: BTreeMap<usize, Probe>,
}

#[derive(Debug)]
struct Probe {
    attempt: u64,
    at: SimTime,
    is_answered: bool,
}

impl Probes {
    /// The machine with this place has answered, or its connection broke.
    pub(super) fn heard(&mut self, place: usize, attempt: u64, response: Option<&Response>) {
        if let Some(probe) = self.asked.get_mut(&place).filter(|probe| probe.attempt == attempt) {
            probe.is_answered = matches!(response, Some(Response::Range(_)));
        }
    }
}

impl World {
    /// Asks every machine that has not answered. Gives one that has not.
    pub(super) fn probe(&mut self) -> Option<usize> {
        let living: Vec<usize> =
            (0..self.slots.len()).filter(|at| self.lives(&self.slots[*at])).collect();
        let mut silent = None;
        for at in living {
            let probe = self.probes.asked.get(&at);
            if probe.is_some_and(|probe| probe.is_answered) {
                continue;
            }
            silent = Some(at);
            if probe.is_some_and(|probe| self.now - probe.at < PATIENCE) {
                continue;
            }
            let (from, to) = (Host(PROBE_HOSTS + at as u32), Host(at as u32));
            if let Some(probe) = probe {
                let leave = ClientFrame::Leave { attempt: probe.attempt };
                self.wires.submit(self.now, from, to, leave);
            }
            self.probes.attempts += 1;
            let attempt = self.probes.attempts;
            let probe = Probe { attempt, at: self.now, is_answered: false };
            self.probes.asked.insert(at, probe);
            let request = Request::Range(RangeRequest::new(KeyRange::one("k000")));
            self.wires.submit(self.now, from, to, ClientFrame::Ask { attempt, request });
        }
        silent
    }
}

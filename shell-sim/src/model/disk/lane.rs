//! The queue of one lane: operations wait, and are carried out in order, one batch at a time.

use super::{DiskCounts, DiskFaults};
use crate::random::Draw;
use crate::time::SimTime;
use raftkv_core::ids::OpId;
use raftkv_core::io::DiskOp;
use raftkv_core::rng::Rng;
use raftkv_core::time::Span;
use std::collections::VecDeque;

/// Writes that may share one sync.
const BATCH_JOBS_MAX: usize = 64;

/// One operation with its name.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) op: OpId,
    pub(super) action: DiskOp,
}

/// A lane.
#[derive(Debug)]
pub(super) struct LaneQueue {
    pub(super) waiting: VecDeque<Job>,
    under_way: Vec<Job>,
    /// When the batch under way ends; never, when there is none.
    pub(super) ends: SimTime,
}

impl Default for LaneQueue {
    fn default() -> Self {
        LaneQueue { waiting: VecDeque::new(), under_way: Vec::new(), ends: SimTime::NEVER }
    }
}

impl LaneQueue {
    /// Begins the next batch, if nothing is under way and something waits.
    pub(super) fn start(
        &mut self,
        now: SimTime,
        faults: &DiskFaults,
        rng: &mut Rng,
        counts: &mut DiskCounts,
    ) {
        if !self.under_way.is_empty() {
            return;
        }
        let Some(first) = self.waiting.pop_front() else { return };
        counts.begun += 1;
        let is_write = matches!(first.action, DiskOp::Write { .. });
        self.under_way.push(first);
        while is_write && self.under_way.len() < BATCH_JOBS_MAX {
            let next = self.waiting.pop_front_if(|job| matches!(job.action, DiskOp::Write { .. }));
            let Some(next) = next else { break };
            self.under_way.push(next);
        }
        self.ends = now + self.duration(faults, rng, counts);
    }

    /// Takes the batch whose time has come.
    pub(super) fn finish(&mut self) -> Vec<Job> {
        self.ends = SimTime::NEVER;
        std::mem::take(&mut self.under_way)
    }

    /// Forgets what waits; gives what was under way.
    pub(super) fn abandon(&mut self) -> Vec<Job> {
        self.waiting.clear();
        self.finish()
    }

    fn duration(&self, faults: &DiskFaults, rng: &mut Rng, counts: &mut DiskCounts) -> Span {
        if rng.happens(faults.hang) {
            counts.hung += 1;
            return rng.span(Span::from_millis(100), Span::from_millis(10_000));
        }
        let has_sync = self.under_way.iter().any(|job| match &job.action {
            DiskOp::Write { sync, .. } => *sync,
            DiskOp::Read { .. } => false,
            DiskOp::Create { .. }
            | DiskOp::Publish { .. }
            | DiskOp::Sync { .. }
            | DiskOp::Remove { .. } => true,
        });
        rng.tail(if has_sync { faults.sync_mean } else { faults.access_mean })
    }
}

//! Our own election randomness in place of raft's.
//!
//! raft-rs draws election timeouts from a thread-local generator seeded by the operating system, so no run could be replayed. The
//! timeout is read in one place only, the election tick, and no call into raft both draws and reads it. So overwriting it after
//! every call makes raft deterministic. A fresh timeout is drawn whenever raft would have drawn one that matters: when term, role
//! or leader changed.

use super::memlog::MemLog;
use crate::rng::{Rng, Seed};
use raft::{RawNode, StateRole};

/// Draws and pins election timeouts.
#[derive(Debug)]
pub struct ElectionPin {
    rng: Rng,
    election_ticks: usize,
    timeout_ticks: usize,
    seen: Option<(u64, StateRole, u64)>,
}

impl ElectionPin {
    /// Timeouts from `election_ticks` up to, not including, twice that.
    pub fn new(seed: &Seed, election_ticks: usize) -> Self {
        ElectionPin {
            rng: seed.fork("election"),
            election_ticks,
            timeout_ticks: election_ticks,
            seen: None,
        }
    }

    /// To be called after every call into raft.
    pub fn apply(&mut self, raw: &mut RawNode<MemLog>) {
        let now = (raw.raft.term, raw.raft.state, raw.raft.leader_id);
        if self.seen != Some(now) {
            self.seen = Some(now);
            self.timeout_ticks =
                self.election_ticks + self.rng.below(self.election_ticks as u64) as usize;
        }
        raw.raft.set_randomized_election_timeout(self.timeout_ticks);
    }
}

//! The coordinator: routes inputs to the machines and their results to each other and to the outside.

use crate::boot::Image;
use crate::config::Config;
use crate::ids::Identity;
use crate::io::{Input, Output};
use crate::rng::Seed;
use crate::time::{Mono, Now};

/// Why the node wants to wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Raft's clock.
    RaftTick,
    /// A snapshot may be due.
    SnapshotCheck,
    /// A view was not read for long.
    ViewExpiry,
    /// A read must be tried again.
    ReadRetry,
    /// A peer owes an answer to a snapshot chunk.
    SnapshotRetry,
}

/// One node of a cluster.
#[derive(Debug)]
pub struct Node {
    identity: Identity,
}

impl Node {
    /// A node from its checked data directory.
    pub fn new(_config: Config, image: Image, _seed: Seed, _now: Now) -> Self {
        Node { identity: image.identity }
    }

    /// Whose node this is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Takes one input. Total: a bad request is a reply, a failed disk a halt.
    pub fn handle(&mut self, _now: Now, _input: Input) {}

    /// The next thing to do outside; `None` when all was said until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }

    /// When to hand in [`Input::Timeout`] at the latest, and why.
    pub fn poll_timeout(&self) -> Option<(Mono, Timer)> {
        None
    }
}

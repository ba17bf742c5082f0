//! One of the requests that a client may have under way.

use crate::time::SimTime;

/// Where one request stands.
#[derive(Debug)]
pub(super) struct Lane {
    /// Whom it is asked of.
    pub(super) node: usize,
    /// Whether it goes where the client's requests usually go.
    pub(super) follows: bool,
    /// Names the newest attempt.
    pub(super) attempt: u64,
    /// When it is given up.
    pub(super) give_up: SimTime,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Idle {
        until: SimTime,
    },
    /// An attempt is to be made.
    Backoff {
        until: SimTime,
        operation: usize,
    },
    /// An attempt is under way.
    Waiting {
        until: SimTime,
        operation: usize,
    },
    Stopped,
}

impl Lane {
    /// Nothing is under way.
    pub(super) fn new() -> Self {
        let state = State::Idle { until: SimTime(0) };
        Lane { node: 0, follows: true, attempt: 0, give_up: SimTime(0), state }
    }

    /// A request is about to be asked.
    pub(super) fn begin(&mut self, node: usize, follows: bool, give_up: SimTime) {
        (self.node, self.follows, self.give_up) = (node, follows, give_up);
    }

    /// The place in the history of what is under way.
    pub(super) fn operation(&self) -> Option<usize> {
        match self.state {
            State::Backoff { operation, .. } | State::Waiting { operation, .. } => Some(operation),
            State::Idle { .. } | State::Stopped => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn operation_mut(&mut self) -> Option<&mut usize> {
        match &mut self.state {
            State::Backoff { operation, .. } | State::Waiting { operation, .. } => Some(operation),
            State::Idle { .. } | State::Stopped => None,
        }
    }

    /// When to be polled again.
    pub(super) fn next_wake(&self) -> SimTime {
        match self.state {
            State::Idle { until } | State::Backoff { until, .. } | State::Waiting { until, .. } => {
                until
            }
            State::Stopped => SimTime::NEVER,
        }
    }
}

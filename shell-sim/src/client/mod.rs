//! Clients as sans-IO machines: they ask, wait, retry, follow the leader, and write down what they saw.
//!
//! Invariants: one request under way at a time; a write that may have been applied is retried only within its session;
//! a request that is given up stays of unknown outcome for ever.

pub mod watcher;
pub mod workload;

use crate::history::{History, Operation, Outcome};
use crate::random::Draw;
use crate::time::SimTime;
use raftkv_core::api::{Error, Request, Response, SessionRef, WriteOp, WriteResult};
use raftkv_core::rng::Rng;
use raftkv_core::time::Span;
use workload::{Wish, Workload, WorkloadOptions};

/// A client gives a request up after this long.
const GIVE_UP_AFTER: Span = Span::from_millis(15_000);

/// What a client wants sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sending {
    /// A request, to the node with this place in the world.
    Ask {
        /// Which node.
        node: usize,
        /// Names the attempt; never used twice by one client.
        attempt: u64,
        /// What.
        request: Request,
    },
    /// No answer to this attempt is wanted any more.
    Leave {
        /// Which node.
        node: usize,
        /// Which attempt.
        attempt: u64,
    },
}

/// One client.
#[derive(Debug)]
pub struct Client {
    number: u32,
    rng: Rng,
    nodes: usize,
    workload: Workload,
    session: Option<Session>,
    node: usize,
    attempts: u64,
    state: State,
    stopping: bool,
    /// Requests answered well.
    pub acknowledged: u64,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    id: u64,
    next_sequence: u64,
}

#[derive(Debug)]
enum State {
    Idle {
        until: SimTime,
    },
    /// An attempt is to be made.
    Backoff {
        until: SimTime,
        operation: usize,
        give_up: SimTime,
    },
    /// An attempt is under way.
    Waiting {
        until: SimTime,
        operation: usize,
        give_up: SimTime,
    },
    Stopped,
}

impl Client {
    /// A client of a cluster with so many nodes.
    pub fn new(number: u32, nodes: usize, options: WorkloadOptions, mut rng: Rng) -> Self {
        let node = rng.below(nodes as u64) as usize;
        Client {
            number,
            rng,
            nodes,
            workload: Workload::new(options, number),
            session: None,
            node,
            attempts: 0,
            state: State::Idle { until: SimTime(0) },
            stopping: false,
            acknowledged: 0,
        }
    }

    /// What to send now, if anything.
    pub fn poll(&mut self, now: SimTime, history: &mut History) -> Option<Sending> {
        match self.state {
            State::Idle { until } if until <= now => {
                if self.stopping {
                    self.state = State::Stopped;
                    return None;
                }
                let operation = self.begin(now, history);
                Some(self.ask(now, operation, now + GIVE_UP_AFTER, history))
            }
            State::Backoff { until, operation, give_up } if until <= now => {
                Some(self.ask(now, operation, give_up, history))
            }
            State::Waiting { until, operation, give_up } if until <= now => {
                let leave = Sending::Leave { node: self.node, attempt: self.attempts };
                self.node = self.rng.below(self.nodes as u64) as usize;
                self.unanswered(now, operation, give_up, history);
                Some(leave)
            }
            _ => None,
        }
    }

    /// An answer came.
    pub fn handle(
        &mut self,
        now: SimTime,
        attempt: u64,
        response: Response,
        history: &mut History,
    ) {
        let State::Waiting { operation, give_up, .. } = self.state else { return };
        if attempt != self.attempts {
            return;
        }
        match response {
            Response::Error(error) => self.on_error(now, operation, give_up, error, history),
            response => {
                self.acknowledged += 1;
                self.learn(&response, &history.operations[operation].request);
                self.end(now, operation, Outcome::Done(response), history);
            }
        }
    }

    /// The connection broke: whether the attempt was done is not known.
    pub fn handle_broken(&mut self, now: SimTime, attempt: u64, history: &mut History) {
        if let State::Waiting { operation, give_up, .. } = self.state
            && attempt == self.attempts
        {
            self.node = self.rng.below(self.nodes as u64) as usize;
            self.unanswered(now, operation, give_up, history);
        }
    }

    /// When to be polled again.
    pub fn next_wake(&self) -> SimTime {
        match self.state {
            State::Idle { until } | State::Backoff { until, .. } | State::Waiting { until, .. } => {
                until
            }
            State::Stopped => SimTime::NEVER,
        }
    }

    /// The cluster is another one, of so many nodes: what is under way goes on in a new history, and everything remembered stays.
    pub fn move_on(&mut self, nodes: usize, old: &History, new: &mut History) {
        self.nodes = nodes;
        self.node = self.rng.below(nodes as u64) as usize;
        if let State::Backoff { operation, .. } | State::Waiting { operation, .. } = &mut self.state
        {
            new.operations.push(old.operations[*operation].clone());
            *operation = new.operations.len() - 1;
        }
    }

    /// Finish what is under way, and ask for nothing more.
    pub fn stop(&mut self) {
        self.stopping = true;
        if matches!(self.state, State::Idle { .. }) {
            self.state = State::Stopped;
        }
    }

    /// Whether it has stopped.
    pub fn has_stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    fn begin(&mut self, now: SimTime, history: &mut History) -> usize {
        let request = match (self.workload.wish(&mut self.rng), &mut self.session) {
            (Wish::Request(request), _) => request,
            (Wish::Once(_), None) => Request::SessionOpen,
            (Wish::Once(op), Some(session)) => {
                let sequence = session.next_sequence;
                session.next_sequence += 1;
                let session =
                    SessionRef { session: session.id, sequence, acknowledged_below: sequence };
                Request::Write { session: Some(session), op }
            }
        };
        history.operations.push(Operation {
            client: self.number,
            request,
            call: now,
            end: SimTime::NEVER,
            outcome: Outcome::Unknown,
            attempts: 0,
        });
        history.operations.len() - 1
    }

    fn ask(
        &mut self,
        now: SimTime,
        operation: usize,
        give_up: SimTime,
        history: &mut History,
    ) -> Sending {
        self.attempts += 1;
        history.operations[operation].attempts += 1;
        let patience = self.rng.span(Span::from_millis(500), Span::from_millis(5_000));
        self.state = State::Waiting { until: now + patience, operation, give_up };
        let request = history.operations[operation].request.clone();
        Sending::Ask { node: self.node, attempt: self.attempts, request }
    }

    fn on_error(
        &mut self,
        now: SimTime,
        operation: usize,
        give_up: SimTime,
        error: Error,
        history: &mut History,
    ) {
        match &error {
            Error::NotLeader { leader } => {
                self.node = match leader {
                    Some((leader, _)) => leader.member() as usize - 1,
                    None => self.rng.below(self.nodes as u64) as usize,
                };
                self.retry(now, operation, give_up, history);
            }
            Error::Unknown => self.unanswered(now, operation, give_up, history),
            error if error.retryable() => {
                self.node = self.rng.below(self.nodes as u64) as usize;
                self.retry(now, operation, give_up, history);
            }
            Error::SessionUnknown(_) | Error::SequenceForgotten { .. } => {
                self.session = None;
                // An earlier attempt may have been applied before the session was forgotten.
                let outcome = match history.operations[operation].attempts {
                    1 => Outcome::Refused(error),
                    _ => Outcome::Unknown,
                };
                self.end(now, operation, outcome, history);
            }
            Error::LeaseNotFound(_) => {
                self.workload.holds(0);
                self.end(now, operation, Outcome::Refused(error), history);
            }
            _ => self.end(now, operation, Outcome::Refused(error), history),
        }
    }

    /// An attempt has ended without saying whether it was done.
    fn unanswered(
        &mut self,
        now: SimTime,
        operation: usize,
        give_up: SimTime,
        history: &mut History,
    ) {
        match &history.operations[operation].request {
            Request::Write { session: None, .. } => {
                self.end(now, operation, Outcome::Unknown, history);
            }
            _ => self.retry(now, operation, give_up, history),
        }
    }

    fn retry(&mut self, now: SimTime, operation: usize, give_up: SimTime, history: &mut History) {
        if now >= give_up {
            return self.end(now, operation, Outcome::Unknown, history);
        }
        let until = now + self.rng.span(Span::from_millis(10), Span::from_millis(300));
        self.state = State::Backoff { until, operation, give_up };
    }

    fn end(&mut self, now: SimTime, operation: usize, outcome: Outcome, history: &mut History) {
        let operation = &mut history.operations[operation];
        if outcome != Outcome::Unknown {
            operation.end = now;
        }
        operation.outcome = outcome;
        self.state = State::Idle { until: now + self.workload.think(&mut self.rng) };
    }

    fn learn(&mut self, response: &Response, request: &Request) {
        match response {
            Response::SessionOpened { session } => {
                self.session = Some(Session { id: *session, next_sequence: 1 });
            }
            Response::Range(range) => self.workload.saw(range.revision),
            Response::Write(result) => {
                self.workload.saw(result.revision());
                match (result, request) {
                    (_, Request::Write { op: WriteOp::LeaseRevoke { .. }, .. }) => {
                        self.workload.holds(0);
                    }
                    (WriteResult::Lease { id, .. }, _) => self.workload.holds(*id),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

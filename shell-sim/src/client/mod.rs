//! Clients as sans-IO machines: they ask, wait, retry, follow the leader, and write down what they saw.
//!
//! Invariants: no more requests under way at a time than the options say; a write that may have been applied is retried only within its
//! session; a request that is given up stays of unknown outcome for ever, and only then may its session forget it.

mod lane;
pub mod watcher;
pub mod workload;

use crate::history::{History, Operation, Outcome};
use crate::random::Draw;
use crate::time::SimTime;
use lane::{Lane, State};
use raftkv_core::api::{Error, Request, Response, SessionRef, WriteOp, WriteResult};
use raftkv_core::rng::Rng;
use raftkv_core::time::Span;
use workload::{Wish, Workload, WorkloadOptions};

/// A client gives a request up after this long.
const GIVE_UP_AFTER: Span = Span::from_millis(15_000);

/// After so many attempts that nobody answered it asks another node first.
const SILENCES: u64 = 10;

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
    options: WorkloadOptions,
    workload: Workload,
    session: Option<Session>,
    /// Who answered last, or may know.
    node: usize,
    attempts: u64,
    lanes: Vec<Lane>,
    stopping: bool,
    /// Requests answered well.
    pub acknowledged: u64,
    /// How many were refused for good, because of what the state holds.
    pub refused: u64,
    /// Attempts in a row that nobody has answered.
    silences: u64,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    id: u64,
    next_sequence: u64,
}

impl Client {
    /// A client of a cluster with so many nodes.
    pub fn new(number: u32, nodes: usize, options: WorkloadOptions, mut rng: Rng) -> Self {
        let node = rng.below(nodes as u64) as usize;
        Client {
            number,
            rng,
            nodes,
            options,
            workload: Workload::new(options, number),
            session: None,
            node,
            attempts: 0,
            lanes: (0..options.pipeline.max(1)).map(|_| Lane::new()).collect(),
            stopping: false,
            acknowledged: 0,
            refused: 0,
            silences: 0,
        }
    }

    /// What to send now, if anything.
    pub fn poll(&mut self, now: SimTime, history: &mut History) -> Option<Sending> {
        (0..self.lanes.len()).find_map(|lane| self.poll_lane(lane, now, history))
    }

    /// An answer came.
    pub fn handle(
        &mut self,
        now: SimTime,
        attempt: u64,
        response: Response,
        history: &mut History,
    ) {
        let Some((lane, operation)) = self.waiting_for(attempt) else { return };
        self.silences = 0;
        match response {
            Response::Error(error) => self.on_error(lane, now, operation, error, history),
            response => {
                self.acknowledged += 1;
                self.learn(&response, &history.operations[operation].request);
                if self.lanes[lane].follows {
                    self.node = self.lanes[lane].node;
                }
                self.end(lane, now, operation, Outcome::Done(response), history);
            }
        }
    }

    /// The connection broke: whether the attempt was done is not known.
    pub fn handle_broken(&mut self, now: SimTime, attempt: u64, history: &mut History) {
        if let Some((lane, operation)) = self.waiting_for(attempt) {
            self.turn_away(lane);
            self.unanswered(lane, now, operation, history);
        }
    }

    /// When to be polled again.
    pub fn next_wake(&self) -> SimTime {
        self.lanes.iter().map(Lane::next_wake).min().unwrap_or(SimTime::NEVER)
    }

    /// The cluster is another one, of so many nodes: what is under way goes on in a new history, and everything remembered stays.
    pub fn move_on(&mut self, nodes: usize, old: &History, new: &mut History) {
        self.nodes = nodes;
        self.node = self.some_node();
        for lane in 0..self.lanes.len() {
            self.lanes[lane].node = self.some_node();
            if let Some(operation) = self.lanes[lane].operation_mut() {
                new.operations.push(old.operations[*operation].clone());
                *operation = new.operations.len() - 1;
            }
        }
    }

    /// Finish what is under way, and ask for nothing more.
    pub fn stop(&mut self) {
        self.stopping = true;
        for lane in &mut self.lanes {
            if matches!(lane.state, State::Idle { .. }) {
                lane.state = State::Stopped;
            }
        }
    }

    /// Whether it has stopped.
    pub fn has_stopped(&self) -> bool {
        // One that rests waits for nothing, however long its rest is.
        let has_stopped = |state: &State| match state {
            State::Stopped => true,
            State::Idle { .. } => self.stopping,
            _ => false,
        };
        self.lanes.iter().all(|lane| has_stopped(&lane.state))
    }

    /// What its lanes do, for people.
    pub fn waits_for(&self) -> String {
        let lane = |lane: &Lane| format!("{:?} at {:?}", lane.state, lane.node);
        self.lanes.iter().map(lane).collect::<Vec<_>>().join(", ")
    }

    fn poll_lane(&mut self, lane: usize, now: SimTime, history: &mut History) -> Option<Sending> {
        match self.lanes[lane].state {
            State::Idle { until } if until <= now => {
                if self.stopping {
                    self.lanes[lane].state = State::Stopped;
                    return None;
                }
                let operation = self.begin(lane, now, history);
                Some(self.ask(lane, now, operation, history))
            }
            State::Backoff { until, operation } if until <= now => {
                Some(self.ask(lane, now, operation, history))
            }
            State::Waiting { until, operation } if until <= now => {
                let Lane { node, attempt, .. } = self.lanes[lane];
                self.turn_away(lane);
                self.unanswered(lane, now, operation, history);
                Some(Sending::Leave { node, attempt })
            }
            _ => None,
        }
    }

    /// Draws what to ask next, and whom.
    fn begin(&mut self, lane: usize, now: SimTime, history: &mut History) -> usize {
        let request = match self.workload.wish(&mut self.rng) {
            Wish::Request(request) => request,
            Wish::Once(op) => self.once(op, history),
        };
        let is_read = matches!(request, Request::Range(_));
        let anywhere = is_read && self.rng.happens(self.options.reads_anywhere);
        let node = if anywhere { self.some_node() } else { self.node };
        self.lanes[lane].begin(node, !anywhere, now + GIVE_UP_AFTER);
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

    /// A write in the session. What another lane may still retry is not acknowledged.
    fn once(&mut self, op: WriteOp, history: &History) -> Request {
        let Some(Session { id, next_sequence: sequence }) = self.session else {
            return Request::SessionOpen;
        };
        self.session = Some(Session { id, next_sequence: sequence + 1 });
        let under_way = self.lanes.iter().filter_map(Lane::operation);
        let retried =
            under_way.filter_map(|operation| match &history.operations[operation].request {
                Request::Write { session: Some(other), .. } if other.session == id => {
                    Some(other.sequence)
                }
                _ => None,
            });
        let acknowledged_below = retried.min().unwrap_or(sequence);
        Request::Write {
            session: Some(SessionRef { session: id, sequence, acknowledged_below }),
            op,
        }
    }

    fn ask(
        &mut self,
        lane: usize,
        now: SimTime,
        operation: usize,
        history: &mut History,
    ) -> Sending {
        self.attempts += 1;
        history.operations[operation].attempts += 1;
        let patience = self.rng.span(Span::from_millis(500), Span::from_millis(5_000));
        let lane = &mut self.lanes[lane];
        lane.attempt = self.attempts;
        lane.state = State::Waiting { until: now + patience, operation };
        let request = history.operations[operation].request.clone();
        Sending::Ask { node: lane.node, attempt: lane.attempt, request }
    }

    fn on_error(
        &mut self,
        lane: usize,
        now: SimTime,
        operation: usize,
        error: Error,
        history: &mut History,
    ) {
        match &error {
            Error::NotLeader { leader } => {
                self.lanes[lane].node = match leader {
                    Some((leader, _)) => leader.member() as usize - 1,
                    None => self.some_node(),
                };
                self.retry(lane, now, operation, history);
            }
            Error::Unknown => self.unanswered(lane, now, operation, history),
            error if error.retryable() => {
                self.lanes[lane].node = self.some_node();
                self.retry(lane, now, operation, history);
            }
            Error::SessionUnknown(id) => {
                self.session = self.session.filter(|session| session.id != *id);
                // An earlier attempt may have been applied before the session was forgotten.
                let outcome = match history.operations[operation].attempts {
                    1 => Outcome::Refused(error),
                    _ => Outcome::Unknown,
                };
                self.end(lane, now, operation, outcome, history);
            }
            Error::LeaseNotFound(_) => {
                self.refused += 1;
                self.workload.holds(0);
                self.end(lane, now, operation, Outcome::Refused(error), history);
            }
            Error::Compacted { .. } | Error::FutureRevision { .. } | Error::LeaseExists(_) => {
                self.refused += 1;
                self.end(lane, now, operation, Outcome::Refused(error), history);
            }
            _ => self.end(lane, now, operation, Outcome::Refused(error), history),
        }
    }

    /// The node that was asked says nothing: another is asked. In the end the client asks another one first, too.
    fn turn_away(&mut self, lane: usize) {
        self.silences += 1;
        self.lanes[lane].node = self.some_node();
        if self.silences.is_multiple_of(SILENCES) {
            self.node = self.lanes[lane].node;
        }
    }

    /// An attempt has ended without saying whether it was done.
    fn unanswered(&mut self, lane: usize, now: SimTime, operation: usize, history: &mut History) {
        match &history.operations[operation].request {
            Request::Write { session: None, .. } => {
                self.end(lane, now, operation, Outcome::Unknown, history);
            }
            _ => self.retry(lane, now, operation, history),
        }
    }

    fn retry(&mut self, lane: usize, now: SimTime, operation: usize, history: &mut History) {
        if now >= self.lanes[lane].give_up {
            return self.end(lane, now, operation, Outcome::Unknown, history);
        }
        let until = now + self.rng.span(Span::from_millis(10), Span::from_millis(300));
        self.lanes[lane].state = State::Backoff { until, operation };
    }

    fn end(
        &mut self,
        lane: usize,
        now: SimTime,
        operation: usize,
        outcome: Outcome,
        history: &mut History,
    ) {
        let operation = &mut history.operations[operation];
        if outcome != Outcome::Unknown {
            operation.end = now;
        }
        operation.outcome = outcome;
        self.lanes[lane].state = State::Idle { until: now + self.workload.think(&mut self.rng) };
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

    /// The lane that waits for an answer to this attempt, and the operation it is about.
    fn waiting_for(&self, attempt: u64) -> Option<(usize, usize)> {
        self.lanes.iter().enumerate().find_map(|(number, lane)| match lane.state {
            State::Waiting { operation, .. } if lane.attempt == attempt => {
                Some((number, operation))
            }
            _ => None,
        })
    }

    fn some_node(&mut self) -> usize {
        self.rng.below(self.nodes as u64) as usize
    }
}

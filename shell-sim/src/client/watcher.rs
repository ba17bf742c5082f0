//! A client that only watches: it starts at some revision, and when its watch breaks it goes on where it left off.

use super::Sending;
use crate::history::{History, WatchRun};
use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use raftkv_core::api::{Error, KeyRange, Request, Response, Revision, WatchRequest};
use raftkv_core::rng::Rng;
use raftkv_core::time::Span;

/// One watcher.
#[derive(Debug)]
pub struct Watcher {
    number: u32,
    rng: Rng,
    nodes: usize,
    range: KeyRange,
    with_previous: bool,
    node: usize,
    attempts: u64,
    /// First revision not yet covered.
    next: Revision,
    /// The last watch ended because its next change was compacted.
    compacted: bool,
    state: State,
    stopped: bool,
}

#[derive(Debug)]
enum State {
    Idle {
        until: SimTime,
    },
    /// Asked for; nothing has come yet.
    Starting {
        until: SimTime,
    },
    /// Running; it is dropped and taken up elsewhere after a while.
    Running {
        run: usize,
        until: SimTime,
    },
}

impl Watcher {
    /// A watcher of some range, on a cluster with so many nodes.
    pub fn new(number: u32, nodes: usize, mut rng: Rng) -> Self {
        let range = match rng.below(3) {
            0 => KeyRange::one("k001"),
            1 => KeyRange::prefix("k00"),
            _ => KeyRange::all(),
        };
        let node = rng.below(nodes as u64) as usize;
        let with_previous = rng.happens(Ppm::percent(30));
        Watcher {
            number,
            rng,
            nodes,
            range,
            with_previous,
            node,
            attempts: 0,
            next: 1,
            compacted: false,
            state: State::Idle { until: SimTime(0) },
            stopped: false,
        }
    }

    /// What to send now, if anything.
    pub fn poll(&mut self, now: SimTime) -> Option<Sending> {
        match self.state {
            State::Idle { until } if until <= now && !self.stopped => {
                self.attempts += 1;
                self.state = State::Starting { until: now + Span::from_millis(3_000) };
                let request = Request::Watch(WatchRequest {
                    range: self.range.clone(),
                    from_revision: self.next,
                    with_previous: self.with_previous,
                });
                Some(Sending::Ask { node: self.node, attempt: self.attempts, request })
            }
            State::Starting { until } | State::Running { until, .. } if until <= now => {
                let leave = Sending::Leave { node: self.node, attempt: self.attempts };
                self.again(now);
                Some(leave)
            }
            _ => None,
        }
    }

    /// Something came.
    pub fn handle(
        &mut self,
        now: SimTime,
        attempt: u64,
        response: Response,
        history: &mut History,
    ) {
        if attempt != self.attempts {
            return;
        }
        match (response, &self.state) {
            (Response::Watch { revision, events }, State::Starting { .. }) => {
                history.watches.push(WatchRun {
                    watcher: self.number,
                    range: self.range.clone(),
                    with_previous: self.with_previous,
                    from: self.next,
                    upto: self.next - 1,
                    after_compaction: std::mem::take(&mut self.compacted),
                    events: Vec::new(),
                    answers: Vec::new(),
                });
                let run = history.watches.len() - 1;
                let patience = self.rng.span(Span::from_millis(1_000), Span::from_millis(30_000));
                self.state = State::Running { run, until: now + patience };
                self.add(run, revision, events, history);
            }
            (Response::Watch { revision, events }, &State::Running { run, .. }) => {
                self.add(run, revision, events, history);
            }
            (Response::Error(Error::Compacted { oldest, .. }), _) => {
                self.next = self.next.max(oldest + 1);
                self.compacted = true;
                self.again(now);
            }
            (_, State::Starting { .. } | State::Running { .. }) => self.again(now),
            (_, State::Idle { .. }) => {}
        }
    }

    /// The connection broke.
    pub fn handle_broken(&mut self, now: SimTime, attempt: u64) {
        if attempt == self.attempts && !matches!(self.state, State::Idle { .. }) {
            self.again(now);
        }
    }

    /// When to be polled again.
    pub fn next_wake(&self) -> SimTime {
        match self.state {
            State::Idle { .. } if self.stopped => SimTime::NEVER,
            State::Idle { until } | State::Starting { until } | State::Running { until, .. } => {
                until
            }
        }
    }

    /// The cluster is another one, of so many nodes: the watch goes on from where it was.
    pub fn move_on(&mut self, now: SimTime, nodes: usize) {
        self.nodes = nodes;
        self.again(now);
    }

    /// Start no more watches.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    fn add(
        &mut self,
        run: usize,
        revision: Revision,
        events: Vec<raftkv_core::api::Event>,
        history: &mut History,
    ) {
        let run = &mut history.watches[run];
        run.events.extend(events);
        run.upto = run.upto.max(revision);
        run.answers.push((revision, run.events.len()));
        self.next = self.next.max(revision + 1);
    }

    fn again(&mut self, now: SimTime) {
        self.node = self.rng.below(self.nodes as u64) as usize;
        let pause = self.rng.span(Span::from_millis(50), Span::from_millis(1_000));
        self.state = State::Idle { until: now + pause };
    }
}

//! The operator: lets machines with empty disks join, changes the membership, moves leadership, asks for snapshots.
//!
//! One task at a time. Letting a machine join is insisted on; everything else is given up after some refusals, and at once when
//! its outcome is not known, because doing it twice could mean something else; whoever gave the task may give it again.

use crate::client::Sending;
use crate::random::Draw;
use crate::time::SimTime;
use raftkv_core::api::{Error, MemberInfo, Request, Response};
use raftkv_core::ids::Identity;
use raftkv_core::rng::Rng;
use raftkv_core::time::Span;
use std::collections::VecDeque;

/// Refusals after which a task is given up.
const REFUSALS_MAX: u32 = 6;

/// The operator's console.
#[derive(Debug, Default)]
pub(super) struct Operator {
    nodes: usize,
    tasks: VecDeque<Task>,
    node: usize,
    attempts: u64,
    state: State,
    ended: VecDeque<Ended>,
}

/// How a task ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// A machine may start as this member of a cluster with these members.
    Joined(Identity, Vec<MemberInfo>),
    /// It was done.
    Done(Request),
    /// It was not done, and will not be.
    Refused(Request),
    /// Nobody knows.
    Unknown(Request),
}

/// Something to get done.
#[derive(Clone, Debug)]
struct Task {
    request: Request,
    /// Asked again until it is done.
    insist: bool,
    refusals: u32,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Pause {
        until: SimTime,
    },
    Waiting {
        until: SimTime,
    },
}

impl Operator {
    /// The operator of a cluster on so many machines.
    pub(super) fn new(nodes: usize) -> Self {
        Operator { nodes, ..Operator::default() }
    }

    /// Let this member, whose disk is empty, join anew.
    pub(super) fn let_join(&mut self, member: u32, address: String, learner: bool) {
        let request = Request::Join { member, address, learner };
        self.tasks.push_back(Task { request, insist: true, refusals: 0 });
    }

    /// Whether this member is to be let in.
    pub(super) fn lets_join(&self, member: u32) -> bool {
        self.tasks.iter().any(
            |task| matches!(task.request, Request::Join { member: other, .. } if other == member),
        )
    }

    /// Ask for something, but do not insist.
    pub(super) fn ask(&mut self, request: Request) {
        self.tasks.push_back(Task { request, insist: false, refusals: 0 });
    }

    /// What to send now, if anything.
    pub(super) fn poll(&mut self, now: SimTime, rng: &mut Rng) -> Option<Sending> {
        match self.state {
            State::Pause { until } | State::Waiting { until } if until > now => return None,
            State::Waiting { .. } => {
                self.state = State::Pause { until: now + Span::from_millis(200) };
                let leave = Sending::Leave { node: self.node, attempt: self.attempts };
                self.node = rng.below(self.nodes as u64) as usize;
                self.unanswered();
                return Some(leave);
            }
            State::Idle | State::Pause { .. } => {}
        }
        let Some(task) = self.tasks.front() else {
            self.state = State::Idle;
            return None;
        };
        self.attempts += 1;
        let patience = rng.span(Span::from_millis(2_000), Span::from_millis(6_000));
        self.state = State::Waiting { until: now + patience };
        let request = task.request.clone();
        Some(Sending::Ask { node: self.node, attempt: self.attempts, request })
    }

    /// An answer, or `None` for a broken connection.
    pub(super) fn handle(
        &mut self,
        now: SimTime,
        attempt: u64,
        response: Option<Response>,
        rng: &mut Rng,
    ) {
        if attempt != self.attempts || !matches!(self.state, State::Waiting { .. }) {
            return;
        }
        self.state = State::Pause { until: now + Span::from_millis(300) };
        match response {
            Some(Response::Error(Error::NotLeader { leader: Some((leader, _)) })) => {
                self.node = leader.member() as usize - 1;
            }
            Some(Response::Error(error)) if !error.outcome_unknown() => {
                self.node = rng.below(self.nodes as u64) as usize;
                self.refused(&error);
            }
            None | Some(Response::Error(_)) => {
                self.node = rng.below(self.nodes as u64) as usize;
                self.unanswered();
            }
            Some(Response::Joined { identity, grant }) => {
                self.tasks.pop_front();
                self.ended.push_back(Ended::Joined(identity, grant.members));
            }
            Some(_) => {
                let task = self.tasks.pop_front();
                self.ended.extend(task.map(|task| Ended::Done(task.request)));
            }
        }
    }

    /// What was only asked for, and has not been begun, is not wanted any more.
    pub(super) fn rest(&mut self) {
        let first = self.tasks.pop_front();
        let (kept, dropped) = self.tasks.drain(..).partition::<Vec<_>, _>(|task| task.insist);
        self.ended.extend(dropped.into_iter().map(|task| Ended::Refused(task.request)));
        self.tasks = first.into_iter().chain(kept).collect();
    }

    /// The next task that has ended.
    pub(super) fn poll_ended(&mut self) -> Option<Ended> {
        self.ended.pop_front()
    }

    /// When to be polled again.
    pub(super) fn next_wake(&self) -> SimTime {
        match self.state {
            State::Idle if self.tasks.is_empty() => SimTime::NEVER,
            State::Idle => SimTime(0),
            State::Pause { until } | State::Waiting { until } => until,
        }
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_done(&self) -> bool {
        self.tasks.is_empty()
    }

    fn refused(&mut self, error: &Error) {
        let Some(task) = self.tasks.front_mut() else { return };
        task.refusals += 1;
        if !task.insist && (task.refusals >= REFUSALS_MAX || !error.retryable()) {
            let task = self.tasks.pop_front();
            self.ended.extend(task.map(|task| Ended::Refused(task.request)));
        }
    }

    fn unanswered(&mut self) {
        if let Some(task) = self.tasks.pop_front_if(|task| !task.insist) {
            self.ended.push_back(Ended::Unknown(task.request));
        }
    }
}

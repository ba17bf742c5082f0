//! The operator: lets members that lost their disks join anew, moves leadership, asks for snapshots.

use crate::client::Sending;
use crate::random::Draw;
use crate::time::SimTime;
use raftkv_core::api::{Error, MemberInfo, Request, Response};
use raftkv_core::ids::Identity;
use raftkv_core::rng::Rng;
use raftkv_core::time::Span;
use std::collections::VecDeque;

/// The operator's console.
#[derive(Debug, Default)]
pub(super) struct Operator {
    nodes: usize,
    tasks: VecDeque<Task>,
    node: usize,
    attempts: u64,
    state: State,
}

/// Something to get done.
#[derive(Clone, Debug)]
struct Task {
    request: Request,
    /// Asked again until it is done; other tasks are asked once.
    insist: bool,
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
    pub(super) fn let_join(&mut self, member: u32, address: String) {
        let request = Request::Join { member, address, learner: false };
        self.tasks.push_back(Task { request, insist: true });
    }

    /// Ask for something once.
    pub(super) fn ask_once(&mut self, request: Request) {
        self.tasks.push_back(Task { request, insist: false });
    }

    /// What to send now, if anything.
    pub(super) fn poll(&mut self, now: SimTime, rng: &mut Rng) -> Option<Sending> {
        match self.state {
            State::Pause { until } | State::Waiting { until } if until > now => return None,
            State::Waiting { .. } => {
                self.state = State::Pause { until: now + Span::from_millis(200) };
                let leave = Sending::Leave { node: self.node, attempt: self.attempts };
                self.node = rng.below(self.nodes as u64) as usize;
                self.give_up_unless_insisting();
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

    /// An answer, or `None` for a broken connection. Says as whom a member has been let in, and who the members are.
    pub(super) fn handle(
        &mut self,
        now: SimTime,
        attempt: u64,
        response: Option<Response>,
    ) -> Option<(Identity, Vec<MemberInfo>)> {
        if attempt != self.attempts || !matches!(self.state, State::Waiting { .. }) {
            return None;
        }
        self.state = State::Pause { until: now + Span::from_millis(300) };
        match response {
            Some(Response::Error(Error::NotLeader { leader: Some((leader, _)) })) => {
                self.node = leader.member() as usize - 1;
                None
            }
            None | Some(Response::Error(_)) => {
                self.node = (self.node + 1) % self.nodes;
                self.give_up_unless_insisting();
                None
            }
            Some(Response::Joined { identity, grant }) => {
                self.tasks.pop_front();
                Some((identity, grant.members))
            }
            Some(_) => {
                self.tasks.pop_front();
                None
            }
        }
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

    fn give_up_unless_insisting(&mut self) {
        if self.tasks.front().is_some_and(|task| !task.insist) {
            self.tasks.pop_front();
        }
    }
}

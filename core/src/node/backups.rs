//! The leader's part in backups: when one is due or asked for, who makes it, and what becomes of it.
//!
//! A run is due by the leader's calendar and begins with an entry. Before that the members are asked who can make it, because only they know
//! whether they have a store: an in-sync follower is chosen, the leader only if there is none, or all have failed. Whoever makes it reports to
//! whoever leads; only entries count (`kv/backups.rs`).
//!
//! Invariants: nothing here is remembered across a change of leader but what entries have said; of those that can make a backup each has a turn
//! before one that failed has another; a node that is not heard of for the lease, by log time, loses the run for good.

use super::Node;
use crate::api::{BackupStatus, Error, Request, Response};
use crate::backup::BackupId;
use crate::ids::{NodeId, ReqId};
use crate::kv::BackupOp;
use crate::kv::command::Action;
use crate::log::Level;
use crate::time::{Mono, Span, Wall};
use crate::wire::peer::{BackupReport as Report, PeerFrame};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// How often the calendar is looked at.
const LOOK_EVERY: Span = Span::from_millis(1_000);
/// After nobody was able to make a backup.
const REST: Span = Span::from_millis(60_000);
/// Future runs named in a status.
const UPCOMING: usize = 5;

/// What the leader is about to begin.
#[derive(Debug, Default)]
pub(super) struct Duty {
    choosing: Option<Choosing>,
    rounds: u64,
    next_look: Mono,
    /// The slot of which was said that nobody can take it up.
    warned: Option<Wall>,
    /// Who made the runs that this node has seen to fail since the last good one, and the number of the last of each.
    failed: BTreeMap<NodeId, u64>,
}

/// Members are being asked who can make a backup.
#[derive(Debug)]
struct Choosing {
    round: u64,
    req: Option<ReqId>,
    slot: Option<Wall>,
    deadline: Mono,
    waiting: BTreeSet<NodeId>,
    /// Who can, and in which of their lives.
    able: BTreeMap<NodeId, u64>,
    /// Who could, but not now.
    busy: BTreeSet<NodeId>,
}

/// Whether a node can make a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ability {
    /// It has no backup configuration, nor may it do without.
    None,
    /// Not now: it is still at work on another, or about to stop.
    Busy,
    /// In this life of it.
    Ready(u64),
}

impl Node {
    /// A client asks about backups.
    pub(super) fn on_backup_request(&mut self, req: ReqId, request: Request) {
        match request {
            Request::BackupSchedule { schedule } => {
                self.propose_command(Some(req), Action::Backup(BackupOp::Schedule(schedule)));
            }
            Request::BackupPause { paused } => {
                self.propose_command(Some(req), Action::Backup(BackupOp::Pause(paused)));
            }
            Request::BackupRun => match self.may_begin_backup() {
                Ok(()) => self.begin_choosing(Some(req), None),
                Err(error) => self.reply_error(req, error),
            },
            _ => {
                let status = self.backup_status();
                self.reply(req, Response::Backups(Box::new(status)));
            }
        }
    }

    /// What this node knows of the cluster's backups.
    pub(super) fn backup_status(&self) -> BackupStatus {
        let backups = self.state.backups().clone();
        let wall = self.now.wall;
        BackupStatus {
            node: self.identity.node,
            able: self.can_make_backups(),
            wall,
            next: backups.upcoming(wall, UPCOMING),
            overdue: self.state.due_slot(wall).filter(|_| backups.run.is_none()),
            done_bytes: backups.run.as_ref().and_then(|run| self.maker.done_bytes(run)),
            pruned: self.maker.pruned(),
            copies: self.copy_reports(),
            totals: self.maker.totals,
            backups,
        }
    }

    /// An entry about backups was applied, before which `last` was the newest run that had ended. What ended before this node was started is
    /// not counted again: to whoever reads the counter it would have happened now.
    pub(super) fn count_run(&mut self, index: u64, last: Option<u64>) {
        let ended = self.state.backups().last.as_ref();
        if let Some(ended) = ended.filter(|ended| Some(ended.number) != last)
            && index > self.copier.born()
        {
            self.maker.totals.count(&ended.outcome);
        }
        self.note_failure();
    }

    /// Whatever the cause: a refusal, too, may be about that node's configuration alone.
    fn note_failure(&mut self) {
        match &self.state.backups().last {
            Some(last) if last.is_good() => self.duty.failed.clear(),
            Some(last) => drop(self.duty.failed.insert(last.node, last.number)),
            None => {}
        }
    }

    /// On a tick of any node.
    pub(super) fn drive_backups(&mut self) {
        self.report_making();
        if !self.consensus.leads_and_knows_all() {
            return;
        }
        if let Some(choosing) = &self.duty.choosing {
            if choosing.waiting.is_empty() || choosing.deadline <= self.now.mono {
                self.choose();
            }
            return;
        }
        if self.now.mono < self.duty.next_look {
            return;
        }
        self.duty.next_look = self.now.mono + LOOK_EVERY;
        let log_time_ms = self.clock.log_time_ms(self.now);
        match &self.state.backups().run {
            Some(run) if run.deadline_ms <= log_time_ms => {
                let (number, id, node) = (run.number, run.id, run.node);
                let what = format!("backup {id} is given up: node {node} was not heard of");
                self.log(Level::Warn, what);
                self.propose_command(None, Action::Backup(BackupOp::Abandon { number }));
            }
            Some(_) => {}
            None if self.state.backups().rest_until_ms > log_time_ms => {}
            None => {
                if let Some(slot) = self.state.due_slot(self.now.wall) {
                    self.begin_choosing(None, Some(slot));
                }
            }
        }
    }

    /// While another one goes on, this is refused for good: a client that waited would make another one behind it that nobody asked for.
    fn may_begin_backup(&self) -> Result<(), Error> {
        if !self.consensus.leads_and_knows_all() {
            return Err(Error::Unavailable("the leader is new; retry".into()));
        }
        if self.duty.choosing.is_some() {
            return Err(Error::Refused("another backup is about to begin".into()));
        }
        self.state.backups().check_free()
    }

    /// Asks every member that is alive.
    fn begin_choosing(&mut self, req: Option<ReqId>, slot: Option<Wall>) {
        self.duty.rounds += 1;
        let round = self.duty.rounds;
        let here = self.identity.node;
        let others = self.state.members().map(|member| member.node);
        let waiting: BTreeSet<NodeId> =
            others.filter(|node| *node != here && self.is_alive(*node)).collect();
        for node in &waiting {
            self.send(*node, PeerFrame::BackupAsk { round });
        }
        let deadline = self.now.mono + self.election_timeout();
        let (able, busy) = (BTreeMap::new(), BTreeSet::new());
        self.duty.choosing = Some(Choosing { round, req, slot, deadline, waiting, able, busy });
    }

    /// The leader asks whether this node can make a backup.
    pub(super) fn on_backup_ask(&mut self, from: NodeId, round: u64) {
        let frame = match self.ability() {
            Ability::Ready(life) if !self.stopping.is_stopping() => {
                PeerFrame::BackupAnswer { round, life: Some(life) }
            }
            Ability::Ready(_) | Ability::Busy => PeerFrame::BackupBusy { round },
            Ability::None => PeerFrame::BackupAnswer { round, life: None },
        };
        self.send(from, frame);
    }

    /// A member says whether it can.
    pub(super) fn on_backup_answer(&mut self, from: NodeId, round: u64, ability: Ability) {
        let Some(choosing) = self.duty.choosing.as_mut().filter(|it| it.round == round) else {
            return;
        };
        if !choosing.waiting.remove(&from) {
            return;
        }
        match ability {
            Ability::Ready(life) => drop(choosing.able.insert(from, life)),
            Ability::Busy => drop(choosing.busy.insert(from)),
            Ability::None => {}
        }
    }

    /// Everyone has answered, or had time to.
    fn choose(&mut self) {
        let Some(choosing) = self.duty.choosing.take() else { return };
        let Choosing { req, slot, ref able, .. } = choosing;
        // The newest one may have ended in a snapshot.
        self.note_failure();
        let Some((node, life)) = self.best_of(able) else { return self.nobody_can(&choosing) };
        let id = BackupId::draw(self.maker.rng());
        let lease_ms = self.config.backup_lease.as_millis();
        let start = BackupOp::Start { id, slot, node, life, lease_ms };
        self.propose_command(req, Action::Backup(start));
    }

    /// Whoever has not failed, or failed longest ago; of these a follower; of these whoever has most of the log; of these whoever made the last
    /// complete one, which has shown that it can.
    fn best_of(&self, able: &BTreeMap<NodeId, u64>) -> Option<(NodeId, u64)> {
        let here = self.identity.node;
        let followers = able.iter().filter(|(node, _)| self.has_caught_up(**node));
        let followers = followers.map(|(node, life)| (*node, *life));
        let all = followers.chain(self.ready_to_make().map(|life| (here, life)));
        let maker = self.state.backups().complete.as_ref().map(|complete| complete.node);
        all.max_by_key(|(node, _)| {
            let failed = self.duty.failed.get(node).copied();
            let matched = self.consensus.progress(*node).map_or(0, |it| it.matched);
            (Reverse(failed), *node != here, matched, Some(*node) == maker, Reverse(*node))
        })
    }

    /// Says that there is nobody, and why.
    fn nobody_can(&mut self, choosing: &Choosing) {
        let Choosing { req, slot, able, busy, .. } = choosing;
        let here = Some(self.identity.node).filter(|_| self.can_make_backups());
        let could: BTreeSet<NodeId> = able.keys().chain(busy).copied().chain(here).collect();
        let could: Vec<String> = could.into_iter().map(|node| node.to_string()).collect();
        let what = match could.is_empty() {
            true => "no member can make a backup now: set `backup_config` on at least one".into(),
            false => format!(
                "no member can make a backup now: those that have a `backup_config` are still at work on another, stop, or have fallen behind (node {})",
                could.join(", ")
            ),
        };
        self.duty.next_look = self.now.mono + REST;
        match *req {
            Some(req) => self.reply_error(req, Error::Unavailable(what)),
            None if self.duty.warned == *slot => {}
            None => {
                self.duty.warned = *slot;
                self.log(Level::Warn, format!("a backup is due, but {what}"));
            }
        }
    }

    /// Leadership is lost: whoever waits for a backup to begin is told.
    pub(super) fn give_up_choosing(&mut self) {
        if let Some(req) = self.duty.choosing.take().and_then(|choosing| choosing.req) {
            let error = self.not_leader();
            self.reply_error(req, error);
        }
    }

    /// Tells the leader, which may be this node.
    pub(super) fn send_report(&mut self, number: u64, report: Report) {
        match self.consensus.leader() {
            Some(leader) if leader == self.identity.node => {
                self.on_backup_report(leader, number, report);
            }
            Some(leader) => self.send(leader, PeerFrame::BackupReport { number, report }),
            None => {}
        }
    }

    /// The node that makes a backup says how it goes.
    pub(super) fn on_backup_report(&mut self, from: NodeId, number: u64, report: Report) {
        let run = self.state.backups().run.as_ref();
        let Some(run) = run.filter(|run| run.number == number && run.node == from) else { return };
        if !self.consensus.is_leader() {
            return;
        }
        let lease_ms = self.config.backup_lease.as_millis();
        let left_ms = run.deadline_ms.saturating_sub(self.clock.log_time_ms(self.now));
        let op = match report {
            Report::Ended(outcome) => BackupOp::End { number, outcome },
            Report::WantsCommit if !run.committing => BackupOp::Commit { number, lease_ms },
            Report::WantsCommit | Report::Alive if left_ms < lease_ms / 3 * 2 => {
                BackupOp::Extend { number, lease_ms }
            }
            Report::WantsCommit | Report::Alive => return,
        };
        self.propose_command(None, Action::Backup(op));
    }
}

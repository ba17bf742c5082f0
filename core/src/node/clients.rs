//! Requests of clients and operators: who answers what, and when.

use super::Node;
use super::removal::NOT_HERE;
use crate::api::{
    Consistency, Error, NodeStatus, RangeRequest, Request, Response, SessionRef, WriteOp,
};
use crate::ids::ReqId;
use crate::kv::command::Action;
use crate::kv::{Command, validate};
use crate::planted::{self, Bug};
use crate::time::{Mono, Span};

/// History is compacted in steps of this many revisions, so that no step takes long.
const COMPACT_STEP_REVISIONS: u64 = 1000;
/// One compaction forgets about this many changes at most: writes wait for as long as that takes.
const COMPACT_STEP_CHANGES: usize = 4096;

impl Node {
    /// A request arrived.
    pub(super) fn on_client(&mut self, req: ReqId, request: Request) {
        if let Err(error) = self.admit(&request) {
            return self.reply_error(req, error);
        }
        let at_once = planted::is(Bug::ReadWithoutIndex)
            || self.consensus.is_leader() && planted::is(Bug::ReadByLeaderWithoutQuorum);
        match request {
            Request::Range(_) if at_once => {
                let response = self.answer_read(request);
                self.reply(req, response);
            }
            Request::Range(RangeRequest { consistency: Consistency::Stale, .. }) => {
                let response = self.answer_read(request);
                self.reply(req, response);
            }
            Request::Range(_) | Request::LeaseList | Request::ViewOpen => {
                self.reading.insert(req, request);
                self.reads.add(req);
            }
            Request::Write { session, op } => self.propose_write(req, session, op),
            Request::SessionOpen => self.propose_command(Some(req), Action::SessionOpen),
            Request::Watch(watch) => {
                if let Err(error) = self.watches.open(req, watch, &self.state) {
                    self.reply_error(req, error);
                }
            }
            Request::WatchCancel { watch } => {
                self.watches.cancel(ReqId(watch));
                self.reply(req, Response::Done);
            }
            Request::Status => {
                let status = self.status();
                self.reply(req, Response::Status(Box::new(status)));
            }
            Request::MemberList => {
                let members = self.state.members().cloned().collect();
                self.reply(req, Response::Members(members));
            }
            Request::SnapshotSave => self.snapshots.ask(req),
            Request::SnapshotList => {
                let snapshots = self.snapshots.list();
                self.reply(req, Response::Snapshots(snapshots));
            }
            Request::ViewRead { view, chunk } => {
                let response = self.views.read(view, chunk, self.now.mono);
                self.reply(req, response);
            }
            Request::ViewClose { view } => {
                self.views.close(view);
                self.reply(req, Response::Done);
            }
            Request::LeaderTransfer { member } => self.on_leader_transfer(req, member),
            Request::BackupSchedule { .. }
            | Request::BackupPause { .. }
            | Request::BackupRun
            | Request::BackupStatus => self.on_backup_request(req, request),
            Request::MemberAdd { .. }
            | Request::MemberPromote { .. }
            | Request::MemberRemove { .. }
            | Request::Join { .. } => self.on_member_request(req, request),
        }
    }

    /// The client went away: nothing more is sent to it.
    pub(super) fn on_client_gone(&mut self, req: ReqId) {
        self.watches.cancel(req);
        self.reading.remove(&req);
    }

    /// Answers everybody who waits: nothing more is done here, though what was appended may still be.
    pub(super) fn turn_clients_away(&mut self, why: &str) {
        let unknown = self.proposals.take_appended().into_iter().chain(self.members.take_asked());
        let unknown: Vec<ReqId> = unknown.collect();
        let reads = self.reads.take_all().into_iter().filter(|req| self.reading.contains_key(req));
        let waiting = reads.chain(self.watches.take_all()).chain(self.proposals.take_queued());
        let waiting: Vec<ReqId> = waiting.collect();
        self.reading.clear();
        unknown.into_iter().for_each(|req| self.reply_error(req, Error::Unknown));
        waiting.into_iter().for_each(|req| self.reply_error(req, Error::Unavailable(why.into())));
    }

    /// What every request must pass before anything is done for it.
    fn admit(&self, request: &Request) -> Result<(), Error> {
        validate(request, &self.config.limits)?;
        if self.stopping.is_stopping() {
            return Err(Error::Unavailable("the node is stopping; ask another".into()));
        }
        if self.snapshots.is_joining() && !matches!(request, Request::Status) {
            // It has nothing yet, which is not the same as the cluster having nothing.
            return Err(Error::Unavailable("the node is joining; ask another".into()));
        }
        if self.removal.is_known() && !matches!(request, Request::Status | Request::MemberList) {
            return Err(Error::Unavailable(NOT_HERE.into()));
        }
        if request.needs_leader() && !self.consensus.is_leader() {
            return Err(self.not_leader());
        }
        if matches!(request, Request::Status | Request::BackupStatus) {
            // Answered at once, and what operators need to see most when there is too much to do.
            return Ok(());
        }
        let limits = &self.config.limits;
        if self.proposals.len() + self.reading.len() >= limits.inflight_requests {
            return Err(Error::Busy { what: "requests under way".into() });
        }
        if self.proposals.bytes() >= limits.inflight_bytes {
            return Err(Error::Busy { what: "bytes under way".into() });
        }
        Ok(())
    }

    fn propose_write(&mut self, req: ReqId, session: Option<SessionRef>, op: WriteOp) {
        self.propose_command(Some(req), Action::Write { session, op });
    }

    /// Queues a command; `req` is `None` for the node's own.
    pub(super) fn propose_command(&mut self, req: Option<ReqId>, action: Action) {
        let log_time_ms = self.clock.log_time_ms(self.now);
        let data = Command { log_time_ms, wall: self.now.wall, action }.encode();
        self.proposals.queue(req, data.len());
        self.consensus.queue_proposal(data);
    }

    /// Answers what only reads the state.
    pub(super) fn answer_read(&mut self, request: Request) -> Response {
        match request {
            Request::Range(range) => {
                match self.state.range(&range, self.config.limits.range_bytes) {
                    Ok(response) => Response::Range(response),
                    Err(error) => Response::Error(error),
                }
            }
            Request::LeaseList => Response::Leases(self.state.leases()),
            Request::ViewOpen => self.open_view(),
            _ => Response::Error(Error::Invalid("not a read".into())),
        }
    }

    /// Without a leader for long, reads are told so instead of waiting for ever.
    pub(super) fn give_up_reads(&mut self) {
        if self.consensus.leader().is_some() {
            self.leader_seen = self.now.mono;
        }
        let patience = Span(self.election_timeout().0 * 3);
        if self.now.mono - self.leader_seen < patience {
            return;
        }
        for req in self.reads.take_all() {
            if self.reading.remove(&req).is_some() {
                let what = "no leader is known; is a quorum of the members alive?".into();
                self.reply_error(req, Error::Unavailable(what));
            }
        }
    }

    /// Where to go instead.
    pub(super) fn not_leader(&self) -> Error {
        let leader = self.consensus.leader().filter(|leader| *leader != self.identity.node);
        let address =
            |node| self.state.members().find(|m| m.node == node).map(|m| m.address.clone());
        Error::NotLeader { leader: leader.and_then(|node| Some((node, address(node)?))) }
    }

    /// What this node knows of itself.
    pub fn status(&self) -> NodeStatus {
        NodeStatus {
            identity: self.identity,
            address: self.config.address.clone(),
            role: self.consensus.role(),
            leader: self.consensus.leader(),
            term: self.consensus.term(),
            last_index: self.consensus.last_index(),
            commit_index: self.consensus.commit_index(),
            applied_index: self.applied.0,
            revision: self.state.revision(),
            compacted: self.state.compacted(),
            state_hash: self.state.hash(),
            keys: self.state.keys(),
            bytes: self.state.bytes(),
            leases: self.state.lease_count(),
            watches: self.watches.len() as u64,
            snapshot_index: self.snapshots.newest_index(),
            log_bytes: self.wal.bytes(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// When the next lease ends by this leader's clock.
    pub(super) fn lease_end(&self) -> Option<Mono> {
        let due_ms = self.state.next_deadline_ms().filter(|_| self.may_end_leases())?;
        Some(self.clock.when(due_ms))
    }

    /// Proposes that log time moves on when a lease is due.
    pub(super) fn end_leases(&mut self) {
        if self.lease_end().is_some_and(|at| at <= self.now.mono) {
            self.propose_command(None, Action::Tick);
        }
    }

    /// Only with full knowledge, and one proposal at a time.
    fn may_end_leases(&self) -> bool {
        self.consensus.leads_and_knows_all() && self.proposals.len() == 0
    }

    /// Proposes compaction when history has grown past its bound.
    pub(super) fn drive_history(&mut self) {
        let keep = self.config.history_revisions;
        if keep == 0 || !self.consensus.leads_and_knows_all() {
            return;
        }
        let oldest_wanted = self.state.revision().saturating_sub(keep);
        if oldest_wanted > self.state.compacted() + COMPACT_STEP_REVISIONS {
            let most = self.state.compacted() + 4 * COMPACT_STEP_REVISIONS;
            let few_changes = self.state.revision_of_change(COMPACT_STEP_CHANGES);
            let revision = most.min(oldest_wanted).min(few_changes);
            let op = WriteOp::Compact { revision };
            self.propose_command(None, Action::Write { session: None, op });
        }
    }
}

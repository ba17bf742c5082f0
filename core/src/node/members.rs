//! Membership: joining, promoting, removing, replacing, and handing over leadership.
//!
//! Invariants: one change at a time; a request is answered only when its entry was applied, because raft replaces a change it does not
//! like by an empty entry and says nothing, and when a majority keeps it, so that a removed node may be switched off (see `removal`);
//! a member that is alive is never replaced; no removal leaves less than a live quorum.

use super::Node;
use crate::api::request::JoinGrant;
use crate::api::{Error, MemberInfo, MemberRole, Request, Response};
use crate::consensus::membership::ConfStepKind;
use crate::consensus::{ConfChange, ConfStep, NotProposed};
use crate::ids::{Identity, NodeId, ReqId};
use crate::kv::MemberChange;
use crate::log::EntryKind;
use crate::planted::{self, Bug};
use crate::time::{Mono, Span};
use bytes::Bytes;
use std::collections::BTreeMap;

/// A learner this close to the leader's commit index has caught up.
const CAUGHT_UP_ENTRIES: u64 = 128;

/// Changes under way, and who was heard when.
#[derive(Debug)]
pub(super) struct Changes {
    pending: Option<Pending>,
    /// Applied, and answered once a majority keeps it.
    applied: Option<(ReqId, Response)>,
    /// The newest change is at this index, or before it.
    changed_at: u64,
    transfer: Option<Transfer>,
    heard: BTreeMap<NodeId, Mono>,
}

#[derive(Debug)]
struct Pending {
    index: u64,
    term: u64,
    /// The node's own changes have nobody to tell.
    answer: Option<(ReqId, Response)>,
}

#[derive(Debug)]
struct Transfer {
    req: ReqId,
    to: NodeId,
    deadline: Mono,
}

/// A change worked out, not yet proposed.
struct Plan {
    changes: Vec<(ConfStepKind, NodeId)>,
    upsert: Vec<MemberInfo>,
    remove: Vec<NodeId>,
    response: Response,
}

impl Changes {
    /// Nothing is under way, and no change is known to be newer than the state at index `base`.
    pub(super) fn new(base: u64) -> Self {
        Changes {
            pending: None,
            applied: None,
            changed_at: base,
            transfer: None,
            heard: BTreeMap::new(),
        }
    }

    /// The entry at `index` changed the membership.
    pub(super) fn changed(&mut self, index: u64) {
        self.changed_at = index;
    }

    /// Gives up what was asked for and not answered; whose it was. It may have been done, or may still be.
    pub(super) fn take_asked(&mut self) -> impl Iterator<Item = ReqId> + use<> {
        let pending = self.pending.take().and_then(|pending| pending.answer);
        let transfer = self.transfer.take().map(|transfer| transfer.req);
        let changes = pending.into_iter().chain(self.applied.take()).map(|(req, _)| req);
        changes.chain(transfer)
    }

    /// A peer gave a sign of life.
    pub(super) fn heard(&mut self, from: NodeId, now: Mono) {
        self.heard.insert(from, now);
    }
}

impl Node {
    /// When this node last heard of each peer, for checkers.
    pub fn heard(&self) -> impl Iterator<Item = (NodeId, Mono)> {
        self.members.heard.iter().map(|(peer, when)| (*peer, *when))
    }

    /// A change of membership is asked for.
    pub(super) fn on_member_request(&mut self, req: ReqId, request: Request) {
        let planned = self.may_change_membership().and_then(|()| match request {
            Request::MemberAdd { member, address, learner } => {
                self.plan_add(member, address, learner)
            }
            Request::Join { member, address, learner } => self.plan_join(member, address, learner),
            Request::MemberPromote { member } => self.plan_promote(member),
            Request::MemberRemove { member } => self.plan_remove(member),
            _ => Err(Error::Invalid("not a change of membership".into())),
        });
        let outcome = planned.and_then(|plan| self.propose_change(plan, Some(req)));
        if let Err(error) = outcome {
            self.reply_error(req, error);
        }
    }

    fn may_change_membership(&self) -> Result<(), Error> {
        if !self.consensus.leads_and_knows_all() {
            return Err(Error::Unavailable("the leader is new; retry".into()));
        }
        if self.members.pending.is_some() || self.consensus.membership_in_flux() {
            return Err(Error::Conflict("another change of membership is under way".into()));
        }
        if !self.membership_is_kept() {
            let what = "a majority has not confirmed the last change of membership yet; retry";
            return Err(Error::Unavailable(what.into()));
        }
        Ok(())
    }

    /// Whether this node leads, and a majority keeps the newest change of membership on its disks.
    pub(super) fn membership_is_kept(&self) -> bool {
        self.consensus.majority_keeps_commit(self.members.changed_at, self.durable_commit)
    }

    fn plan_add(&self, member: u32, address: String, learner: bool) -> Result<Plan, Error> {
        if self.state.member(member).is_some() {
            return Err(Error::Refused(format!("member {member} exists; remove it first")));
        }
        let info = self.new_member(member, address, learner)?;
        let changes = vec![(ConfStepKind::AddLearner, info.node)];
        Ok(Plan { changes, upsert: vec![info], remove: vec![], response: Response::Done })
    }

    fn plan_join(&self, member: u32, address: String, learner: bool) -> Result<Plan, Error> {
        let old = self.state.member(member).map(|info| info.node);
        if let Some(old) = old
            && (old == self.identity.node || self.is_alive(old))
        {
            return Err(Error::Refused(format!(
                "member {member} is alive; choose another id, or stop it and try again"
            )));
        }
        let info = self.new_member(member, address, learner)?;
        let mut members: Vec<MemberInfo> = self.state.members().cloned().collect();
        members.retain(|other| Some(other.node) != old);
        members.push(info.clone());
        let identity = Identity { node: info.node, ..self.identity };
        let grant = JoinGrant { node: info.node, members };
        let changes = old
            .map(|old| (ConfStepKind::Remove, old))
            .into_iter()
            .chain([(ConfStepKind::AddLearner, info.node)]);
        Ok(Plan {
            changes: changes.collect(),
            upsert: vec![info],
            remove: old.into_iter().collect(),
            response: Response::Joined { identity, grant },
        })
    }

    /// A member's next incarnation, not counted for quorums yet.
    fn new_member(&self, member: u32, address: String, learner: bool) -> Result<MemberInfo, Error> {
        if member == 0 {
            return Err(Error::Invalid("member numbers start at 1".into()));
        }
        if let Some(other) =
            self.state.members().find(|o| o.address == address && o.node.member() != member)
        {
            return Err(Error::Refused(format!("{address} is member {}'s address", other.node)));
        }
        let node = NodeId::new(member, self.state.next_incarnation(member));
        let role = if learner { MemberRole::Learner } else { MemberRole::Joining };
        Ok(MemberInfo { node, address, role })
    }

    fn plan_promote(&self, member: u32) -> Result<Plan, Error> {
        let info = self.existing(member)?;
        if info.role == MemberRole::Voter {
            return Err(Error::Refused(format!("member {member} is a voter already")));
        }
        if !self.has_caught_up(info.node) {
            return Err(Error::Refused(format!(
                "member {member} has not caught up with the log; retry when it has"
            )));
        }
        Ok(promotion(info))
    }

    fn plan_remove(&self, member: u32) -> Result<Plan, Error> {
        let node = self.existing(member)?.node;
        if node == self.identity.node {
            return Err(Error::Refused(format!(
                "member {member} leads; hand over first: raftkv-cli leader transfer ID"
            )));
        }
        let rest: Vec<NodeId> =
            self.consensus.conf().voters.iter().copied().filter(|voter| *voter != node).collect();
        let alive = rest
            .iter()
            .filter(|voter| **voter == self.identity.node || self.is_alive(**voter))
            .count();
        if alive < rest.len() / 2 + 1 {
            return Err(Error::Refused(format!(
                "without member {member} only {alive} of {} voters are alive, which is no quorum: bring one back first",
                rest.len()
            )));
        }
        Ok(Plan {
            changes: vec![(ConfStepKind::Remove, node)],
            upsert: vec![],
            remove: vec![node],
            response: Response::Done,
        })
    }

    fn existing(&self, member: u32) -> Result<MemberInfo, Error> {
        let info = self.state.member(member).cloned();
        info.ok_or_else(|| Error::NotFound(format!("member {member}")))
    }

    fn propose_change(&mut self, plan: Plan, req: Option<ReqId>) -> Result<(), Error> {
        // Queued writes come first, so that the index below is the change's.
        self.submit_proposals();
        let change = MemberChange { upsert: plan.upsert, remove: plan.remove };
        let change =
            ConfChange { step: ConfStep { changes: plan.changes }, change: change.encode() };
        let (index, term) =
            self.consensus.propose_membership(&change).map_err(|why| match why {
                NotProposed::NotLeader => self.not_leader(),
                NotProposed::Dropped => Error::Busy {
                    what: "log entries not committed, or leadership on its way".into(),
                },
            })?;
        let answer = req.map(|req| (req, plan.response));
        self.members.pending = Some(Pending { index, term, answer });
        Ok(())
    }

    /// An entry was applied: if it is where the pending change should be, the change's fate is known.
    pub(super) fn settle_membership(&mut self, index: u64, term: u64, kind: EntryKind) {
        let Some(pending) = self.members.pending.take_if(|pending| pending.index <= index) else {
            return;
        };
        let Some((req, response)) = pending.answer else { return };
        let ours = pending.index == index && pending.term == term;
        match kind {
            EntryKind::Membership if ours => self.members.applied = Some((req, response)),
            EntryKind::Normal if ours => {
                let what = "another change of membership came first".into();
                self.reply_error(req, Error::Conflict(what));
            }
            EntryKind::Membership | EntryKind::Normal => self.reply_error(req, Error::Unknown),
        }
    }

    /// Answers a change that was applied, as soon as it cannot be forgotten.
    pub(super) fn answer_membership(&mut self) {
        let kept = self.membership_is_kept() || planted::is(Bug::RemovalAnsweredAtOnce);
        if !kept && self.consensus.is_leader() {
            return;
        }
        if let Some((req, response)) = self.members.applied.take() {
            self.reply(req, if kept { response } else { Response::Error(Error::Unknown) });
        }
    }

    /// On every tick of the leader: leaves joint configurations, and promotes members that have caught up.
    pub(super) fn drive_membership(&mut self) {
        self.expire_transfer();
        let is_free = self.members.pending.is_none() && self.membership_is_kept();
        if !self.consensus.leads_and_knows_all() || !is_free {
            return;
        }
        if !self.consensus.conf().voters_outgoing.is_empty() {
            if planted::is(Bug::JointConfigurationKept) {
                return;
            }
            self.submit_proposals();
            let leave = ConfChange { step: ConfStep::default(), change: Bytes::new() };
            // If it is not taken now, the next tick tries again.
            let _ = self.consensus.propose_membership(&leave);
            return;
        }
        if self.consensus.membership_in_flux() {
            return;
        }
        let is_ready = |member: &&MemberInfo| {
            member.role == MemberRole::Joining && self.has_caught_up(member.node)
        };
        let ready = self.state.members().find(is_ready).cloned();
        if let Some(member) = ready {
            // If it is not taken now, the next tick tries again.
            let _ = self.propose_change(promotion(member), None);
        }
    }

    pub(super) fn has_caught_up(&self, node: NodeId) -> bool {
        let matched = self.consensus.progress(node).map_or(0, |progress| progress.matched);
        let close = matched > 0 && matched + CAUGHT_UP_ENTRIES >= self.consensus.commit_index();
        close && self.is_alive(node)
    }

    /// Heard from within two election timeouts.
    pub(super) fn is_alive(&self, node: NodeId) -> bool {
        let patience = Span(self.election_timeout().0 * 2);
        let heard = self.members.heard.get(&node);
        heard.is_some_and(|heard| self.now.mono - *heard < patience)
    }

    /// The shortest time without a leader after which a node stands for election.
    pub(super) fn election_timeout(&self) -> Span {
        Span(self.config.tick.0 * u64::from(self.config.election_ticks))
    }

    /// Leadership is to be handed to a member.
    pub(super) fn on_leader_transfer(&mut self, req: ReqId, member: u32) {
        let target = match self.existing(member) {
            Ok(info) if info.node == self.identity.node => return self.reply(req, Response::Done),
            Ok(info) if info.role == MemberRole::Voter => info.node,
            Ok(_) => {
                let what = format!("member {member} has no vote; promote it first");
                return self.reply_error(req, Error::Refused(what));
            }
            Err(error) => return self.reply_error(req, error),
        };
        if self.members.transfer.is_some() {
            let what = "leadership is being handed over already".into();
            return self.reply_error(req, Error::Conflict(what));
        }
        let deadline = self.now.mono + Span(self.election_timeout().0 * 2);
        self.members.transfer = Some(Transfer { req, to: target, deadline });
        self.consensus.transfer_leader(target);
    }

    /// The leader changed: a transfer has its outcome.
    pub(super) fn settle_transfer(&mut self) {
        let Some(leader) = self.consensus.leader() else { return };
        if leader == self.identity.node {
            return;
        }
        if let Some(transfer) = self.members.transfer.take() {
            if leader == transfer.to {
                self.reply(transfer.req, Response::Done);
            } else {
                let what = format!("node {leader} was elected instead");
                self.reply_error(transfer.req, Error::Unavailable(what));
            }
        }
    }

    fn expire_transfer(&mut self) {
        let now = self.now.mono;
        if let Some(transfer) = self.members.transfer.take_if(|transfer| transfer.deadline <= now) {
            let what = format!("node {} did not take over in time; retry", transfer.to);
            self.reply_error(transfer.req, Error::Unavailable(what));
        }
    }
}

fn promotion(info: MemberInfo) -> Plan {
    Plan {
        changes: vec![(ConfStepKind::AddVoter, info.node)],
        upsert: vec![MemberInfo { role: MemberRole::Voter, ..info }],
        remove: vec![],
        response: Response::Done,
    }
}

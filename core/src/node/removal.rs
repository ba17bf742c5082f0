//! Removal: a node that is no member any more goes when the others can do without it for ever, and not before.
//!
//! raft-rs acts on a change of membership when it is applied (the thesis, §4.1, when it is in the log). Nodes that have not heard of the
//! commit yet, or forget it in a crash, still count the removed node among their voters. So it goes on to vote and to acknowledge until
//! a majority of those who stay has the commit index on its disks. From then on any majority of them has a node that knows, and that is
//! enough to elect: one that knows needs no others, and tells a candidate that does not when it refuses its vote, or is refused (raft-rs,
//! `maybe_commit_by_vote`). Clients are turned away meanwhile.

use super::Node;
use crate::ids::NodeId;
use crate::io::Halt;
use crate::log::Level;
use crate::planted::{self, Bug};
use crate::time::Mono;
use crate::wire::peer::PeerFrame;

/// What clients of a removed node are told: it hears of nothing new.
pub(super) const NOT_HERE: &str = "the node was removed from the cluster; ask another";

/// What a node knows of its own removal.
#[derive(Debug, Default)]
pub(super) struct Removal {
    /// It is no member any more, and asks the others whether it may go, next at this time.
    next_ask: Option<Mono>,
}

impl Removal {
    /// Whether this node knows that it is no member any more.
    pub(super) fn is_known(&self) -> bool {
        self.next_ask.is_some()
    }
}

impl Node {
    /// Looks whether this node is a member still. One that waits for its first snapshot is, although it knows of no configuration.
    pub(super) fn notice_removal(&mut self) {
        let here = self.identity.node;
        let conf = self.consensus.conf();
        let is_member = conf.voters.is_empty() || conf.members().any(|node| node == here);
        if is_member || self.removal.is_known() {
            return;
        }
        if planted::is(Bug::RemovedNodeLeavesAtOnce) {
            return self.halt(Halt::Removed { node: here });
        }
        self.removal.next_ask = Some(self.now.mono);
        let waits = "no member any more; stopping as soon as a majority of the others keeps that";
        self.log(Level::Info, waits.into());
        self.turn_clients_away(NOT_HERE);
    }

    /// On every tick: a removed node asks all whether it may go.
    pub(super) fn drive_removal(&mut self) {
        if self.removal.next_ask.is_none_or(|at| self.now.mono < at) {
            return;
        }
        self.removal.next_ask = Some(self.now.mono + self.election_timeout());
        let members: Vec<NodeId> = self.state.members().map(|member| member.node).collect();
        for member in members {
            self.send(member, PeerFrame::MayLeave);
        }
    }

    /// Whether this leader knows of the node that it was a member once and is none now. Only a leader that knows all of the past can tell:
    /// to others a node that has just joined would look the same.
    pub(super) fn was_removed(&self, node: NodeId) -> bool {
        self.consensus.leads_and_knows_all()
            && node.incarnation() < self.state.next_incarnation(node.member())
            && self.state.members().all(|member| member.node != node)
    }

    /// Tells a removed node that it may go, if it may. It asks again.
    pub(super) fn dismiss(&mut self, node: NodeId) {
        if self.membership_is_kept() {
            self.send(node, PeerFrame::Removed);
        }
    }

    /// A node that leads says that this one is no member. It is believed if it is one itself.
    pub(super) fn on_removed(&mut self, from: NodeId) {
        if self.state.members().any(|member| member.node == from) {
            self.halt(Halt::Removed { node: self.identity.node });
        }
    }
}

//! Removal: a node that is no member any more goes when the others can do without it for ever, and not before.
//!
//! raft-rs acts on a change of membership when it is applied (the thesis, §4.1, when it is in the log). Nodes that have not heard of the
//! commit yet, or forget it in a crash, still count the removed node among their voters. So it goes on to vote and to acknowledge until
//! a majority of those who stay has the commit index on its disks. From then on any majority of them has a node that knows, and that is
//! enough to elect: one that knows needs no others, and tells a candidate that does not when it refuses its vote, or is refused (raft-rs,
//! `maybe_commit_by_vote`). Clients are turned away meanwhile.
//!
//! A node that was removed without hearing of it asks, too. A voter does when it stands for election; one that has no vote, when nobody
//! has told it anything for a while.

use super::Node;
use crate::ids::NodeId;
use crate::io::Halt;
use crate::log::Level;
use crate::planted::{self, Bug};
use crate::time::{Mono, Span};
use crate::wire::peer::PeerFrame;

/// What clients of a removed node are told: it hears of nothing new.
pub(super) const NOT_HERE: &str = "the node was removed from the cluster; ask another";

/// Whoever has heard nothing for so many election timeouts may have been forgotten.
const PATIENCE_TIMEOUTS: u64 = 3;

/// What a node knows of its own removal.
#[derive(Debug, Default)]
pub(super) struct Removal {
    /// It is no member any more.
    is_known: bool,
    /// When it looks next whether the others are to be asked.
    next_look: Option<Mono>,
}

impl Removal {
    /// Whether this node knows that it is no member any more.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
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
        self.removal = Removal { is_known: true, next_look: Some(self.now.mono) };
        let waits = "no member any more; stopping as soon as a majority of the others keeps that";
        self.log(Level::Info, waits.into());
        self.turn_clients_away(NOT_HERE);
    }

    /// On every tick: a removed node, or one that may have been, asks all whether it may go.
    pub(super) fn drive_removal(&mut self) {
        let (now, timeout) = (self.now.mono, self.election_timeout());
        let patience = Span(timeout.0 * PATIENCE_TIMEOUTS);
        let Some(next_look) = self.removal.next_look else {
            self.removal.next_look = Some(now + patience);
            return;
        };
        if now < next_look {
            return;
        }
        let asks = self.removal.is_known || self.is_forgotten(patience);
        self.removal.next_look = Some(now + if asks { timeout } else { patience });
        if asks {
            let others = self.known_members().map(|member| member.node);
            let others: Vec<NodeId> = others.filter(|node| *node != self.identity.node).collect();
            others.into_iter().for_each(|member| self.send(member, PeerFrame::MayLeave));
        }
    }

    /// Whether this node has no vote, so that it never stands for election, and nobody has told it anything for so long.
    fn is_forgotten(&self, patience: Span) -> bool {
        let (conf, here) = (self.consensus.conf(), self.identity.node);
        let mut voters = conf.voters.iter().chain(&conf.voters_outgoing);
        let is_told = |(_, heard): (NodeId, Mono)| self.now.mono - heard < patience;
        voters.all(|voter| *voter != here) && !self.heard().any(is_told)
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
        if self.known_members().any(|member| member.node == from) {
            self.halt(Halt::Removed { node: self.identity.node });
        }
    }
}

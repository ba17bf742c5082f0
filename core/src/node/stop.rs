//! Stopping as asked: leadership first, then the log, then nothing.

use super::Node;
use crate::api::MemberRole;
use crate::io::Halt;
use crate::planted::{self, Bug};
use crate::time::{Mono, Span};

/// Whether and until when the node is stopping.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    deadline: Option<Mono>,
    /// It led when it was told to stop: the cluster is not left without a leader.
    hands_over: bool,
}

impl Stopping {
    /// Whether new requests are refused.
    pub(super) fn is_stopping(&self) -> bool {
        self.deadline.is_some()
    }
}

impl Node {
    /// The process is to end.
    pub(super) fn on_shutdown(&mut self) {
        if self.stopping.is_stopping() || planted::is(Bug::StopIgnored) {
            return;
        }
        self.stopping.deadline = Some(self.now.mono + Span(self.election_timeout().0 * 2));
        if self.consensus.is_leader() {
            self.stopping.hands_over = true;
            let others = self.state.members().filter(|member| {
                member.role == MemberRole::Voter
                    && member.node != self.identity.node
                    && self.is_alive(member.node)
            });
            let matched = |node| self.consensus.progress(node).map_or(0, |p| p.matched);
            let best = others.map(|member| member.node).max_by_key(|node| (matched(*node), *node));
            match best {
                Some(best) => self.consensus.transfer_leader(best),
                None => self.stopping.deadline = Some(self.now.mono),
            }
        }
        self.drive_stop();
    }

    /// Stops once nothing is owed, or time is up.
    pub(super) fn drive_stop(&mut self) {
        let Some(deadline) = self.stopping.deadline else { return };
        let late = deadline <= self.now.mono;
        let flushed = self.gates.is_empty();
        let is_led = self.consensus.leader().is_some_and(|leader| leader != self.identity.node);
        let handed_over = is_led || !(self.stopping.hands_over || self.consensus.is_leader());
        let served = self.proposals.len() == 0 && handed_over;
        if !(flushed && (served || late)) {
            return;
        }
        self.turn_clients_away("the node is stopping");
        self.halt(Halt::Stopped);
    }
}

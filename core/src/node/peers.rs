//! Frames between nodes: consensus, and snapshots on their way.

use super::Node;
use super::backups::Ability;
use super::snapshots::Piece;
use crate::api::MemberInfo;
use crate::ids::NodeId;
use crate::io::{Halt, Output};
use crate::wire::peer::{PeerFrame, RaftKind, RaftMessage};

impl Node {
    /// A frame arrived from a proven peer.
    pub(super) fn on_peer(&mut self, from: NodeId, frame: PeerFrame) {
        self.members.heard(from, self.now.mono);
        match frame {
            // A snapshot is offered to raft only once its bytes are here and durable.
            PeerFrame::Raft(message) if message.kind == RaftKind::Snapshot => {}
            PeerFrame::Raft(_) if self.was_removed(from) => self.dismiss(from),
            PeerFrame::Raft(message) => self.step(from, *message),
            PeerFrame::MayLeave if self.was_removed(from) => self.dismiss(from),
            // Only a leader can tell.
            PeerFrame::MayLeave => {}
            PeerFrame::Removed => self.on_removed(from),
            PeerFrame::SnapshotChunk { snapshot: meta, term, offset, total_bytes, bytes } => {
                self.on_snapshot_chunk(from, Piece { meta, term, offset, total_bytes, bytes });
            }
            PeerFrame::BackupAsk { round } => self.on_backup_ask(from, round),
            PeerFrame::BackupAnswer { round, life } => {
                self.on_backup_answer(from, round, life.map_or(Ability::None, Ability::Ready));
            }
            PeerFrame::BackupBusy { round } => self.on_backup_answer(from, round, Ability::Busy),
            PeerFrame::BackupReport { number, report } => {
                self.on_backup_report(from, number, report);
            }
            PeerFrame::SnapshotAck { index, next_offset } => {
                self.on_snapshot_ack(from, index, next_offset);
            }
            PeerFrame::SnapshotRefused { index, reason } => {
                self.on_snapshot_refused(from, index, &reason);
            }
        }
    }

    /// Hands a message to raft, unless it proves that somebody's log is not what it promised to be.
    pub(super) fn step(&mut self, from: NodeId, message: RaftMessage) {
        if let Err(suspicion) = self.consensus.step(from, message) {
            self.halt(Halt::RolledBack { detail: suspicion.0 });
        }
    }

    /// Sends raft's messages; a snapshot is sent as chunks of its file.
    pub(super) fn send_all(&mut self, messages: Vec<RaftMessage>) {
        for message in messages {
            match &message.snapshot {
                Some(meta) => self.start_sending(message.to, meta.clone(), message.term),
                None => {
                    let to = message.to;
                    self.send(to, PeerFrame::Raft(Box::new(message)));
                }
            }
        }
    }

    pub(super) fn send(&mut self, to: NodeId, frame: PeerFrame) {
        self.outbox.push_back(Output::Send { to, frame });
    }

    /// Tells the shell whom to connect to.
    pub(super) fn announce_peers(&mut self) {
        let here = self.identity.node;
        let peers = self.known_members().filter(|member| member.node != here);
        let peers = peers.map(|member| (member.node, member.address.clone())).collect();
        self.outbox.push_back(Output::Peers(peers));
    }

    /// The members as far as this node knows of them: one that waits for its first snapshot knows them from who took it in.
    pub(super) fn known_members(&self) -> impl Iterator<Item = &MemberInfo> {
        let first = (self.applied.0 == 0).then_some(&self.first_peers);
        self.state.members().chain(first.into_iter().flatten())
    }
}

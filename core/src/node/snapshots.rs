//! Snapshots in the life of a node: made when due, sent to followers that are far behind, received when this one is.
//!
//! Invariants: the log is cut, on disk and in memory, only behind snapshots that are durable; raft hears of an offered snapshot only
//! when its bytes are verified and durable here; every transfer that raft started is reported back to it, however it ends.

use super::{DiskUse, Node};
use crate::api::{Error, Response, SnapshotInfo};
use crate::boot;
use crate::config::Config;
use crate::ids::{Identity, NodeId, ReqId};
use crate::io::{DiskDone, DiskError, DiskOp, FileName};
use crate::log::{Entry, Level};
use crate::planted::{self, Bug};
use crate::snapshot::{
    Encoder, Installed, Pace, Receiver, ReceiverStep, Sender, SenderStep, Trigger, Writer,
    WriterStep, retention,
};
use crate::time::{Mono, Now};
use crate::wire::peer::{PeerFrame, RaftKind, RaftMessage, SnapshotMeta};
use bytes::Bytes;
use std::collections::BTreeMap;

/// A piece of a snapshot as it came: see `PeerFrame::SnapshotChunk`.
pub(super) struct Piece {
    pub(super) meta: SnapshotMeta,
    pub(super) term: u64,
    pub(super) offset: u64,
    pub(super) total_bytes: u64,
    pub(super) bytes: Bytes,
}

/// Everything about snapshots on one node.
#[derive(Debug)]
pub(super) struct Snapshots {
    trigger: Trigger,
    writer: Option<Writer>,
    pace: Pace,
    /// Waiting for the snapshot being written, and for the next one.
    asked: (Vec<ReqId>, Vec<ReqId>),
    senders: BTreeMap<NodeId, Sender>,
    receiver: Receiver,
    /// Verified, durable, and offered to raft.
    offered: Option<Box<Installed>>,
    /// The term of whoever sends the snapshot being received.
    sender_term: u64,
    /// Complete files, oldest first.
    complete: Vec<SnapshotInfo>,
    keep: usize,
    /// The identity still says that this node waits for its first snapshot.
    joining: bool,
}

impl Snapshots {
    /// With the files found at start.
    pub(super) fn new(
        config: &Config,
        complete: Vec<SnapshotInfo>,
        joining: bool,
        identity: Identity,
        now: Now,
    ) -> Self {
        let newest = complete.last().map_or(0, |newest| newest.index);
        Snapshots {
            trigger: Trigger::new(
                config.snapshot_entries,
                config.snapshot_entry_bytes,
                config.snapshot_interval,
                newest,
                now.mono,
            ),
            writer: None,
            pace: Pace::default(),
            asked: (Vec::new(), Vec::new()),
            senders: BTreeMap::new(),
            receiver: Receiver::new(identity, newest),
            offered: None,
            sender_term: 0,
            complete,
            keep: config.snapshots_kept.max(1),
            joining,
        }
    }

    /// Whether the node waits for its first snapshot.
    pub(super) fn is_joining(&self) -> bool {
        self.joining
    }

    /// A client wants one written now.
    pub(super) fn ask(&mut self, req: ReqId) {
        self.asked.1.push(req);
        self.trigger.ask();
    }

    /// Complete files, oldest first.
    pub(super) fn list(&self) -> Vec<SnapshotInfo> {
        self.complete.clone()
    }

    /// Whether a snapshot is on its way to this follower.
    pub(super) fn is_sending_to(&self, peer: NodeId) -> bool {
        self.senders.contains_key(&peer)
    }

    /// Index of the newest complete one; 0 for none.
    pub(super) fn newest_index(&self) -> u64 {
        self.complete.last().map_or(0, |newest| newest.index)
    }

    /// When the rest of the snapshot being made is over.
    pub(super) fn rest_end(&self) -> Option<Mono> {
        self.pace.next_timeout()
    }

    /// An entry was applied.
    pub(super) fn applied(&mut self, entry: &Entry) {
        self.trigger.applied(entry.data.len() as u64);
    }

    /// This node leads no more: nobody waits for what it sends.
    pub(super) fn stop_sending(&mut self) {
        self.senders.clear();
    }
}

impl Node {
    /// Starts a snapshot when one is due, and tries again what was not answered.
    pub(super) fn drive_snapshots(&mut self) {
        if self.consensus.take_snapshot_wanted() {
            self.snapshots.trigger.ask();
        }
        let (index, now) = (self.applied.0, self.now.mono);
        if self.snapshots.writer.is_none()
            && index > 0
            && self.snapshots.trigger.due(index, now).is_some()
        {
            self.start_snapshot();
        }
        let late: Vec<NodeId> = self
            .snapshots
            .senders
            .iter()
            .filter(|(_, sender)| sender.next_timeout().is_some_and(|at| at <= now))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in late {
            if let Some(sender) = self.snapshots.senders.get_mut(&peer) {
                let step = sender.handle_timeout(now);
                self.on_sender_step(peer, step);
            }
        }
    }

    fn start_snapshot(&mut self) {
        self.snapshots.trigger.restart(self.applied.0, self.now.mono);
        let waiting = std::mem::take(&mut self.snapshots.asked.1);
        if self.applied.0 == self.snapshots.newest_index() {
            // Nothing happened since the newest one: it is what was asked for.
            let newest = self.snapshots.complete.last().cloned();
            for (req, newest) in waiting.into_iter().zip(std::iter::repeat(newest)) {
                let missing = || Response::Error(Error::Unavailable("no state yet".into()));
                self.reply(req, newest.map_or_else(missing, Response::SnapshotSaved));
            }
            return;
        }
        self.snapshots.asked.0 = waiting;
        let encoder = Encoder::new(self.snapshot_header(), self.state.items());
        if planted::is(Bug::LogRemovedBeforeSnapshotDurable) {
            for op in self.wal.drop_behind(self.applied.0) {
                self.disk(op, DiskUse::Cleanup);
            }
        }
        let (writer, op) = Writer::new(encoder);
        self.snapshots.writer = Some(writer);
        self.write_snapshot(op);
    }

    /// Goes on with the snapshot being made, now or after a rest.
    fn write_snapshot(&mut self, op: DiskOp) {
        if let Some(op) = self.snapshots.pace.begin(op, self.now.mono) {
            self.disk(op, DiskUse::SnapshotWrite);
        }
    }

    /// Goes on with the snapshot being made once its rest is over.
    pub(super) fn resume_snapshot(&mut self) {
        if let Some(op) = self.snapshots.pace.handle_timeout(self.now.mono) {
            self.disk(op, DiskUse::SnapshotWrite);
        }
    }

    /// A write of the snapshot being made has ended.
    pub(super) fn on_snapshot_written(&mut self, result: Result<DiskDone, DiskError>) {
        let Some(writer) = &mut self.snapshots.writer else { return };
        self.snapshots.pace.ended(self.now.mono);
        match writer.handle(result) {
            WriterStep::Disk(op) => self.write_snapshot(op),
            WriterStep::Done(info) => {
                let meta = writer.header().meta.clone();
                self.snapshots.writer = None;
                self.snapshots.trigger.ended(self.now.mono);
                self.log(
                    Level::Info,
                    format!("snapshot {} is durable: {} bytes", info.index, info.bytes),
                );
                for req in std::mem::take(&mut self.snapshots.asked.0) {
                    self.reply(req, Response::SnapshotSaved(info.clone()));
                }
                self.adopt_snapshot(meta, info);
            }
            WriterStep::Failed(error) => {
                let index = writer.header().meta.index;
                self.snapshots.writer = None;
                self.snapshots.trigger.ended(self.now.mono);
                self.log(Level::Warn, format!("snapshot {index} could not be written: {error}"));
                for req in std::mem::take(&mut self.snapshots.asked.0) {
                    let what = format!("the snapshot could not be written: {error}");
                    self.reply_error(req, Error::Unavailable(what));
                }
            }
        }
    }

    /// A snapshot is durable: the log may be cut. It is kept back to the one before, so that a start that finds the newest
    /// damaged still has a whole history.
    fn adopt_snapshot(&mut self, meta: SnapshotMeta, info: SnapshotInfo) {
        if info.index > self.snapshots.newest_index() {
            self.snapshots.receiver.handle_own_snapshot(info.index);
            self.snapshots.complete.push(info);
            self.consensus.snapshot_saved(meta, self.config.trailing_entries);
        }
        let complete = &self.snapshots.complete;
        let back = complete.len().saturating_sub(self.snapshots.keep.min(2));
        let reach = complete.get(back).map_or(0, |info| info.index);
        for op in self.wal.drop_behind(reach) {
            self.disk(op, DiskUse::Cleanup);
        }
        let indexes: Vec<u64> = self.snapshots.complete.iter().map(|info| info.index).collect();
        let sending: Vec<u64> = self.snapshots.senders.values().map(Sender::index).collect();
        for op in retention::surplus(&indexes, self.snapshots.keep, &sending) {
            let file = op.file();
            self.snapshots.complete.retain(|info| FileName::Snapshot(info.index) != file);
            self.disk(op, DiskUse::Cleanup);
        }
    }

    /// Raft wants a follower to have this snapshot.
    pub(super) fn start_sending(&mut self, to: NodeId, meta: SnapshotMeta, term: u64) {
        let file = self.snapshots.complete.iter().find(|info| info.index == meta.index);
        let Some(total_bytes) = file.map(|info| info.bytes) else {
            return self.consensus.report_snapshot(to, false);
        };
        self.log(Level::Info, format!("sending snapshot {} to node {to}", meta.index));
        let (sender, op) = Sender::new(meta, total_bytes, term);
        self.snapshots.senders.insert(to, sender);
        self.disk(op, DiskUse::SnapshotSend(to));
    }

    /// A piece for a follower was read.
    pub(super) fn on_snapshot_read(&mut self, to: NodeId, result: Result<DiskDone, DiskError>) {
        let now = self.now.mono;
        if let Some(sender) = self.snapshots.senders.get_mut(&to) {
            let step = sender.handle_read(result, now);
            self.on_sender_step(to, step);
        }
    }

    /// A follower has a piece.
    pub(super) fn on_snapshot_ack(&mut self, from: NodeId, index: u64, next_offset: u64) {
        if let Some(sender) = self.snapshots.senders.get_mut(&from) {
            let step = sender.handle_ack(index, next_offset);
            self.on_sender_step(from, step);
        }
    }

    /// A follower does not want it.
    pub(super) fn on_snapshot_refused(&mut self, from: NodeId, index: u64, reason: &str) {
        if let Some(sender) = self.snapshots.senders.get_mut(&from) {
            let step = sender.handle_refused(index, reason);
            self.on_sender_step(from, step);
        }
    }

    fn on_sender_step(&mut self, to: NodeId, step: SenderStep) {
        match step {
            SenderStep::Wait => {}
            SenderStep::Disk(op) => {
                self.disk(op, DiskUse::SnapshotSend(to));
            }
            SenderStep::Send(frame) => self.send(to, frame),
            SenderStep::Done => {
                self.snapshots.senders.remove(&to);
                self.consensus.report_snapshot(to, true);
            }
            SenderStep::Failed(why) => {
                self.snapshots.senders.remove(&to);
                self.log(Level::Warn, format!("sending a snapshot to node {to} failed: {why}"));
                if planted::is(Bug::SnapshotFailureNotReported) {
                    return;
                }
                self.consensus.report_snapshot(to, false);
            }
        }
    }

    /// A piece of a snapshot came.
    pub(super) fn on_snapshot_chunk(&mut self, from: NodeId, piece: Piece) {
        let Piece { meta, term, offset, total_bytes, bytes } = piece;
        if term < self.consensus.term() {
            return;
        }
        if meta.index <= self.applied.0 {
            // The sender is to go on with what follows.
            let (index, next_offset) = (meta.index, total_bytes);
            return self.send(from, PeerFrame::SnapshotAck { index, next_offset });
        }
        self.snapshots.sender_term = term;
        // A newer one than the sender's will do as well: what it holds is committed, so this leader has it in its log.
        let will_do = |offered: &Installed| offered.header.meta.index >= meta.index;
        if self.snapshots.offered.as_deref().is_some_and(will_do) {
            self.offer(from);
        }
        self.snapshots.receiver.handle_chunk(from, term, meta, offset, total_bytes, &bytes);
        self.drive_receiver();
    }

    /// A write of the snapshot being received has ended.
    pub(super) fn on_snapshot_received(
        &mut self,
        ticket: u64,
        result: Result<DiskDone, DiskError>,
    ) {
        self.snapshots.receiver.handle_disk(ticket, result);
        self.drive_receiver();
    }

    fn drive_receiver(&mut self) {
        while let Some(step) = self.snapshots.receiver.poll() {
            match step {
                ReceiverStep::Disk { ticket, action } => {
                    self.disk(action, DiskUse::SnapshotReceive { ticket });
                }
                ReceiverStep::Send { to, frame } => self.send(to, frame),
                ReceiverStep::Installed(installed) => {
                    let from = installed.from;
                    self.snapshots.offered = Some(installed);
                    self.offer(from);
                }
                ReceiverStep::Failed(error) => {
                    self.log(Level::Warn, format!("a snapshot could not be received: {error}"));
                }
            }
        }
    }

    /// Tells raft of a snapshot that is verified and durable. Raft may not want it now (the sender's term has passed); it stays
    /// offered until the state is beyond it.
    fn offer(&mut self, from: NodeId) {
        let Some(offered) = &self.snapshots.offered else { return };
        let message = RaftMessage {
            kind: RaftKind::Snapshot,
            to: self.identity.node,
            from,
            term: self.snapshots.sender_term,
            log_term: 0,
            index: 0,
            entries: Vec::new(),
            commit: 0,
            commit_term: 0,
            snapshot: Some(offered.header.meta.clone()),
            request_snapshot: 0,
            reject: false,
            reject_hint: 0,
            context: Bytes::new(),
            priority: 0,
        };
        self.step(from, message);
    }

    /// Raft took the snapshot that was offered: its state replaces this node's.
    pub(super) fn install(&mut self, meta: SnapshotMeta) {
        let offered = self.snapshots.offered.take().expect("raft installs only what was offered");
        assert!(offered.header.meta == meta, "raft installs what was offered last");
        self.log(Level::Info, format!("snapshot {} is installed", meta.index));
        self.state = offered.state;
        self.applied = (meta.index, meta.term);
        // Any change up to here may be in it, and this node may lead before it sees another.
        self.members.changed(meta.index);
        self.snapshots.trigger.restart(meta.index, self.now.mono);
        if std::mem::take(&mut self.snapshots.joining) {
            for op in boot::joined(self.identity) {
                self.disk(op, DiskUse::Identity);
            }
        }
        self.adopt_snapshot(meta, offered.info);
        self.announce_peers();
    }
}

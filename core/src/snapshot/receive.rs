//! Takes a snapshot from a peer, piece by piece, into a file and into a new state at once.
//!
//! Invariants: only bytes that are decoded and written are acknowledged; one piece is worked on at a time; the complete name appears
//! only when the SHA-256 and the state hash matched; a newer snapshot replaces an older one that is under way, an older one a newer only
//! when it comes from a later leader: the newer one's sender leads no more, and may never come back. Bytes are equal on every
//! replica, so another sender may go on where the last one stopped: the final checks would tell.

use super::load::Loader;
use super::{Header, info};
use crate::api::SnapshotInfo;
use crate::ids::{Identity, NodeId};
use crate::io::{DiskDone, DiskError, DiskOp, FileName};
use crate::kv::KvState;
use crate::wire::peer::{PeerFrame, SnapshotMeta};
use bytes::Bytes;
use std::collections::VecDeque;

/// Receives snapshots, one at a time.
#[derive(Debug)]
pub struct Receiver {
    identity: Identity,
    /// Index of the newest snapshot this node has.
    newest_index: u64,
    incoming: Option<Incoming>,
    next_ticket: u64,
    steps: VecDeque<ReceiverStep>,
}

/// What a [`Receiver`] wants.
#[derive(Debug)]
pub enum ReceiverStep {
    /// Do this, and hand the result to [`Receiver::handle_disk`] with the ticket.
    Disk {
        /// Names the operation.
        ticket: u64,
        /// What to do.
        action: DiskOp,
    },
    /// Send this.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        frame: PeerFrame,
    },
    /// A snapshot is complete and durable.
    Installed(Box<Installed>),
    /// The disk refused; the peer was told, and nothing is left of the snapshot.
    Failed(DiskError),
}

/// A snapshot that was received whole.
#[derive(Debug)]
pub struct Installed {
    /// What it says about itself.
    pub header: Header,
    /// Its state.
    pub state: KvState,
    /// Its file.
    pub info: SnapshotInfo,
    /// Who sent its last piece.
    pub from: NodeId,
}

#[derive(Debug)]
struct Incoming {
    meta: SnapshotMeta,
    total_bytes: u64,
    from: NodeId,
    /// The newest term in which a leader sent a piece.
    term: u64,
    /// Everything before is decoded, and written or being written.
    next_offset: u64,
    loader: Option<Loader>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Waits for the piece at `next_offset`.
    Idle,
    /// A write is under way.
    Writing { ticket: u64 },
    /// The file gets its name.
    Publishing { ticket: u64, whole: Box<(Header, KvState)> },
}

impl Receiver {
    /// A receiver for a node whose newest snapshot is at `newest_index`, 0 for none.
    pub fn new(identity: Identity, newest_index: u64) -> Self {
        Receiver { identity, newest_index, incoming: None, next_ticket: 0, steps: VecDeque::new() }
    }

    /// What to do next; `None` until something happens.
    pub fn poll(&mut self) -> Option<ReceiverStep> {
        self.steps.pop_front()
    }

    /// Index of the snapshot that is being received: no other may be written under it.
    pub fn index(&self) -> Option<u64> {
        self.incoming.as_ref().map(|incoming| incoming.meta.index)
    }

    /// This node has made a snapshot of its own: older ones are not taken any more.
    pub fn handle_own_snapshot(&mut self, index: u64) {
        self.newest_index = self.newest_index.max(index);
        if self.index().is_some_and(|incoming| incoming <= index) {
            self.abandon();
        }
    }

    /// A piece came from a peer that may send it: the leader of `term`, which has not passed.
    pub fn handle_chunk(
        &mut self,
        from: NodeId,
        term: u64,
        meta: SnapshotMeta,
        offset: u64,
        total_bytes: u64,
        bytes: &Bytes,
    ) {
        let index = meta.index;
        if index <= self.newest_index {
            // An answer may have been lost: say again that it is here, or that it is too old.
            match index == self.newest_index {
                true => self.acknowledge(from, index, total_bytes),
                false => {
                    self.refuse(from, index, format!("snapshot {} is here", self.newest_index))
                }
            }
            return;
        }
        match &self.incoming {
            Some(incoming) if incoming.meta.index > index && !incoming.is_left_alone(term) => {
                let newer = incoming.meta.index;
                return self.refuse(from, index, format!("snapshot {newer} is being received"));
            }
            Some(incoming) if incoming.meta == meta && incoming.total_bytes == total_bytes => {}
            _ => self.begin(from, meta, total_bytes),
        }
        self.take(from, term, offset, bytes);
    }

    /// How an operation ended.
    pub fn handle_disk(&mut self, ticket: u64, result: Result<DiskDone, DiskError>) {
        let Some(mut incoming) =
            self.incoming.take_if(|incoming| incoming.stage.ticket() == Some(ticket))
        else {
            return;
        };
        let index = incoming.meta.index;
        if let Err(error) = result {
            self.refuse(incoming.from, index, error.to_string());
            self.remove(index);
            self.steps.push_back(ReceiverStep::Failed(error));
            return;
        }
        match std::mem::replace(&mut incoming.stage, Stage::Idle) {
            Stage::Publishing { whole, .. } => {
                let (header, state) = *whole;
                self.newest_index = index;
                let info = info(&header, incoming.total_bytes);
                let installed = Installed { header, state, info, from: incoming.from };
                self.steps.push_back(ReceiverStep::Installed(Box::new(installed)));
                self.acknowledge(incoming.from, index, incoming.total_bytes);
            }
            Stage::Idle | Stage::Writing { .. } if incoming.next_offset == incoming.total_bytes => {
                self.complete(incoming);
            }
            Stage::Idle | Stage::Writing { .. } => {
                self.acknowledge(incoming.from, index, incoming.next_offset);
                self.incoming = Some(incoming);
            }
        }
    }

    /// Forgets what is being received, and removes it.
    pub fn abandon(&mut self) {
        if let Some(incoming) = self.incoming.take() {
            self.remove(incoming.meta.index);
        }
    }

    fn begin(&mut self, from: NodeId, meta: SnapshotMeta, total_bytes: u64) {
        self.abandon();
        self.incoming = Some(Incoming {
            meta,
            total_bytes,
            from,
            term: 0,
            next_offset: 0,
            loader: Some(Loader::new()),
            stage: Stage::Idle,
        });
    }

    /// A piece of the snapshot that is being received.
    fn take(&mut self, from: NodeId, term: u64, offset: u64, bytes: &Bytes) {
        let Some(incoming) = &mut self.incoming else { return };
        incoming.from = from;
        incoming.term = incoming.term.max(term);
        if !matches!(incoming.stage, Stage::Idle) {
            return;
        }
        let (index, next_offset) = (incoming.meta.index, incoming.next_offset);
        if offset != next_offset || bytes.is_empty() {
            return self.acknowledge(from, index, next_offset);
        }
        let end = offset.saturating_add(bytes.len() as u64);
        let taken = match &mut incoming.loader {
            Some(loader) if end <= incoming.total_bytes => {
                loader.push(bytes).map_err(|e| e.to_string())
            }
            _ => Err("there are more bytes than were announced".into()),
        };
        let header = incoming.loader.as_ref().and_then(Loader::header);
        let taken = taken.and_then(|()| match header {
            Some(header) => check_header(header, &incoming.meta, &self.identity),
            None => Ok(()),
        });
        if let Err(reason) = taken {
            self.abandon();
            return self.refuse(from, index, reason);
        }
        incoming.next_offset = end;
        let file = FileName::SnapshotTemp(index);
        let action = match offset {
            0 => DiskOp::Create { file, reserve_bytes: 0, bytes: bytes.clone() },
            // What is under way grows by synced pieces, so that the last sync has little to do.
            _ => DiskOp::Write { file, offset, bytes: bytes.clone(), sync: true },
        };
        let ticket = self.disk(action);
        if let Some(incoming) = &mut self.incoming {
            incoming.stage = Stage::Writing { ticket };
        }
    }

    /// Everything is there: check the whole, and publish it.
    fn complete(&mut self, mut incoming: Incoming) {
        let index = incoming.meta.index;
        let Some(loader) = incoming.loader.take() else { return };
        match loader.finish() {
            Ok((header, mut state)) => {
                state.index_changes();
                let whole = Box::new((header, state));
                let (from, to) = (FileName::SnapshotTemp(index), FileName::Snapshot(index));
                let ticket = self.disk(DiskOp::Publish { from, to });
                incoming.stage = Stage::Publishing { ticket, whole };
                self.incoming = Some(incoming);
            }
            Err(error) => {
                self.remove(index);
                self.refuse(incoming.from, index, error.to_string());
            }
        }
    }

    fn remove(&mut self, index: u64) {
        self.disk(DiskOp::Remove { file: FileName::SnapshotTemp(index) });
    }

    fn disk(&mut self, action: DiskOp) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.steps.push_back(ReceiverStep::Disk { ticket, action });
        ticket
    }

    fn acknowledge(&mut self, to: NodeId, index: u64, next_offset: u64) {
        self.send(to, PeerFrame::SnapshotAck { index, next_offset });
    }

    fn refuse(&mut self, to: NodeId, index: u64, reason: String) {
        self.send(to, PeerFrame::SnapshotRefused { index, reason });
    }

    fn send(&mut self, to: NodeId, frame: PeerFrame) {
        self.steps.push_back(ReceiverStep::Send { to, frame });
    }
}

impl Incoming {
    /// Whether its sender's time has passed in a later `term`, and pieces are still missing.
    fn is_left_alone(&self, term: u64) -> bool {
        term > self.term && !matches!(self.stage, Stage::Publishing { .. })
    }
}

impl Stage {
    fn ticket(&self) -> Option<u64> {
        match self {
            Stage::Idle => None,
            Stage::Writing { ticket } | Stage::Publishing { ticket, .. } => Some(*ticket),
        }
    }
}

fn check_header(header: &Header, meta: &SnapshotMeta, identity: &Identity) -> Result<(), String> {
    if !header.belongs_to(identity) {
        return Err(format!(
            "the snapshot is of cluster {} (epoch {})",
            header.cluster, header.epoch.0
        ));
    }
    if header.meta != *meta {
        return Err("the snapshot's index, term or membership is not what was announced".into());
    }
    Ok(())
}

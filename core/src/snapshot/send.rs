//! Sends one published snapshot file to one peer, piece by piece.
//!
//! Invariants: one piece is under way at a time, and the peer names the next, so it may resume anywhere; silence is answered by
//! sending again, for a bounded time. An acknowledgement that names what is already under way is ignored: answering
//! each duplicate would keep two copies of the stream alive for ever (the "sorcerer's apprentice" of RFC 1123 §4.2.3.1).

use crate::io::{DiskDone, DiskError, DiskOp, FileName};
use crate::planted::{self, Bug};
use crate::time::{Mono, Span};
use crate::wire::peer::{PeerFrame, SnapshotMeta};

/// Bytes of the file in one frame.
pub const PIECE_BYTES: u64 = 512 << 10;
/// Silence after which a piece is sent again.
pub const RETRY: Span = Span::from_millis(2_000);
/// Attempts without progress before giving up. Together with [`RETRY`] this leaves the peer a minute to make the last piece durable.
pub const ATTEMPTS_MAX: u32 = 30;

/// Sends one snapshot to one peer.
#[derive(Debug)]
pub struct Sender {
    snapshot: SnapshotMeta,
    term: u64,
    total_bytes: u64,
    /// Start of the piece that is being read or sent.
    offset: u64,
    attempts: u32,
    stage: Stage,
}

/// What a [`Sender`] wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderStep {
    /// Nothing, until something happens or [`Sender::next_timeout`].
    Wait,
    /// Do this, and hand the result to [`Sender::handle_read`].
    Disk(DiskOp),
    /// Send this to the peer.
    Send(PeerFrame),
    /// The peer has installed the snapshot.
    Done,
    /// It has not, and will not from this sender.
    Failed(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A read is under way; of the piece at this offset.
    Reading(u64),
    Waiting {
        until: Mono,
    },
}

impl Sender {
    /// A sender of the snapshot file of `total_bytes`, under the leader's `term`; and its first operation.
    pub fn new(snapshot: SnapshotMeta, total_bytes: u64, term: u64) -> (Self, DiskOp) {
        let mut sender = Sender {
            snapshot,
            term,
            total_bytes,
            offset: 0,
            attempts: 0,
            stage: Stage::Reading(0),
        };
        let op = sender.read();
        (sender, op)
    }

    /// Index of the snapshot that is being sent: its file must stay.
    pub fn index(&self) -> u64 {
        self.snapshot.index
    }

    /// When to call [`Sender::handle_timeout`] at the latest.
    pub fn next_timeout(&self) -> Option<Mono> {
        match self.stage {
            Stage::Reading(_) => None,
            Stage::Waiting { until } => Some(until),
        }
    }

    /// How the read that was asked for ended.
    pub fn handle_read(&mut self, result: Result<DiskDone, DiskError>, now: Mono) -> SenderStep {
        let Stage::Reading(offset) = self.stage else { return SenderStep::Wait };
        let bytes = match result {
            Ok(DiskDone::Bytes(bytes)) if !bytes.is_empty() => bytes,
            Ok(_) => {
                return SenderStep::Failed(format!(
                    "snapshot {} ends at byte {offset} of {}",
                    self.index(),
                    self.total_bytes
                ));
            }
            Err(error) => {
                return SenderStep::Failed(format!(
                    "snapshot {} cannot be read: {error}",
                    self.index()
                ));
            }
        };
        if offset != self.offset {
            return SenderStep::Disk(self.read());
        }
        self.stage = Stage::Waiting { until: now + RETRY };
        SenderStep::Send(PeerFrame::SnapshotChunk {
            snapshot: self.snapshot.clone(),
            term: self.term,
            offset,
            total_bytes: self.total_bytes,
            bytes,
        })
    }

    /// The peer has everything of snapshot `index` before `next_offset`.
    pub fn handle_ack(&mut self, index: u64, next_offset: u64) -> SenderStep {
        if index != self.index() || next_offset > self.total_bytes {
            return SenderStep::Wait;
        }
        if next_offset == self.total_bytes {
            return SenderStep::Done;
        }
        if next_offset > self.offset {
            self.attempts = 0;
        } else if next_offset < self.offset {
            self.attempts += 1;
        } else {
            return SenderStep::Wait;
        }
        self.offset = next_offset;
        self.read_unless_reading()
    }

    /// The peer does not take snapshot `index`.
    pub fn handle_refused(&mut self, index: u64, reason: &str) -> SenderStep {
        if index != self.index() {
            return SenderStep::Wait;
        }
        SenderStep::Failed(format!("refused by the peer: {reason}"))
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Mono) -> SenderStep {
        match self.stage {
            Stage::Waiting { until }
                if now >= until && !planted::is(Bug::SnapshotPieceNotRetried) =>
            {
                self.attempts += 1;
                self.read_unless_reading()
            }
            _ => SenderStep::Wait,
        }
    }

    fn read_unless_reading(&mut self) -> SenderStep {
        if self.attempts > ATTEMPTS_MAX {
            let what = format!("no progress at byte {} of {}", self.offset, self.total_bytes);
            return SenderStep::Failed(what);
        }
        match self.stage {
            // The piece that is being read is not wanted any more; its completion asks for the right one.
            Stage::Reading(_) => SenderStep::Wait,
            Stage::Waiting { .. } => SenderStep::Disk(self.read()),
        }
    }

    fn read(&mut self) -> DiskOp {
        self.stage = Stage::Reading(self.offset);
        let file = FileName::Snapshot(self.snapshot.index);
        DiskOp::Read { file, offset: self.offset, len_bytes: PIECE_BYTES }
    }
}

//! Writes one snapshot file, one operation at a time.
//!
//! Invariants: at most one operation is under way, and the next chunk is encoded only when the last one is written, so other work
//! never waits for more than one chunk; the complete name appears only when everything is on stable storage; a failure leaves no
//! file behind and is no reason to stop the node.
//!
//! ```text
//! Create temp -> Write* -> Publish -> Done
//!      \____________\__________\____ a failure -> Remove temp -> Failed
//! ```

use super::encode::Encoder;
use super::{Header, info};
use crate::api::SnapshotInfo;
use crate::io::{DiskDone, DiskError, DiskOp, FileName};
use bytes::Bytes;

/// Written bytes between syncs. A sync of the log waits for the one of a snapshot that is under way, and waits less for a smaller one;
/// `docs/PERFORMANCE.md` compares sizes.
const SYNC_BYTES: u64 = 1 << 20;

/// Writes the snapshot of an [`Encoder`].
#[derive(Debug)]
pub struct Writer {
    encoder: Encoder,
    unsynced_bytes: u64,
    stage: Stage,
}

/// What a [`Writer`] wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriterStep {
    /// Do this, and hand in how it ended.
    Disk(DiskOp),
    /// The snapshot is complete and durable.
    Done(SnapshotInfo),
    /// It is not; the unfinished file is gone, if the disk let it go.
    Failed(DiskError),
}

#[derive(Debug)]
enum Stage {
    Writing,
    Publishing,
    Removing(DiskError),
    Ended,
}

impl Writer {
    /// A writer, and the first operation. No other snapshot of the same index may be under way.
    pub fn new(mut encoder: Encoder) -> (Self, DiskOp) {
        let file = FileName::SnapshotTemp(encoder.header().meta.index);
        let bytes = encoder.next_chunk().unwrap_or_default();
        let op = DiskOp::Create { file, reserve_bytes: 0, bytes };
        (Writer { encoder, unsynced_bytes: 0, stage: Stage::Writing }, op)
    }

    /// What is being written.
    pub fn header(&self) -> &Header {
        self.encoder.header()
    }

    /// How the operation ended that was asked for last.
    pub fn handle(&mut self, result: Result<DiskDone, DiskError>) -> WriterStep {
        let index = self.header().meta.index;
        let (temp, complete) = (FileName::SnapshotTemp(index), FileName::Snapshot(index));
        match (std::mem::replace(&mut self.stage, Stage::Ended), result) {
            (Stage::Writing, Ok(_)) => {
                let offset = self.encoder.offset();
                match self.encoder.next_chunk() {
                    Some(bytes) => {
                        self.stage = Stage::Writing;
                        WriterStep::Disk(self.write(temp, offset, bytes))
                    }
                    None => {
                        self.stage = Stage::Publishing;
                        WriterStep::Disk(DiskOp::Publish { from: temp, to: complete })
                    }
                }
            }
            (Stage::Publishing, Ok(_)) => {
                WriterStep::Done(info(self.encoder.header(), self.encoder.offset()))
            }
            (Stage::Writing | Stage::Publishing, Err(error)) => {
                self.stage = Stage::Removing(error);
                WriterStep::Disk(DiskOp::Remove { file: temp })
            }
            (Stage::Removing(error), _) => WriterStep::Failed(error),
            (Stage::Ended, _) => unreachable!("nothing was asked for after the end"),
        }
    }

    fn write(&mut self, file: FileName, offset: u64, bytes: Bytes) -> DiskOp {
        self.unsynced_bytes += bytes.len() as u64;
        let sync = self.unsynced_bytes >= SYNC_BYTES;
        if sync {
            self.unsynced_bytes = 0;
        }
        DiskOp::Write { file, offset, bytes, sync }
    }
}

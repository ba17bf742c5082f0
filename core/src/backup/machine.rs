//! What every machine of the backup pipeline asks for and is told, so that a shell drives all of them with one loop.
//!
//! The rule: take actions until there is none, carry each out, hand every result to [`Machine::handle`]. Work may run on any
//! thread and its results arrive in any order; a shell with one thread calls [`Work::run`] in place.

use super::blob::{BlobDone, BlobError, BlobOp, StoreIndex};
use super::compress::Compression;
use super::open::{ChunkError, Frame, OpenKey, Opened, open_chunk};
use super::seal::{ChunkNumber, SealKey, SealedChunk, seal_chunk};
use crate::ids::OpId;
use crate::snapshot::{Sum, Summed};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// A machine of the pipeline.
pub trait Machine {
    /// The next thing to do; `None` until more results arrive.
    fn poll_action(&mut self) -> Option<Action>;

    /// Takes the result of an action.
    fn handle(&mut self, result: ActionResult);

    /// Whether it has ended: it has an outcome, and no action is under way.
    fn is_ended(&self) -> bool;

    /// Bytes done so far, and of how many, once that is known; zero of a machine that moves no data.
    fn progress(&self) -> Progress {
        Progress::default()
    }
}

/// How far a machine has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all, once known.
    pub total_bytes: Option<u64>,
}

/// Something to be done.
#[derive(Debug)]
pub enum Action {
    /// In an object store.
    Blob {
        /// In which.
        store: StoreIndex,
        /// Names the operation in its result; no two have the same name, whatever their stores.
        op: OpId,
        /// What to do.
        action: BlobOp,
    },
    /// On a processor.
    Work(Work),
}

/// What became of an [`Action`].
#[derive(Debug)]
pub enum ActionResult {
    /// In the object store.
    Blob {
        /// Which operation.
        op: OpId,
        /// How it ended.
        result: Result<BlobDone, BlobError>,
    },
    /// On a processor.
    Work(WorkDone),
}

/// Work on a chunk or two. It holds all it needs, and may be run on any thread.
#[derive(Debug)]
pub enum Work {
    /// Compress and seal.
    Seal {
        /// With this key.
        key: SealKey,
        /// Under this number.
        number: ChunkNumber,
        /// Compressed like this.
        compression: Compression,
        /// These bytes.
        plain: Bytes,
    },
    /// Open and decompress.
    Open {
        /// With this key.
        key: OpenKey,
        /// This chunk.
        frame: Frame,
    },
    /// Sum up what was opened.
    Sum(Sum),
}

/// What came of a [`Work`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkDone {
    /// A chunk was sealed.
    Sealed(SealedChunk),
    /// A chunk was opened, or refused.
    Opened {
        /// Its number.
        number: u32,
        /// What it holds.
        result: Result<Opened, ChunkError>,
    },
    /// A sum was made.
    Summed(Summed),
}

impl Work {
    /// Does it.
    pub fn run(self) -> WorkDone {
        match self {
            Work::Seal { key, number, compression, plain } => {
                WorkDone::Sealed(seal_chunk(&key, number, compression, &plain))
            }
            Work::Open { key, frame } => {
                WorkDone::Opened { number: frame.number, result: open_chunk(&key, &frame) }
            }
            Work::Sum(sum) => WorkDone::Summed(sum.make()),
        }
    }
}

/// What a machine has asked for and not been told yet. `P` says what each operation is for.
#[derive(Debug)]
pub(super) struct Outbox<P> {
    next_op: u64,
    queue: VecDeque<Action>,
    open: BTreeMap<OpId, P>,
    working: usize,
}

impl<P> Outbox<P> {
    pub(super) fn new() -> Self {
        Outbox::starting_at(1)
    }

    /// With operations numbered from `next_op`, for machines that follow each other at one store.
    pub(super) fn starting_at(next_op: u64) -> Self {
        Outbox { next_op, queue: VecDeque::new(), open: BTreeMap::new(), working: 0 }
    }

    /// Asks for an operation in the primary store, or in the one that [`super::numbered::Numbered`] puts in its place.
    pub(super) fn blob(&mut self, purpose: P, action: BlobOp) -> OpId {
        self.blob_in(StoreIndex::PRIMARY, purpose, action)
    }

    /// Asks for an operation in this store.
    pub(super) fn blob_in(&mut self, store: StoreIndex, purpose: P, action: BlobOp) -> OpId {
        let op = OpId(self.next_op);
        self.next_op += 1;
        self.open.insert(op, purpose);
        self.queue.push_back(Action::Blob { store, op, action });
        op
    }

    /// The number the next operation will have.
    pub(super) fn next_op(&self) -> u64 {
        self.next_op
    }

    /// Asks for work.
    pub(super) fn work(&mut self, work: Work) {
        self.working += 1;
        self.queue.push_back(Action::Work(work));
    }

    /// What an operation that has ended was for; `None` when it was never asked for.
    pub(super) fn blob_done(&mut self, op: OpId) -> Option<P> {
        self.open.remove(&op)
    }

    /// Work has ended.
    pub(super) fn work_done(&mut self) {
        self.working = self.working.saturating_sub(1);
    }

    /// Takes back everything that was not polled yet.
    pub(super) fn cancel_queued(&mut self) {
        for action in self.queue.drain(..) {
            match action {
                Action::Blob { op, .. } => drop(self.open.remove(&op)),
                Action::Work(_) => self.working -= 1,
            }
        }
    }

    pub(super) fn poll(&mut self) -> Option<Action> {
        self.queue.pop_front()
    }

    /// How many operations for this purpose are queued or under way.
    pub(super) fn count(&self, is: impl Fn(&P) -> bool) -> usize {
        self.open.values().filter(|purpose| is(purpose)).count()
    }

    /// How many pieces of work are queued or under way.
    pub(super) fn working(&self) -> usize {
        self.working
    }

    /// Whether nothing is queued or under way.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.working == 0
    }
}

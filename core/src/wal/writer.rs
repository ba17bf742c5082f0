//! Turns records into disk operations: fills a segment, begins the next, drops old ones.
//!
//! Invariants: a record's hard state, entries and sequence number follow what was written before (asserted here, checked again by
//! recovery); the first record of a segment carries the hard state, so every older segment can be dropped; several writes may be
//! under way at once, in the order given.

use super::SEGMENT_BYTES_DEFAULT;
use super::record::{self, ALIGN_BYTES, Body, Place, WalRecord};
use super::segment::{self, SEGMENT_HEAD_BYTES, SegmentHead};
use crate::ids::Identity;
use crate::io::{DiskOp, FileName};
use crate::log::HardState;
use crate::planted::{self, Bug};
use bytes::BytesMut;
use std::collections::VecDeque;

/// What is reserved at once for encoding; writes that were done give their part back.
const BUFFER_BYTES: usize = 256 << 10;

/// The log's writing end.
#[derive(Debug)]
pub struct WalWriter {
    identity: Identity,
    segment_bytes: u64,
    /// Oldest first. The last one is being written, unless `sealed`.
    segments: VecDeque<Segment>,
    sealed: bool,
    /// Where the next record goes in the last segment.
    offset: u64,
    next_sequence: u64,
    durable: u64,
    next_index: u64,
    hard_state: HardState,
    buffer: BytesMut,
}

/// A segment on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub number: u64,
    /// Length of its file.
    pub bytes: u64,
    /// Index of the last entry in it that no later record has replaced; 0 for none.
    pub last_index: u64,
}

/// Where recovery left off.
#[derive(Debug)]
pub(super) struct Tail {
    pub segments: VecDeque<Segment>,
    /// The last segment must not be written again.
    pub sealed: bool,
    pub offset: u64,
    pub next_sequence: u64,
    pub next_index: u64,
    pub hard_state: HardState,
}

impl WalWriter {
    /// The writer of a log that does not exist yet. Its first record makes segment 1.
    pub fn new(identity: Identity) -> Self {
        let tail = Tail {
            segments: VecDeque::new(),
            sealed: true,
            offset: 0,
            next_sequence: 1,
            next_index: 1,
            hard_state: HardState::default(),
        };
        WalWriter::resume(identity, tail)
    }

    pub(super) fn resume(identity: Identity, tail: Tail) -> Self {
        WalWriter {
            identity,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            segments: tail.segments,
            sealed: tail.sealed,
            offset: tail.offset,
            next_sequence: tail.next_sequence,
            durable: tail.next_sequence - 1,
            next_index: tail.next_index,
            hard_state: tail.hard_state,
            buffer: BytesMut::new(),
        }
    }

    /// Sets how long segments are that begin from now on.
    pub fn set_segment_bytes(&mut self, segment_bytes: u64) {
        self.segment_bytes = segment_bytes;
    }

    /// The operations that append a record, in order; when the last one is done the record is durable, and with it every earlier
    /// one. Then tell [`WalWriter::handle_durable`] the [`WalWriter::sequence`] as it was right after this call.
    ///
    /// Panics if the entries leave a gap, or the term goes back: such a record would promise what cannot be kept.
    #[must_use]
    pub fn append(&mut self, record: &WalRecord) -> Vec<DiskOp> {
        let known = (self.hard_state.term, self.hard_state.vote);
        self.account(record);
        let is_news = (self.hard_state.term, self.hard_state.vote) != known;
        let left_out = !is_news && planted::is(Bug::SegmentWithoutHardState);
        let body = Body {
            hard_state: record.hard_state.filter(|_| !left_out),
            snapshot: record.snapshot.as_ref().filter(|_| !planted::is(Bug::InstallNotRecorded)),
            entries: &record.entries,
        };
        let op = if self.sealed { None } else { self.write(&body) };
        let op = op.unwrap_or_else(|| self.begin_segment(body));
        let last_index = if record.entries.is_empty() { None } else { Some(self.next_index - 1) };
        if let (Some(index), Some(segment)) = (last_index, self.segments.back_mut()) {
            segment.last_index = index;
        }
        self.next_sequence += 1;
        vec![op]
    }

    /// Everything up to this sequence number is on stable storage. Later records say so, which is what lets
    /// recovery tell damage from a write that was cut short: without these calls it must take damage for a torn tail.
    pub fn handle_durable(&mut self, sequence: u64) {
        assert!(sequence < self.next_sequence, "only what was written can be durable");
        self.durable = self.durable.max(sequence);
    }

    /// The operations that remove segments whose entries all lie at or below `index`, the index of a durable snapshot.
    #[must_use]
    pub fn drop_behind(&mut self, index: u64) -> Vec<DiskOp> {
        let index = index + if planted::is(Bug::SegmentDroppedEarly) { 20 } else { 0 };
        let mut ops = Vec::new();
        while self.segments.len() > 1 && self.segments[0].last_index <= index {
            let number = self.segments[0].number;
            ops.push(DiskOp::Remove { file: FileName::Wal(number) });
            self.segments.pop_front();
        }
        ops
    }

    /// The sequence number of the newest record; 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.next_sequence - 1
    }

    /// Index of the last entry in the log, or of the snapshot it starts behind.
    pub fn last_index(&self) -> u64 {
        self.next_index - 1
    }

    /// The number of the oldest segment; 1 before the first record.
    pub fn first_segment(&self) -> u64 {
        self.segments.front().map_or(1, |segment| segment.number)
    }

    /// Bytes of all segments on disk, reserved ones included.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    fn account(&mut self, record: &WalRecord) {
        if let Some(snapshot) = &record.snapshot {
            self.segments.iter_mut().for_each(|segment| segment.last_index = 0);
            self.next_index = snapshot.index + 1;
        }
        if let Some(first) = record.entries.first() {
            let expected = first.index..first.index + record.entries.len() as u64;
            assert!(
                (1..=self.next_index).contains(&first.index)
                    && record.entries.iter().map(|entry| entry.index).eq(expected),
                "entries leave no gap: the log continues at {}, the record starts at {}",
                self.next_index,
                first.index
            );
            for segment in &mut self.segments {
                segment.last_index = segment.last_index.min(first.index - 1);
            }
            self.next_index = first.index + record.entries.len() as u64;
        }
        if let Some(hard_state) = record.hard_state {
            assert!(hard_state.term >= self.hard_state.term, "a term never goes back");
            self.hard_state = hard_state;
        }
    }

    /// The write of a record that fits the current segment.
    fn write(&mut self, body: &Body) -> Option<DiskOp> {
        let segment = *self.segments.back()?;
        let place =
            Place { seed: segment::seed(&self.identity, segment.number), offset: self.offset };
        self.reserve(body);
        let length =
            record::encode(body, self.next_sequence, self.durable, place, &mut self.buffer) as u64;
        let bytes = self.buffer.split().freeze();
        if self.offset + length > segment.bytes {
            return None;
        }
        let offset = self.offset;
        self.offset += length;
        let sync = !planted::is(Bug::LogNotSynced);
        Some(DiskOp::Write { file: FileName::Wal(segment.number), offset, bytes, sync })
    }

    /// The creation of the next segment, with a record in it.
    fn begin_segment(&mut self, body: Body) -> DiskOp {
        let number = self.segments.back().map_or(1, |segment| segment.number + 1);
        let head = SegmentHead {
            identity: self.identity,
            number,
            first_sequence: self.next_sequence,
            next_index: self.next_index - body.entries.len() as u64,
            durable: self.durable,
        };
        let hard_state =
            Some(self.hard_state).filter(|_| !planted::is(Bug::SegmentWithoutHardState));
        let body = Body { hard_state: hard_state.or(body.hard_state), ..body };
        self.reserve(&body);
        head.encode(&mut self.buffer);
        let place = Place {
            seed: segment::seed(&self.identity, number),
            offset: SEGMENT_HEAD_BYTES as u64,
        };
        record::encode(&body, self.next_sequence, self.durable, place, &mut self.buffer);
        let bytes = self.buffer.split().freeze();
        self.offset = bytes.len() as u64;
        self.sealed = false;
        let reserve_bytes =
            self.segment_bytes.max(self.offset).next_multiple_of(ALIGN_BYTES as u64);
        self.segments.push_back(Segment { number, bytes: reserve_bytes, last_index: 0 });
        DiskOp::Create { file: FileName::Wal(number), reserve_bytes, bytes }
    }

    /// Makes room, so that encoding does not move what it has written.
    fn reserve(&mut self, body: &Body) {
        const PER_ENTRY_BYTES: usize = 32;
        let entries: usize =
            body.entries.iter().map(|entry| entry.data.len() + PER_ENTRY_BYTES).sum();
        let wanted = SEGMENT_HEAD_BYTES + 4 * record::RECORD_HEAD_BYTES + entries;
        if self.buffer.capacity() < wanted {
            self.buffer.reserve(wanted.max(BUFFER_BYTES));
        }
    }
}

//! One record of the log: what it holds, and the bytes that carry it.
//!
//! ```text
//! 0   u32  CRC-32C over the place (segment seed, offset) and every byte from 4 to the end of the body
//! 4   u32  length of the body
//! 8   u64  sequence number, from 1, without gaps over all segments
//! 16  u32  how many records right before this one were not yet known to be durable when it was made
//! 20  u8   kind: 1
//! 21  3 x 0
//! 24  body: postcard of WalRecord, then zeroes up to a multiple of 8
//! ```
//! Invariant: a record starts at a multiple of 8, and is valid at one place only.

use crate::buffer;
use crate::io::{DiskOp, FileName};
use crate::log::{Entry, HardState};
use crate::planted::{self, Bug};
use crate::wire::peer::SnapshotMeta;
use bytes::BytesMut;
use serde::{Deserialize, Serialize};

/// Records start at multiples of this.
pub const ALIGN_BYTES: usize = 8;
/// What comes before a record's body.
pub const RECORD_HEAD_BYTES: usize = 24;
/// The longest body a record may have.
pub const RECORD_BODY_BYTES_MAX: usize = 1 << 30;

const KIND_APPEND: u8 = 1;

/// What one write to the log says. Applied in this order: snapshot, entries, hard state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalRecord {
    /// The new hard state, when it changed.
    pub hard_state: Option<HardState>,
    /// The log restarts behind this installed snapshot: every older entry is void.
    pub snapshot: Option<SnapshotMeta>,
    /// Entries without gaps. They replace everything from the first one's index on.
    pub entries: Vec<Entry>,
}

/// A record to be encoded, without owning its parts. Its fields are [`WalRecord`]'s, in the same order.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    pub hard_state: Option<HardState>,
    pub snapshot: Option<&'a SnapshotMeta>,
    pub entries: &'a [Entry],
}

/// Where a record stands. Part of its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The segment's [`super::segment::seed`].
    pub seed: u32,
    /// Offset in the segment's file.
    pub offset: u64,
}

/// What a record says about itself beside its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub sequence: u64,
    pub unsynced: u32,
    body_bytes: usize,
}

impl Head {
    /// Every record up to this sequence number was durable when this one was made.
    pub fn durable(&self) -> u64 {
        (self.sequence - 1).saturating_sub(u64::from(self.unsynced))
    }

    /// Where the next record starts, counted from this one's start.
    pub fn record_bytes(&self) -> usize {
        (RECORD_HEAD_BYTES + self.body_bytes).next_multiple_of(ALIGN_BYTES)
    }
}

/// Appends a record to `out`; its place is given for `out.len()` as it is now. Returns how many bytes were added.
pub(super) fn encode(
    body: &Body,
    sequence: u64,
    durable: u64,
    place: Place,
    out: &mut BytesMut,
) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEAD_BYTES]);
    buffer::append(body, out);
    let length = out.len() - start - RECORD_HEAD_BYTES;
    assert!(length <= RECORD_BODY_BYTES_MAX, "a record is bounded: raft's batches are megabytes");
    let length = length as u32;
    let unsynced = u32::try_from(sequence - 1 - durable).unwrap_or(u32::MAX);
    let head = &mut out[start..start + RECORD_HEAD_BYTES];
    head[4..8].copy_from_slice(&length.to_le_bytes());
    head[8..16].copy_from_slice(&sequence.to_le_bytes());
    head[16..20].copy_from_slice(&unsynced.to_le_bytes());
    head[20] = KIND_APPEND;
    let crc = checksum(place, &out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    let padded = start + (out.len() - start).next_multiple_of(ALIGN_BYTES);
    out.resize(padded, 0);
    padded - start
}

/// The record at the start of `bytes`, if those are valid at this place: its head, and its body still encoded.
pub(super) fn check(bytes: &[u8], place: Place) -> Result<(Head, &[u8]), &'static str> {
    let head = parse_head(bytes)?;
    let record =
        bytes.get(..head.record_bytes()).ok_or("a record reaches over the end of the file")?;
    let (framed, padding) = record.split_at(RECORD_HEAD_BYTES + head.body_bytes);
    if padding.iter().any(|byte| *byte != 0) {
        return Err("a record's padding is not zero");
    }
    if framed.first_chunk::<4>().map(|crc| u32::from_le_bytes(*crc))
        != Some(checksum(place, &framed[4..]))
        && !planted::is(Bug::ChecksumIgnored)
    {
        return Err("a record's checksum does not match");
    }
    Ok((head, &framed[RECORD_HEAD_BYTES..]))
}

/// Reads a checked record's body.
pub(super) fn decode(body: &[u8]) -> Result<WalRecord, String> {
    match postcard::take_from_bytes(body) {
        Ok((record, [])) => Ok(record),
        Ok((_, rest)) => Err(format!("a record has {} bytes too many", rest.len())),
        Err(error) => Err(format!("a record does not decode: {error}")),
    }
}

/// The record that an operation of [`super::WalWriter`] brings to disk. It does not check the record's place, so it is no recovery: it
/// serves those who watch a log being written.
pub fn carried_by(op: &DiskOp) -> Option<WalRecord> {
    let (FileName::Wal(_), bytes) = (op.file(), op.bytes()?) else { return None };
    let record = match op {
        DiskOp::Create { .. } => bytes.get(super::segment::SEGMENT_HEAD_BYTES..)?,
        _ => bytes,
    };
    let head = parse_head(record).ok()?;
    decode(record.get(RECORD_HEAD_BYTES..RECORD_HEAD_BYTES + head.body_bytes)?).ok()
}

fn parse_head(bytes: &[u8]) -> Result<Head, &'static str> {
    let head = bytes.first_chunk::<RECORD_HEAD_BYTES>().ok_or("a record's head is cut short")?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let sequence = u64::from(word(8)) | u64::from(word(12)) << 32;
    if sequence == 0 {
        return Err("there is no record");
    }
    if head[20..] != [KIND_APPEND, 0, 0, 0] {
        return Err("a record's kind is not known");
    }
    if word(4) as usize > RECORD_BODY_BYTES_MAX {
        return Err("a record's length is out of range");
    }
    Ok(Head { sequence, unsynced: word(16), body_bytes: word(4) as usize })
}

fn checksum(place: Place, bytes: &[u8]) -> u32 {
    let seed = crc32c::crc32c_append(place.seed, &place.offset.to_le_bytes());
    crc32c::crc32c_append(seed, bytes)
}

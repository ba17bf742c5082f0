//! A segment's header: whose log it belongs to, and where in the log it takes over.
//!
//! ```text
//! 0   8 bytes  "RAFTKVWL"
//! 8   u32      format version: 1
//! 12  u32      CRC-32C over everything else in the header
//! 16  16 bytes cluster id
//! 32  u64      restore epoch
//! 40  u64      node id
//! 48  u64      segment number, from 1
//! 56  u64      sequence number of its first record: what older segments hold from there on is void
//! 64  u64      index at which the log goes on with it
//! 72  u64      every record up to this sequence number was durable when the segment was made
//! 80  first record
//! ```

use crate::ids::{ClusterId, Epoch, Identity, NodeId};
use bytes::{BufMut, BytesMut};

/// Length of the header.
pub const SEGMENT_HEAD_BYTES: usize = 80;
/// The version this build writes and reads.
pub const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"RAFTKVWL";

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    /// Whose log it is.
    pub identity: Identity,
    /// Its number, which is in its file's name too.
    pub number: u64,
    /// Sequence number of its first record.
    pub first_sequence: u64,
    /// Index at which the log goes on: entries below it are in older segments, or behind a snapshot.
    pub next_index: u64,
    /// Everything up to this sequence number was durable.
    pub durable: u64,
}

/// What every record of a segment is seeded with.
pub(super) fn seed(identity: &Identity, number: u64) -> u32 {
    let mut crc = crc32c::crc32c(&identity.cluster.0);
    for word in [identity.epoch.0, identity.node.0, number] {
        crc = crc32c::crc32c_append(crc, &word.to_le_bytes());
    }
    crc
}

impl SegmentHead {
    /// Appends the header.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(0);
        out.put_slice(&self.identity.cluster.0);
        for word in [
            self.identity.epoch.0,
            self.identity.node.0,
            self.number,
            self.first_sequence,
            self.next_index,
            self.durable,
        ] {
            out.put_u64_le(word);
        }
        let crc = checksum(&out[start..]);
        out[start + 12..start + 16].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header. The error says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHead, String> {
        let head =
            bytes.first_chunk::<SEGMENT_HEAD_BYTES>().ok_or("the segment's header is cut short")?;
        if &head[..8] != MAGIC {
            return Err("the segment's header does not start as one".into());
        }
        let version = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        let crc = u32::from_le_bytes([head[12], head[13], head[14], head[15]]);
        if crc != checksum(head) {
            return Err("the segment header's checksum does not match".into());
        }
        if version != VERSION {
            return Err(format!(
                "segment version {version} is not known; this build reads {VERSION}"
            ));
        }
        let word = |place: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&head[place..place + 8]);
            u64::from_le_bytes(word)
        };
        let mut cluster = [0; 16];
        cluster.copy_from_slice(&head[16..32]);
        Ok(SegmentHead {
            identity: Identity {
                cluster: ClusterId(cluster),
                epoch: Epoch(word(32)),
                node: NodeId(word(40)),
            },
            number: word(48),
            first_sequence: word(56),
            next_index: word(64),
            durable: word(72),
        })
    }
}

fn checksum(head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&head[..12]), &head[16..])
}

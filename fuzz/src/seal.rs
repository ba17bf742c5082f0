//! Puts right the checksums of bytes that a fuzzer changed, so that what lies behind the checks is reached too.
//!
//! Layouts: docs/FORMATS.md. What has no place for a checksum is left alone.

use super::seeds::IDENTITY;

const SEGMENT_HEAD_BYTES: usize = 80;
const RECORD_HEAD_BYTES: usize = 24;
const FILE_HEAD_BYTES: usize = 16;
const CHUNK_HEAD_BYTES: usize = 16;
/// Magic, version, two lengths and the key commitment.
const PREAMBLE_FIXED_BYTES: usize = 14 + 32;

/// An identity file.
pub fn identity(bytes: &mut [u8]) {
    seal_head(bytes);
}

/// Segment `number` of the log of [`IDENTITY`].
pub fn segment(number: u64, bytes: &mut [u8]) {
    let Some(head) = bytes.get_mut(..SEGMENT_HEAD_BYTES) else { return };
    head[16..32].copy_from_slice(&IDENTITY.cluster.0);
    head[32..40].copy_from_slice(&IDENTITY.epoch.0.to_le_bytes());
    head[40..48].copy_from_slice(&IDENTITY.node.0.to_le_bytes());
    head[48..56].copy_from_slice(&number.to_le_bytes());
    seal_head(head);
    let mut seed = crc32c::crc32c(&IDENTITY.cluster.0);
    for word in [IDENTITY.epoch.0, IDENTITY.node.0, number] {
        seed = crc32c::crc32c_append(seed, &word.to_le_bytes());
    }
    let mut offset = SEGMENT_HEAD_BYTES;
    while let Some(length) = word(bytes, offset + 4) {
        let end = offset.saturating_add(RECORD_HEAD_BYTES).saturating_add(length);
        let Some(covered) = bytes.get(offset + 4..end) else { return };
        let place = crc32c::crc32c_append(seed, &(offset as u64).to_le_bytes());
        let crc = crc32c::crc32c_append(place, covered);
        bytes[offset..offset + 4].copy_from_slice(&crc.to_le_bytes());
        offset = end.next_multiple_of(8);
    }
}

/// A snapshot's file head and chunks. The SHA-256 in its footer stays as it is.
pub fn snapshot(bytes: &mut [u8]) {
    let Some(head) = bytes.get_mut(..FILE_HEAD_BYTES) else { return };
    let crc = crc32c::crc32c(&head[..12]);
    head[12..16].copy_from_slice(&crc.to_le_bytes());
    let mut offset = FILE_HEAD_BYTES;
    while let Some(length) = word(bytes, offset + 4) {
        let end = offset.saturating_add(CHUNK_HEAD_BYTES).saturating_add(length);
        let Some(covered) = bytes.get(offset + 4..end) else { return };
        let crc = crc32c::crc32c(covered);
        bytes[offset..offset + 4].copy_from_slice(&crc.to_le_bytes());
        offset = end;
    }
}

/// The front of a backup's `data.db`. What the key commitment binds stays as it is.
pub fn preamble(bytes: &mut [u8]) {
    let short = |at: usize| Some(usize::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?)));
    let (Some(header), Some(slots)) = (short(10), short(12)) else { return };
    let end = PREAMBLE_FIXED_BYTES + header + slots;
    if bytes.len() >= end + 4 {
        let crc = crc32c::crc32c(&bytes[..end]);
        bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A `keys.bin`, whose last four bytes are a checksum over the others. Its MAC stays as it is.
pub fn keys(bytes: &mut [u8]) {
    if let Some((covered, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = crc32c::crc32c(covered).to_le_bytes();
    }
}

/// Eight bytes of magic, four of version, four of a checksum over everything else.
fn seal_head(bytes: &mut [u8]) {
    if bytes.len() >= 16 {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    }
}

fn word(bytes: &[u8], offset: usize) -> Option<usize> {
    let word = bytes.get(offset..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*word) as usize)
}

//! Puts right the checksums of bytes that a fuzzer changed, so that what lies behind the checks is reached too.
//!
//! Layouts: docs/FORMATS.md. What has no place for a checksum is left alone.

use super::seeds::IDENTITY;
use sha2::{Digest, Sha256};

const SEGMENT_HEAD_BYTES: usize = 80;
const RECORD_HEAD_BYTES: usize = 24;
const FILE_HEAD_BYTES: usize = 16;
const CHUNK_HEAD_BYTES: usize = 16;
const ITEMS: u8 = 2;
const FOOTER: u8 = 3;
const FOOTER_BYTES: usize = 48;
/// Magic and version of a backup; behind them come two lengths, and then the header.
const MAGIC_BYTES: usize = 8 + 2;
const PROLOGUE_BYTES: usize = MAGIC_BYTES + 4;
const COMMITMENT_BYTES: usize = 32;
/// What the first byte of a backup's header says when nothing is encrypted.
const PLAIN: u8 = 0;
const TAG_BYTES: usize = 16;

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

/// A snapshot's file head, chunks and footer.
pub fn snapshot(bytes: &mut [u8]) {
    let Some(head) = bytes.get_mut(..FILE_HEAD_BYTES) else { return };
    let crc = crc32c::crc32c(&head[..12]);
    head[12..16].copy_from_slice(&crc.to_le_bytes());
    let mut items = Vec::new();
    let mut offset = FILE_HEAD_BYTES;
    while let Some(length) = word(bytes, offset + 4) {
        let end = offset.saturating_add(CHUNK_HEAD_BYTES).saturating_add(length);
        if end > bytes.len() {
            return;
        }
        let (before, chunk) = bytes[..end].split_at_mut(offset);
        let (head, body) = chunk.split_at_mut(CHUNK_HEAD_BYTES);
        match head[12] {
            ITEMS => items.extend_from_slice(body),
            FOOTER if body.len() == FOOTER_BYTES => {
                body[..8].copy_from_slice(&count(&items).to_le_bytes());
                body[8..16].copy_from_slice(&(offset as u64).to_le_bytes());
                body[16..].copy_from_slice(&Sha256::digest(before));
            }
            _ => {}
        }
        let crc = crc32c::crc32c(&chunk[4..]);
        chunk[..4].copy_from_slice(&crc.to_le_bytes());
        offset = end;
    }
}

/// How many items a snapshot's stream of them holds.
fn count(stream: &[u8]) -> u64 {
    let (mut items, mut offset) = (0, 0);
    while let Some(length) = word(stream, offset) {
        offset += 4 + length;
        items += u64::from(offset <= stream.len());
    }
    items
}

/// A backup's `data.db`: the checksum of its front, and what commits to the header and to each chunk if nothing is encrypted. What only
/// a key can make stays as it is.
pub fn backup(bytes: &mut [u8]) {
    let short = |at: usize| Some(usize::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?)));
    let (Some(header_len), Some(slots_len)) = (short(10), short(12)) else { return };
    let slots = PROLOGUE_BYTES + header_len + COMMITMENT_BYTES;
    let (crc, chunks) = (slots + slots_len, slots + slots_len + 4);
    if bytes.len() < chunks {
        return;
    }
    let header = &bytes[PROLOGUE_BYTES..PROLOGUE_BYTES + header_len];
    let is_plain = header.first() == Some(&PLAIN);
    let hash: [u8; 32] =
        Sha256::new().chain_update(&bytes[..MAGIC_BYTES]).chain_update(header).finalize().into();
    if is_plain {
        bytes[slots - COMMITMENT_BYTES..slots].copy_from_slice(&hash);
    }
    let sum = crc32c::crc32c(&bytes[..crc]).to_le_bytes();
    bytes[crc..chunks].copy_from_slice(&sum);
    if is_plain {
        plain_chunks(&hash, &mut bytes[chunks..]);
    }
}

fn plain_chunks(header: &[u8; 32], bytes: &mut [u8]) {
    let (mut number, mut offset) = (0u32, 0);
    while let Some(length) = word(bytes, offset) {
        let end = offset.saturating_add(4).saturating_add(length);
        if end > bytes.len() || length < TAG_BYTES {
            return;
        }
        let is_last = u8::from(end == bytes.len());
        let (body, tag) = bytes[offset + 4..end].split_at_mut(length - TAG_BYTES);
        let sum = Sha256::new()
            .chain_update(header)
            .chain_update(number.to_be_bytes())
            .chain_update([is_last])
            .chain_update(body)
            .finalize();
        tag.copy_from_slice(&sum[..TAG_BYTES]);
        (number, offset) = (number + 1, end);
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

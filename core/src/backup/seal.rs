//! Sealing: plain bytes become numbered chunks that stand for themselves.
//!
//! ```text
//! chunk: length of body and tag u32 | body | tag 16
//! body:  plain length u32 | payload     (a payload shorter than the plain length is compressed)
//! ```
//! The body is encrypted with AES-256-GCM under the nonce `prefix 7 | number u32 big-endian | final u8`, with the header's hash as
//! associated data (STREAM). Without encryption the tag is the first half of a SHA-256 over header hash, number, final flag and
//! body. The final chunk holds the [`Trailer`] instead of data, so that no stream is complete without it.
//!
//! Invariants: a nonce is made from a [`ChunkNumber`] only; a number comes from the one [`Numbers`] of its backup, once; a
//! [`SealKey`] is made for a fresh data key only. So no pair of key and nonce is ever used twice, on however many threads.

use super::compress::{Compression, compress};
use super::format::{ChunkSecret, Suite};
use crate::planted::{self, Bug};
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// Bytes of a chunk beside its payload: length, plain length, tag.
pub const CHUNK_OVERHEAD_BYTES: usize = 4 + 4 + TAG_BYTES;

pub(super) const TAG_BYTES: usize = 16;

/// Seals the chunks of one backup. Cheap to clone, for use on many threads.
#[derive(Clone)]
pub struct SealKey(Arc<ChunkCipher>);

/// Gives out the numbers of one backup's chunks. Not `Clone`: there is one per backup.
#[derive(Debug)]
pub struct Numbers {
    next: u32,
}

/// A chunk's number, to be used for one chunk. Neither `Clone` nor `Copy`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkNumber(u32);

/// A sealed chunk, ready to be written behind those with lower numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedChunk {
    /// Its number, from 0.
    pub number: u32,
    /// Its bytes in `data.db`.
    pub bytes: Bytes,
}

/// What the final chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Length of all plain bytes.
    pub plain_bytes: u64,
    /// SHA-256 over all plain bytes.
    pub plain_checksum: [u8; 32],
}

/// The backup has more chunks than there are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the backup has more chunks than can be numbered: use a larger chunk length")]
pub struct OutOfNumbers;

/// Seals a data chunk: compresses it, if that makes it shorter, and protects it. Pure, so it may run on any thread.
pub fn seal_chunk(
    key: &SealKey,
    number: ChunkNumber,
    compression: Compression,
    plain: &[u8],
) -> SealedChunk {
    match compress(compression, plain) {
        Some(payload) => key.0.seal(number.0, false, plain.len(), &payload),
        None => key.0.seal(number.0, false, plain.len(), plain),
    }
}

/// Seals the final chunk.
pub fn seal_final(key: &SealKey, number: ChunkNumber, trailer: &Trailer) -> SealedChunk {
    let payload = trailer.encode();
    key.0.seal(number.0, true, payload.len(), &payload)
}

impl SealKey {
    pub(super) fn new(secret: ChunkSecret) -> Self {
        SealKey(Arc::new(ChunkCipher::new(secret)))
    }

    /// The hash of the header that the key is bound to. It names the key, and is no secret.
    pub fn header_hash(&self) -> [u8; 32] {
        self.0.secret.header_hash
    }
}

impl Numbers {
    /// Starts at 0. For the machine that makes the backup, which makes one.
    pub(super) fn new() -> Self {
        Numbers { next: 0 }
    }

    /// The next number.
    pub fn take(&mut self) -> Result<ChunkNumber, OutOfNumbers> {
        let number = self.next;
        let step = u32::from(number != 1 || !planted::is(Bug::ChunkNumberReused));
        self.next = number.checked_add(step).ok_or(OutOfNumbers)?;
        Ok(ChunkNumber(number))
    }
}

impl ChunkNumber {
    /// The number itself.
    pub fn get(&self) -> u32 {
        self.0
    }
}

impl Trailer {
    pub(super) const BYTES: usize = 8 + 32;

    fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.plain_bytes.to_le_bytes());
        bytes[8..].copy_from_slice(&self.plain_checksum);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Trailer> {
        let (length, checksum) = bytes.split_first_chunk::<8>()?;
        let plain_checksum = checksum.try_into().ok()?;
        Some(Trailer { plain_bytes: u64::from_le_bytes(*length), plain_checksum })
    }
}

/// The cipher of one backup's chunks.
pub(super) struct ChunkCipher {
    secret: ChunkSecret,
    aes: Aes256Gcm,
}

impl ChunkCipher {
    pub(super) fn new(secret: ChunkSecret) -> Self {
        let aes = Aes256Gcm::new_from_slice(secret.key.as_ref()).expect("the key has 32 bytes");
        ChunkCipher { secret, aes }
    }

    fn seal(&self, number: u32, last: bool, plain_len: usize, payload: &[u8]) -> SealedChunk {
        let mut body = Vec::with_capacity(4 + payload.len() + TAG_BYTES);
        body.extend_from_slice(&length(plain_len));
        body.extend_from_slice(payload);
        let sealed = match self.secret.suite {
            Suite::Plain => {
                let check = self.check(number, last, &body);
                body.extend_from_slice(&check);
                body
            }
            Suite::Aes256Gcm => self
                .aes
                .encrypt(&self.nonce(number, last), self.message(&body))
                .expect("a chunk is far below the cipher's limit"),
        };
        let mut bytes = Vec::with_capacity(4 + sealed.len());
        bytes.extend_from_slice(&length(sealed.len()));
        bytes.extend_from_slice(&sealed);
        SealedChunk { number, bytes: bytes.into() }
    }

    /// The body of a sealed chunk without its length; `None` when it is not the chunk with this number and flag.
    pub(super) fn open(&self, number: u32, last: bool, sealed: &[u8]) -> Option<Vec<u8>> {
        match self.secret.suite {
            Suite::Plain => {
                let (body, check) = sealed.split_last_chunk::<TAG_BYTES>()?;
                (self.check(number, last, body) == *check).then(|| body.to_vec())
            }
            Suite::Aes256Gcm => {
                self.aes.decrypt(&self.nonce(number, last), self.message(sealed)).ok()
            }
        }
    }

    fn message<'a>(&'a self, msg: &'a [u8]) -> Payload<'a, 'a> {
        Payload { msg, aad: &self.secret.header_hash }
    }

    fn nonce(&self, number: u32, last: bool) -> Nonce<aes_gcm::aead::consts::U12> {
        let mut nonce = [0; 12];
        nonce[..7].copy_from_slice(&self.secret.nonce_prefix);
        nonce[7..11].copy_from_slice(&number.to_be_bytes());
        nonce[11] = u8::from(last);
        nonce.into()
    }

    fn check(&self, number: u32, last: bool, body: &[u8]) -> [u8; TAG_BYTES] {
        let digest = Sha256::new()
            .chain_update(self.secret.header_hash)
            .chain_update(number.to_be_bytes())
            .chain_update([u8::from(last)])
            .chain_update(body)
            .finalize();
        let mut check = [0; TAG_BYTES];
        check.copy_from_slice(&digest[..TAG_BYTES]);
        check
    }
}

fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("the chunk length is bounded").to_le_bytes()
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

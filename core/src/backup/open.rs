//! Opening: the chunks of a `data.db` become plain bytes again, or a typed refusal.
//!
//! Invariant: nothing that was truncated, reordered, repeated, spliced in or altered yields plain bytes. Order of work: cut
//! into chunks, authenticate, check declared lengths, decompress within them.

use super::compress::Compression;
use super::decompress::{DecompressError, decompress};
use super::format::{ChunkSecret, Header};
use super::seal::{CHUNK_OVERHEAD_BYTES, ChunkCipher, TAG_BYTES, Trailer};
use bytes::{Buf, Bytes, BytesMut};
use std::fmt;
use std::sync::Arc;

/// Opens the chunks of one backup. Cheap to clone, for use on many threads.
#[derive(Clone)]
pub struct OpenKey {
    cipher: Arc<ChunkCipher>,
    compression: Compression,
    chunk_bytes: usize,
}

/// A chunk as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its number by position, from 0.
    pub number: u32,
    /// Where it begins in `data.db`.
    pub offset: u64,
    /// Whether the object ends behind it.
    pub is_last: bool,
    /// Its bytes without the length in front.
    pub sealed: Bytes,
}

/// What a chunk holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A piece of the plain stream.
    Data(Bytes),
    /// The end of it.
    End(Trailer),
}

/// What is wrong with a chunk, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("chunk {number} at byte {offset} of data.db: {fault}")]
pub struct ChunkError {
    /// Its number by position.
    pub number: u32,
    /// Where it begins in `data.db`.
    pub offset: u64,
    /// What is wrong.
    pub fault: ChunkFault,
}

/// What is wrong with a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkFault {
    /// It is not what was sealed in this place.
    #[error("damaged, altered, or not from this place of this backup")]
    Damaged,
    /// Its length cannot be.
    #[error("its length of {len_bytes} bytes is out of range")]
    Length {
        /// What it says.
        len_bytes: u64,
    },
    /// The object ends within it.
    #[error("the object ends within it: {missing_bytes} bytes are missing")]
    Cut {
        /// How much is missing at least.
        missing_bytes: u64,
    },
    /// The object ends, but the chunks do not.
    #[error("the object ends here, but more chunks were written: it is truncated")]
    Truncated,
    /// The chunks end, but the object does not.
    #[error("this is the final chunk, but more bytes follow")]
    Trailing,
    /// It declares a plain length that no chunk of this backup has.
    #[error("it declares {declared_bytes} plain bytes, more than a chunk holds")]
    Declared {
        /// What it declares.
        declared_bytes: u64,
    },
    /// It does not decompress.
    #[error(transparent)]
    Decompress(DecompressError),
}

/// Opens one chunk. Pure, so it may run on any thread.
pub fn open_chunk(key: &OpenKey, frame: &Frame) -> Result<Opened, ChunkError> {
    key.open(frame).map_err(|fault| ChunkError {
        number: frame.number,
        offset: frame.offset,
        fault,
    })
}

impl OpenKey {
    pub(super) fn new(secret: ChunkSecret, header: &Header) -> Self {
        OpenKey {
            cipher: Arc::new(ChunkCipher::new(secret)),
            compression: header.compression,
            chunk_bytes: header.chunk_bytes as usize,
        }
    }

    fn open(&self, frame: &Frame) -> Result<Opened, ChunkFault> {
        let Some(body) = self.cipher.open(frame.number, frame.is_last, &frame.sealed) else {
            // Is it a whole chunk that is wrong only in where the object ends?
            let elsewhere = self.cipher.open(frame.number, !frame.is_last, &frame.sealed);
            return Err(match (elsewhere, frame.is_last) {
                (None, _) => ChunkFault::Damaged,
                (Some(_), true) => ChunkFault::Truncated,
                (Some(_), false) => ChunkFault::Trailing,
            });
        };
        let (length, payload) = body.split_first_chunk::<4>().ok_or(ChunkFault::Damaged)?;
        if frame.is_last {
            return Trailer::decode(payload).map(Opened::End).ok_or(ChunkFault::Damaged);
        }
        let plain_len = u32::from_le_bytes(*length) as usize;
        if plain_len > self.chunk_bytes || plain_len < payload.len() {
            return Err(ChunkFault::Declared { declared_bytes: plain_len as u64 });
        }
        if plain_len == payload.len() {
            return Ok(Opened::Data(Bytes::from(body).slice(4..)));
        }
        let plain = decompress(self.compression, payload, plain_len);
        plain.map(|plain| Opened::Data(plain.into())).map_err(ChunkFault::Decompress)
    }
}

/// Cuts the bytes behind the preamble into chunks as they arrive.
#[derive(Debug)]
pub struct Frames {
    buffer: BytesMut,
    next_number: u32,
    /// Where `buffer` begins in `data.db`.
    offset: u64,
    /// Where `data.db` ends.
    end: u64,
    max_frame_bytes: usize,
}

impl Frames {
    /// Starts behind the preamble, at `offset` of an object of `end` bytes.
    pub fn new(header: &Header, offset: u64, end: u64) -> Self {
        let max_frame_bytes = header.chunk_bytes as usize + CHUNK_OVERHEAD_BYTES;
        Frames { buffer: BytesMut::new(), next_number: 0, offset, end, max_frame_bytes }
    }

    /// Takes the next bytes of the object.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole chunk; `None` when more bytes are needed or the end was reached.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ChunkError> {
        let Some(length) = self.buffer.first_chunk::<4>() else {
            return self.unfinished(4);
        };
        let sealed_len = u32::from_le_bytes(*length) as usize;
        let frame_len = sealed_len.saturating_add(4);
        if sealed_len < 4 + TAG_BYTES || frame_len > self.max_frame_bytes {
            return Err(self.error(ChunkFault::Length { len_bytes: sealed_len as u64 }));
        }
        if self.buffer.len() < frame_len {
            return self.unfinished(frame_len);
        }
        let mut bytes = self.buffer.split_to(frame_len);
        bytes.advance(4);
        let (number, offset) = (self.next_number, self.offset);
        self.offset += frame_len as u64;
        self.next_number = number.wrapping_add(1);
        let is_last = self.offset >= self.end;
        Ok(Some(Frame { number, offset, is_last, sealed: bytes.freeze() }))
    }

    /// Where the next frame begins in `data.db`.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether every byte of the object was given out in a frame.
    pub fn is_at_end(&self) -> bool {
        self.offset >= self.end
    }

    fn unfinished(&self, wanted: usize) -> Result<Option<Frame>, ChunkError> {
        let left = self.end - self.offset;
        if left == 0 || left >= wanted as u64 {
            return Ok(None);
        }
        Err(self.error(ChunkFault::Cut { missing_bytes: wanted as u64 - left }))
    }

    fn error(&self, fault: ChunkFault) -> ChunkError {
        ChunkError { number: self.next_number, offset: self.offset, fault }
    }
}

impl fmt::Debug for OpenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenKey(..)")
    }
}

//! The two ends of the pipeline that makes a backup: the plain stream on its way in, `data.db` on its way out.
//!
//! Invariants: what is taken in was decoded, or comes straight from the encoder of this process, and is of the state that was announced;
//! chunks leave in the order of their numbers, whatever the order in which they were sealed.

use super::create::Source;
use super::seal::{Numbers, SealedChunk};
use crate::snapshot::{Decoder, Encoder, Header};
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The plain stream on its way in.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// What is not yet given out for sealing.
    pub pending: BytesMut,
    /// How long the stream is so far.
    pub len_bytes: u64,
    /// Whether nothing more comes.
    pub has_ended: bool,
    /// SHA-256 of all of it, once it has ended.
    pub checksum: [u8; 32],
    decoder: Decoder,
    is_labelled: bool,
}

/// `data.db` on its way out.
#[derive(Debug)]
pub(super) struct Sealed {
    /// Numbers for chunks.
    pub numbers: Numbers,
    /// Chunks that were sealed before their predecessors.
    pub early: BTreeMap<u32, Bytes>,
    /// Whether the last chunk is among what was appended.
    pub has_trailer: bool,
    /// How long it is so far.
    pub len_bytes: u64,
    next_chunk: u32,
    pending: BytesMut,
    checksum: Sha256,
    next_part: u32,
}

impl Plain {
    /// Takes a piece of the stream, and checks as much of it as is there.
    pub fn take(&mut self, piece: &[u8], source: &Source) -> Result<(), String> {
        self.decoder
            .push_with(piece, &mut |_| Ok(()))
            .map_err(|error| format!("the snapshot stream is damaged: {error}"))?;
        if let Some(header) = self.decoder.header().filter(|_| !self.is_labelled) {
            self.is_labelled = true;
            check(header, source)?;
        }
        self.append(piece);
        Ok(())
    }

    /// Takes the next piece from an encoder in this process, which made no mistake that decoding would find: its checksum is the stream's.
    pub fn take_from(&mut self, encoder: &mut Encoder, source: &Source) -> Result<(), String> {
        if !self.is_labelled {
            self.is_labelled = true;
            check(encoder.header(), source)?;
        }
        if encoder.offset() != self.len_bytes {
            return Err("the state was read from the middle, or not by this backup alone".into());
        }
        match encoder.next_chunk() {
            Some(piece) => self.append(&piece),
            None => {
                self.has_ended = true;
                self.checksum = encoder.sha256();
            }
        }
        Ok(())
    }

    fn append(&mut self, piece: &[u8]) {
        self.len_bytes += piece.len() as u64;
        self.pending.extend_from_slice(piece);
    }

    /// Nothing more comes: checks that the stream is whole. What checks it has hashed every byte, so that nobody else need.
    pub fn end(&mut self) -> Result<(), String> {
        self.has_ended = true;
        self.checksum = self.decoder.sha256();
        let whole = std::mem::take(&mut self.decoder).finish();
        whole.map(drop).map_err(|error| format!("the snapshot stream is not whole: {error}"))
    }
}

/// Makes room for the next so many bytes at once, and for what may come with the last of them: growing bit by bit would copy what is there
/// again and again, and leave more room than is needed.
pub(super) fn make_room(pending: &mut BytesMut, bytes: usize) {
    pending.reserve(bytes + bytes / 4);
}

fn check(header: &Header, source: &Source) -> Result<(), String> {
    source.check(header).map_err(|what| {
        format!("the snapshot stream holds another state than announced: its {what} differs")
    })
}

impl Sealed {
    /// It begins with this header.
    pub fn new(header: &[u8]) -> Self {
        let mut sealed = Sealed {
            numbers: Numbers::new(),
            early: BTreeMap::new(),
            has_trailer: false,
            len_bytes: 0,
            next_chunk: 0,
            pending: BytesMut::new(),
            checksum: Sha256::new(),
            next_part: 1,
        };
        sealed.append(header);
        sealed
    }

    /// Takes a chunk, when its turn comes.
    pub fn take(&mut self, chunk: SealedChunk) {
        self.early.insert(chunk.number, chunk.bytes);
        while let Some(bytes) = self.early.remove(&self.next_chunk) {
            self.append(&bytes);
            self.next_chunk += 1;
        }
    }

    /// Adds what comes next.
    pub fn append(&mut self, bytes: &[u8]) {
        self.checksum.update(bytes);
        self.len_bytes += bytes.len() as u64;
        self.pending.extend_from_slice(bytes);
    }

    /// The next part to upload, of at most `part_bytes`, and its number, if at least `least_bytes` are there.
    pub fn next_part(&mut self, least_bytes: usize, part_bytes: usize) -> Option<(u32, Bytes)> {
        if self.pending.len() < least_bytes {
            return None;
        }
        let len = self.pending.len().min(part_bytes);
        let number = self.next_part;
        self.next_part += 1;
        let part = self.pending.split_to(len).freeze();
        if part.len() == part_bytes {
            make_room(&mut self.pending, part_bytes);
        }
        Some((number, part))
    }

    /// SHA-256 of all of it so far.
    pub fn checksum(&self) -> [u8; 32] {
        self.checksum.clone().finalize().into()
    }
}

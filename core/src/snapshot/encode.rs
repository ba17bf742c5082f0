//! From a header and items to the bytes of a snapshot, one bounded chunk at a time.

use super::Header;
use super::format::{
    CHUNK_BYTES, CHUNK_HEAD_BYTES, FILE_HEAD_BYTES, FIRST_VERSION, FOOTER_BYTES, Kind, MAGIC,
    VERSION,
};
use crate::buffer;
use crate::kv::Item;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};
use std::fmt;

/// Items as they come from a frozen view of the state.
pub type Items = Box<dyn Iterator<Item = Item> + Send>;

/// Writes a snapshot. Holds one chunk and one item at a time.
pub struct Encoder {
    header: Header,
    items: Items,
    /// The next chunk of items as far as it is encoded, and what goes beyond it: room for its head, then its body. So that bodies need
    /// not be copied behind their heads.
    stream: BytesMut,
    stage: Stage,
    items_done: u64,
    offset: u64,
    number: u32,
    sha256: Sha256,
}

/// Length of a full chunk of items.
const FULL_CHUNK_BYTES: usize = CHUNK_HEAD_BYTES + CHUNK_BYTES;
/// Room for what an item goes beyond a full chunk; longer ones make the buffer grow.
const BEYOND_BYTES: usize = 4 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Items,
    Footer,
    Done,
}

impl Encoder {
    /// A snapshot of these items, which come in canonical order and match the header's hash and counts.
    pub fn new(header: Header, items: impl Iterator<Item = Item> + Send + 'static) -> Self {
        Encoder {
            header,
            items: Box::new(items),
            stream: chunk_of(&[]),
            stage: Stage::Head,
            items_done: 0,
            offset: 0,
            number: 0,
            sha256: Sha256::new(),
        }
    }

    /// What the snapshot says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes handed out so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// SHA-256 of the bytes handed out so far: of the whole file, once that is complete.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256.clone().finalize().into()
    }

    /// The next bytes of the file, about [`CHUNK_BYTES`]; `None` when it is complete.
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        let bytes = match self.stage {
            Stage::Head => self.head(),
            Stage::Items => match self.items() {
                Some(bytes) => bytes,
                None => {
                    self.stage = Stage::Footer;
                    return self.next_chunk();
                }
            },
            Stage::Footer => self.footer(),
            Stage::Done => return None,
        };
        self.sha256.update(&bytes);
        self.offset += bytes.len() as u64;
        Some(bytes)
    }

    fn head(&mut self) -> Bytes {
        self.stage = Stage::Items;
        let version = self.first_items();
        let mut out = BytesMut::with_capacity(FILE_HEAD_BYTES + CHUNK_HEAD_BYTES + 256);
        out.put_slice(MAGIC);
        out.put_u32_le(version);
        let crc = crc32c::crc32c(&out);
        out.put_u32_le(crc);
        let mut body = BytesMut::new();
        buffer::append(&self.header, &mut body);
        self.chunk(Kind::Header, &body, &mut out);
        out.freeze()
    }

    /// Takes in the first two items, which decide the file's version.
    fn first_items(&mut self) -> u32 {
        let mut version = FIRST_VERSION;
        for _ in 0..2 {
            let Some(item) = self.items.next() else { break };
            if matches!(item, Item::Backups(_)) {
                version = VERSION;
            }
            self.append(&item);
        }
        version
    }

    fn append(&mut self, item: &Item) {
        let start = self.stream.len();
        self.stream.put_u32_le(0);
        buffer::append(item, &mut self.stream);
        let length = (self.stream.len() - start - 4) as u32;
        self.stream[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.items_done += 1;
    }

    /// A chunk of items; `None` when there are no more.
    fn items(&mut self) -> Option<Bytes> {
        while self.stream.len() < FULL_CHUNK_BYTES {
            let Some(item) = self.items.next() else { break };
            self.append(&item);
        }
        if self.stream.len() == CHUNK_HEAD_BYTES {
            return None;
        }
        let mut chunk = self.cut();
        self.fill_head(Kind::Items, &mut chunk);
        Some(chunk.freeze())
    }

    /// Takes at most a full chunk off the stream. The shorter part of the two is copied.
    fn cut(&mut self) -> BytesMut {
        let beyond_bytes = self.stream.len().saturating_sub(FULL_CHUNK_BYTES);
        if beyond_bytes < FULL_CHUNK_BYTES {
            let beyond = self.stream.len() - beyond_bytes;
            let next = chunk_of(&self.stream[beyond..]);
            self.stream.truncate(beyond);
            return std::mem::replace(&mut self.stream, next);
        }
        let chunk = BytesMut::from(&self.stream[..FULL_CHUNK_BYTES]);
        self.stream.advance(CHUNK_BYTES);
        chunk
    }

    fn footer(&mut self) -> Bytes {
        self.stage = Stage::Done;
        let mut body = BytesMut::with_capacity(FOOTER_BYTES);
        body.put_u64_le(self.items_done);
        body.put_u64_le(self.offset);
        body.put_slice(&self.sha256());
        let mut out = BytesMut::with_capacity(CHUNK_HEAD_BYTES + FOOTER_BYTES);
        self.chunk(Kind::Footer, &body, &mut out);
        out.freeze()
    }

    fn chunk(&mut self, kind: Kind, body: &[u8], out: &mut BytesMut) {
        let start = out.len();
        out.put_bytes(0, CHUNK_HEAD_BYTES);
        out.put_slice(body);
        self.fill_head(kind, &mut out[start..]);
    }

    /// Writes the head of a chunk into its room before the body.
    fn fill_head(&mut self, kind: Kind, chunk: &mut [u8]) {
        let body_bytes = (chunk.len() - CHUNK_HEAD_BYTES) as u32;
        chunk[4..8].copy_from_slice(&body_bytes.to_le_bytes());
        chunk[8..12].copy_from_slice(&self.number.to_le_bytes());
        chunk[12..16].copy_from_slice(&u32::from(kind as u8).to_le_bytes());
        let crc = crc32c::crc32c(&chunk[4..]);
        chunk[..4].copy_from_slice(&crc.to_le_bytes());
        self.number = self.number.wrapping_add(1);
    }
}

/// The beginning of a chunk: room for its head, and these first bytes of its body.
fn chunk_of(body: &[u8]) -> BytesMut {
    let mut chunk = BytesMut::with_capacity(FULL_CHUNK_BYTES + BEYOND_BYTES);
    chunk.put_bytes(0, CHUNK_HEAD_BYTES);
    chunk.put_slice(body);
    chunk
}

impl Iterator for Encoder {
    type Item = Bytes;
    fn next(&mut self) -> Option<Bytes> {
        self.next_chunk()
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("header", &self.header)
            .field("stage", &self.stage)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

//! From the bytes of a snapshot, in pieces of any size, back to its header and items.
//!
//! Invariants: nothing is yielded before its chunk's checksum was checked; memory is bounded by what was pushed plus one chunk and one
//! item; no bytes make it panic. Only [`Decoder::finish`] says that the snapshot is whole.

use super::Header;
use super::digest::{Digest, Digested, Part};
use super::format::{
    CHUNK_BYTES_MAX, CHUNK_HEAD_BYTES, FILE_HEAD_BYTES, FIRST_VERSION, FOOTER_BYTES, Footer,
    ITEM_BYTES_MAX, Kind, MAGIC, SnapshotError, SnapshotErrorCause as Cause, VERSION,
};
use crate::kv::Item;
use crate::planted::{self, Bug};
use bytes::BytesMut;

/// Takes an item, or says why not.
pub type Take<'a> = &'a mut dyn FnMut(Item<&[u8]>) -> Result<(), String>;

/// Reads a snapshot. After an error it is of no more use.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// What is not yet a whole chunk.
    input: BytesMut,
    /// What is not yet a whole item.
    stream: BytesMut,
    /// Where `input` starts in the file.
    offset: u64,
    number: u32,
    items: u64,
    /// Over all chunks so far, but for the footer.
    digest: Digest,
    header: Option<Header>,
    ending: Option<Ending>,
}

/// The end of the file.
#[derive(Clone, Debug)]
struct Ending {
    footer: Footer,
    chunk: BytesMut,
    offset: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}

impl Decoder {
    /// A decoder at the start of a file.
    pub fn new() -> Self {
        Decoder::with(Digest::new(false))
    }

    /// As [`Decoder::new`], but parts of the file are digested by who takes them with [`Decoder::take_part`].
    pub fn digested_elsewhere() -> Self {
        Decoder::with(Digest::new(true))
    }

    fn with(digest: Digest) -> Self {
        Decoder {
            input: BytesMut::new(),
            stream: BytesMut::new(),
            offset: 0,
            number: 0,
            items: 0,
            digest,
            header: None,
            ending: None,
        }
    }

    /// Takes the next bytes of the file; the items that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Item>, SnapshotError> {
        let mut items = Vec::new();
        self.push_into(bytes, &mut items)?;
        Ok(items)
    }

    /// As [`Decoder::push`]; items that came before an error are kept in `items`.
    pub fn push_into(&mut self, bytes: &[u8], items: &mut Vec<Item>) -> Result<(), SnapshotError> {
        self.push_with(bytes, &mut |item| {
            items.push(item.into_owned());
            Ok(())
        })
    }

    /// As [`Decoder::push`]; `take` gets every item where it lies, and says why it is refused.
    pub fn push_with(&mut self, bytes: &[u8], take: Take<'_>) -> Result<(), SnapshotError> {
        self.input.extend_from_slice(bytes);
        if self.offset == 0 && !self.take_file_head()? {
            return Ok(());
        }
        while let Some((kind, chunk)) = self.next_chunk()? {
            let (body, chunk_bytes) = (&chunk[CHUNK_HEAD_BYTES..], chunk.len() as u64);
            match kind {
                Kind::Header => self.take_header(body)?,
                Kind::Items => self.take_items(body, take)?,
                Kind::Footer => self.take_footer(body)?,
            }
            match &mut self.ending {
                Some(ending) => ending.chunk = chunk,
                None => self.digest.push(chunk.freeze()),
            }
            self.offset += chunk_bytes;
            self.number = self.number.wrapping_add(1);
        }
        Ok(())
    }

    /// The header, as soon as it has come.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Where the next chunk starts: everything before it was read and checked.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// SHA-256 of everything before [`Decoder::offset`]: of the whole file, once that is whole. No part may be out.
    pub fn sha256(&self) -> [u8; 32] {
        self.digest.sum_with(self.ending.as_ref().map_or(&[], |ending| &ending.chunk))
    }

    /// A part of the file to be digested on another thread, if there is enough of it. It goes back to [`Decoder::put_back`] before the
    /// end, and before the next.
    pub fn take_part(&mut self) -> Option<Part> {
        self.digest.take_part()
    }

    /// Whether nothing more should be pushed before the part that is out is back.
    pub fn is_backlogged(&self) -> bool {
        self.digest.is_backlogged()
    }

    /// A part was digested.
    pub fn put_back(&mut self, digested: Digested) {
        self.digest.put_back(digested);
    }

    /// Ends the file: the header and footer, if it was whole.
    pub fn finish(self) -> Result<(Header, Footer), SnapshotError> {
        match (self.header, self.ending) {
            (Some(header), Some(ending)) if self.input.is_empty() => {
                let Ending { footer, offset, .. } = ending;
                let is_whole = footer.sha256 == self.digest.sum_with(&[]);
                if !is_whole && !planted::is(Bug::SnapshotNotVerified) {
                    return Err(SnapshotError { offset, cause: Cause::Digest });
                }
                Ok((header, footer))
            }
            _ => Err(SnapshotError { offset: self.offset, cause: Cause::Truncated }),
        }
    }

    fn take_file_head(&mut self) -> Result<bool, SnapshotError> {
        let seen = self.input.len().min(MAGIC.len());
        if self.input[..seen] != MAGIC[..seen] {
            return Err(self.error(Cause::NotASnapshot));
        }
        let Some(head) = self.input.first_chunk::<FILE_HEAD_BYTES>() else { return Ok(false) };
        if word(head, 12) != crc32c::crc32c(&head[..12]) {
            return Err(self.error(Cause::Checksum));
        }
        if !(FIRST_VERSION..=VERSION).contains(&word(head, 8)) {
            return Err(self.error(Cause::Version(word(head, 8))));
        }
        let head = self.input.split_to(FILE_HEAD_BYTES);
        self.digest.push(head.freeze());
        self.offset = FILE_HEAD_BYTES as u64;
        Ok(true)
    }

    /// The next whole chunk, checked, with its head.
    fn next_chunk(&mut self) -> Result<Option<(Kind, BytesMut)>, SnapshotError> {
        if self.ending.is_some() && !self.input.is_empty() {
            return Err(self.error(Cause::Trailing));
        }
        let Some(head) = self.input.first_chunk::<CHUNK_HEAD_BYTES>() else { return Ok(None) };
        let length = word(head, 4) as usize;
        if length > CHUNK_BYTES_MAX {
            let what =
                format!("a chunk of {length} bytes is announced, {CHUNK_BYTES_MAX} are allowed");
            return Err(self.error(Cause::Chunk(what)));
        }
        if self.input.len() < CHUNK_HEAD_BYTES + length {
            return Ok(None);
        }
        let chunk = self.input.split_to(CHUNK_HEAD_BYTES + length);
        if word(&chunk, 0) != crc32c::crc32c(&chunk[4..]) && !planted::is(Bug::SnapshotNotVerified)
        {
            return Err(self.error(Cause::Checksum));
        }
        if word(&chunk, 8) != self.number {
            let what = format!("chunk {} stands where {} belongs", word(&chunk, 8), self.number);
            return Err(self.error(Cause::Chunk(what)));
        }
        let kind = Kind::from_byte(chunk[12]).filter(|_| chunk[13..CHUNK_HEAD_BYTES] == [0; 3]);
        match kind {
            Some(kind) if (kind == Kind::Header) == (self.number == 0) => Ok(Some((kind, chunk))),
            Some(kind) => {
                Err(self.error(Cause::Chunk(format!("there is no place for a {kind} chunk"))))
            }
            None => Err(self.error(Cause::Chunk("a chunk's kind is not known".into()))),
        }
    }

    fn take_header(&mut self, body: &[u8]) -> Result<(), SnapshotError> {
        match postcard::take_from_bytes::<Header>(body) {
            Ok((header, [])) if (1..=INDEX_MAX).contains(&header.meta.index) => {
                self.header = Some(header);
                Ok(())
            }
            Ok((_, [])) => Err(self.error(Cause::Malformed("its index is out of range".into()))),
            _ => Err(self.error(Cause::Malformed("the header does not decode".into()))),
        }
    }

    fn take_items(&mut self, body: &[u8], take: Take<'_>) -> Result<(), SnapshotError> {
        // Only the item that spans two chunks is put together; the others are read where they lie.
        let mut rest = body;
        if !self.stream.is_empty() {
            rest = self.complete_item(rest, take)?;
        }
        while let Some(item) = item_at(rest).map_err(|cause| self.error(cause))? {
            take_item(item, take).map_err(|cause| self.error(cause))?;
            self.items += 1;
            rest = &rest[LENGTH_BYTES + item.len()..];
        }
        self.stream.extend_from_slice(rest);
        Ok(())
    }

    /// Adds to the item that an earlier chunk began; what is left of `body` behind it.
    fn complete_item<'a>(
        &mut self,
        body: &'a [u8],
        take: Take<'_>,
    ) -> Result<&'a [u8], SnapshotError> {
        let (length, body) =
            body.split_at(LENGTH_BYTES.saturating_sub(self.stream.len()).min(body.len()));
        self.stream.extend_from_slice(length);
        let Some(length) = item_bytes(&self.stream).map_err(|cause| self.error(cause))? else {
            return Ok(body);
        };
        let missing = LENGTH_BYTES + length - self.stream.len();
        let (part, body) = body.split_at(missing.min(body.len()));
        self.stream.extend_from_slice(part);
        if self.stream.len() == LENGTH_BYTES + length {
            take_item(&self.stream[LENGTH_BYTES..], take).map_err(|cause| self.error(cause))?;
            self.items += 1;
            self.stream.clear();
        }
        Ok(body)
    }

    fn take_footer(&mut self, body: &[u8]) -> Result<(), SnapshotError> {
        let Some(body) = body.first_chunk::<FOOTER_BYTES>().filter(|_| body.len() == FOOTER_BYTES)
        else {
            return Err(self.error(Cause::Malformed("the footer does not decode".into())));
        };
        let long = |at: usize| u64::from(word(body, at)) | u64::from(word(body, at + 4)) << 32;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(&body[16..]);
        let footer = Footer { items: long(0), bytes: long(8), sha256 };
        let is_whole = (footer.items, footer.bytes) == (self.items, self.offset);
        let ignored = planted::is(Bug::SnapshotNotVerified);
        if (!is_whole || !self.stream.is_empty()) && !ignored {
            return Err(self.error(Cause::Digest));
        }
        self.ending = Some(Ending { footer, chunk: BytesMut::new(), offset: self.offset });
        Ok(())
    }

    fn error(&self, cause: Cause) -> SnapshotError {
        SnapshotError { offset: self.offset, cause }
    }
}

const LENGTH_BYTES: usize = 4;
/// Counting on from an index never overflows.
const INDEX_MAX: u64 = i64::MAX as u64;

/// The item at the start of a stream, if all of it is there.
fn item_at(stream: &[u8]) -> Result<Option<&[u8]>, Cause> {
    let Some(length) = item_bytes(stream)? else { return Ok(None) };
    Ok(stream[LENGTH_BYTES..].get(..length))
}

fn item_bytes(stream: &[u8]) -> Result<Option<usize>, Cause> {
    let Some(length) = stream.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > ITEM_BYTES_MAX {
        let what = format!("an item of {length} bytes is announced, {ITEM_BYTES_MAX} are allowed");
        return Err(Cause::Malformed(what));
    }
    Ok(Some(length))
}

fn take_item(bytes: &[u8], take: Take<'_>) -> Result<(), Cause> {
    match postcard::take_from_bytes(bytes) {
        Ok((item, [])) => take(item).map_err(Cause::State),
        Ok(_) => Err(Cause::Malformed("an item has bytes too many".into())),
        Err(error) => Err(Cause::Malformed(format!("an item does not decode: {error}"))),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

//! The targets that read whole backups: `data.db` by itself, and all its objects through the machine that restores and verifies.

use super::seal;
use super::seeds;
use super::store::{Order, Store};
use bytes::Bytes;
use raftkv_core::backup::blob::ObjectName;
use raftkv_core::backup::format::{FormatError, Plaintext, Preamble, Suite, Unlocked};
use raftkv_core::backup::metadata::{Checksum, CompressionType, Metadata, Signed};
use raftkv_core::backup::open::{ChunkFault, Frames, Opened, open_chunk};
use raftkv_core::backup::read::{Access, ReadBounds, ReadError};
use raftkv_core::backup::verify::{Level, Verify};
use raftkv_core::backup::{BackupId, KeyRing};
use sha2::{Digest, Sha256};

/// Flags of the first byte: whatever stands for bytes without a secret is put right, and so is metadata's MAC.
pub const SEALED: u8 = 1;
/// Metadata says of `data.db` what is true of it.
pub const AGREEING: u8 = 2;
/// Trailer and metadata say of the plain stream what is true of it.
pub const WHOLE: u8 = 4;
/// The level of verification, from this bit on.
const LEVEL_BIT: u32 = 3;
/// Flags of what is restored whatever was changed in it.
pub const RESTORED: u8 = SEALED | AGREEING | WHOLE | (Level::Restore as u8) << LEVEL_BIT;

/// Smallest windows, and one chunk at a time.
const NARROW: ReadBounds = ReadBounds { window_bytes: 0, windows: 1, chunks_in_flight: 1 };

/// Where reading a `data.db` ended before its end.
#[derive(Debug)]
pub enum Stop {
    Front(FormatError),
    Chunk(ChunkFault),
}

/// A backup's `data.db`: its front, then its chunks as far as they open.
pub fn backup_object(data: &[u8]) -> bool {
    object(data).is_ok()
}

/// What [`backup_object`] comes to.
pub fn object(data: &[u8]) -> Result<(), Stop> {
    let (flags, data) = data.split_first().unwrap_or((&0, &[]));
    let mut data = data.to_vec();
    if flags & SEALED != 0 {
        seal::backup(&mut data);
    }
    let (preamble, unlocked) = open_front(&data).map_err(Stop::Front)?;
    open_chunks(&data, &preamble, &unlocked, |_| {}).map(|_| ()).map_err(Stop::Chunk)
}

fn open_front(data: &[u8]) -> Result<(Preamble, Unlocked), FormatError> {
    let preamble = Preamble::decode(data)?;
    let unlocked = preamble.unlock(&access().keys, Plaintext::Allowed)?;
    Ok((preamble, unlocked))
}

/// Opens every chunk; where the final one begins.
fn open_chunks(
    data: &[u8],
    preamble: &Preamble,
    unlocked: &Unlocked,
    mut take: impl FnMut(Bytes),
) -> Result<usize, ChunkFault> {
    let (start, end) = (preamble.len_bytes, data.len());
    let mut frames = Frames::new(&preamble.header, start as u64, end as u64);
    frames.push(&data[start..]);
    while let Some(frame) = frames.next_frame().map_err(|error| error.fault)? {
        match open_chunk(&unlocked.chunks, &frame).map_err(|error| error.fault)? {
            Opened::Data(plain) => take(plain),
            Opened::End(_) => return Ok(frame.offset as usize),
        }
    }
    Err(ChunkFault::Truncated)
}

/// All objects of a backup, read as far as a level asks: two lengths, `metadata.json`, `keys.bin` (none, if it is empty), `data.db`.
/// However the store answers, the outcome is the same.
pub fn backup_reader(data: &[u8]) -> bool {
    read(data).is_some_and(|result| result.is_ok())
}

/// What [`backup_reader`] comes to; `None` when there is no metadata.
pub fn read(data: &[u8]) -> Option<Result<Metadata, ReadError>> {
    let (flags, rest) = data.split_first()?;
    let (metadata_len, rest) = rest.split_first_chunk::<2>()?;
    let (keys_len, rest) = rest.split_first_chunk::<2>()?;
    let (metadata, rest) = rest.split_at_checked(u16::from_le_bytes(*metadata_len).into())?;
    let (keys, data) = rest.split_at_checked(u16::from_le_bytes(*keys_len).into())?;
    let (mut keys, mut data) = (keys.to_vec(), data.to_vec());
    let mut claims = Signed::parse(metadata).ok()?.claims().clone();
    let id = claims.id;
    if flags & SEALED != 0 {
        seal::keys(&mut keys);
        seal::backup(&mut data);
    }
    let metadata = match open_front(&data) {
        Ok((preamble, unlocked)) if flags & SEALED != 0 => {
            if flags & WHOLE != 0 {
                make_whole(&mut claims, &mut data, &preamble, &unlocked);
            }
            if flags & AGREEING != 0 {
                make_agree(&mut claims, &data, &preamble);
            }
            claims.render(&unlocked.metadata)
        }
        _ => metadata.to_vec(),
    };
    let mut store = Store::default();
    store.objects.insert(ObjectName::metadata(id).path(), metadata.into());
    if !keys.is_empty() {
        store.objects.insert(ObjectName::keys(id).path(), keys.into());
    }
    let checksum = Checksum::of(&data);
    store.objects.insert(ObjectName::data(id).path(), data.into());
    let level = Level::ALL[usize::from(flags >> LEVEL_BIT) % Level::ALL.len()];
    let result = verify(&mut store, id, level, ReadBounds::default(), Order::FirstIn);
    let again = verify(&mut store, id, level, NARROW, Order::LastIn);
    assert_eq!(result.is_ok(), again.is_ok(), "{result:?} in one order, {again:?} in another");
    if let Ok(metadata) = &result
        && level > Level::Exists
    {
        assert_eq!(metadata.checksum, checksum, "other data than was read");
    }
    Some(result)
}

fn verify(
    store: &mut Store,
    id: BackupId,
    level: Level,
    bounds: ReadBounds,
    order: Order,
) -> Result<Metadata, ReadError> {
    let mut verify = Verify::new(id, level, access(), bounds);
    store.drive(&mut verify, order);
    verify.report().expect("a driven machine ends").result
}

fn access() -> Access {
    Access { keys: KeyRing::new([seeds::backup_key()]), plaintext: Plaintext::Allowed }
}

/// Has metadata and trailer say what the plain stream is, if all of it can be opened.
fn make_whole(claims: &mut Metadata, data: &mut [u8], preamble: &Preamble, unlocked: &Unlocked) {
    let (mut digest, mut plain_bytes) = (Sha256::new(), 0);
    let trailer = open_chunks(data, preamble, unlocked, |plain| {
        digest.update(&plain);
        plain_bytes += plain.len() as u64;
    });
    let Ok(trailer) = trailer else { return };
    claims.size_bytes = plain_bytes;
    claims.plain_checksum = Checksum(digest.finalize().into());
    if preamble.header.suite == Suite::Plain {
        // Behind the chunk's two lengths.
        let trailer = &mut data[trailer + 8..];
        trailer[..8].copy_from_slice(&plain_bytes.to_le_bytes());
        trailer[8..40].copy_from_slice(&claims.plain_checksum.0);
        seal::backup(data);
    }
}

/// Has metadata say what `data.db` and its header say.
fn make_agree(claims: &mut Metadata, data: &[u8], preamble: &Preamble) {
    let header = &preamble.header;
    *claims = Metadata {
        cluster: header.cluster,
        epoch: header.epoch,
        index: header.index,
        term: header.term,
        revision: header.revision,
        state_hash: header.state_hash,
        suite: header.suite,
        key_ids: preamble.key_ids(),
        compression: CompressionType::from(header.compression),
        data_bytes: data.len() as u64,
        checksum: Checksum::of(data),
        ..claims.clone()
    };
}

//! The front of `data.db`: what the backup is, how it is sealed, and for which keys.
//!
//! ```text
//! magic 8 | version u16 | header length u16 | slots length u16 | header | commitment 32 | slots 96 each | CRC-32C u32 | chunks...
//! ```
//! Numbers are little-endian. Every backup has its own id, salt and data key, drawn afresh for each attempt. The data key is wrapped
//! into one slot per recipient key ([`super::slots`]). From the data key, the salt and a hash over magic, version and header, HKDF
//! derives the chunk key, the metadata key, the key of later slots and the commitment. Format 2 says when and by whom the backup was made
//! as well ([`Made`]), so that lost metadata can be rebuilt to the byte; format 1 is still read.
//!
//! Invariants: a change of one bit in the header changes every derived key, so nothing sealed under one header opens under another;
//! the slots are outside that hash and authenticate themselves, so a rotation of keys writes slots and leaves chunks alone; the
//! commitment ties header to data key (AES-GCM alone would let one ciphertext open under two keys). Without encryption the
//! commitment is the header's hash: it finds damage, not malice.
//! Sources: Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance" (STREAM),
//! 2015; RFC 5869 (HKDF); Albertini et al., "How to Abuse and Fix Authenticated Encryption Without Key Commitment", 2022.

use super::compress::Compression;
use super::id::BackupId;
use super::keys::{KEY_BYTES, Key, KeyId, KeyRing};
use super::metadata::MetadataKey;
use super::open::OpenKey;
use super::seal::SealKey;
use super::slots::{KeysError, LaterSlots, SLOT_BYTES, Slot, SlotForged, expand};
use crate::ids::{ClusterId, Epoch, NodeId};
use crate::kv::StateHash;
use crate::rng::Rng;
use crate::time::Wall;
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub use super::slots::MAX_RECIPIENTS;

/// First bytes of every `data.db`.
pub const MAGIC: [u8; 8] = *b"RAFTKVBK";

/// The newest format this software reads, and the one it writes.
pub const FORMAT_VERSION: u16 = 2;

/// No preamble is longer: reading this much of `data.db` is enough to decode it.
pub const MAX_PREAMBLE_BYTES: usize = 4096;

/// Smallest and largest length of a chunk's plain bytes.
pub const CHUNK_BYTES_RANGE: std::ops::RangeInclusive<u32> = 4096..=(16 << 20);

const PROLOGUE_BYTES: usize = 14;
const MAX_HEADER_BYTES: usize = 1024;
const COMMITMENT_BYTES: usize = 32;
const CRC_BYTES: usize = 4;

/// How chunks are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Suite {
    /// Not encrypted; each chunk carries a hash that finds damage.
    Plain,
    /// AES-256-GCM in the STREAM construction.
    Aes256Gcm,
}

/// What a backup says about itself before its chunks come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// How chunks are protected.
    pub suite: Suite,
    /// How chunks are compressed.
    pub compression: Compression,
    /// Plain bytes in every chunk but the last two (the last data chunk may be shorter; the final one is the trailer).
    pub chunk_bytes: u32,
    /// The backup's id, as in the object's name.
    pub id: [u8; 16],
    /// The cluster it was taken from.
    pub cluster: ClusterId,
    /// That cluster's restore epoch.
    pub epoch: Epoch,
    /// Log index of the state.
    pub index: u64,
    /// Term of the entry at that index.
    pub term: u64,
    /// Revision of the state.
    pub revision: u64,
    /// Hash over the state.
    pub state_hash: StateHash,
    /// Makes the derived keys unique to this backup.
    pub salt: [u8; 32],
    /// When and by whom it was made. Format 1 does not say.
    #[serde(skip)]
    pub made: Option<Made>,
}

/// When and by whom a backup was made, as its metadata says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// When it was begun.
    pub timestamp: Wall,
    /// The node it was taken from.
    pub node: NodeId,
    /// The software that made it.
    pub version: String,
}

/// The decoded front of a `data.db`; nothing in it is authenticated before [`Preamble::unlock`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// What the backup says about itself.
    pub header: Header,
    /// The wrapped data keys.
    pub slots: Vec<Slot>,
    /// Where the chunks begin.
    pub len_bytes: usize,
    header_bytes: Vec<u8>,
    commitment: [u8; COMMITMENT_BYTES],
    later: Option<LaterSlots>,
}

/// What opens a backup, after header and key were found to belong together.
#[derive(Debug)]
pub struct Unlocked {
    /// Opens its chunks.
    pub chunks: OpenKey,
    /// Checks its metadata.
    pub metadata: MetadataKey,
}

/// A front that was just made, with what seals the rest.
#[derive(Debug)]
pub struct Created {
    /// First bytes of `data.db`.
    pub bytes: Vec<u8>,
    /// Hash over the header, which binds everything else to it.
    pub header: Header,
    /// Seals its chunks.
    pub chunks: SealKey,
    /// Signs its metadata.
    pub metadata: MetadataKey,
}

/// Whether a backup that is not encrypted may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plaintext {
    /// It may.
    Allowed,
    /// Encryption is configured, so an unencrypted backup is not one of ours.
    Refused,
}

/// Why the front of a `data.db` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It does not begin with the magic.
    #[error("this is not a backup: it does not begin with the magic of data.db")]
    NotABackup,
    /// Made by newer software.
    #[error(
        "the backup has format {found}; this software reads up to {newest}: use a newer version"
    )]
    UnknownVersion {
        /// What it says.
        found: u16,
        /// What this software knows.
        newest: u16,
    },
    /// It ends within the front.
    #[error("the backup ends within its header, after {len_bytes} bytes")]
    Truncated {
        /// How long it is.
        len_bytes: usize,
    },
    /// The checksum over the front is wrong, or its fields are out of range.
    #[error("the backup's header is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// None of the keys at hand is one of those it was sealed for.
    #[error(
        "the backup is sealed for key {}, which is not at hand (at hand: {})", list(.wanted), list(.at_hand)
    )]
    KeyMissing {
        /// The keys that would open it.
        wanted: Vec<KeyId>,
        /// The keys that were tried.
        at_hand: Vec<KeyId>,
    },
    /// The right key does not open its slot.
    #[error("the slot of key {key} does not open: slot or header were altered")]
    SlotForged {
        /// Whose slot.
        key: KeyId,
    },
    /// The slots that came later cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Header and data key do not belong together.
    #[error("the backup's header was altered: it does not match its key commitment")]
    HeaderForged,
    /// An unencrypted backup where only encrypted ones are expected.
    #[error(
        "the backup is not encrypted although encryption is configured; if you trust where it comes from, allow plaintext explicitly (--allow-plaintext)"
    )]
    PlaintextRefused,
}

impl Header {
    /// The backup's id, if it is a proper one.
    pub fn backup_id(&self) -> Result<BackupId, FormatError> {
        BackupId::from_bytes(self.id)
            .map_err(|_| FormatError::Damaged { what: "its id is no UUID" })
    }

    fn version(&self) -> u16 {
        if self.made.is_some() { 2 } else { 1 }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = postcard::to_stdvec(self).expect("a header always encodes");
        if let Some(made) = &self.made {
            bytes.extend(postcard::to_stdvec(made).expect("a header always encodes"));
        }
        bytes
    }
}

/// Makes the front of a new backup: draws salt and data key, wraps it for every recipient. No recipients: not encrypted.
///
/// Panics when there are more than [`MAX_RECIPIENTS`].
pub fn create(mut header: Header, recipients: &[Key], rng: &mut Rng) -> Created {
    assert!(recipients.len() <= MAX_RECIPIENTS, "the configuration bounds the number of keys");
    header.suite = if recipients.is_empty() { Suite::Plain } else { Suite::Aes256Gcm };
    header.salt = rng.bytes();
    let data_key = Key::draw(rng);
    let header_bytes = header.encode();
    let keys = Derived::new(&header, &header_bytes, &data_key);
    let slots: Vec<Slot> =
        recipients.iter().map(|key| Slot::wrap(key, &data_key, &header.id, rng)).collect();
    let bytes = encode(header.version(), &header_bytes, &keys.commitment, &slots);
    let metadata = keys.metadata_key(header.suite);
    Created { bytes, chunks: SealKey::new(keys.chunks), header, metadata }
}

impl Preamble {
    /// Decodes the front of a `data.db` from its first [`MAX_PREAMBLE_BYTES`], or all of it if it is shorter.
    pub fn decode(bytes: &[u8]) -> Result<Preamble, FormatError> {
        let truncated = || FormatError::Truncated { len_bytes: bytes.len() };
        let seen = bytes.len().min(MAGIC.len());
        if bytes[..seen] != MAGIC[..seen] {
            return Err(FormatError::NotABackup);
        }
        let prologue = bytes.get(..PROLOGUE_BYTES).ok_or_else(truncated)?;
        let number = |at: usize| u16::from_le_bytes([prologue[at], prologue[at + 1]]);
        let (found, header_len, slots_len) = (number(8), number(10) as usize, number(12) as usize);
        if !(1..=FORMAT_VERSION).contains(&found) {
            return Err(FormatError::UnknownVersion { found, newest: FORMAT_VERSION });
        }
        if header_len > MAX_HEADER_BYTES
            || slots_len > MAX_RECIPIENTS * SLOT_BYTES
            || slots_len % SLOT_BYTES != 0
        {
            return Err(FormatError::Damaged { what: "its lengths are out of range" });
        }
        let commitment_at = PROLOGUE_BYTES + header_len;
        let slots_at = commitment_at + COMMITMENT_BYTES;
        let crc_at = slots_at + slots_len;
        let len_bytes = crc_at + CRC_BYTES;
        let bytes = bytes.get(..len_bytes).ok_or_else(truncated)?;
        if crc32c::crc32c(&bytes[..crc_at]).to_le_bytes() != bytes[crc_at..] {
            return Err(FormatError::Damaged { what: "its checksum is wrong" });
        }
        let header_bytes = bytes[PROLOGUE_BYTES..commitment_at].to_vec();
        let header = decode_header(found, &header_bytes)?;
        let mut commitment = [0; COMMITMENT_BYTES];
        commitment.copy_from_slice(&bytes[commitment_at..slots_at]);
        let slots = bytes[slots_at..crc_at].chunks_exact(SLOT_BYTES).map(Slot::decode).collect();
        Ok(Preamble { header, slots, len_bytes, header_bytes, commitment, later: None })
    }

    /// Takes the content of the `keys.bin` beside it into account.
    pub fn with_later_slots(mut self, keys_bin: &[u8]) -> Result<Preamble, FormatError> {
        let later = LaterSlots::decode(keys_bin)?;
        later.check_place(&self.header.id)?;
        self.later = Some(later);
        Ok(self)
    }

    /// Finds a key that opens the backup, and checks that the header is the one it was sealed with.
    pub fn unlock(&self, keys: &KeyRing, plaintext: Plaintext) -> Result<Unlocked, FormatError> {
        let data_key = match self.header.suite {
            Suite::Plain if plaintext == Plaintext::Refused => {
                return Err(FormatError::PlaintextRefused);
            }
            Suite::Plain => Key::from_bytes([0; KEY_BYTES]),
            Suite::Aes256Gcm => self.data_key(keys)?,
        };
        let derived = Derived::new(&self.header, &self.header_bytes, &data_key);
        if !bool::from(derived.commitment.ct_eq(&self.commitment)) {
            return Err(FormatError::HeaderForged);
        }
        if let Some(later) = &self.later {
            later.check_mac(&derived.slots)?;
        }
        let metadata = derived.metadata_key(self.header.suite);
        Ok(Unlocked { chunks: OpenKey::new(derived.chunks, &self.header), metadata })
    }

    /// A `keys.bin` after which `remove` does not count any more and `add` does. Front and chunks stay as they are.
    ///
    /// Panics when that leaves no slot, or more than [`MAX_RECIPIENTS`].
    pub fn rotate(
        &self,
        keys: &KeyRing,
        remove: KeyId,
        add: &Key,
        rng: &mut Rng,
    ) -> Result<Vec<u8>, FormatError> {
        self.unlock(keys, Plaintext::Refused)?;
        let data_key = self.data_key(keys)?;
        let stays = |slot: &&Slot| slot.key != remove && slot.key != add.id();
        let mut slots: Vec<Slot> = self.current_slots().iter().filter(stays).cloned().collect();
        slots.push(Slot::wrap(add, &data_key, &self.header.id, rng));
        assert!(slots.len() <= MAX_RECIPIENTS, "one slot takes the place of another");
        let derived = Derived::new(&self.header, &self.header_bytes, &data_key);
        Ok(LaterSlots::encode(&slots, &self.header.id, &derived.slots))
    }

    /// The keys that the backup was sealed for when it was made.
    pub fn key_ids(&self) -> Vec<KeyId> {
        self.slots.iter().map(|slot| slot.key).collect()
    }

    /// The keys that count now: those of `keys.bin`, where there is one.
    pub fn current_key_ids(&self) -> Vec<KeyId> {
        self.current_slots().iter().map(|slot| slot.key).collect()
    }

    fn current_slots(&self) -> &[Slot] {
        self.later.as_ref().map_or(&self.slots, |later| &later.slots)
    }

    fn data_key(&self, keys: &KeyRing) -> Result<Key, FormatError> {
        let later = self.later.iter().flat_map(|later| &later.slots);
        let found = later.chain(&self.slots).find_map(|slot| Some((slot, keys.get(slot.key)?)));
        let (slot, key) = found.ok_or_else(|| FormatError::KeyMissing {
            wanted: self.current_key_ids(),
            at_hand: keys.ids().collect(),
        })?;
        let opened = slot.unwrap(key, &self.header.id);
        opened.map_err(|SlotForged| FormatError::SlotForged { key: slot.key })
    }
}

fn encode(
    version: u16,
    header: &[u8],
    commitment: &[u8; COMMITMENT_BYTES],
    slots: &[Slot],
) -> Vec<u8> {
    let mut bytes = prologue(version, header.len(), slots.len() * SLOT_BYTES).to_vec();
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(commitment);
    slots.iter().for_each(|slot| slot.encode(&mut bytes));
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn prologue(version: u16, header_len: usize, slots_len: usize) -> [u8; PROLOGUE_BYTES] {
    let short = |len: usize| u16::try_from(len).expect("bounded by constants").to_le_bytes();
    let mut prologue = [0; PROLOGUE_BYTES];
    prologue[..8].copy_from_slice(&MAGIC);
    prologue[8..10].copy_from_slice(&version.to_le_bytes());
    prologue[10..12].copy_from_slice(&short(header_len));
    prologue[12..14].copy_from_slice(&short(slots_len));
    prologue
}

fn decode_header(version: u16, bytes: &[u8]) -> Result<Header, FormatError> {
    let damaged = |what| FormatError::Damaged { what };
    let unreadable = |_| damaged("its fields cannot be read");
    let (mut header, mut rest) = postcard::take_from_bytes::<Header>(bytes).map_err(unreadable)?;
    if version >= 2 {
        let (made, end) = postcard::take_from_bytes::<Made>(rest).map_err(unreadable)?;
        (header.made, rest) = (Some(made), end);
    }
    if !rest.is_empty() {
        return Err(damaged("bytes follow its fields"));
    }
    if !CHUNK_BYTES_RANGE.contains(&header.chunk_bytes) {
        return Err(damaged("its chunk length is out of range"));
    }
    header.compression.check().map_err(|_| damaged("its compression is out of range"))?;
    header.backup_id()?;
    Ok(header)
}

/// Everything that is derived from one data key for one header.
struct Derived {
    chunks: ChunkSecret,
    metadata: Zeroizing<[u8; KEY_BYTES]>,
    slots: Zeroizing<[u8; KEY_BYTES]>,
    commitment: [u8; COMMITMENT_BYTES],
}

/// What sealing and opening of chunks share.
pub(super) struct ChunkSecret {
    /// How chunks are protected.
    pub suite: Suite,
    /// Binds every chunk to its header.
    pub header_hash: [u8; 32],
    /// The AES-256-GCM key.
    pub key: Zeroizing<[u8; KEY_BYTES]>,
    /// First bytes of every nonce.
    pub nonce_prefix: [u8; 7],
}

impl Derived {
    fn new(header: &Header, header_bytes: &[u8], data_key: &Key) -> Derived {
        let header_hash: [u8; 32] = Sha256::new()
            .chain_update(MAGIC)
            .chain_update(header.version().to_le_bytes())
            .chain_update(header_bytes)
            .finalize()
            .into();
        let hkdf = Hkdf::new(Some(&header.salt), data_key.secret());
        let mut chunks = ChunkSecret {
            suite: header.suite,
            header_hash,
            key: Zeroizing::new([0; KEY_BYTES]),
            nonce_prefix: [0; 7],
        };
        expand(&hkdf, "chunk key", &header_hash, chunks.key.as_mut());
        expand(&hkdf, "chunk nonce", &header_hash, &mut chunks.nonce_prefix);
        let mut metadata = Zeroizing::new([0; KEY_BYTES]);
        expand(&hkdf, "metadata", &header_hash, metadata.as_mut());
        let mut slots = Zeroizing::new([0; KEY_BYTES]);
        expand(&hkdf, "slots", &header_hash, slots.as_mut());
        let mut commitment = header_hash;
        if header.suite != Suite::Plain {
            expand(&hkdf, "commitment", &header_hash, &mut commitment);
        }
        Derived { chunks, metadata, slots, commitment }
    }

    fn metadata_key(&self, suite: Suite) -> MetadataKey {
        match suite {
            // Without a secret the tag still ties metadata and header together against mix-ups and damage.
            Suite::Plain => MetadataKey::new(self.chunks.header_hash),
            Suite::Aes256Gcm => MetadataKey::new(*self.metadata),
        }
    }
}

fn list(ids: &[KeyId]) -> String {
    match ids {
        [] => "none".into(),
        ids => ids.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", "),
    }
}

//! Key slots: the data key of a backup, wrapped for one recipient key each; and `keys.bin`, the slots that came later.
//!
//! ```text
//! slot:     key id 16 | salt 32 | wrapped data key 48
//! keys.bin: magic 8 | version u16 | slots length u16 | backup id 16 | slots 96 each | MAC 32 | CRC-32C u32
//! ```
//! Numbers are little-endian. A backup is sealed for the slots in the front of its `data.db`. A change of keys writes `keys.bin` beside it and
//! leaves `data.db` alone; then the slots of `keys.bin` are the ones that count. They come from whoever had the data key: the MAC is
//! HMAC-SHA-256 over everything before it, under a key derived from the data key and the header.
//!
//! Invariants: a slot's wrapping key depends on a fresh salt, so it is used once; `keys.bin` of one backup is refused beside another; one that
//! was altered opens nothing.

use super::keys::{KEY_BYTES, Key, KeyId};
use crate::rng::Rng;
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// First bytes of every `keys.bin`.
pub const KEYS_MAGIC: [u8; 8] = *b"RAFTKVKS";

/// The version of `keys.bin` that is written, and the newest that is read.
pub const KEYS_VERSION: u16 = 1;

/// No `keys.bin` is longer.
pub const MAX_KEYS_BYTES: usize = PROLOGUE_BYTES + MAX_RECIPIENTS * SLOT_BYTES + TRAILER_BYTES;

/// Most keys a backup can be sealed for.
pub const MAX_RECIPIENTS: usize = 16;

pub(super) const SLOT_BYTES: usize = 96;

const PROLOGUE_BYTES: usize = 8 + 2 + 2 + 16;
const MAC_BYTES: usize = 32;
const TRAILER_BYTES: usize = MAC_BYTES + 4;

/// A data key, wrapped for one recipient key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// For which key.
    pub key: KeyId,
    salt: [u8; 32],
    wrapped: [u8; KEY_BYTES + 16],
}

/// A decoded `keys.bin`. Not to be trusted before it was checked with the data key that its slots yield.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaterSlots {
    /// The slots that count now.
    pub slots: Vec<Slot>,
    backup: [u8; 16],
    signed: Vec<u8>,
    mac: [u8; MAC_BYTES],
}

/// Why a `keys.bin` cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Made by newer software.
    #[error("keys.bin has format {found}; this software reads up to {KEYS_VERSION}")]
    UnknownVersion {
        /// What it says.
        found: u16,
    },
    /// It cannot be read.
    #[error(
        "keys.bin is damaged: {what}; if a key of before is at hand, remove keys.bin and use that one"
    )]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// It lies beside another backup than it was written for.
    #[error("keys.bin belongs to another backup")]
    OtherBackup,
    /// It can be read, but nobody who had the data key wrote it like this.
    #[error("keys.bin was altered: its MAC does not match")]
    Forged,
}

/// A slot that does not open: it, or what it is bound to, was altered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotForged;

impl Slot {
    pub(super) fn wrap(key: &Key, data_key: &Key, backup: &[u8; 16], rng: &mut Rng) -> Slot {
        let (id, salt) = (key.id(), rng.bytes());
        let message = Payload { msg: data_key.secret(), aad: &id.0 };
        let sealed = wrapping_cipher(key, &salt, backup)
            .encrypt(&Nonce::default(), message)
            .expect("32 bytes are within the cipher's limits");
        let mut wrapped = [0; KEY_BYTES + 16];
        wrapped.copy_from_slice(&sealed);
        Slot { key: id, salt, wrapped }
    }

    pub(super) fn unwrap(&self, key: &Key, backup: &[u8; 16]) -> Result<Key, SlotForged> {
        let message = Payload { msg: &self.wrapped, aad: &self.key.0 };
        let opened = wrapping_cipher(key, &self.salt, backup)
            .decrypt(&Nonce::default(), message)
            .map(Zeroizing::new)
            .map_err(|_| SlotForged)?;
        let mut data_key = Zeroizing::new([0; KEY_BYTES]);
        data_key.copy_from_slice(&opened);
        Ok(Key::from_bytes(*data_key))
    }

    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.key.0);
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.wrapped);
    }

    /// From exactly [`SLOT_BYTES`].
    pub(super) fn decode(bytes: &[u8]) -> Slot {
        let mut slot = Slot { key: KeyId([0; 16]), salt: [0; 32], wrapped: [0; KEY_BYTES + 16] };
        slot.key.0.copy_from_slice(&bytes[..16]);
        slot.salt.copy_from_slice(&bytes[16..48]);
        slot.wrapped.copy_from_slice(&bytes[48..SLOT_BYTES]);
        slot
    }
}

impl LaterSlots {
    /// Writes a `keys.bin`. `mac_key` is derived from the data key and the header.
    pub(super) fn encode(slots: &[Slot], backup: &[u8; 16], mac_key: &[u8; 32]) -> Vec<u8> {
        let slots_len = u16::try_from(slots.len() * SLOT_BYTES).expect("slots are bounded");
        let mut bytes = Vec::with_capacity(MAX_KEYS_BYTES);
        bytes.extend_from_slice(&KEYS_MAGIC);
        bytes.extend_from_slice(&KEYS_VERSION.to_le_bytes());
        bytes.extend_from_slice(&slots_len.to_le_bytes());
        bytes.extend_from_slice(backup);
        slots.iter().for_each(|slot| slot.encode(&mut bytes));
        let mac = mac(mac_key, &bytes);
        bytes.extend_from_slice(&mac);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Decodes a whole `keys.bin`.
    pub fn decode(bytes: &[u8]) -> Result<LaterSlots, KeysError> {
        let damaged = |what| Err(KeysError::Damaged { what });
        if bytes.len() > MAX_KEYS_BYTES || bytes.len() < PROLOGUE_BYTES + TRAILER_BYTES {
            return damaged("its length is out of range");
        }
        if bytes[..8] != KEYS_MAGIC {
            return damaged("its magic is wrong");
        }
        let found = u16::from_le_bytes([bytes[8], bytes[9]]);
        if found != KEYS_VERSION {
            return Err(KeysError::UnknownVersion { found });
        }
        let slots_len = usize::from(u16::from_le_bytes([bytes[10], bytes[11]]));
        let mac_at = PROLOGUE_BYTES + slots_len;
        if slots_len % SLOT_BYTES != 0 || mac_at + TRAILER_BYTES != bytes.len() {
            return damaged("its lengths do not fit");
        }
        let crc_at = mac_at + MAC_BYTES;
        if crc32c::crc32c(&bytes[..crc_at]).to_le_bytes() != bytes[crc_at..] {
            return damaged("its checksum is wrong");
        }
        let (mut backup, mut mac) = ([0; 16], [0; MAC_BYTES]);
        backup.copy_from_slice(&bytes[12..PROLOGUE_BYTES]);
        mac.copy_from_slice(&bytes[mac_at..crc_at]);
        let slots = bytes[PROLOGUE_BYTES..mac_at].chunks_exact(SLOT_BYTES).map(Slot::decode);
        Ok(LaterSlots { slots: slots.collect(), backup, signed: bytes[..mac_at].to_vec(), mac })
    }

    pub(super) fn check_place(&self, backup: &[u8; 16]) -> Result<(), KeysError> {
        (self.backup == *backup).then_some(()).ok_or(KeysError::OtherBackup)
    }

    pub(super) fn check_mac(&self, mac_key: &[u8; 32]) -> Result<(), KeysError> {
        let genuine = bool::from(mac(mac_key, &self.signed).ct_eq(&self.mac));
        genuine.then_some(()).ok_or(KeysError::Forged)
    }
}

fn mac(key: &[u8; 32], bytes: &[u8]) -> [u8; MAC_BYTES] {
    let mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("any length will do");
    mac.chain_update(bytes).finalize().into_bytes().into()
}

/// A cipher for one slot only: its key depends on a fresh salt, so the nonce may be constant.
fn wrapping_cipher(key: &Key, salt: &[u8; 32], backup: &[u8; 16]) -> Aes256Gcm {
    let mut okm = Zeroizing::new([0; KEY_BYTES]);
    expand(&Hkdf::new(Some(salt), key.secret()), "slot", backup, okm.as_mut());
    Aes256Gcm::new_from_slice(okm.as_ref()).expect("the key has 32 bytes")
}

/// Everything in a backup that is derived is derived like this.
pub(super) fn expand(hkdf: &Hkdf<Sha256>, label: &str, context: &[u8], okm: &mut [u8]) {
    hkdf.expand_multi_info(&[b"raftkv backup 1 ", label.as_bytes(), b"\0", context], okm)
        .expect("HKDF yields this much");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;
    use proptest::prelude::*;

    fn written() -> Vec<u8> {
        let mut rng = Seed::from_number(6).fork("slots");
        let (data_key, backup) = (Key::draw(&mut rng), rng.bytes());
        let slots: Vec<Slot> = (0..2)
            .map(|_| Slot::wrap(&Key::draw(&mut rng), &data_key, &backup, &mut rng))
            .collect();
        LaterSlots::encode(&slots, &backup, &[3; 32])
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let bytes = written();
        let check = |bytes: &[u8]| {
            let later = LaterSlots::decode(bytes)?;
            later.check_place(&written()[12..28].try_into().unwrap())?;
            later.check_mac(&[3; 32])
        };
        assert_eq!(check(&bytes), Ok(()));
        let crc_at = bytes.len() - 4;
        for bit in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&altered).is_err(), "bit {bit}");
            // The same for one who can mend the checksum.
            let crc = crc32c::crc32c(&altered[..crc_at]).to_le_bytes();
            altered[crc_at..].copy_from_slice(&crc);
            assert!(check(&altered).is_err() || bit / 8 >= crc_at, "bit {bit}, mended");
        }
        for len in 0..bytes.len() {
            assert!(check(&bytes[..len]).is_err(), "cut at {len}");
        }
        assert_eq!(LaterSlots::decode(&bytes).unwrap().check_mac(&[4; 32]), Err(KeysError::Forged));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, keep in 0usize..28) {
            let _ = LaterSlots::decode(&bytes);
            let _ = LaterSlots::decode(&[&written()[..keep], &bytes[..]].concat());
        }
    }
}

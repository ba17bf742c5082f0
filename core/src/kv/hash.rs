//! An incremental hash over the whole state, equal on every replica at the same index.
//!
//! A multiset hash: each item of the state is hashed with SHA-256 and added to four 64-bit lanes, wrapping; taking an item away
//! subtracts. Order does not matter, so the state can be hashed while it changes or while it is decoded. It finds divergence and
//! damage; it is not meant to stand against someone who chooses items to collide (backups are authenticated for that).
//! Source: Clarke et al., "Incremental Multiset Hash Functions" (MSet-Add-Hash), 2003.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// The hash. Prints as 64 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHash([u64; 4]);

impl StateHash {
    /// Adds an item, given by its canonical bytes in any number of parts.
    pub fn add(&mut self, item: &[&[u8]]) {
        self.combine(StateHash(lanes(item)));
    }

    /// Takes an item away that was added before.
    pub fn remove(&mut self, item: &[&[u8]]) {
        for (lane, word) in self.0.iter_mut().zip(lanes(item)) {
            *lane = lane.wrapping_sub(word);
        }
    }

    /// Adds all items that `other` sums up.
    pub fn combine(&mut self, other: StateHash) {
        for (lane, word) in self.0.iter_mut().zip(other.0) {
            *lane = lane.wrapping_add(word);
        }
    }
}

fn lanes(item: &[&[u8]]) -> [u64; 4] {
    let mut hasher = Sha256::new();
    item.iter().for_each(|part| hasher.update(part));
    let digest: [u8; 32] = hasher.finalize().into();
    let mut lanes = [0; 4];
    for (lane, bytes) in lanes.iter_mut().zip(digest.chunks_exact(8)) {
        let mut word = [0; 8];
        word.copy_from_slice(bytes);
        *lane = u64::from_le_bytes(word);
    }
    lanes
}

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|lane| write!(f, "{lane:016x}"))
    }
}

impl fmt::Debug for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateHash({self})")
    }
}

/// A state hash is 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a state hash is 64 hexadecimal digits")]
pub struct BadStateHash;

impl FromStr for StateHash {
    type Err = BadStateHash;
    fn from_str(text: &str) -> Result<Self, BadStateHash> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(BadStateHash);
        }
        let mut hash = StateHash::default();
        for (lane, digits) in hash.0.iter_mut().zip(text.as_bytes().chunks(16)) {
            let digits = std::str::from_utf8(digits).map_err(|_| BadStateHash)?;
            *lane = u64::from_str_radix(digits, 16).map_err(|_| BadStateHash)?;
        }
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_removal_undoes() {
        let (mut ab, mut ba) = (StateHash::default(), StateHash::default());
        ab.add(&[b"a"]);
        let only_a = ab;
        ab.add(&[b"b", b"c"]);
        ba.add(&[b"bc"]);
        ba.add(&[b"a"]);
        assert_eq!(ab, ba);
        ab.remove(&[b"bc"]);
        assert_eq!(ab, only_a);
        assert_ne!(ab, ba);
        assert_eq!(ab.to_string().parse(), Ok(ab));
    }
}

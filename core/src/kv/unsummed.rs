//! The state hash of versions that are loaded in great numbers, in batches, each summed up in place or on another thread.
//!
//! Invariant: the hash is a sum ([`super::hash`]), so it is the same wherever its batches were summed up, and in whatever order.

use super::hash::StateHash;
use super::key::Key;
use super::store::Stored;

/// A batch is full with so many versions, or so many bytes: about half a millisecond of hashing.
const BATCH: usize = 4096;
const BATCH_BYTES: usize = 512 << 10;

/// A sum under way.
#[derive(Debug, Default)]
pub(super) struct Summing {
    hash: StateHash,
    elsewhere: bool,
    batch: Vec<(Key, Stored)>,
    batch_bytes: usize,
}

/// Versions whose sum is still to be made. They share keys and values with the state that is being loaded.
#[derive(Debug)]
pub struct Unsummed(Vec<(Key, Stored)>);

impl Summing {
    /// Of nothing yet; batches are given out by [`Summing::take_batch`].
    pub(super) fn elsewhere() -> Self {
        Summing { elsewhere: true, ..Summing::default() }
    }

    /// Adds a version.
    pub(super) fn add(&mut self, key: &Key, stored: &Stored) {
        match self.elsewhere {
            true => {
                self.batch_bytes += key.len() + stored.value_len();
                self.batch.push((key.clone(), stored.clone()));
            }
            false => stored.add_to(&mut self.hash, key),
        }
    }

    /// The next batch for another thread, if it is full.
    pub(super) fn take_batch(&mut self) -> Option<Unsummed> {
        if self.batch.len() < BATCH && self.batch_bytes < BATCH_BYTES {
            return None;
        }
        self.batch_bytes = 0;
        Some(Unsummed(std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH))))
    }

    /// A batch that was given out is summed up.
    pub(super) fn put_back(&mut self, sum: StateHash) {
        self.hash.combine(sum);
    }

    /// The sum of everything added, but for batches that were not put back.
    pub(super) fn sum(self) -> StateHash {
        let mut hash = self.hash;
        hash.combine(Unsummed(self.batch).sum());
        hash
    }
}

impl Unsummed {
    /// Sums it up.
    pub fn sum(&self) -> StateHash {
        let mut hash = StateHash::default();
        self.0.iter().for_each(|(key, stored)| stored.add_to(&mut hash, key));
        hash
    }
}

//! What is summed up while a snapshot is read, and may be on any thread beside the reading: SHA-256 of its bytes, state hash of its items.
//!
//! Who reads takes every [`Sum`] that there is, makes it anywhere, and gives the [`Summed`] back, in any order. Nothing ends before all
//! are back.

use super::digest::{Digested, Part};
use crate::kv::{StateHash, Unsummed};

/// To be summed up.
#[derive(Debug)]
pub enum Sum {
    /// These bytes.
    Bytes(Part),
    /// These items.
    Items(Unsummed),
}

/// A sum that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Summed {
    /// Of bytes.
    Bytes(Digested),
    /// Of items.
    Items(StateHash),
}

impl Sum {
    /// Makes it.
    pub fn make(self) -> Summed {
        match self {
            Sum::Bytes(part) => Summed::Bytes(part.digest()),
            Sum::Items(batch) => Summed::Items(batch.sum()),
        }
    }
}

//! SHA-256 of a stream, part by part, each made in place or on another thread.
//!
//! Invariants: parts are digested in the order of the stream, one at a time; wherever that was done, the sum is the same. Who pushes while
//! [`Digest::is_backlogged`] says no holds a few MiB at most.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// What waits before it is worth another thread's while.
const PART_BYTES: usize = 512 << 10;
/// So much may wait while a part is out.
const BACKLOG_BYTES: usize = 4 << 20;

/// A sum under way.
#[derive(Clone, Debug)]
pub struct Digest {
    /// Of everything before `waiting`. `None` while a part is digested elsewhere.
    sha256: Option<Sha256>,
    /// Not digested yet, in order.
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    elsewhere: bool,
}

/// A part of the stream, and the sum before it.
pub struct Part {
    sha256: Sha256,
    pieces: Vec<Bytes>,
}

/// The sum behind a part.
#[derive(Clone)]
pub struct Digested(Sha256);

impl Digest {
    /// Of nothing yet. `elsewhere`: parts are given out by [`Digest::take_part`].
    pub fn new(elsewhere: bool) -> Self {
        Digest { sha256: Some(Sha256::new()), waiting: Vec::new(), waiting_bytes: 0, elsewhere }
    }

    /// The stream goes on with these bytes.
    pub fn push(&mut self, bytes: Bytes) {
        match &mut self.sha256 {
            Some(sha256) if !self.elsewhere => sha256.update(&bytes),
            _ => {
                self.waiting_bytes += bytes.len();
                self.waiting.push(bytes);
            }
        }
    }

    /// The next part for another thread, if enough waits and none is out.
    pub fn take_part(&mut self) -> Option<Part> {
        if self.waiting_bytes < PART_BYTES {
            return None;
        }
        let sha256 = self.sha256.take()?;
        self.waiting_bytes = 0;
        Some(Part { sha256, pieces: std::mem::take(&mut self.waiting) })
    }

    /// Whether so much waits behind the part that is out that nothing more should come before that is back.
    pub fn is_backlogged(&self) -> bool {
        self.sha256.is_none() && self.waiting_bytes >= BACKLOG_BYTES
    }

    /// A part that was given out is done.
    pub fn put_back(&mut self, digested: Digested) {
        self.sha256 = Some(digested.0);
    }

    /// The sum of everything pushed, and of `rest` behind it. No part may be out.
    pub fn sum_with(&self, rest: &[u8]) -> [u8; 32] {
        let mut sha256 = self.sha256.clone().expect("the part that was given out is back");
        self.waiting.iter().for_each(|bytes| sha256.update(bytes));
        sha256.chain_update(rest).finalize().into()
    }
}

impl Part {
    /// Digests it.
    pub fn digest(self) -> Digested {
        let Part { mut sha256, pieces } = self;
        pieces.iter().for_each(|bytes| sha256.update(bytes));
        Digested(sha256)
    }
}

impl PartialEq for Digested {
    fn eq(&self, other: &Self) -> bool {
        self.0.clone().finalize() == other.0.clone().finalize()
    }
}

impl Eq for Digested {}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("pieces", &self.pieces.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Digested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Digested").finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_waits_behind_a_part_is_bounded() {
        let mut digest = Digest::new(true);
        digest.push(vec![1; BACKLOG_BYTES].into());
        assert!(!digest.is_backlogged(), "a part can be taken");
        let part = digest.take_part().unwrap();
        digest.push(vec![2; BACKLOG_BYTES - 1].into());
        assert!(!digest.is_backlogged());
        digest.push(vec![3].into());
        assert!(digest.is_backlogged() && digest.take_part().is_none());
        digest.put_back(part.digest());
        assert!(!digest.is_backlogged());
    }

    proptest! {
        #[test]
        fn the_sum_is_the_same_wherever_parts_are_digested(
            pieces in proptest::collection::vec((0usize..400_000, any::<bool>()), 0..12),
        ) {
            let (mut here, mut there) = (Digest::new(false), Digest::new(true));
            let mut out = None;
            for (number, (len, comes_back)) in pieces.into_iter().enumerate() {
                let piece = vec![number as u8; len];
                here.push(piece.clone().into());
                there.push(piece.clone().into());
                out = out.or_else(|| there.take_part());
                prop_assert!(out.is_none() || there.take_part().is_none(), "one at a time");
                if let Some(part) = out.take_if(|_| comes_back) {
                    there.put_back(part.digest());
                }
            }
            if let Some(part) = out {
                there.put_back(part.digest());
            }
            prop_assert_eq!(here.sum_with(b"end"), there.sum_with(b"end"));
            prop_assert!(here.take_part().is_none());
        }
    }
}

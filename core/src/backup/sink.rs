//! Where the plain stream of a backup goes that is being read.
//!
//! Invariant: a sink is given authentic bytes, in order and without gaps, but they may turn out incomplete; only when it is told of the end
//! was everything there.

use super::metadata::Metadata;
use crate::snapshot::digest::Digest;
use crate::snapshot::{Sum, Summed};
use bytes::Bytes;

/// Takes the plain stream.
pub trait Sink {
    /// Takes the next piece. An error ends the reading.
    fn push(&mut self, plain: Bytes) -> Result<(), String>;

    /// The next sum over what was pushed that may be made on another thread; it goes to [`Sink::take_sum`].
    fn poll_sum(&mut self) -> Option<Sum> {
        None
    }

    /// A sum was made.
    fn take_sum(&mut self, _sum: Summed) {}

    /// Whether nothing more should be pushed before a sum is back.
    fn is_backlogged(&self) -> bool {
        false
    }

    /// SHA-256 of all that was pushed; every sum is back. A sink that hashes what it takes anyhow saves the reader from doing so again.
    fn sha256(&self) -> [u8; 32];

    /// The stream is complete. `metadata` is authentic, and agrees with header and chunks.
    fn finish(&mut self, metadata: &Metadata) -> Result<(), String>;
}

/// Keeps nothing: for checks that need no state.
#[derive(Clone, Debug)]
pub struct Discard(Digest);

impl Default for Discard {
    fn default() -> Self {
        Discard(Digest::new(true))
    }
}

impl Sink for Discard {
    fn push(&mut self, plain: Bytes) -> Result<(), String> {
        self.0.push(plain);
        Ok(())
    }

    fn poll_sum(&mut self) -> Option<Sum> {
        self.0.take_part().map(Sum::Bytes)
    }

    fn take_sum(&mut self, sum: Summed) {
        if let Summed::Bytes(digested) = sum {
            self.0.put_back(digested);
        }
    }

    fn is_backlogged(&self) -> bool {
        self.0.is_backlogged()
    }

    fn sha256(&self) -> [u8; 32] {
        self.0.sum_with(&[])
    }

    fn finish(&mut self, _metadata: &Metadata) -> Result<(), String> {
        Ok(())
    }
}

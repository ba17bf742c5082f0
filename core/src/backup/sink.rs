//! Where the plain stream of a backup goes that is being read.
//!
//! Invariant: a sink is given authentic bytes, in order and without gaps, but they may turn out incomplete; only when it is told of the end
//! was everything there.

use super::metadata::Metadata;
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Takes the plain stream.
pub trait Sink {
    /// Takes the next piece. An error ends the reading.
    fn push(&mut self, plain: Bytes) -> Result<(), String>;

    /// SHA-256 of all that was pushed. A sink that hashes what it takes anyhow saves the reader from doing so again.
    fn sha256(&self) -> [u8; 32];

    /// The stream is complete. `metadata` is authentic, and agrees with header and chunks.
    fn finish(&mut self, metadata: &Metadata) -> Result<(), String>;
}

/// Keeps nothing: for checks that need no state.
#[derive(Clone, Debug, Default)]
pub struct Discard(Sha256);

impl Sink for Discard {
    fn push(&mut self, plain: Bytes) -> Result<(), String> {
        self.0.update(&plain);
        Ok(())
    }

    fn sha256(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }

    fn finish(&mut self, _metadata: &Metadata) -> Result<(), String> {
        Ok(())
    }
}

//! A snapshot's bytes turned into the state they stand for, checked as a whole.

use super::format::{SnapshotError, SnapshotErrorCause as Cause};
use super::{Decoder, Header, Sum, Summed};
use crate::kv::{Builder, KvState};
use crate::planted::{self, Bug};

/// Decodes and builds, piece by piece. After an error it is of no more use.
#[derive(Debug, Default)]
pub struct Loader {
    decoder: Decoder,
    builder: Builder,
    /// Sums that were given out and did not come back yet.
    sums_out: usize,
}

impl Loader {
    /// A loader at the start of a file.
    pub fn new() -> Self {
        Loader::default()
    }

    /// As [`Loader::new`], but the file and the state are summed up by who takes the sums with [`Loader::poll_sum`].
    pub fn summed_elsewhere() -> Self {
        Loader {
            decoder: Decoder::digested_elsewhere(),
            builder: Builder::summed_elsewhere(),
            sums_out: 0,
        }
    }

    /// The next sum to be made, on any thread; it goes to [`Loader::take_sum`].
    pub fn poll_sum(&mut self) -> Option<Sum> {
        let part = self.decoder.take_part().map(Sum::Bytes);
        let sum = part.or_else(|| self.builder.take_batch().map(Sum::Items))?;
        self.sums_out += 1;
        Some(sum)
    }

    /// A sum was made.
    pub fn take_sum(&mut self, sum: Summed) {
        debug_assert!(self.sums_out > 0, "every sum was asked for");
        self.sums_out = self.sums_out.saturating_sub(1);
        match sum {
            Summed::Bytes(digested) => self.decoder.put_back(digested),
            Summed::Items(hash) => self.builder.put_back(hash),
        }
    }

    /// Whether nothing more should be pushed before a sum is back.
    pub fn is_backlogged(&self) -> bool {
        self.decoder.is_backlogged()
    }

    /// How many sums are out; [`Loader::finish`] wants all of them back.
    pub fn sums_out(&self) -> usize {
        self.sums_out
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let Loader { decoder, builder, .. } = self;
        decoder.push_with(bytes, &mut |item| builder.push(item).map_err(|bad| bad.to_string()))
    }

    /// The header, as soon as it has come.
    pub fn header(&self) -> Option<&Header> {
        self.decoder.header()
    }

    /// SHA-256 of what was read so far: of the whole file at its end. No sum may be out.
    pub fn sha256(&self) -> [u8; 32] {
        self.decoder.sha256()
    }

    /// Ends the file: its header and state, if the file was whole and the state is the one the header names.
    pub fn finish(self) -> Result<(Header, KvState), SnapshotError> {
        let offset = self.decoder.offset();
        let error = |what: String| SnapshotError { offset, cause: Cause::State(what) };
        let (header, _) = self.decoder.finish()?;
        let state = self.builder.finish().map_err(|bad| error(bad.to_string()))?;
        if state.hash() != header.state_hash && !planted::is(Bug::SnapshotNotVerified) {
            let (names, is) = (header.state_hash, state.hash());
            return Err(error(format!("the header names state hash {names}, the items have {is}")));
        }
        let counts = (state.revision(), state.keys(), state.bytes());
        if counts != (header.revision, header.keys, header.bytes) {
            return Err(error("the header's revision, keys or bytes are not the items'".into()));
        }
        Ok((header, state))
    }
}

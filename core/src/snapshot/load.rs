//! A snapshot's bytes turned into the state they stand for, checked as a whole.

use super::format::{SnapshotError, SnapshotErrorCause as Cause};
use super::{Decoder, Header};
use crate::kv::{Builder, KvState};
use crate::planted::{self, Bug};

/// Decodes and builds, piece by piece. After an error it is of no more use.
#[derive(Debug, Default)]
pub struct Loader {
    decoder: Decoder,
    builder: Builder,
}

impl Loader {
    /// A loader at the start of a file.
    pub fn new() -> Self {
        Loader::default()
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let Loader { decoder, builder } = self;
        decoder.push_with(bytes, &mut |item| builder.push(item).map_err(|bad| bad.to_string()))
    }

    /// The header, as soon as it has come.
    pub fn header(&self) -> Option<&Header> {
        self.decoder.header()
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

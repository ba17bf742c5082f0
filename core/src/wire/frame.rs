//! Framing: a little-endian `u32` length, a version byte, then postcard. Bounded before anything is allocated.
//!
//! Invariant: [`Decoder`] never panics and never holds more than one frame beyond what it was given, whatever the bytes.

use crate::buffer;
use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version this build writes and reads.
pub const VERSION: u8 = 1;
/// The largest frame between nodes: one append of raft's, or one snapshot chunk.
pub const PEER_FRAME_BYTES_MAX: usize = 16 << 20;
/// The largest frame to or from a client.
pub const CLIENT_FRAME_BYTES_MAX: usize = 8 << 20;

const LENGTH_BYTES: usize = 4;

/// Why a frame was refused. The connection is of no use afterwards.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length says more than is allowed, or nothing.
    #[error("a frame of {got} bytes was announced; at most {limit} are allowed, and at least 1")]
    Length {
        /// Announced.
        got: usize,
        /// Allowed.
        limit: usize,
    },
    /// The other side speaks another version.
    #[error(
        "frame version {got} is not known here; this build speaks {VERSION}: upgrade the older side"
    )]
    Version {
        /// The byte that came.
        got: u8,
    },
    /// The bytes are not what they should be.
    #[error("a frame does not decode: {0}")]
    Malformed(String),
}

/// Appends the frame of `value` to `out`.
pub fn encode<T: Serialize>(value: &T, out: &mut BytesMut) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, VERSION]);
    buffer::append(value, out);
    let length = (out.len() - start - LENGTH_BYTES) as u32;
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
}

/// The frame of `value`.
pub fn to_bytes<T: Serialize>(value: &T) -> Bytes {
    let mut out = BytesMut::new();
    encode(value, &mut out);
    out.freeze()
}

/// Cuts frames out of a stream of bytes.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    limit: usize,
}

impl Decoder {
    /// A decoder that refuses frames of more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Decoder { buffer: BytesMut::new(), limit }
    }

    /// Adds bytes from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, `None` until more bytes come.
    pub fn next_frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 || length > self.limit {
            return Err(FrameError::Length { got: length, limit: self.limit });
        }
        if self.buffer.len() < LENGTH_BYTES + length {
            self.buffer.reserve(LENGTH_BYTES + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        let frame = self.buffer.split_to(length);
        if frame[0] != VERSION {
            return Err(FrameError::Version { got: frame[0] });
        }
        match postcard::take_from_bytes(&frame[1..]) {
            Ok((value, [])) => Ok(Some(value)),
            Ok((_, rest)) => Err(FrameError::Malformed(format!("{} bytes too many", rest.len()))),
            Err(error) => Err(FrameError::Malformed(error.to_string())),
        }
    }

    /// Whether the stream ended inside a frame.
    pub fn is_mid_frame(&self) -> bool {
        !self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::peer::PeerFrame;
    use proptest::prelude::*;

    #[test]
    fn frames_survive_any_split() {
        let frames = [
            PeerFrame::SnapshotAck { index: 7, next_offset: 1 << 40 },
            PeerFrame::SnapshotRefused { index: 8, reason: "old".into() },
        ];
        let mut stream = BytesMut::new();
        frames.iter().for_each(|frame| encode(frame, &mut stream));
        for split in 0..stream.len() {
            let mut decoder = Decoder::new(1024);
            let mut got: Vec<PeerFrame> = Vec::new();
            for part in [&stream[..split], &stream[split..]] {
                decoder.push(part);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got, frames);
            assert!(!decoder.is_mid_frame());
        }
    }

    #[test]
    fn lengths_and_versions_are_checked_before_the_body() {
        let mut decoder = Decoder::new(16);
        decoder.push(&[17, 0, 0, 0]);
        assert_eq!(
            decoder.next_frame::<PeerFrame>(),
            Err(FrameError::Length { got: 17, limit: 16 })
        );
        let mut decoder = Decoder::new(16);
        decoder.push(&[1, 0, 0, 0, 9]);
        assert_eq!(decoder.next_frame::<PeerFrame>(), Err(FrameError::Version { got: 9 }));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let mut decoder = Decoder::new(256);
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame::<PeerFrame>() {}
        }
    }
}

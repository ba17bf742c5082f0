//! Frames on their way to one stream: encoded at once, gathered, and taken as one buffer by whoever writes the stream.
//!
//! Invariant: never more than `limit_bytes` wait, except that one frame may always wait.

use bytes::{Bytes, BytesMut};
use raftkv_core::wire::frame;
use serde::Serialize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A bounded buffer of frames.
#[derive(Debug)]
pub struct Outbox {
    buffer: Mutex<BytesMut>,
    filled: Notify,
    limit_bytes: usize,
    frame_bytes_max: usize,
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too much is waiting.
    Full,
    /// The frame alone is longer than the other side would take.
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

impl Outbox {
    /// An empty outbox.
    pub fn new(limit_bytes: usize, frame_bytes_max: usize) -> Self {
        Outbox { buffer: Mutex::default(), filled: Notify::new(), limit_bytes, frame_bytes_max }
    }

    /// Adds a frame and wakes the writer.
    pub fn push<T: Serialize>(&self, value: &T) -> Result<(), Refused> {
        let mut buffer = self.lock();
        let before = buffer.len();
        frame::encode(value, &mut buffer);
        let bytes = buffer.len() - before;
        let refused = if bytes > self.frame_bytes_max {
            Refused::TooLong { bytes }
        } else if before > 0 && buffer.len() > self.limit_bytes {
            Refused::Full
        } else {
            if before == 0 {
                self.filled.notify_one();
            }
            return Ok(());
        };
        buffer.truncate(before);
        Err(refused)
    }

    /// Everything that waits, as soon as something does.
    pub async fn take(&self) -> Bytes {
        loop {
            let bytes = std::mem::take(&mut *self.lock());
            if !bytes.is_empty() {
                return bytes.freeze();
            }
            self.filled.notified().await;
        }
    }

    /// Drops everything that waits.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BytesMut> {
        // Frames are whole between two calls, whatever happened to a thread in one.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_outbox_refuses_but_always_takes_one() {
        let outbox = Outbox::new(16, 64);
        assert_eq!(outbox.push(&[1_u8; 32]), Ok(()));
        assert_eq!(outbox.push(&1_u8), Err(Refused::Full));
        outbox.clear();
        assert!(outbox.is_empty() && outbox.push(&1_u8).is_ok());
    }

    #[test]
    fn a_frame_nobody_would_take_leaves_no_trace() {
        let outbox = Outbox::new(1024, 16);
        outbox.push(&1_u8).unwrap();
        assert_eq!(outbox.push(&[2_u8; 32]), Err(Refused::TooLong { bytes: 37 }));
        assert_eq!(outbox.lock().as_ref(), frame::to_bytes(&1_u8));
    }
}

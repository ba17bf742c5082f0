//! Keys, values, ranges of keys, and the events that changed them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The number of a committed write transaction. Grows by one with each, and never goes back.
pub type Revision = u64;

/// Names a lease; 0 means none.
pub type LeaseId = u64;

/// One version of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value; empty when only keys were asked for.
    pub value: Bytes,
    /// Revision at which the key came into being (since its last deletion).
    pub create_revision: Revision,
    /// Revision of this version.
    pub mod_revision: Revision,
    /// Counts the writes to the key since it came into being, from 1.
    pub version: u64,
    /// The lease the key is attached to, or 0.
    pub lease: LeaseId,
}

/// A contiguous range of keys: from `start`, up to `end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    /// First key, included.
    pub start: Bytes,
    /// Where the range ends.
    pub end: RangeEnd,
}

/// The end of a [`KeyRange`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RangeEnd {
    /// Only the key `start` itself.
    Single,
    /// All keys before this one.
    Before(Bytes),
    /// All keys from `start` on.
    Unbounded,
}

impl KeyRange {
    /// Exactly one key.
    pub fn one(key: impl Into<Bytes>) -> Self {
        KeyRange { start: key.into(), end: RangeEnd::Single }
    }

    /// Every key.
    pub fn all() -> Self {
        KeyRange { start: Bytes::new(), end: RangeEnd::Unbounded }
    }

    /// Every key that starts with `prefix`; an empty prefix is every key.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start: Bytes = prefix.into();
        let mut end = start.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return KeyRange { start, end: RangeEnd::Before(end.into()) };
            }
        }
        KeyRange { start, end: RangeEnd::Unbounded }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start,
            RangeEnd::Before(end) => key >= self.start.as_ref() && key < end.as_ref(),
            RangeEnd::Unbounded => key >= self.start.as_ref(),
        }
    }
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// It was written.
    Put,
    /// It was deleted, by a request or because its lease ended.
    Delete,
}

/// One change of one key, as watches see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The new version; for a deletion only `key` and `mod_revision` are set.
    pub kv: KeyValue,
    /// The version before, when the watch asked for it and it is still known.
    pub previous: Option<KeyValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_ranges_end_after_the_last_key_with_the_prefix() {
        let range = KeyRange::prefix("ab");
        assert!(range.contains(b"ab") && range.contains(b"ab\xff\xff") && !range.contains(b"ac"));
        assert_eq!(KeyRange::prefix(&b"a\xff"[..]).end, RangeEnd::Before("b".into()));
        assert_eq!(KeyRange::prefix(&b"\xff\xff"[..]).end, RangeEnd::Unbounded);
        assert_eq!(KeyRange::prefix(""), KeyRange::all());
    }
}

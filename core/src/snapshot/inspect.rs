//! What is in a snapshot file, without building the state: for people, also when the file is damaged.
//!
//! Invariant: memory is bounded by one push, one item and the [`PREFIXES_MAX`] prefixes, whatever the file holds.

use super::format::{Footer, SnapshotError};
use super::{Decoder, Header};
use crate::kv::Item;
use bytes::Bytes;
use serde::Serialize;

/// Prefixes that are counted one by one; keys of later ones are summed up together.
pub const PREFIXES_MAX: usize = 1000;

/// Reads a snapshot for its summary.
#[derive(Debug, Default)]
pub struct Inspector {
    decoder: Decoder,
    summary: Summary,
    /// The newest key so far, and its newest version's bytes if it lives; more versions of it may follow.
    pending: Option<(Bytes, Option<u64>)>,
}

/// What could be read of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// What the file says about itself, if that could be read.
    pub header: Option<Header>,
    /// Whether everything was there and matched the file's SHA-256.
    pub complete: bool,
    /// SHA-256 of everything before the footer, in hexadecimal, when complete.
    pub sha256: Option<String>,
    /// Where reading ended and why, when not complete.
    pub damage: Option<Damage>,
    /// Bytes of the file that were read and checked.
    pub checked_bytes: u64,
    /// Members.
    pub members: u64,
    /// Leases.
    pub leases: u64,
    /// Client sessions.
    pub sessions: u64,
    /// Live keys.
    pub keys: u64,
    /// Bytes of live keys and values.
    pub bytes: u64,
    /// Retained versions, deletions and live ones too.
    pub versions: u64,
    /// Live keys by prefix, in order of appearance.
    pub prefixes: Vec<Prefix>,
    /// Live keys of prefixes beyond [`PREFIXES_MAX`].
    pub other: Option<Prefix>,
}

/// Where a file broke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Offset of the part that is wrong.
    pub offset: u64,
    /// What is wrong with it.
    pub what: String,
}

/// Live keys that start alike: up to and with the first `/` that is not the key's first byte; empty for keys without one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Prefix {
    /// The prefix; bytes that are not UTF-8 are replaced.
    pub prefix: String,
    /// Live keys.
    pub keys: u64,
    /// Bytes of them and their values.
    pub bytes: u64,
}

impl Inspector {
    /// An inspector at the start of a file.
    pub fn new() -> Self {
        Inspector::default()
    }

    /// Takes the next bytes. Whether more are of use.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        if self.summary.damage.is_some() {
            return false;
        }
        let mut items = Vec::new();
        let result = self.decoder.push_into(bytes, &mut items);
        items.into_iter().for_each(|item| self.count(item));
        self.summary.checked_bytes = self.decoder.offset();
        if let Err(error) = result {
            self.summary.damage = Some(damage(&error));
        }
        self.summary.damage.is_none()
    }

    /// The file has ended.
    pub fn finish(mut self) -> Summary {
        self.settle();
        self.summary.header = self.decoder.header().cloned();
        if self.summary.damage.is_some() {
            return self.summary;
        }
        match self.decoder.finish() {
            Ok((_, Footer { sha256, .. })) => {
                self.summary.complete = true;
                self.summary.sha256 =
                    Some(sha256.iter().map(|byte| format!("{byte:02x}")).collect());
            }
            Err(error) => self.summary.damage = Some(damage(&error)),
        }
        self.summary
    }

    fn count(&mut self, item: Item) {
        match item {
            Item::Meta(_) | Item::Backups(_) | Item::Incarnation { .. } => {}
            Item::Member(_) => self.summary.members += 1,
            Item::Lease { .. } => self.summary.leases += 1,
            Item::Session { .. } => self.summary.sessions += 1,
            Item::Key { key, versions } => {
                if self.pending.as_ref().is_some_and(|(last, _)| *last != key) {
                    self.settle();
                }
                self.summary.versions += versions.len() as u64;
                let value = versions.last().and_then(|newest| newest.value.as_ref());
                let live = value.map(|value| (key.len() + value.len()) as u64);
                self.pending = Some((key, live));
            }
        }
    }

    /// No more versions of the pending key follow.
    fn settle(&mut self) {
        if let Some((key, Some(bytes))) = self.pending.take() {
            self.summary.count_live(&key, bytes);
        }
    }
}

impl Summary {
    fn count_live(&mut self, key: &[u8], bytes: u64) {
        self.keys += 1;
        self.bytes += bytes;
        let name = String::from_utf8_lossy(prefix_of(key));
        // Keys come in order, so those of a prefix come together; only the ones without a prefix may be scattered.
        let known = self.prefixes.iter().rposition(|known| known.prefix == name);
        let row = match known {
            Some(place) => &mut self.prefixes[place],
            None if self.prefixes.len() < PREFIXES_MAX => {
                self.prefixes.push(Prefix { prefix: name.into_owned(), ..Prefix::default() });
                self.prefixes.last_mut().expect("one was pushed")
            }
            None => self.other.get_or_insert_default(),
        };
        row.keys += 1;
        row.bytes += bytes;
    }
}

fn prefix_of(key: &[u8]) -> &[u8] {
    let slash = key.iter().skip(1).position(|byte| *byte == b'/');
    slash.map_or(&[], |place| &key[..place + 2])
}

fn damage(error: &SnapshotError) -> Damage {
    Damage { offset: error.offset, what: error.cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{header, sample_items};
    use super::*;
    use crate::snapshot::Encoder;

    fn file() -> Vec<u8> {
        let items = sample_items(2000);
        Encoder::new(header(), items.into_iter()).flatten().collect()
    }

    #[test]
    fn prefixes_end_at_the_first_inner_slash() {
        assert_eq!(prefix_of(b"/registry/pods/a"), b"/registry/");
        assert_eq!(prefix_of(b"users/7"), b"users/");
        assert_eq!(prefix_of(b"plain"), b"");
        assert_eq!(prefix_of(b"/"), b"");
        assert_eq!(prefix_of(b""), b"");
    }

    #[test]
    fn a_whole_file_is_summed_up() {
        let mut inspector = Inspector::new();
        assert!(file().chunks(1000).all(|part| inspector.push(part)));
        let summary = inspector.finish();
        assert!(summary.complete && summary.damage.is_none() && summary.sha256.is_some());
        assert_eq!(summary.header, Some(header()));
        assert_eq!(summary.checked_bytes, file().len() as u64);
        assert_eq!(summary.keys, summary.prefixes.iter().map(|prefix| prefix.keys).sum::<u64>());
        assert_eq!(summary.bytes, summary.prefixes.iter().map(|prefix| prefix.bytes).sum::<u64>());
        assert!(summary.keys > 1000 && summary.versions > summary.keys);
    }

    #[test]
    fn a_damaged_file_tells_what_could_be_read() {
        let mut bytes = file();
        let place = bytes.len() - 100;
        bytes[place] ^= 1;
        let mut inspector = Inspector::new();
        assert!(!bytes.chunks(1000).all(|part| inspector.push(part)));
        let summary = inspector.finish();
        assert!(!summary.complete);
        assert_eq!(summary.header, Some(header()));
        assert!(summary.keys > 0);
        assert_eq!(summary.damage.unwrap().offset, summary.checked_bytes);
    }
}

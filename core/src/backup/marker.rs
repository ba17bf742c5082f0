//! Markers: small objects that say who keeps a backup, reads it, or holds the store.
//!
//! A pin keeps a backup from retention; a hold says that something reads or writes it just now; a lock says who makes backups in the
//! store; a status says that a backup is being made, or, released, why it failed; a removal says that it is to go. Their spelling is one for all. A marker guards against accidents, not against someone who can write to the store: that one could as
//! well delete the backup. So it carries a checksum and no MAC, and whoever cannot read a marker takes it for one that is in force.
//!
//! Invariants: there is one spelling, as for [`super::metadata`]; a marker names its own place, so that one that was copied elsewhere is
//! refused; no clock of another machine is ever compared: whether a holder is alive shows in its counter ([`super::lock::Watch`]).

use super::blob::ObjectName;
use super::id::BackupId;
use super::metadata::{Checksum, rfc3339, wall};
use crate::rng::Rng;
use crate::time::Wall;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The version that is written, and the newest that is read.
pub const MARKER_VERSION: u16 = 1;

/// No marker is longer.
pub const MAX_MARKER_BYTES: usize = 4096;

/// No note is longer.
pub const MAX_NOTE_BYTES: usize = 512;

/// Tells one holder from all others: drawn at random for each run. Prints as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub [u8; 16]);

/// What a marker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Where it lies, and so what it is: a pin, a hold, a status or a lock.
    pub place: ObjectName,
    /// Who put it there.
    pub owner: Owner,
    /// For people: who that is, or why; of a backup that failed, how.
    pub note: String,
    /// Since when, by the owner's clock. For people only.
    pub since: Wall,
    /// Goes up by one each time the owner says that it is still there.
    pub beats: u64,
    /// The owner has ended: a lock, or a status.
    pub released: bool,
}

/// Why a marker cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkerError {
    /// Longer than any real one.
    #[error("the marker is longer than {MAX_MARKER_BYTES} bytes")]
    TooLong,
    /// Made by newer software.
    #[error("the marker has format {found}; this software reads up to {MARKER_VERSION}")]
    UnknownVersion {
        /// What it says.
        found: u64,
    },
    /// It cannot be read.
    #[error("the marker is damaged: {0}")]
    Malformed(String),
    /// It can be read, but was not written like this.
    #[error("the marker was edited or damaged: it is not spelled as it was written")]
    NotCanonical,
    /// It was written for another place.
    #[error("the marker belongs at {found}: it was moved or copied here")]
    Misplaced {
        /// Where it says that it belongs.
        found: String,
    },
}

/// An owner is 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an owner is 32 hexadecimal digits in lower case")]
pub struct BadOwner;

/// The fields as they are spelled, in their order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format_version: u16,
    place: String,
    owner: String,
    note: String,
    since: String,
    beats: u64,
    released: bool,
    checksum: String,
}

#[derive(Deserialize)]
struct Versioned {
    format_version: u64,
}

impl Marker {
    /// A new marker. A note that is too long is cut.
    pub fn new(place: ObjectName, owner: Owner, note: &str, since: Wall) -> Self {
        let end = note.floor_char_boundary(MAX_NOTE_BYTES);
        Marker { place, owner, note: note[..end].to_owned(), since, beats: 0, released: false }
    }

    /// The document.
    pub fn render(&self) -> Vec<u8> {
        let unsummed = self.document(String::new());
        let checksum = Checksum::of(&unsummed);
        self.document(checksum.to_string())
    }

    /// Reads the document that lies at `place`.
    pub fn parse(place: ObjectName, bytes: &[u8]) -> Result<Marker, MarkerError> {
        if bytes.len() > MAX_MARKER_BYTES {
            return Err(MarkerError::TooLong);
        }
        let malformed = |error: serde_json::Error| MarkerError::Malformed(error.to_string());
        let Versioned { format_version } = serde_json::from_slice(bytes).map_err(malformed)?;
        if format_version != u64::from(MARKER_VERSION) {
            return Err(MarkerError::UnknownVersion { found: format_version });
        }
        let document: Document = serde_json::from_slice(bytes).map_err(malformed)?;
        if document.place != place.path() {
            return Err(MarkerError::Misplaced { found: document.place });
        }
        let unreadable = |field: &str| MarkerError::Malformed(format!("{field} cannot be read"));
        let marker = Marker {
            place,
            owner: document.owner.parse().map_err(|_| unreadable("owner"))?,
            note: document.note,
            since: wall(&document.since).ok_or_else(|| unreadable("since"))?,
            beats: document.beats,
            released: document.released,
        };
        let written = marker.note.len() <= MAX_NOTE_BYTES && marker.render() == bytes;
        written.then_some(marker).ok_or(MarkerError::NotCanonical)
    }

    fn document(&self, checksum: String) -> Vec<u8> {
        let document = Document {
            format_version: MARKER_VERSION,
            place: self.place.path(),
            owner: self.owner.to_string(),
            note: self.note.clone(),
            since: rfc3339(self.since),
            beats: self.beats,
            released: self.released,
            checksum,
        };
        let mut bytes = serde_json::to_vec_pretty(&document).expect("strings and numbers only");
        bytes.push(b'\n');
        bytes
    }
}

impl Owner {
    /// Draws a fresh one.
    pub fn draw(rng: &mut Rng) -> Self {
        Owner(rng.bytes())
    }

    /// Whoever makes this backup: its id is drawn for that run alone.
    pub fn of(backup: BackupId) -> Self {
        Owner(*backup.as_bytes())
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} since {}", self.note, rfc3339(self.since))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base16ct::lower::encode_string(&self.0))
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({self})")
    }
}

impl FromStr for Owner {
    type Err = BadOwner;
    fn from_str(text: &str) -> Result<Self, BadOwner> {
        let mut owner = [0; 16];
        match base16ct::lower::decode(text, &mut owner) {
            Ok(_) if text.len() == 32 => Ok(Owner(owner)),
            _ => Err(BadOwner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;
    use proptest::prelude::*;

    fn marker() -> Marker {
        let mut rng = Seed::from_number(4).fork("marker");
        let place = ObjectName::pin(BackupId::draw(&mut rng));
        let since = Wall(1_764_930_645_123);
        Marker { beats: 3, ..Marker::new(place, Owner::draw(&mut rng), "before \"v2\"", since) }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let bytes = marker().render();
        assert_eq!(Marker::parse(marker().place, &bytes), Ok(marker()));
        for bit in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let read = Marker::parse(marker().place, &altered);
            assert!(read.is_err(), "bit {bit} flipped: {read:?}");
        }
        for len in 0..bytes.len() {
            assert!(Marker::parse(marker().place, &bytes[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn a_marker_counts_in_its_own_place_only() {
        let elsewhere = ObjectName::lock(7);
        let read = Marker::parse(elsewhere, &marker().render());
        assert_eq!(read, Err(MarkerError::Misplaced { found: marker().place.path() }));
        let newer = String::from_utf8(marker().render()).unwrap();
        let newer = newer.replace("\"format_version\": 1", "\"format_version\": 2");
        let read = Marker::parse(marker().place, newer.as_bytes());
        assert_eq!(read, Err(MarkerError::UnknownVersion { found: 2 }));
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let note = "é".repeat(MAX_NOTE_BYTES);
        let cut = Marker::new(marker().place, marker().owner, &note, Wall(0));
        assert!(cut.note.len() <= MAX_NOTE_BYTES && note.starts_with(&cut.note));
        assert_eq!(Marker::parse(cut.place, &cut.render()), Ok(cut));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Marker::parse(marker().place, &bytes);
        }
    }
}

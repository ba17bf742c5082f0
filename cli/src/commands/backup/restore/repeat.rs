//! What a restore leaves in the directory that it makes, so that the same command tells what it made when it is run again: it may have
//! been killed before it could say so.
//!
//! A record counts only until a node starts from the directory: the node removes it before anything else. Invariants: what is read back
//! is bounded, and trusted only as far as the directory agrees; a different command, or one that would take another backup by now, is
//! never answered with it.

use crate::commands::backup::source::unusable;
use crate::failure::Failure;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::metadata::Metadata;
use raftkv_core::boot::Image;
use raftkv_core::kv::StateHash;
use raftkv_node::disk::directory::{DirectoryError, RESTORED, sync_directory};
use raftkv_node::disk::{self, Directory};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

const FORMAT_VERSION: u32 = 1;
/// A longer file is no record.
const BYTES_MAX: u64 = 64 << 10;

/// A restore that was done. What else there is to tell of it, the directory holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    format_version: u32,
    /// What decided it.
    pub asked: Asked,
    /// The backup that was picked from what the stores listed.
    #[serde(with = "text")]
    pub picked: BackupId,
    /// The one that was used: an older one, if that turned out damaged.
    #[serde(with = "text")]
    pub backup: BackupId,
    /// What clients of the old cluster may have seen at most, as far as the backup knows.
    pub backup_revision: u64,
    /// Hash over the state that was backed up.
    #[serde(with = "text")]
    pub backup_state_hash: StateHash,
    /// Hash over the new cluster's first state.
    #[serde(with = "text")]
    pub state_hash: StateHash,
    /// The number of the sibling that what was at the place before was moved to.
    pub moved_aside: Option<u32>,
}

/// The arguments that decide what a restore makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// As it was written.
    pub backup: String,
    /// An older one may be used.
    pub or_older: bool,
    /// A plain one may be used where encryption is configured.
    pub allow_plaintext: bool,
    /// What is at the place may be moved aside.
    pub force: bool,
    /// The members that the directory knows, as `1=HOST:PORT,...`.
    pub members: String,
    /// Which of them it is for.
    pub id: u32,
    /// The new cluster's id, if it was given.
    pub cluster_id: Option<String>,
    /// The lost cluster's epoch, or 0.
    pub lost_epoch: u64,
}

/// A directory that the same command has made, and from which no node has started.
#[derive(Debug)]
pub struct Finished {
    directory: Directory,
    record: Record,
}

impl Record {
    /// Of a restore that moved nothing aside so far. `used` tells of the backup that was used.
    pub fn new(asked: Asked, picked: BackupId, used: &Metadata, state_hash: StateHash) -> Self {
        Record {
            format_version: FORMAT_VERSION,
            asked,
            picked,
            backup: used.id,
            backup_revision: used.revision,
            backup_state_hash: used.state_hash,
            state_hash,
            moved_aside: None,
        }
    }

    /// Writes it into a directory that is not at its place yet, and brings it to stable storage.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(directory.join(RESTORED))?;
        file.write_all(self.render().as_bytes())?;
        file.sync_all()?;
        sync_directory(directory)
    }

    /// The record in a directory, if there is one that can be understood.
    pub fn read(directory: &Path) -> Option<Record> {
        let file = File::open(directory.join(RESTORED)).ok()?;
        let mut bytes = Vec::new();
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
        Record::decode(&bytes)
    }

    fn render(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("a record has string keys");
        format!("{text}\n")
    }

    fn decode(bytes: &[u8]) -> Option<Record> {
        if bytes.len() as u64 > BYTES_MAX {
            return None;
        }
        let record: Record = serde_json::from_slice(bytes).ok()?;
        (record.format_version == FORMAT_VERSION).then_some(record)
    }
}

impl Finished {
    /// Looks whether what was asked for was made at this place.
    pub fn find(path: &Path, asked: &Asked) -> Result<Option<Finished>, Failure> {
        let record = || Record::read(path).filter(|record| record.asked == *asked);
        if record().is_none() {
            return Ok(None);
        }
        let directory = match Directory::open(path) {
            Ok(directory) => directory,
            Err(error @ DirectoryError::Locked { .. }) => {
                return Err(unusable(&error));
            }
            Err(_) => return Ok(None),
        };
        // Before it was locked, a node may have started.
        Ok(record().map(|record| Finished { directory, record }))
    }

    /// What the directory holds, all of it read and checked, if it was made from this backup and nothing has changed since.
    pub fn check(&self, picked: BackupId) -> Option<(&Record, Box<Image>)> {
        if self.record.picked != picked {
            return None;
        }
        let image = disk::look(&self.directory).ok()?;
        let is_first = image.entries.is_empty() && image.state.hash() == self.record.state_hash;
        is_first.then_some((&self.record, image))
    }
}

/// Values as what they print.
mod text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use std::fmt::Display;
    use std::str::FromStr;

    pub fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// The record of some restore.
    pub fn example() -> Record {
        let id = |digit: &str| {
            let id = format!("{}-0000-4000-8000-{}", digit.repeat(8), digit.repeat(12));
            id.parse().unwrap()
        };
        let asked = Asked {
            backup: "latest".into(),
            or_older: true,
            allow_plaintext: false,
            force: true,
            members: "1=10.0.0.1:7400,2=10.0.0.2:7400".into(),
            id: 1,
            cluster_id: Some("0123456789abcdef".repeat(2)),
            lost_epoch: 3,
        };
        let hash = |digit: &str| digit.repeat(64).parse().unwrap();
        Record {
            format_version: 1,
            asked,
            picked: id("a"),
            backup: id("b"),
            backup_revision: 1_000_000_000_042,
            backup_state_hash: hash("c"),
            state_hash: hash("d"),
            moved_aside: Some(2),
        }
    }

    #[test]
    fn records_are_written_as_they_were_and_read_for_ever() {
        let frozen = include_str!("../../../../tests/frozen/restored-v1.json");
        assert_eq!(example().render(), frozen, "written differently: that is a new version");
        assert_eq!(Record::decode(frozen.as_bytes()), Some(example()));
        let dir = tempfile::tempdir().unwrap();
        example().write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()), Some(example()));
        let file = dir.path().join(RESTORED).metadata().unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        assert!(example().write(dir.path()).is_err(), "nothing is replaced");
    }

    #[test]
    fn what_is_no_record_of_this_version_counts_as_none() {
        let good = example().render();
        let long = format!("{good}{}", " ".repeat(BYTES_MAX as usize));
        let edits = [
            good.replace("\"format_version\": 1", "\"format_version\": 2"),
            good.replace("\"id\": 1", "\"id\": -1"),
            good.replace("\"picked\": \"aaaa", "\"picked\": \"\\u001b[2J"),
            good.replace("\"force\"", "\"farce\""),
            good[..good.len() / 2].to_owned(),
            "[".repeat(50_000),
            String::new(),
            long,
        ];
        for edit in edits {
            assert_ne!(edit, good);
            assert_eq!(Record::decode(edit.as_bytes()), None, "{edit:.200}");
        }
        assert_eq!(Record::decode(&[0xff; 100]), None);
        assert_eq!(Record::read(Path::new("/nowhere")), None);
    }
}

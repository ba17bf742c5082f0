//! Checks backups, and says honestly how far.

use super::blob::BlobOp;
use super::id::BackupId;
use super::machine::{Action, ActionResult, Machine, Progress};
use super::metadata::Metadata;
use super::read::{Access, Discard, ReadBounds, ReadError, Reader};
use super::restore::Rebuild;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How far a check goes. Each level does what the ones before it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Metadata is there and well-formed, data is there and as long as it says.
    Exists,
    /// Every byte of data was read, and its SHA-256 is as the metadata says. Needs no key.
    Checksum,
    /// Header, metadata and every chunk are authentic and decompress to the plain SHA-256.
    Decrypt,
    /// The state was rebuilt in memory, and its hash is the one of the state that was backed up.
    Restore,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which backup.
    pub id: BackupId,
    /// How far it was checked.
    pub level: Level,
    /// Its metadata, or what is wrong.
    pub result: Result<Metadata, ReadError>,
}

/// The machine.
#[derive(Debug)]
pub struct Verify {
    id: BackupId,
    level: Level,
    reader: Either,
}

#[derive(Debug)]
enum Either {
    Bytes(Box<Reader<Discard>>),
    State(Box<Reader<Rebuild>>),
}

/// There is no such level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the level is one of exists, checksum, decrypt, restore")]
pub struct BadLevel;

impl Level {
    /// Every level, the least first.
    pub const ALL: [Level; 4] = [Level::Exists, Level::Checksum, Level::Decrypt, Level::Restore];

    /// What a check of this level has found to be so, of a backup that is good.
    pub fn checked(self) -> &'static str {
        match self {
            Level::Exists => "metadata.json is well-formed, and data.db as long as it says",
            Level::Checksum => {
                "every byte of data.db was read, and their SHA-256 is as metadata.json says"
            }
            Level::Decrypt => {
                "header, metadata and every chunk belong together, which the key proves of what is encrypted, and decompress to what was backed up"
            }
            Level::Restore => {
                "all of it belongs together, which the key proves of what is encrypted, and the state rebuilt from it has the hash of the one that was backed up"
            }
        }
    }

    /// What a check of this level does not find.
    pub fn not_checked(self) -> &'static str {
        match self {
            Level::Exists => "the bytes of data.db were not read",
            Level::Checksum => {
                "nothing was decrypted: someone who can write to the store could have replaced both objects"
            }
            Level::Decrypt => "the state was not rebuilt from the stream",
            Level::Restore => "nothing was left out, short of starting a node from it",
        }
    }
}

impl Verify {
    /// Begins to check a backup.
    pub fn new(id: BackupId, level: Level, access: Access, bounds: ReadBounds) -> Self {
        let reader = match level {
            Level::Restore => {
                Either::State(Box::new(Reader::new(id, level, access, bounds, Rebuild::default())))
            }
            _ => {
                Either::Bytes(Box::new(Reader::new(id, level, access, bounds, Discard::default())))
            }
        };
        Verify { id, level, reader }
    }

    /// What was found, once it has ended.
    pub fn report(&self) -> Option<Report> {
        let result = match &self.reader {
            Either::Bytes(reader) => reader.outcome(),
            Either::State(reader) => reader.outcome(),
        };
        Some(Report { id: self.id, level: self.level, result: result?.clone() })
    }

    fn machine(&mut self) -> &mut dyn Machine {
        match &mut self.reader {
            Either::Bytes(reader) => reader.as_mut(),
            Either::State(reader) => reader.as_mut(),
        }
    }
}

impl Machine for Verify {
    fn poll_action(&mut self) -> Option<Action> {
        let action = self.machine().poll_action();
        debug_assert!(
            !matches!(&action, Some(Action::Blob { action, .. }) if writes(action)),
            "a check never changes the store"
        );
        action
    }

    fn handle(&mut self, result: ActionResult) {
        self.machine().handle(result);
    }

    fn is_ended(&self) -> bool {
        self.report().is_some()
    }

    fn progress(&self) -> Progress {
        match &self.reader {
            Either::Bytes(reader) => reader.progress(),
            Either::State(reader) => reader.progress(),
        }
    }
}

fn writes(action: &BlobOp) -> bool {
    !matches!(action, BlobOp::Get { .. } | BlobOp::Head { .. } | BlobOp::List)
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Exists => "exists",
            Level::Checksum => "checksum",
            Level::Decrypt => "decrypt",
            Level::Restore => "restore",
        })
    }
}

impl FromStr for Level {
    type Err = BadLevel;
    fn from_str(text: &str) -> Result<Self, BadLevel> {
        Level::ALL.into_iter().find(|level| level.to_string() == text).ok_or(BadLevel)
    }
}

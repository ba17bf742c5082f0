//! What log entries hold: commands, encoded with a version so that old logs stay readable.
//!
//! An entry's data is a version byte, then postcard. Decoding copies keys and values, so nothing pins the entry it came from.

use super::backups::BackupOp;
use crate::api::{MemberInfo, SessionRef, WriteOp};
use crate::time::Wall;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The newest version this build reads.
pub const VERSION: u8 = 2;
/// What is written for everything that every build understands, so that nodes can be upgraded one by one.
const FIRST_VERSION: u8 = 1;
/// What is written for actions about backups.
const BACKUPS_VERSION: u8 = 2;

/// A change of the replicated state. Applying one is total: it succeeds or yields a typed error, on every replica alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Log time in milliseconds, as the leader counts it: it runs on by the leader's monotonic clock from where the state stood when
    /// leadership began, so neither a jump of the calendar nor a change of leader ends a lease early.
    pub log_time_ms: u64,
    /// The leader's calendar, for audit and backup stamps only.
    pub wall: Wall,
    /// What to do.
    pub action: Action,
}

/// What a [`Command`] does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// A client's write.
    Write {
        /// Makes it apply once.
        session: Option<SessionRef>,
        /// The write.
        op: WriteOp,
    },
    /// Open a session; its id is the entry's index.
    SessionOpen,
    /// Only log time moves: leases and sessions that are due end.
    Tick,
    /// Something is done about backups that the cluster makes. Since version 2.
    Backup(BackupOp),
}

/// Goes with a membership entry: what the member table becomes when it is applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberChange {
    /// The members after the change, with addresses.
    pub upsert: Vec<MemberInfo>,
    /// Members that leave.
    pub remove: Vec<crate::ids::NodeId>,
}

/// Why the data of a log entry was not understood. No entry that was committed can fail with it, except one written by newer
/// software.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is not even a version.
    #[error("the data of a log entry is empty")]
    Empty,
    /// Written by other software.
    #[error(
        "log entry version {got} is not known here; this build reads up to {VERSION}: upgrade this node"
    )]
    Version {
        /// The byte that came.
        got: u8,
    },
    /// The bytes are not what they should be.
    #[error("the data of a log entry does not decode: {0}")]
    Malformed(String),
}

impl Command {
    /// The data of a log entry.
    pub fn encode(&self) -> Bytes {
        match self.action {
            Action::Backup(_) => encode(self, BACKUPS_VERSION),
            _ => encode(self, FIRST_VERSION),
        }
    }

    /// Reads the data of a log entry.
    ///
    /// # Errors
    /// [`DecodeError`], for any bytes that [`Self::encode`] does not make.
    pub fn decode(data: &[u8]) -> Result<Self, DecodeError> {
        decode(data)
    }
}

impl MemberChange {
    /// The data of a membership entry.
    pub fn encode(&self) -> Bytes {
        encode(self, FIRST_VERSION)
    }

    /// Reads the data of a membership entry.
    ///
    /// # Errors
    /// [`DecodeError`], for any bytes that [`Self::encode`] does not make.
    pub fn decode(data: &[u8]) -> Result<Self, DecodeError> {
        decode(data)
    }
}

fn encode<T: Serialize>(value: &T, version: u8) -> Bytes {
    // Serializing these plain types into memory cannot fail.
    postcard::to_extend(value, vec![version]).expect("commands serialize").into()
}

fn decode<T: DeserializeOwned>(data: &[u8]) -> Result<T, DecodeError> {
    let (version, body) = data.split_first().ok_or(DecodeError::Empty)?;
    if !(FIRST_VERSION..=VERSION).contains(version) {
        return Err(DecodeError::Version { got: *version });
    }
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(DecodeError::Malformed(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(DecodeError::Malformed(error.to_string())),
    }
}

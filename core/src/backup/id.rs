//! Names of backups, drawn at random so that no two ever meet.
//!
//! A UUID of version 4 (RFC 9562 §5.4), printed with hyphens in lower case. Only that form is read back, so that one
//! backup has one name.

use crate::rng::Rng;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Names one backup.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "[u8; 16]", into = "[u8; 16]")]
pub struct BackupId([u8; 16]);

/// A backup id is a UUID of version 4 with hyphens, in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a backup id is a version 4 UUID in lower case, as in d90ad4b2-5a96-475e-85f1-329ec2662b35"
)]
pub struct BadBackupId;

impl BackupId {
    /// Names no backup: not a UUID of version 4, so it is never drawn and never read.
    pub(super) const NONE: BackupId = BackupId([0; 16]);

    /// Draws a fresh id.
    pub fn draw(rng: &mut Rng) -> Self {
        let mut bytes: [u8; 16] = rng.bytes();
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        BackupId(bytes)
    }

    /// The id's bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The id that has these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, BadBackupId> {
        let is_version_4 = bytes[6] >> 4 == 4 && bytes[8] >> 6 == 0b10;
        is_version_4.then_some(BackupId(bytes)).ok_or(BadBackupId)
    }
}

impl TryFrom<[u8; 16]> for BackupId {
    type Error = BadBackupId;
    fn try_from(bytes: [u8; 16]) -> Result<Self, BadBackupId> {
        BackupId::from_bytes(bytes)
    }
}

impl From<BackupId> for [u8; 16] {
    fn from(id: BackupId) -> [u8; 16] {
        id.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackupId({self})")
    }
}

impl FromStr for BackupId {
    type Err = BadBackupId;
    fn from_str(text: &str) -> Result<Self, BadBackupId> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let mut bytes = [0; 16];
        if digits.len() != 32 || base16ct::lower::decode(&digits, &mut bytes).is_err() {
            return Err(BadBackupId);
        }
        let id = BackupId::from_bytes(bytes)?;
        (id.to_string() == text).then_some(id).ok_or(BadBackupId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    #[test]
    fn one_id_has_one_spelling() {
        let id = BackupId::draw(&mut Seed::from_number(1).fork("id"));
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_uppercase().parse::<BackupId>(), Err(BadBackupId));
        assert_eq!(text.replace('-', "").parse::<BackupId>(), Err(BadBackupId));
        assert_eq!("../../etc/passwd".parse::<BackupId>(), Err(BadBackupId));
        let other_version = text.replacen("-4", "-1", 1);
        assert_eq!(other_version.parse::<BackupId>(), Err(BadBackupId));
    }
}

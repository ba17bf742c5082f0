//! Backups in several stores: one that counts is complete wherever it has to be; every copy is the backup, and restores to it.

use super::Violation;
use raftkv_core::backup::read::ReadError;
use raftkv_core::backup::restore::Restored;
use raftkv_core::backup::{BackupId, Metadata};

const PROPERTY: &str = "required copies";

/// Checks that a backup, which is complete in the primary store now, is so in the others that must have it.
pub fn check(id: BackupId, others: impl IntoIterator<Item = bool>) -> Result<(), Violation> {
    match others.into_iter().position(|has| !has) {
        None => Ok(()),
        Some(at) => {
            let detail = format!("{id} counts, and is not complete in store {}", at + 1);
            Err(Violation::new(PROPERTY, detail))
        }
    }
}

/// Checks that a copy says what the backup says.
pub fn check_same(copy: Option<&Metadata>, backup: Option<&Metadata>) -> Result<(), Violation> {
    match copy == backup {
        true => Ok(()),
        false => {
            let detail = format!("a copy says {copy:?}, and the backup {backup:?}");
            Err(Violation::new(PROPERTY, detail))
        }
    }
}

/// Checks that a good copy restores to the state that it says, if there is a key for it.
pub fn check_restores(
    id: BackupId,
    has_key: bool,
    restored: Option<Result<Restored, ReadError>>,
) -> Result<(), Violation> {
    let wrong = |what: String| Err(Violation::new(PROPERTY, format!("a copy of {id} {what}")));
    match restored {
        None => wrong("never ends being restored".into()),
        Some(Ok(restored)) if restored.state.hash() != restored.metadata.state_hash => {
            wrong(format!("restores to {}", restored.state.hash()))
        }
        Some(Ok(_)) if !has_key => wrong("restores without a key".into()),
        Some(Err(error)) if has_key => wrong(format!("does not restore: {error}")),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::backup_testing::{BackupMaker, settings};

    #[test]
    fn a_store_that_lacks_it_and_a_copy_that_says_something_else_are_noticed() {
        let metadata = BackupMaker::new(1).make(settings(&[]), "a");
        assert_eq!(check(metadata.id, [true, true]), Ok(()));
        assert_eq!(check(metadata.id, []), Ok(()));
        assert!(check(metadata.id, [true, false]).is_err());
        let mut other = metadata.clone();
        other.revision += 1;
        assert_eq!(check_same(Some(&metadata), Some(&metadata)), Ok(()));
        assert!(check_same(Some(&other), Some(&metadata)).is_err());
        assert!(check_same(None, Some(&metadata)).is_err());
        assert!(check_restores(metadata.id, true, None).is_err());
        let error = || ReadError::NotComplete { id: metadata.id };
        assert!(check_restores(metadata.id, true, Some(Err(error()))).is_err());
        assert_eq!(check_restores(metadata.id, false, Some(Err(error()))), Ok(()));
    }
}

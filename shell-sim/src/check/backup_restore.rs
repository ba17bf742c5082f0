//! Restorability: a complete backup restores to exactly the state it was taken from; one that was damaged or tampered with does not
//! restore at all, not even in part; without the right key nothing does.

use super::Violation;
use super::openers::Opens;
use raftkv_core::backup::Metadata;
use raftkv_core::backup::format::Suite;
use raftkv_core::backup::read::{ReadError, ReadTrouble};
use raftkv_core::kv::StateHash;

/// What is known of a backup that somebody tried to restore or verify.
#[derive(Clone, Copy, Debug)]
pub struct Truth<'a> {
    /// What it said when it became complete; `None` when it never did.
    pub metadata: Option<&'a Metadata>,
    /// Somebody had damaged it, or deleted it, before the attempt began: it must not restore.
    pub was_tampered: bool,
    /// Somebody did so before the attempt ended: it may fail.
    pub is_tampered: bool,
    /// Whether a key it is sealed for was at hand, or plaintext was allowed where it is not encrypted.
    pub opens: Opens,
    /// The store misbehaved, so that a failure of the store is no surprise.
    pub store_may_fail: bool,
}

/// Checks an attempt that ended with these metadata and, if a state was made, its hash.
pub fn check(
    result: Result<(&Metadata, Option<StateHash>), &ReadError>,
    truth: Truth<'_>,
) -> Result<(), Violation> {
    let Truth { metadata, was_tampered, is_tampered, opens, store_may_fail } = truth;
    let complaint = match (result, metadata) {
        (Ok((said, _)), None) => format!("{} restores, but was never complete", said.id),
        (Ok((said, _)), Some(_)) if was_tampered => {
            format!("{} was tampered with, and is taken for good", said.id)
        }
        (Ok((said, _)), Some(_)) if opens == Opens::Never => {
            format!("{} opens without its key", said.id)
        }
        (Ok((said, hash)), Some(metadata)) => {
            if said == metadata && hash.is_none_or(|hash| hash == metadata.state_hash) {
                return Ok(());
            }
            format!("{} restores to {said:?} with state {hash:?}, but was {metadata:?}", said.id)
        }
        (Err(_), _) if is_tampered => return Ok(()),
        (Err(error), Some(_)) if error.trouble() == ReadTrouble::Store && store_may_fail => {
            return Ok(());
        }
        (Err(error), Some(metadata)) => match (opens, error.trouble(), metadata.suite) {
            (Opens::Never | Opens::Sometimes, ReadTrouble::Key, Suite::Aes256Gcm)
            | (Opens::Never, ReadTrouble::Refused, Suite::Plain) => return Ok(()),
            _ => format!("{} is whole, but does not restore: {error}", metadata.id),
        },
        (Err(_), None) => return Ok(()),
    };
    Err(Violation::new("restorability", complaint))
}

/// Checks what a backup of this run says against the state that a replay of the log had at its index.
pub fn check_origin(
    metadata: &Metadata,
    replayed: Option<(StateHash, u64)>,
) -> Result<(), Violation> {
    let Metadata { id, index, state_hash, revision, .. } = metadata;
    if replayed == Some((*state_hash, *revision)) {
        return Ok(());
    }
    let detail = format!(
        "backup {id} holds state {state_hash} of revision {revision} at index {index}, the log gives {replayed:?}"
    );
    Err(Violation::new("restorability", detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::backup_testing::{BackupMaker, key, settings};
    use raftkv_core::backup::blob::{BlobError, BlobErrorKind, ObjectName};
    use raftkv_core::backup::format::Plaintext;

    #[test]
    fn another_state_and_a_false_success_are_noticed() {
        let mut maker = BackupMaker::new(1);
        let keys = [key(1)];
        let metadata = maker.make(settings(&keys), "a");
        let good = Truth {
            metadata: Some(&metadata),
            was_tampered: false,
            is_tampered: false,
            opens: Opens::Always,
            store_may_fail: false,
        };
        let restored = maker.restore(metadata.id, &keys, Plaintext::Refused).unwrap();
        let hash = Some(restored.state.hash());
        let success = Ok((&restored.metadata, hash));
        assert_eq!(check(success, good), Ok(()));
        assert_eq!(check_origin(&metadata, hash.map(|hash| (hash, metadata.revision))), Ok(()));
        assert!(check_origin(&metadata, hash.map(|hash| (hash, metadata.revision + 1))).is_err());
        assert!(check_origin(&metadata, None).is_err());
        let other = Ok((&restored.metadata, Some(StateHash::default())));
        assert!(check(other, good).is_err());
        for wrong in [
            Truth { was_tampered: true, ..good },
            Truth { opens: Opens::Never, ..good },
            Truth { metadata: None, ..good },
        ] {
            assert!(check(success, wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_false_refusal_is_noticed() {
        let mut maker = BackupMaker::new(1);
        let keys = [key(1)];
        let metadata = maker.make(settings(&keys), "a");
        let no_key = maker.restore(metadata.id, &[key(2)], Plaintext::Refused).unwrap_err();
        maker.lose(ObjectName::data(metadata.id));
        let lost = maker.restore(metadata.id, &keys, Plaintext::Refused).unwrap_err();
        let good = Truth {
            metadata: Some(&metadata),
            was_tampered: false,
            is_tampered: false,
            opens: Opens::Always,
            store_may_fail: false,
        };
        assert_eq!(check(Err(&no_key), Truth { opens: Opens::Never, ..good }), Ok(()));
        assert_eq!(check(Err(&no_key), Truth { opens: Opens::Sometimes, ..good }), Ok(()));
        assert!(check(Err(&no_key), good).is_err(), "the key was there");
        assert!(check(Err(&lost), good).is_err(), "nobody took the data");
        assert_eq!(check(Err(&lost), Truth { is_tampered: true, ..good }), Ok(()));
        assert!(check(Err(&lost), Truth { store_may_fail: true, ..good }).is_err());
        let down = ReadError::Store {
            object: ObjectName::data(metadata.id),
            error: BlobError { kind: BlobErrorKind::Transient, message: "down".into() },
        };
        assert!(check(Err(&down), good).is_err(), "nothing was refused");
        assert_eq!(check(Err(&down), Truth { store_may_fail: true, ..good }), Ok(()));
    }
}

//! The commit point of a backup: when `metadata.json` appears, all of `data.db` is there, as long as it says and with its checksum; it
//! appears once; and the data goes only after it. So no incomplete backup ever looks complete. Source: restic's order of writing.
//! Metadata that somebody deleted may be put back as it was.
//!
//! It also sees that one backup is uploaded once: a second upload under the same id would use its keys and nonces again.

use super::Violation;
use crate::model::store::{Bucket, Fact};
use raftkv_core::backup::blob::{ObjectName, Role};
use raftkv_core::backup::metadata::Signed;
use raftkv_core::backup::{BackupId, Metadata};
use std::collections::{BTreeMap, BTreeSet};

const PROPERTY: &str = "backup commit";

/// Every backup that ever became complete, by what really happened in the store.
#[derive(Debug, Default)]
pub struct Commits {
    begun: BTreeSet<BackupId>,
    complete: BTreeMap<BackupId, Metadata>,
    deleted: BTreeSet<BackupId>,
    /// Copies may be made again: their bytes are those of the backup.
    repeats: bool,
    /// Those that were.
    again: BTreeSet<BackupId>,
}

impl Commits {
    /// Of a store with copies, which are written again when one was damaged, broke off or went.
    pub fn of_copies() -> Self {
        Commits { repeats: true, ..Commits::default() }
    }

    /// Something happened in the store.
    pub fn fact(&mut self, fact: &Fact, bucket: &Bucket) -> Result<(), Violation> {
        match fact {
            Fact::Begun(object) => match self.begun.insert(object.backup) {
                true => Ok(()),
                false if self.repeats => Ok(()),
                false => Err(violation(object, "is uploaded a second time under its id")),
            },
            Fact::Appeared(object) if object.role == Role::Metadata => {
                self.appeared(object, bucket)
            }
            Fact::Removed(object) if object.role == Role::Metadata => {
                self.deleted.insert(object.backup);
                Ok(())
            }
            Fact::Removed(object)
                if object.role == Role::Data && self.is_complete(object.backup) =>
            {
                // Somebody had taken the metadata away before whoever removes the backup did.
                let metadata = bucket.get(ObjectName::metadata(object.backup));
                if metadata.is_none() && bucket.is_tampered(object.backup) {
                    return Ok(());
                }
                // The late end of a removal, after which the copy was made again: it is made once more.
                if self.repeats && self.again.contains(&object.backup) {
                    self.deleted.insert(object.backup);
                    return Ok(());
                }
                Err(violation(object, "is deleted while its metadata.json is there"))
            }
            Fact::Appeared(_) | Fact::Removed(_) | Fact::Written(..) => Ok(()),
        }
    }

    /// Whether this backup was complete at some time.
    pub fn was_complete(&self, backup: BackupId) -> bool {
        self.complete.contains_key(&backup)
    }

    /// Whether it was complete and nobody asked to delete it.
    pub fn is_complete(&self, backup: BackupId) -> bool {
        self.was_complete(backup) && !self.deleted.contains(&backup)
    }

    /// Whether it is a copy that was deleted and made again.
    pub fn was_made_again(&self, backup: BackupId) -> bool {
        self.again.contains(&backup)
    }

    /// The metadata of every backup that became complete and that nobody asked to delete.
    pub fn complete(&self) -> impl Iterator<Item = &Metadata> {
        self.complete.values().filter(|metadata| !self.deleted.contains(&metadata.id))
    }

    /// What a complete backup said when it became so.
    pub fn metadata(&self, backup: BackupId) -> Option<&Metadata> {
        self.complete.get(&backup)
    }

    fn appeared(&mut self, object: &ObjectName, bucket: &Bucket) -> Result<(), Violation> {
        let bytes = bucket.get(*object).map(AsRef::as_ref).unwrap_or_default();
        if bucket.is_tampered(object.backup) {
            // Of a copy that was damaged and is made again, only what it says is known.
            if let (true, Ok(signed)) = (self.repeats, Signed::parse(bytes)) {
                self.complete.insert(object.backup, signed.claims().clone());
            }
            return Ok(());
        }
        let signed = Signed::parse(bytes)
            .map_err(|error| violation(object, &format!("appears unreadable: {error}")))?;
        let claims = signed.claims();
        let data = bucket.get(ObjectName::data(object.backup));
        let length = data.map(|data| data.len() as u64);
        if length != Some(claims.data_bytes) {
            let found = length.map_or("no data.db".into(), |length| format!("{length} bytes"));
            let what = format!("appears beside {found} instead of {} bytes", claims.data_bytes);
            return Err(violation(object, &what));
        }
        if self.repeats && self.deleted.remove(&object.backup) {
            self.again.insert(object.backup);
        }
        match self.complete.insert(object.backup, claims.clone()) {
            None => Ok(()),
            Some(before) if self.repeats && before == *claims => Ok(()),
            // Somebody had deleted it.
            Some(before) if bucket.is_put_back(object.backup) && before == *claims => Ok(()),
            Some(_) => Err(violation(object, "appears a second time")),
        }
    }
}

fn violation(object: &ObjectName, what: &str) -> Violation {
    Violation::new(PROPERTY, format!("{object} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::backup_testing::{BackupMaker, settings};

    #[test]
    fn metadata_before_data_and_a_second_upload_are_noticed() {
        let mut maker = BackupMaker::new(1);
        let metadata = maker.make(settings(&[]), "a");
        let (data, object) = (ObjectName::data(metadata.id), ObjectName::metadata(metadata.id));
        let mut commits = Commits::default();
        for fact in maker.facts() {
            assert_eq!(commits.fact(&fact, maker.bucket()), Ok(()));
        }
        assert_eq!(commits.complete().collect::<Vec<_>>(), [&metadata]);
        assert!(commits.fact(&Fact::Begun(data), maker.bucket()).is_err(), "a second upload");
        assert!(commits.fact(&Fact::Appeared(object), maker.bucket()).is_err(), "once more");
        assert!(commits.fact(&Fact::Removed(data), maker.bucket()).is_err(), "data first");
        assert_eq!(commits.fact(&Fact::Removed(object), maker.bucket()), Ok(()));
        assert_eq!(commits.fact(&Fact::Removed(data), maker.bucket()), Ok(()));
        maker.lose(data);
        let mut commits = Commits::default();
        assert!(commits.fact(&Fact::Appeared(object), maker.bucket()).is_err(), "without data");
    }

    #[test]
    fn data_may_go_when_somebody_else_took_the_metadata() {
        let mut maker = BackupMaker::new(1);
        let metadata = maker.make(settings(&[]), "a");
        let mut commits = Commits::default();
        for fact in maker.facts() {
            assert_eq!(commits.fact(&fact, maker.bucket()), Ok(()));
        }
        maker.steal(ObjectName::metadata(metadata.id));
        let removed = Fact::Removed(ObjectName::data(metadata.id));
        assert_eq!(commits.fact(&removed, maker.bucket()), Ok(()));
    }
}

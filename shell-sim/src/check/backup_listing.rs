//! A catalog shows as complete only what is: a backup whose commit point was passed. And it shows every complete backup that is in
//! order, unless its listing lagged.

use super::Violation;
use super::backup_commit::Commits;
use crate::model::store::Bucket;
use raftkv_core::backup::blob::ObjectName;
use raftkv_core::backup::catalog::{Catalog, Proof, Standing};

const PROPERTY: &str = "backup listing";

/// Checks a catalog made from a listing that may lag: nothing incomplete is in it as complete.
pub fn check(catalog: &Catalog, commits: &Commits) -> Result<(), Violation> {
    for entry in catalog.entries.iter().filter(|entry| entry.is_complete()) {
        let said = entry.metadata.as_ref();
        let truth = commits.metadata(entry.id);
        // What is sealed for other keys cannot be proven by a list.
        let is_proven = !matches!(entry.standing, Standing::Complete(Proof::KeyMissing(_)));
        if truth.is_none() || is_proven && said != truth {
            let detail = format!(
                "{} is listed as complete with {said:?}; what became complete is {truth:?}",
                entry.id
            );
            return Err(Violation::new(PROPERTY, detail));
        }
    }
    Ok(())
}

/// Checks a catalog of what is really there: beside that, every complete backup is in it that nobody damaged, and none whose data is
/// missing or has another length than it says.
pub fn check_fresh(catalog: &Catalog, commits: &Commits, bucket: &Bucket) -> Result<(), Violation> {
    check(catalog, commits)?;
    for entry in catalog.entries.iter().filter(|entry| entry.is_complete()) {
        let said = entry.metadata.as_ref().map(|metadata| metadata.data_bytes);
        let found = bucket.get(ObjectName::data(entry.id)).map(|data| data.len() as u64);
        if said != found {
            let detail = format!(
                "{} is listed as complete with {said:?} bytes of data; there are {found:?}",
                entry.id
            );
            return Err(Violation::new(PROPERTY, detail));
        }
    }
    for metadata in commits.complete().filter(|metadata| !bucket.is_tampered(metadata.id)) {
        let entry = catalog.entries.iter().find(|entry| entry.id == metadata.id);
        let standing = entry.map(|entry| &entry.standing);
        if !matches!(standing, Some(Standing::Complete(_))) {
            let detail = format!("{} is complete, and listed as {standing:?}", metadata.id);
            return Err(Violation::new(PROPERTY, detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::backup_testing::{BackupMaker, settings};

    #[test]
    fn what_is_listed_wrongly_or_not_at_all_is_noticed() {
        let mut maker = BackupMaker::new(1);
        maker.make(settings(&[]), "a");
        let mut commits = Commits::default();
        for fact in maker.facts() {
            commits.fact(&fact, maker.bucket()).unwrap();
        }
        let catalog = maker.catalog();
        assert_eq!(check_fresh(&catalog, &commits, maker.bucket()), Ok(()));
        assert!(check(&catalog, &Commits::default()).is_err(), "it never became complete");
        let empty = Catalog::default();
        assert_eq!(check(&empty, &commits), Ok(()), "a listing may lag");
        assert!(check_fresh(&empty, &commits, maker.bucket()).is_err());
        let mut other = catalog.clone();
        other.entries[0].metadata.as_mut().unwrap().revision += 1;
        assert!(check(&other, &commits).is_err(), "it says another revision");
        maker.lose(ObjectName::data(catalog.entries[0].id));
        assert!(check_fresh(&catalog, &commits, maker.bucket()).is_err(), "its data is gone");
    }
}

//! Retention leaves what was promised: of the backups that it takes none is among the newest that always stay, by restore epoch and log
//! index, whatever any calendar says.

use super::Violation;
use super::backup_commit::Commits;
use raftkv_core::backup::{BackupId, Metadata};

/// Checks that `removed` was not among the newest `min` backups. What became complete meanwhile only counts on its side.
pub fn check(removed: BackupId, commits: &Commits, min: usize) -> Result<(), Violation> {
    let order =
        |metadata: &Metadata| (metadata.epoch, metadata.index, metadata.timestamp, metadata.id);
    let Some(gone) = commits.metadata(removed) else {
        let detail = format!("{removed} was removed as an old backup, and never was complete");
        return Err(Violation::new("retention", detail));
    };
    let newer = commits.complete().filter(|metadata| order(metadata) > order(gone)).count();
    if newer >= min {
        return Ok(());
    }
    let detail =
        format!("{removed} was removed, though {min} stay and only {newer} newer ones are there");
    Err(Violation::new("retention", detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::backup_testing::{BackupMaker, settings};

    #[test]
    fn the_removal_of_a_new_backup_is_noticed() {
        let mut maker = BackupMaker::new(1);
        let [old, new] = ["a", "b"].map(|key| maker.make(settings(&[]), key));
        let mut commits = Commits::default();
        for fact in maker.facts() {
            commits.fact(&fact, maker.bucket()).unwrap();
        }
        let (old, new) =
            match (old.index, old.timestamp, old.id) < (new.index, new.timestamp, new.id) {
                true => (old.id, new.id),
                false => (new.id, old.id),
            };
        assert_eq!(check(old, &commits, 1), Ok(()));
        assert!(check(old, &commits, 2).is_err());
        assert!(check(new, &commits, 1).is_err());
    }
}

//! A lost cluster comes back from the newest backup that any store has whole: none that is newer is passed over.

use super::Violation;
use raftkv_core::backup::Metadata;

/// Checks a backup that a cluster is about to start from, beside those that were there to be found.
pub fn check<'a>(
    restored: &Metadata,
    whole: impl IntoIterator<Item = &'a Metadata>,
) -> Result<(), Violation> {
    let age = |metadata: &Metadata| (metadata.epoch, metadata.index);
    let newer = whole.into_iter().find(|metadata| age(metadata) > age(restored));
    let Some(newer) = newer else { return Ok(()) };
    let detail = format!(
        "{} of index {} was restored, though {} of index {} is whole",
        restored.id, restored.index, newer.id, newer.index
    );
    Err(Violation::new("newest restored", detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::backup_testing::{BackupMaker, settings};

    #[test]
    fn an_older_one_is_noticed() {
        let old = BackupMaker::new(1).make(settings(&[]), "a");
        let mut newer = old.clone();
        newer.index += 1;
        assert_eq!(check(&newer, [&old, &newer]), Ok(()));
        assert_eq!(check(&old, []), Ok(()));
        assert!(check(&old, [&old, &newer]).is_err());
    }
}

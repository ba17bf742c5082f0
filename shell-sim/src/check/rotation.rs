//! Rotation of keys: what is said of a backup is so, the new key has the old one's place and no other has changed; a whole backup is not
//! called damaged by it.

use super::Violation;
use raftkv_core::backup::format::Suite;
use raftkv_core::backup::read::ReadError;
use raftkv_core::backup::rotate::Rotated;
use raftkv_core::backup::{BackupId, KeyId, Metadata};
use std::collections::BTreeSet;

/// Checks what was said of a whole backup. `keys` are those that counted for it when that began, and all that have since.
pub fn check<'a>(
    rotated: Rotated,
    metadata: &Metadata,
    (old, new): (KeyId, KeyId),
    keys: impl Iterator<Item = &'a [KeyId]>,
) -> Result<(), Violation> {
    let keys: Vec<BTreeSet<KeyId>> = keys.map(|keys| keys.iter().copied().collect()).collect();
    let has = |keys: &BTreeSet<KeyId>| (keys.contains(&old), keys.contains(&new));
    // Another one's late write may have come in between.
    let follows = |(at, after): (usize, &BTreeSet<KeyId>)| {
        keys[..at].iter().filter(|before| before.contains(&old)).any(|before| {
            let mut expected = before.clone();
            expected.remove(&old);
            expected.insert(new);
            expected == *after
        })
    };
    let is_so = match rotated {
        Rotated::Plain => metadata.suite == Suite::Plain,
        _ if metadata.suite == Suite::Plain => false,
        Rotated::Changed => keys.iter().enumerate().any(follows),
        Rotated::Already => keys.iter().any(|keys| has(keys) == (false, true)),
        Rotated::NotConcerned => keys.iter().any(|keys| has(keys) == (false, false)),
    };
    if is_so {
        return Ok(());
    }
    let detail = format!(
        "{} is said to be {rotated:?} from {old} to {new}; its keys were {keys:?}",
        metadata.id
    );
    Err(Violation::new("rotation", detail))
}

/// A whole backup was called damaged, or said to have another key.
pub fn refused(id: BackupId, error: &ReadError) -> Violation {
    Violation::new("rotation", format!("{id} is whole, and its keys cannot be changed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::backup_testing::{BackupMaker, key, settings};

    #[test]
    fn a_key_that_was_lost_or_has_stayed_and_a_false_word_are_noticed() {
        let [old, new, other] = [1, 2, 3].map(|number| key(number).id());
        let metadata = BackupMaker::new(1).make(settings(&[key(1), key(3)]), "a");
        let told = |rotated, keys: &[&[KeyId]]| {
            check(rotated, &metadata, (old, new), keys.iter().copied()).is_ok()
        };
        assert!(told(Rotated::Changed, &[&[old, other], &[other, new]]));
        assert!(told(Rotated::Changed, &[&[old, other], &[other, new], &[old]]), "a late write");
        assert!(!told(Rotated::Changed, &[&[old, other], &[new]]), "the other one is lost");
        assert!(!told(Rotated::Changed, &[&[old, other], &[old, other, new]]), "it has stayed");
        assert!(!told(Rotated::Changed, &[&[old, other]]), "nothing was written");
        assert!(told(Rotated::Already, &[&[other, new]]) && !told(Rotated::Already, &[&[old]]));
        assert!(told(Rotated::NotConcerned, &[&[other]]));
        assert!(!told(Rotated::NotConcerned, &[&[old]]) && !told(Rotated::Plain, &[&[old]]));
    }

    #[test]
    fn what_is_not_encrypted_is_called_so() {
        let (old, new) = (key(1).id(), key(2).id());
        let plain = BackupMaker::new(1).make(settings(&[]), "a");
        let told = |rotated| check(rotated, &plain, (old, new), [&[][..]].into_iter());
        assert_eq!(told(Rotated::Plain), Ok(()));
        assert!(told(Rotated::NotConcerned).is_err());
    }
}

//! Monotone revision: it never falls, not over crashes, compactions or changes of leader. etcd #17780, #14685.

use super::Violation;
use raftkv_core::api::Revision;

/// Checks revisions in the order of the log: `(index, revision after it)`.
pub fn check(revisions: impl IntoIterator<Item = (u64, Revision)>) -> Result<(), Violation> {
    let mut last = (0, 0);
    for (index, revision) in revisions {
        if revision < last.1 {
            let detail = format!(
                "revision {} after entry {}, but {revision} after entry {index}",
                last.1, last.0
            );
            return Err(Violation::new("monotone revision", detail));
        }
        last = (index, revision);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_falling_revision_is_noticed() {
        assert_eq!(check([(1, 1), (2, 1), (3, 2)]), Ok(()));
        assert!(check([(1, 1), (2, 2), (3, 1)]).is_err());
    }
}

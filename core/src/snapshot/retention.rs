//! Which snapshot files to remove: all but the newest complete ones, never one that is being sent, and leftovers.

use crate::io::{DiskOp, FileName};
use crate::planted::{self, Bug};

/// The removals that leave the newest `keep` of `complete` (at least one), and every index of `in_use`.
pub fn surplus(complete: &[u64], keep: usize, in_use: &[u64]) -> Vec<DiskOp> {
    let mut newest_first = complete.to_vec();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    newest_first.dedup();
    newest_first
        .into_iter()
        .skip(keep.max(1) - usize::from(planted::is(Bug::NewestSnapshotRemoved)))
        .filter(|index| !in_use.contains(index))
        .map(|index| DiskOp::Remove { file: FileName::Snapshot(index) })
        .collect()
}

/// The files that a stopped process left unfinished.
pub fn leftovers(files: impl Iterator<Item = FileName>) -> impl Iterator<Item = FileName> {
    files.filter(|file| matches!(file, FileName::SnapshotTemp(_) | FileName::IdentityTemp))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(ops: Vec<DiskOp>) -> Vec<FileName> {
        ops.iter().map(DiskOp::file).collect()
    }

    #[test]
    fn newest_and_used_stay() {
        let ops = surplus(&[5, 40, 20, 30, 10], 2, &[10]);
        assert_eq!(removed(ops), [FileName::Snapshot(20), FileName::Snapshot(5)]);
        assert_eq!(removed(surplus(&[7, 3], 0, &[])), [FileName::Snapshot(3)]);
        assert_eq!(removed(surplus(&[], 3, &[])), []);
    }

    #[test]
    fn only_unfinished_files_are_leftovers() {
        let files = [
            FileName::Identity,
            FileName::SnapshotTemp(3),
            FileName::Snapshot(3),
            FileName::Wal(1),
            FileName::IdentityTemp,
        ];
        assert!(
            leftovers(files.into_iter()).eq([FileName::SnapshotTemp(3), FileName::IdentityTemp])
        );
    }
}

//! A restored cluster is a new one: another id, the next epoch, and every number that a client of the old one may hold is below what
//! the new one gives out: revisions, and the log indexes that name sessions and leases.

use super::Violation;
use raftkv_core::api::Revision;
use raftkv_core::ids::{ClusterId, Epoch};

/// What is known of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Its id.
    pub cluster: ClusterId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Of the lost cluster the newest revision that any client was told; of the new one where its revisions begin.
    pub revision: Revision,
    /// Of the lost cluster the last log index; of the new one where its log begins.
    pub index: u64,
}

/// Holds a new cluster against the one it replaces.
pub fn check(old: Bounds, new: Bounds) -> Result<(), Violation> {
    let complaints = [
        (new.cluster == old.cluster, "has the id of the old one"),
        (new.epoch <= old.epoch, "is of no later epoch"),
        (new.revision <= old.revision, "gives revisions that were given before"),
        (new.index <= old.index, "gives names to sessions and leases that were given before"),
    ];
    match complaints.iter().find(|(is_so, _)| *is_so) {
        None => Ok(()),
        Some((_, what)) => {
            let detail = format!("the restored cluster {what}: {old:?}, {new:?}");
            Err(Violation::new("rebirth", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_that_comes_again_is_noticed() {
        let old = Bounds { cluster: ClusterId([1; 16]), epoch: Epoch(0), revision: 10, index: 20 };
        let new = Bounds { cluster: ClusterId([2; 16]), epoch: Epoch(1), revision: 11, index: 21 };
        assert_eq!(check(old, new), Ok(()));
        for wrong in [
            Bounds { cluster: old.cluster, ..new },
            Bounds { epoch: old.epoch, ..new },
            Bounds { revision: old.revision, ..new },
            Bounds { index: old.index, ..new },
        ] {
            assert!(check(old, wrong).is_err(), "{wrong:?}");
        }
    }
}

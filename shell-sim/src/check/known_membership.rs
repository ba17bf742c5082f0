//! Whoever acts on a change of membership has asked its disk to keep that: a node that forgets it in a crash might look for a majority among
//! nodes that are gone. What the disk has not kept yet is up to the atlas, which lets nobody go for good whom an old membership needs.
//! Source: raft-rs takes a change into account when it is applied, and tells nobody that the commit index must be kept for that.

use super::Violation;
use raftkv_core::ids::NodeId;

/// Checks a node that acts on the configuration of entry `change`, has a snapshot of everything up to `base`, and has handed a commit
/// index of `written` to its disk.
pub fn check(node: NodeId, change: u64, base: u64, written: u64) -> Result<(), Violation> {
    if change <= base.max(written) {
        return Ok(());
    }
    let detail = format!(
        "node {node} acts on the membership of entry {change}, and after a crash would know no more than entry {written}"
    );
    Err(Violation::new("known membership", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_a_crash_would_undo_is_noticed() {
        let node = NodeId::new(1, 0);
        assert_eq!(check(node, 7, 0, 7), Ok(()));
        assert_eq!(check(node, 7, 7, 0), Ok(()), "the snapshot says it");
        assert!(check(node, 7, 6, 6).is_err());
    }
}

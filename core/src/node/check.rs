//! What must hold between the machines of a node, whatever has happened.

use super::{Broken, Node};

impl Node {
    /// Compares the machines with each other.
    pub fn check(&self) -> Result<(), Broken> {
        let consensus = &self.consensus;
        let order = [
            ("log start", consensus.compacted_index()),
            ("applied", self.applied.0),
            ("commit", consensus.commit_index()),
            ("last", consensus.last_index()),
        ];
        for pair in order.windows(2) {
            if pair[0].1 > pair[1].1 {
                return Err(Broken(format!(
                    "{} {} is beyond {} {}",
                    pair[0].0, pair[0].1, pair[1].0, pair[1].1
                )));
            }
        }
        if self.snapshots.newest_index() > self.applied.0 {
            return Err(Broken("a snapshot is newer than the state".into()));
        }
        if consensus.compacted_index() > self.snapshots.newest_index() {
            return Err(Broken("the log starts behind the newest snapshot".into()));
        }
        if self.state.compacted() > self.state.revision() {
            return Err(Broken("compaction is ahead of the revision".into()));
        }
        Ok(())
    }
}

//! What must hold between the machines of a node, whatever has happened.

use super::{Broken, Node};
use crate::ids::NodeId;
use crate::time::Now;

impl Node {
    /// The moment of its last input.
    pub fn now(&self) -> Now {
        self.now
    }

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
        let sent = |peer: &NodeId| self.snapshots.is_sending_to(*peer);
        // A node that has stopped starts nothing any more.
        if !self.halted
            && consensus.is_leader()
            && let Some(peer) = consensus.awaiting_snapshot().find(|peer| !sent(peer))
        {
            return Err(Broken(format!("node {peer} waits for a snapshot that nobody sends")));
        }
        if self.state.compacted() > self.state.revision() {
            return Err(Broken("compaction is ahead of the revision".into()));
        }
        Ok(())
    }
}

//! No compaction overtakes a watch that runs: what it has not been told yet is told before it is forgotten. etcd #15271.
//!
//! Excused is a node that has skipped entries, because it has installed a snapshot.

use super::Violation;
use raftkv_core::api::{Error, Response};
use raftkv_core::ids::NodeId;

/// A watch that had said from where it runs, on `node`, which has applied every entry since, is given this.
pub fn check(node: NodeId, response: &Response) -> Result<(), Violation> {
    match response {
        Response::Error(Error::Compacted { asked, oldest }) => {
            let detail = format!(
                "a watch that ran on node {node} is told that revision {asked} is compacted up to {oldest}"
            );
            Err(Violation::new("watch, undisturbed", detail))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_watch_that_is_overtaken_is_noticed() {
        let node = NodeId::new(1, 0);
        let compacted = Error::Compacted { asked: 3, oldest: 5 };
        assert!(check(node, &Response::Error(compacted)).is_err());
        assert_eq!(check(node, &Response::Error(Error::Unknown)), Ok(()));
        assert_eq!(check(node, &Response::Watch { revision: 3, events: vec![] }), Ok(()));
    }
}

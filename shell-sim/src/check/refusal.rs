//! Old nodes and other clusters are refused: a node is only ever handed frames of its own cluster in its own epoch.

use super::Violation;
use raftkv_core::ids::Identity;

/// A frame of `from` is handed to the node `here`.
pub fn delivered(from: &Identity, here: &Identity) -> Result<(), Violation> {
    if (from.cluster, from.epoch) == (here.cluster, here.epoch) {
        return Ok(());
    }
    let detail = format!("{here:?} is handed a frame of {from:?}");
    Err(Violation::new("old nodes refused", detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::ids::{ClusterId, Epoch, NodeId};

    #[test]
    fn a_frame_from_elsewhere_is_noticed() {
        let here =
            Identity { cluster: ClusterId([1; 16]), epoch: Epoch(1), node: NodeId::new(1, 0) };
        let peer = Identity { node: NodeId::new(2, 0), ..here };
        assert_eq!(delivered(&peer, &here), Ok(()));
        assert!(delivered(&Identity { epoch: Epoch(0), ..peer }, &here).is_err());
        assert!(delivered(&Identity { cluster: ClusterId([2; 16]), ..peer }, &here).is_err());
    }
}

//! Who is who: clusters, restore epochs, members and their incarnations, operations and requests.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Names one cluster. A restore always makes a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

/// How many restores lie between this cluster and its first ancestor.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

/// A voter or learner in consensus: the operator's member number in the low 32 bits, its incarnation in the
/// high 32. A member that lost its disk comes back under the next incarnation, because a node that forgot its
/// votes must never vote again under the same name.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl NodeId {
    /// No node: raft's id 0.
    pub const NONE: NodeId = NodeId(0);

    /// The id of a member's incarnation. `member` must not be zero.
    pub const fn new(member: u32, incarnation: u32) -> Self {
        NodeId(((incarnation as u64) << 32) | member as u64)
    }

    /// The operator's number for this member.
    pub const fn member(self) -> u32 {
        self.0 as u32
    }

    /// How often this member has been replaced after losing its disk.
    pub const fn incarnation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.incarnation() {
            0 => write!(f, "{}", self.member()),
            incarnation => write!(f, "{}.{incarnation}", self.member()),
        }
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// A cluster id is 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cluster id is 32 hexadecimal digits")]
pub struct BadClusterId;

impl FromStr for ClusterId {
    type Err = BadClusterId;
    fn from_str(text: &str) -> Result<Self, BadClusterId> {
        if text.len() != 32 || !text.is_ascii() {
            return Err(BadClusterId);
        }
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| BadClusterId)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| BadClusterId)?;
        }
        Ok(ClusterId(id))
    }
}

/// Which node of which cluster a data directory, a connection or an object belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its restore epoch.
    pub epoch: Epoch,
    /// The node within it.
    pub node: NodeId,
}

/// Names one operation that the core asked of the disk, until its completion comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OpId(pub u64);

/// Names one client request from its arrival until its last reply. Drawn by the shell, unique per process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReqId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_show_member_and_incarnation() {
        assert_eq!(NodeId::new(2, 0).to_string(), "2");
        assert_eq!(NodeId::new(2, 3).to_string(), "2.3");
        assert_eq!(NodeId::new(2, 3).member(), 2);
        assert_eq!(NodeId::new(2, 3).incarnation(), 3);
    }

    #[test]
    fn cluster_ids_parse_what_they_print() {
        let id = ClusterId(*b"0123456789abcdef");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("xyz".parse::<ClusterId>(), Err(BadClusterId));
    }
}

//! Election safety: at most one leader in a term. Raft paper, figure 3.

use super::Violation;
use raftkv_core::ids::NodeId;
use std::collections::BTreeMap;

/// Every leader ever seen.
#[derive(Debug, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<u64, NodeId>,
}

impl ElectionSafety {
    /// `node` acts as leader of `term`. Says whether this is news.
    pub fn leads(&mut self, term: u64, node: NodeId) -> Result<bool, Violation> {
        match self.leaders.insert(term, node) {
            None => Ok(true),
            Some(other) if other == node => Ok(false),
            Some(other) => Err(Violation::new(
                "election safety",
                format!("term {term} has two leaders, {other} and {node}"),
            )),
        }
    }

    /// How many terms had a leader.
    pub fn elections(&self) -> usize {
        self.leaders.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_in_a_term_are_noticed() {
        let (a, b) = (NodeId::new(1, 0), NodeId::new(2, 0));
        let mut check = ElectionSafety::default();
        assert_eq!(check.leads(1, a), Ok(true));
        assert_eq!(check.leads(1, a), Ok(false));
        assert_eq!(check.leads(2, b), Ok(true));
        assert!(check.leads(2, a).is_err());
    }
}

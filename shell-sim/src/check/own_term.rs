//! A leader counts copies only of entries of its own term; those of earlier terms are committed with them. Raft paper §5.4.2, figure 8.

use super::Violation;
use raftkv_core::ids::NodeId;
use std::collections::BTreeMap;

/// The commit index of every leader, in the term that it leads in.
#[derive(Debug, Default)]
pub struct OwnTermCommits {
    leading: BTreeMap<NodeId, (u64, u64)>,
}

impl OwnTermCommits {
    /// `node` leads in `term` and has committed up to `index`; `entry_term` is the term of that entry, where it is known.
    pub fn leads(
        &mut self,
        node: NodeId,
        term: u64,
        index: u64,
        entry_term: Option<u64>,
    ) -> Result<(), Violation> {
        let before = self.leading.insert(node, (term, index));
        let has_moved = before.is_some_and(|(led, from)| led == term && from < index);
        match entry_term.filter(|entry_term| has_moved && *entry_term != term) {
            None => Ok(()),
            Some(entry_term) => {
                let detail = format!(
                    "node {node} leads in term {term} and commits entry {index} of term {entry_term} by itself"
                );
                Err(Violation::new("commit of the own term", detail))
            }
        }
    }

    /// `node` does not lead, or not any more.
    pub fn follows(&mut self, node: NodeId) {
        self.leading.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_an_earlier_term_is_not_committed_alone() {
        let node = NodeId::new(1, 0);
        let mut check = OwnTermCommits::default();
        assert_eq!(check.leads(node, 4, 2, Some(2)), Ok(()), "known before it led");
        assert_eq!(check.leads(node, 4, 5, Some(4)), Ok(()));
        assert!(check.leads(node, 4, 6, Some(3)).is_err());
        check.follows(node);
        assert_eq!(check.leads(node, 5, 7, Some(3)), Ok(()));
    }
}

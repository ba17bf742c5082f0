//! Leader completeness: whoever is elected has every entry that was committed in an earlier term. Raft paper, figure 3.

use super::Violation;
use raftkv_core::ids::NodeId;

/// `node` was elected in `term`; `has` says the term of the entry it has at an index, and `None` where a snapshot holds it. `committed`
/// are index and term of every entry applied anywhere.
pub fn elected(
    node: NodeId,
    term: u64,
    starts_behind: u64,
    has: impl Fn(u64) -> Option<u64>,
    committed: impl Iterator<Item = (u64, u64)>,
) -> Result<(), Violation> {
    let mut earlier = committed.filter(|(index, of)| *index > starts_behind && *of < term);
    match earlier.find(|(index, of)| has(*index) != Some(*of)) {
        None => Ok(()),
        Some((index, of)) => {
            let detail = format!(
                "node {node} leads in term {term} and has {:?} where entry {index} of term {of} was committed",
                has(index)
            );
            Err(Violation::new("leader completeness", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_leader_without_a_committed_entry_is_noticed() {
        let node = NodeId::new(1, 0);
        let log = BTreeMap::from([(3, 1), (4, 2)]);
        let has = |index: u64| log.get(&index).copied();
        let check = |committed: &[(u64, u64)]| elected(node, 3, 2, has, committed.iter().copied());
        assert_eq!(check(&[(1, 1), (3, 1), (4, 2)]), Ok(()));
        assert!(check(&[(3, 1), (4, 1)]).is_err());
        assert!(check(&[(5, 2)]).is_err());
        assert_eq!(check(&[(5, 3)]), Ok(()), "that one is of its own term");
    }
}

//! Quorum durability: an entry is applied only after a majority of the voters hold it on stable storage. Raft paper §5.3, §5.4.2.

use super::Violation;
use super::recovery::DurableLogs;
use raftkv_core::ids::NodeId;
use raftkv_core::log::ConfState;

/// The entry at `index` was applied for the first time: `conf` is the membership its commit was counted by.
pub fn committed(
    logs: &DurableLogs,
    conf: &ConfState,
    index: u64,
    term: u64,
) -> Result<(), Violation> {
    for voters in [&conf.voters, &conf.voters_outgoing] {
        let holders: Vec<NodeId> =
            voters.iter().copied().filter(|voter| logs.holds(*voter, index, term)).collect();
        if !voters.is_empty() && holders.len() * 2 <= voters.len() {
            let detail = format!(
                "entry {index} of term {term} was applied, but of the voters {voters:?} only {holders:?} hold it durably"
            );
            return Err(Violation::new("quorum durability", detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minority_is_noticed_on_either_side_of_a_joint_change() {
        let ids: Vec<NodeId> = (1..=5).map(|member| NodeId::new(member, 0)).collect();
        let mut logs = DurableLogs::default();
        logs.appended(ids[0], &[(7, 2)]);
        logs.appended(ids[1], &[(7, 2)]);
        let mut conf = ConfState { voters: ids[..3].to_vec(), ..ConfState::default() };
        assert_eq!(committed(&logs, &conf, 7, 2), Ok(()));
        assert!(committed(&logs, &conf, 7, 1).is_err());
        conf.voters_outgoing = ids[1..].to_vec();
        assert!(committed(&logs, &conf, 7, 2).is_err());
    }
}

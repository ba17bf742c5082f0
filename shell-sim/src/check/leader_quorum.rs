//! Whoever leads hears a quorum: a leader that has heard no majority of the voters for three election timeouts has stepped down. Thesis §6.2.
//!
//! Time counts as raft counts it, in ticks during which the process ran: one that is paused cannot step down.

use super::Violation;
use raftkv_core::ids::NodeId;
use raftkv_core::log::ConfState;
use raftkv_core::time::Span;
use std::collections::{BTreeMap, BTreeSet};

/// Election timeouts without a quorum after which nobody leads: raft looks once in each, at what came since it looked before.
const TIMEOUTS_MAX: u64 = 3;

/// What every leader has heard.
#[derive(Debug, Default)]
pub struct LeaderQuorum {
    leaders: BTreeMap<NodeId, Lead>,
}

#[derive(Debug, Default)]
struct Lead {
    term: u64,
    /// Since a quorum was heard.
    heard: BTreeSet<NodeId>,
    lonely: Span,
}

impl LeaderQuorum {
    /// `node` leads in `term`, has just heard `peers`, and has run for `ran` since it was looked at before, a tick at most.
    pub fn leads(
        &mut self,
        node: NodeId,
        term: u64,
        conf: &ConfState,
        peers: &[NodeId],
        ran: Span,
        election_timeout: Span,
    ) -> Result<(), Violation> {
        let lead = self.leaders.entry(node).or_default();
        if lead.term != term {
            *lead = Lead { term, ..Lead::default() };
        }
        lead.heard.insert(node);
        lead.heard.extend(peers);
        let has_quorum = |voters: &[NodeId]| {
            let heard = voters.iter().filter(|voter| lead.heard.contains(voter)).count();
            voters.is_empty() || heard > voters.len() / 2
        };
        if has_quorum(&conf.voters) && has_quorum(&conf.voters_outgoing) {
            *lead = Lead { term, ..Lead::default() };
            return Ok(());
        }
        lead.lonely = Span(lead.lonely.0 + ran.0);
        if lead.lonely.0 <= TIMEOUTS_MAX * election_timeout.0 {
            return Ok(());
        }
        let detail = format!(
            "node {node} leads in term {term}, and has heard only {:?} of {:?} for {} ms",
            lead.heard,
            conf.voters,
            lead.lonely.as_millis()
        );
        Err(Violation::new("leader's quorum", detail))
    }

    /// `node` does not lead.
    pub fn follows(&mut self, node: NodeId) {
        self.leaders.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_nobody_answers_is_noticed() {
        let [one, two, three] = [1, 2, 3].map(|member| NodeId::new(member, 0));
        let conf = ConfState { voters: vec![one, two, three], ..ConfState::default() };
        let timeout = Span::from_millis(1_000);
        let mut check = LeaderQuorum::default();
        let mut look = |node, peers: &[NodeId], ran| {
            check.leads(node, 5, &conf, peers, Span::from_millis(ran), timeout)
        };
        assert_eq!(look(one, &[], 2_900), Ok(()));
        assert_eq!(look(one, &[two], 200), Ok(()), "that is a quorum");
        assert_eq!(look(one, &[], 3_000), Ok(()));
        assert!(look(one, &[], 1).is_err());
        check.follows(one);
        assert_eq!(check.leads(one, 6, &conf, &[], Span::from_millis(3_000), timeout), Ok(()));
    }
}

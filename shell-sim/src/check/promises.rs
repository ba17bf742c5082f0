//! What a node tells others is true on its own disk: a vote it grants, a term it leads in, entries it says it holds.
//! Raft paper, figure 2: "updated on stable storage before responding to RPCs".

use super::Violation;
use super::hard_state::HardStates;
use super::recovery::DurableLogs;
use raftkv_core::ids::NodeId;
use raftkv_core::log::HardState;
use raftkv_core::wire::peer::{RaftKind, RaftMessage};

/// `node` sends this message; its disk holds what the other two say. `is_replaced` says whether the node has written another entry of a
/// later term than this in this place, or none.
pub fn kept(
    node: NodeId,
    message: &RaftMessage,
    states: &HardStates,
    logs: &DurableLogs,
    is_replaced: impl Fn(u64, u64) -> bool,
) -> Result<(), Violation> {
    // A node of which nothing is known yet has nothing to compare with.
    let Some(state) = states.durable_state(node) else { return Ok(()) };
    let broken = |what: &str| {
        let detail = format!(
            "node {node} sends {:?} of term {} to {}, but {what}: its disk holds {state:?}",
            message.kind, message.term, message.to
        );
        Err(Violation::new("promises", detail))
    };
    match message.kind {
        RaftKind::RequestVoteResponse
            if !message.reject && !has_voted(&state, message.term, message.to) =>
        {
            return broken("the vote is not durable");
        }
        RaftKind::RequestVote | RaftKind::Append | RaftKind::Heartbeat
            if !has_voted(&state, message.term, node) =>
        {
            return broken("its vote for itself is not durable");
        }
        RaftKind::AppendResponse if !message.reject => {
            if state.term < message.term {
                return broken("the term is not durable");
            }
            // A leader of a later term may have replaced the entry before the answer left. Whoever elected it never had the entry, and
            // answers nobody of the earlier term any more, so that the entry cannot have been committed.
            let is_void = state.term > message.term && is_replaced(message.index, message.term);
            if !is_void && logs.last_index(node) < message.index {
                return broken(&format!("entry {} is not durable", message.index));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether the vote is on the disk; a later term has taken its place if it is not there any more.
fn has_voted(state: &HardState, term: u64, vote: NodeId) -> bool {
    state.term > term || (state.term == term && state.vote == vote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn message(kind: RaftKind, term: u64, index: u64) -> RaftMessage {
        RaftMessage {
            kind,
            to: NodeId::new(2, 0),
            from: NodeId::new(1, 0),
            term,
            log_term: 0,
            index,
            entries: Vec::new(),
            commit: 0,
            commit_term: 0,
            snapshot: None,
            request_snapshot: 0,
            reject: false,
            reject_hint: 0,
            context: Bytes::new(),
            priority: 0,
        }
    }

    #[test]
    fn what_is_said_before_it_is_durable_is_noticed() {
        let (node, other) = (NodeId::new(1, 0), NodeId::new(2, 0));
        let (mut states, mut logs) = (HardStates::default(), DurableLogs::default());
        states.durable(node, HardState { term: 3, vote: other, commit: 0 });
        logs.appended(node, &[(1, 1), (2, 3)]);
        let kept = |kind, term, index, is_replaced| {
            kept(node, &message(kind, term, index), &states, &logs, |_, _| is_replaced)
        };
        let says = |kind, term, index| kept(kind, term, index, false);
        assert_eq!(says(RaftKind::RequestVoteResponse, 3, 0), Ok(()));
        assert!(says(RaftKind::RequestVoteResponse, 4, 0).is_err(), "the vote is not durable");
        assert!(says(RaftKind::Heartbeat, 3, 0).is_err(), "it voted for another");
        assert_eq!(says(RaftKind::AppendResponse, 3, 2), Ok(()));
        assert!(says(RaftKind::AppendResponse, 3, 3).is_err(), "entry 3 is not durable");
        assert!(says(RaftKind::AppendResponse, 4, 2).is_err(), "term 4 is not durable");
        assert!(says(RaftKind::AppendResponse, 2, 3).is_err(), "of an earlier term, either");
        assert_eq!(kept(RaftKind::AppendResponse, 2, 3, true), Ok(()), "it was replaced");
    }
}

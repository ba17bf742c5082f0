//! Looks at a peer's message before raft does. raft-rs takes its peers' word and panics where a promise was broken; here a message
//! that makes no sense is dropped, and one that proves a broken promise stops the node with words.
//!
//! Source: raft-rs `raft_log.rs` (`commit_to`, `maybe_append`) and `raft.rs` (`handle_append_response`).

use super::membership::ConfChange;
use super::memlog::MemLog;
use crate::ids::NodeId;
use crate::log::EntryKind;
use crate::wire::peer::{RaftKind, RaftMessage};
use raft::{RawNode, StateRole};

/// Somebody's log is not what it promised to be. The text says what gave it away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion(pub String);

/// Whether a message could come from a correct peer at all.
pub fn is_well_formed(from: NodeId, here: NodeId, message: &RaftMessage) -> bool {
    message.from == from && message.to == here && message.kind_fits() && entries_fit(message)
}

impl RaftMessage {
    fn kind_fits(&self) -> bool {
        match self.kind {
            RaftKind::Snapshot => self.snapshot.as_ref().is_some_and(|meta| meta.index > 0),
            RaftKind::ReadIndex | RaftKind::ReadIndexResponse => self.entries.len() == 1,
            RaftKind::Append => true,
            _ => self.entries.is_empty(),
        }
    }
}

fn entries_fit(message: &RaftMessage) -> bool {
    if message.kind != RaftKind::Append {
        return true;
    }
    let mut before = (message.index, message.log_term);
    message.entries.iter().all(|entry| {
        let follows = before.0.checked_add(1) == Some(entry.index)
            && entry.term >= before.1
            && entry.term <= message.term;
        before = (entry.index, entry.term);
        follows && (entry.kind == EntryKind::Normal || ConfChange::decode(&entry.data).is_some())
    })
}

/// Whether raft can take the message. Terms are raft's business: only what the current term's leader or followers say counts.
pub fn check(raw: &RawNode<MemLog>, message: &RaftMessage) -> Result<(), Suspicion> {
    let raft = &raw.raft;
    let log = &raft.raft_log;
    let (last, committed) = (log.last_index(), log.committed);
    if message.term < raft.term {
        return Ok(());
    }
    match message.kind {
        // The leader sends at most what this node once acknowledged.
        RaftKind::Heartbeat if message.commit > last => Err(Suspicion(format!(
            "node {} knows entries up to {} to be on this node, but the log ends at {last}",
            message.from, message.commit
        ))),
        RaftKind::Append => {
            let clash = message.entries.iter().find(|entry| {
                entry.index <= committed
                    && log.term(entry.index).is_ok_and(|term| term != 0 && term != entry.term)
            });
            match clash {
                None => Ok(()),
                Some(entry) => Err(Suspicion(format!(
                    "node {} sends entry {} of term {}, but another one is committed there",
                    message.from, entry.index, entry.term
                ))),
            }
        }
        RaftKind::AppendResponse
            if raft.state == StateRole::Leader
                && message.term == raft.term
                && !message.reject
                && message.index > last =>
        {
            Err(Suspicion(format!(
                "node {} holds entries up to {}, but this leader's log ends at {last}",
                message.from, message.index
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Entry;
    use bytes::Bytes;

    fn append(entries: Vec<Entry>) -> RaftMessage {
        RaftMessage {
            kind: RaftKind::Append,
            to: NodeId(1),
            from: NodeId(2),
            term: 3,
            log_term: 1,
            index: 4,
            entries,
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

    fn entry(index: u64, term: u64, kind: EntryKind, data: &'static [u8]) -> Entry {
        Entry { index, term, kind, data: Bytes::from_static(data) }
    }

    fn fits(entries: Vec<Entry>) -> bool {
        is_well_formed(NodeId(2), NodeId(1), &append(entries))
    }

    #[test]
    fn nonsense_is_dropped() {
        assert!(fits(vec![
            entry(5, 2, EntryKind::Normal, b""),
            entry(6, 3, EntryKind::Normal, b"")
        ]));
        assert!(!fits(vec![entry(6, 2, EntryKind::Normal, b"")]), "a gap");
        assert!(!fits(vec![entry(5, 4, EntryKind::Normal, b"")]), "a term above the message's");
        assert!(!fits(vec![entry(5, 0, EntryKind::Normal, b"")]), "a term that falls");
        assert!(!fits(vec![entry(5, 2, EntryKind::Membership, b"\xff")]), "damaged membership");
        assert!(!is_well_formed(NodeId(3), NodeId(1), &append(vec![])), "under another's name");
    }
}

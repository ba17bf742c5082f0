//! A snapshot and a log, each whole in itself, put together into one history.
//!
//! Source: Raft paper §7 and figure 13 (InstallSnapshot): entries behind the snapshot go; entries after it stay only if the log
//! agrees with the snapshot at its last entry.

use crate::ids::NodeId;
use crate::log::{Entry, HardState};
use crate::planted::{self, Bug};
use crate::wire::peer::SnapshotMeta;
use std::collections::VecDeque;

/// One history.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Merged {
    /// At least the snapshot's term and index: a durable snapshot proves both.
    pub hard_state: HardState,
    /// The entries right behind the snapshot.
    pub entries: VecDeque<Entry>,
    /// The log on disk does not join the snapshot, and must be restarted behind it.
    pub restart: bool,
}

/// Puts a log that starts (or would) at `first_index` behind a snapshot. The error says what is missing.
pub(super) fn merge(
    snapshot: Option<&SnapshotMeta>,
    mut hard_state: HardState,
    first_index: u64,
    mut entries: VecDeque<Entry>,
) -> Result<Merged, String> {
    let (index, term) = snapshot.map_or((0, 0), |snapshot| (snapshot.index, snapshot.term));
    if first_index > index.saturating_add(1) {
        return Err(format!(
            "the log starts at entry {first_index}, the newest usable snapshot ends at {index}: a newer snapshot is missing"
        ));
    }
    if snapshot.is_none() && !entries.is_empty() {
        return Err("there are entries, but no snapshot they build on".into());
    }
    let last_index = first_index - 1 + entries.len() as u64;
    let joins = match index.checked_sub(first_index) {
        // The log starts right behind the snapshot.
        None => true,
        Some(place) => entries.get(place as usize).is_some_and(|entry| {
            entry.term == term || planted::is(Bug::StaleLogKeptBehindSnapshot)
        }),
    };
    if joins {
        entries.drain(..(index + 1 - first_index) as usize);
    } else {
        entries.clear();
    }
    let last_index = if joins { last_index } else { index };
    if term > hard_state.term {
        // This node never voted in the snapshot's term, else that term would be in its log.
        hard_state.term = term;
        hard_state.vote = NodeId::NONE;
    }
    hard_state.commit = hard_state.commit.max(index);
    if hard_state.commit > last_index {
        return Err(format!(
            "entries up to {} were committed, but the log ends at {last_index}",
            hard_state.commit
        ));
    }
    Ok(Merged { hard_state, entries, restart: !joins })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::EntryKind;

    fn entries(terms: &[(u64, u64)]) -> VecDeque<Entry> {
        let entry = |(index, term): &(u64, u64)| Entry {
            index: *index,
            term: *term,
            kind: EntryKind::Normal,
            data: "".into(),
        };
        terms.iter().map(entry).collect()
    }

    fn at(index: u64, term: u64) -> SnapshotMeta {
        SnapshotMeta { index, term, ..SnapshotMeta::default() }
    }

    fn hard(term: u64, commit: u64) -> HardState {
        HardState { term, vote: NodeId::new(1, 0), commit }
    }

    #[test]
    fn a_log_that_holds_the_snapshots_entry_goes_on() {
        let log = entries(&[(4, 2), (5, 2), (6, 3)]);
        let merged = merge(Some(&at(5, 2)), hard(3, 4), 4, log).unwrap();
        assert_eq!(merged.entries, entries(&[(6, 3)]));
        assert_eq!(merged.hard_state, hard(3, 5));
        assert!(!merged.restart);
    }

    #[test]
    fn a_log_right_behind_the_snapshot_goes_on() {
        let merged = merge(Some(&at(5, 2)), hard(3, 6), 6, entries(&[(6, 3)])).unwrap();
        assert_eq!((merged.entries.len(), merged.restart), (1, false));
        let empty = merge(Some(&at(5, 2)), hard(2, 5), 6, entries(&[])).unwrap();
        assert_eq!((empty.entries.len(), empty.restart), (0, false));
    }

    #[test]
    fn a_log_that_ends_before_or_contradicts_the_snapshot_restarts() {
        for log in [entries(&[(3, 1), (4, 1)]), entries(&[(3, 1), (4, 1), (5, 1), (6, 1)])] {
            let merged = merge(Some(&at(5, 2)), hard(1, 2), 3, log).unwrap();
            assert_eq!(merged.entries, entries(&[]));
            assert!(merged.restart);
            assert_eq!(merged.hard_state, HardState { term: 2, vote: NodeId::NONE, commit: 5 });
        }
    }

    #[test]
    fn missing_history_is_refused() {
        assert!(merge(Some(&at(5, 2)), hard(2, 5), 7, entries(&[])).is_err());
        assert!(merge(None, hard(2, 0), 1, entries(&[(1, 1)])).is_err());
        assert!(merge(Some(&at(5, 2)), hard(3, 8), 6, entries(&[(6, 3)])).is_err());
    }

    #[test]
    fn a_joining_node_has_neither() {
        let merged = merge(None, HardState::default(), 1, VecDeque::new()).unwrap();
        assert_eq!((merged.entries.len(), merged.restart), (0, false));
    }
}

//! The log in memory, as raft reads it. The log on disk is `wal`'s; this holds what is not yet behind a durable snapshot, plus a
//! tail for followers that are a little behind.
//!
//! Invariants: entries follow each other without gaps from `compacted + 1`; everything at or below `compacted` is in a durable
//! snapshot (or was never there: a node that waits for its first snapshot).

use super::{Restart, convert};
use crate::ids::NodeId;
use crate::log::{ConfState, HardState};
use crate::planted::{self, Bug};
use crate::wire::peer::SnapshotMeta;
use raft::prelude::{Entry, EntryType, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};
use std::cell::Cell;
use std::collections::VecDeque;

/// See the module.
#[derive(Debug)]
pub struct MemLog {
    /// Index and term of the entry before the first one held.
    compacted: (u64, u64),
    entries: VecDeque<Entry>,
    /// Only read once, when raft starts.
    boot: (HardState, ConfState),
    conf: ConfState,
    snapshot: SnapshotMeta,
    /// Set from inside raft's read-only calls.
    snapshot_wanted: Cell<bool>,
}

impl MemLog {
    /// The log as recovered.
    pub fn new(restart: &Restart) -> Self {
        MemLog {
            compacted: (restart.snapshot.index, restart.snapshot.term),
            entries: restart.entries.iter().map(convert::entry_in).collect(),
            boot: (restart.hard_state, restart.snapshot.conf.clone()),
            conf: restart.snapshot.conf.clone(),
            snapshot: restart.snapshot.clone(),
            snapshot_wanted: Cell::new(false),
        }
    }

    /// Appends, replacing everything from the first one's index on.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.compacted.0 && first.index <= self.last() + 1,
            "an append must join the log: {} after {}..={}",
            first.index,
            self.compacted.0,
            self.last()
        );
        self.entries.truncate((first.index - self.compacted.0 - 1) as usize);
        self.entries.extend(entries.iter().cloned());
    }

    /// Forgets everything: the log starts behind an installed snapshot.
    pub fn restart_behind(&mut self, meta: &SnapshotMeta) {
        self.entries.clear();
        self.compacted = (meta.index, meta.term);
        self.conf = meta.conf.clone();
        self.snapshot = meta.clone();
    }

    /// A durable snapshot was made of the own state: cut the log behind it, but for `trailing` entries.
    pub fn snapshot_saved(&mut self, meta: SnapshotMeta, trailing: u64) {
        if meta.index <= self.snapshot.index {
            return;
        }
        let keep_after = meta.index.saturating_sub(trailing);
        let keep_after = keep_after + u64::from(planted::is(Bug::LogCutBeyondSnapshot));
        while self.entries.front().is_some_and(|first| first.index <= keep_after) {
            if let Some(entry) = self.entries.pop_front() {
                self.compacted = (entry.index, entry.term);
            }
        }
        self.snapshot = meta;
    }

    /// Remembers the configuration in force.
    pub fn set_conf(&mut self, conf: ConfState) {
        self.conf = conf;
    }

    /// The configuration in force.
    pub fn conf(&self) -> &ConfState {
        &self.conf
    }

    /// Whether an entry behind `low`, up to `high`, changes the membership.
    pub fn changes_membership(&self, low: u64, high: u64) -> bool {
        let low = low.max(self.compacted.0);
        let high = high.min(self.last());
        low < high
            && self
                .entries
                .range(self.position(low + 1)..=self.position(high))
                .any(|entry| entry.entry_type == EntryType::EntryConfChangeV2)
    }

    /// Index before the first entry held.
    pub fn compacted_index(&self) -> u64 {
        self.compacted.0
    }

    /// Whether a follower could not be served by the newest snapshot since last asked.
    pub fn take_snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.take()
    }

    fn last(&self) -> u64 {
        self.compacted.0 + self.entries.len() as u64
    }

    fn position(&self, index: u64) -> usize {
        (index - self.compacted.0 - 1) as usize
    }
}

impl Storage for MemLog {
    fn initial_state(&self) -> Result<RaftState> {
        let (hard_state, conf) = &self.boot;
        Ok(RaftState::new(convert::hard_state_in(hard_state), convert::conf_state_in(conf)))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.compacted.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let max_bytes = max_size.into().unwrap_or(u64::MAX);
        let mut bytes = 0;
        let wanted = self.entries.range(self.position(low)..self.position(high));
        // The first entry goes out whatever its size, or nothing ever would.
        let taken = wanted.enumerate().take_while(|(n, entry)| {
            bytes += entry.data.len() as u64 + 32;
            *n == 0 || bytes <= max_bytes
        });
        Ok(taken.map(|(_, entry)| entry.clone()).collect())
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index == self.compacted.0 {
            return Ok(self.compacted.1);
        }
        if index < self.compacted.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let entry = self.entries.get(self.position(index));
        entry.map(|entry| entry.term).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.compacted.0 + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        // raft's receiver drops a snapshot whose configuration does not hold it, so a node that was added later needs a newer one.
        let conf = &self.snapshot.conf;
        let holds = [&conf.voters, &conf.learners, &conf.voters_outgoing]
            .iter()
            .any(|ids| ids.contains(&NodeId(to)));
        let usable = self.snapshot.index >= self.compacted.0.max(request_index).max(1);
        if !holds || !usable {
            self.snapshot_wanted.set(true);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(convert::snapshot_in(&self.snapshot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::EntryKind;

    fn log(snapshot_index: u64, terms: &[u64]) -> MemLog {
        let conf = ConfState { voters: vec![NodeId(1)], ..ConfState::default() };
        let entries = terms.iter().zip(snapshot_index + 1..);
        MemLog::new(&Restart {
            node: NodeId(1),
            hard_state: HardState::default(),
            snapshot: SnapshotMeta { index: snapshot_index, term: 1, conf },
            entries: entries
                .map(|(&term, index)| crate::log::Entry {
                    index,
                    term,
                    kind: EntryKind::Normal,
                    data: vec![7; 10].into(),
                })
                .collect(),
        })
    }

    fn indexes(log: &MemLog, low: u64, high: u64, max: Option<u64>) -> Vec<u64> {
        let entries = log.entries(low, high, max, GetEntriesContext::empty(false)).unwrap();
        entries.iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn appends_replace_what_follows() {
        let mut log = log(5, &[1, 1, 2]);
        log.append(&[Entry { index: 7, term: 3, ..Default::default() }]);
        assert_eq!(log.last_index().unwrap(), 7);
        assert_eq!((log.term(6).unwrap(), log.term(7).unwrap()), (1, 3));
        assert_eq!(log.term(4), Err(Error::Store(StorageError::Compacted)));
        assert_eq!(log.term(8), Err(Error::Store(StorageError::Unavailable)));
    }

    #[test]
    fn reads_are_bounded_but_never_empty() {
        let log = log(0, &[1, 1, 1]);
        assert_eq!(indexes(&log, 1, 4, Some(0)), [1]);
        assert_eq!(indexes(&log, 1, 4, Some(84)), [1, 2]);
        assert_eq!(indexes(&log, 2, 4, None), [2, 3]);
    }

    #[test]
    fn a_saved_snapshot_cuts_the_log_but_for_its_tail() {
        let mut log = log(0, &[1; 10]);
        let conf = ConfState { voters: vec![NodeId(1)], ..ConfState::default() };
        log.snapshot_saved(SnapshotMeta { index: 8, term: 1, conf }, 3);
        assert_eq!(log.first_index().unwrap(), 6);
        assert_eq!(log.snapshot(0, 1).unwrap().get_metadata().index, 8);
        assert!(!log.take_snapshot_wanted());
        assert!(log.snapshot(0, 2).is_err(), "node 2 is not in the snapshot's configuration");
        assert!(log.take_snapshot_wanted());
    }
}

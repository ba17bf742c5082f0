//! Where one node's log records lie on its disk, and up to where damage can be told from a write that was cut short.
//!
//! A log proves that a record was durable only by what later records say. Damage to the records after the last such proof looks exactly
//! like a power cut, on this and on every other log; so the nemesis spares them. Everything before must be noticed.

use super::damage::Place;
use raftkv_core::ids::OpId;
use raftkv_core::io::{DiskOp, FileName};
use raftkv_core::rng::Rng;
use raftkv_core::wal::{self, segment::SEGMENT_HEAD_BYTES};
use std::collections::BTreeMap;
use std::ops::Range;

/// So many of the newest proven records count as the log's tail.
const TAIL_RECORDS: usize = 3;

/// The map.
#[derive(Debug, Default)]
pub(super) struct LogMap {
    /// Records by sequence number: segment, offsets in it, and whether it holds nothing but a hard state.
    records: BTreeMap<u64, (u64, Range<usize>, bool)>,
    on_the_way: BTreeMap<OpId, (u64, u64)>,
    /// Every record up to this number is called durable by a durable one.
    proven: u64,
}

impl LogMap {
    /// The node asked its disk for something.
    pub(super) fn on_asked(&mut self, op: OpId, action: &DiskOp) {
        let (FileName::Wal(segment), Some(bytes)) = (action.file(), action.bytes()) else { return };
        let (skipped, offset) = match action {
            DiskOp::Write { offset, .. } => (0, *offset as usize),
            _ => (SEGMENT_HEAD_BYTES, SEGMENT_HEAD_BYTES),
        };
        // The head of a record: checksum, length, sequence number, and how many before it were not durable yet.
        let Some(record) = bytes.get(skipped..) else { return };
        let (Some(sequence), Some(unsynced)) = (word(record, 8, 8), word(record, 16, 4)) else {
            return;
        };
        self.records.split_off(&sequence);
        let carried = wal::record::carried_by(action);
        let only_state = carried.is_some_and(|it| it.entries.is_empty() && it.snapshot.is_none());
        let place = (segment, offset..offset + record.len(), only_state);
        self.records.insert(sequence, place);
        self.on_the_way.insert(op, (sequence, sequence.saturating_sub(1 + unsynced)));
    }

    /// The disk did it.
    pub(super) fn on_done(&mut self, op: OpId) {
        if let Some((_, proven)) = self.on_the_way.remove(&op) {
            self.proven = self.proven.max(proven);
        }
    }

    /// A record, to be damaged, whose damage must be noticed.
    pub(super) fn some_place(&self, rng: &mut Rng) -> Option<Place> {
        let proven: Vec<_> = self.records.range(..=self.proven).map(|(_, place)| place).collect();
        if proven.is_empty() {
            return None;
        }
        let at = rng.below(proven.len() as u64) as usize;
        let (segment, range, only_state) = proven[at].clone();
        let what = match only_state {
            true => "hard state",
            false if at + TAIL_RECORDS >= proven.len() => "log, tail",
            false => "log, middle",
        };
        Some(Place { file: FileName::Wal(segment), range, what })
    }
}

fn word(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let mut word = [0; 8];
    word[..length].copy_from_slice(bytes.get(at..at + length)?);
    Some(u64::from_le_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::ids::{ClusterId, Epoch, Identity, NodeId};
    use raftkv_core::log::HardState;
    use raftkv_core::rng::Seed;
    use raftkv_core::wal::{WalRecord, WalWriter};

    #[test]
    fn only_what_later_records_prove_durable_is_damaged() {
        let identity =
            Identity { cluster: ClusterId([1; 16]), epoch: Epoch(0), node: NodeId::new(1, 0) };
        let mut writer = WalWriter::new(identity);
        let mut map = LogMap::default();
        let mut rng = Seed::from_number(1).fork("map");
        for term in 1..=3 {
            let hard_state = Some(HardState { term, ..HardState::default() });
            let record = WalRecord { hard_state, ..WalRecord::default() };
            for action in writer.append(&record) {
                map.on_asked(OpId(term), &action);
            }
            if term > 1 {
                map.on_done(OpId(term));
                writer.handle_durable(term);
            }
        }
        assert_eq!(map.proven, 2);
        for _ in 0..20 {
            let Place { file, range, .. } =
                map.some_place(&mut rng).expect("two records are proven");
            assert_eq!(file, FileName::Wal(1));
            assert!(range.end <= map.records[&3].1.start);
        }
    }
}

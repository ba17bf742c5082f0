//! What a disk was told to keep, a restarted node has: every entry that reached stable storage is found again, unless a
//! snapshot holds it or a durable write replaced it.

use super::Violation;
use raftkv_core::ids::NodeId;
use raftkv_core::log::Entry;
use raftkv_core::wire::peer::SnapshotMeta;
use std::collections::BTreeMap;

/// The durable log of every node, as its disk model knows it.
#[derive(Debug, Default)]
pub struct DurableLogs {
    logs: BTreeMap<NodeId, DurableLog>,
}

#[derive(Debug, Default)]
struct DurableLog {
    /// Everything up to here is in a durable snapshot.
    snapshot_index: u64,
    terms: BTreeMap<u64, u64>,
}

impl DurableLogs {
    /// These entries of `node` have reached stable storage, replacing everything from the first one on.
    pub fn appended(&mut self, node: NodeId, entries: &[(u64, u64)]) {
        let log = self.logs.entry(node).or_default();
        if let Some((first, _)) = entries.first() {
            log.terms.split_off(first);
            log.terms.extend(entries.iter().copied());
        }
    }

    /// The durable log of `node` starts anew behind this snapshot.
    pub fn restarted(&mut self, node: NodeId, snapshot: &SnapshotMeta) {
        let log = self.logs.entry(node).or_default();
        log.snapshot_index = snapshot.index;
        log.terms.clear();
    }

    /// The disk of `node` was put back to an older state: nothing it promised before counts.
    pub fn forget(&mut self, node: NodeId) {
        self.logs.remove(&node);
    }

    /// The last entry that `node` holds durably, in its log or in a snapshot.
    pub fn last_index(&self, node: NodeId) -> u64 {
        let log = self.logs.get(&node);
        log.map_or(0, |log| {
            log.terms.last_key_value().map_or(0, |(index, _)| *index).max(log.snapshot_index)
        })
    }

    /// Index and term of the last entry in the durable log of `node`; `None` when there is none behind its snapshot.
    pub fn last(&self, node: NodeId) -> Option<(u64, u64)> {
        let last = self.logs.get(&node)?.terms.last_key_value();
        last.map(|(index, term)| (*index, *term))
    }

    /// Whether `node` durably holds the entry, or a snapshot that covers it.
    pub fn holds(&self, node: NodeId, index: u64, term: u64) -> bool {
        self.logs
            .get(&node)
            .is_some_and(|log| index <= log.snapshot_index || log.terms.get(&index) == Some(&term))
    }

    /// `node` restarts from a snapshot, whose last entry has this index and term, and the `entries` behind it.
    pub fn recovered(
        &mut self,
        node: NodeId,
        (snapshot_index, snapshot_term): (u64, u64),
        entries: &[Entry],
    ) -> Result<(), Violation> {
        let log = self.logs.entry(node).or_default();
        let found: BTreeMap<u64, u64> =
            entries.iter().map(|entry| (entry.index, entry.term)).collect();
        if snapshot_index < log.snapshot_index && !found.contains_key(&log.snapshot_index) {
            let detail = format!(
                "node {node} had an installed snapshot at {}, and restarts from {snapshot_index}",
                log.snapshot_index
            );
            return Err(Violation::new("recovery", detail));
        }
        // An entry may have been replaced by a newer one that survived without being synced.
        let contradicts = log.terms.get(&snapshot_index).is_some_and(|term| *term != snapshot_term);
        // What followed an entry that the snapshot replaced was never committed, and went with it.
        let lost = log.terms.iter().find(|(index, term)| {
            !contradicts
                && **index > snapshot_index
                && found.get(index).is_none_or(|found| found < term)
        });
        if let Some((index, term)) = lost.filter(|(_, term)| !replaced(&found, **term)) {
            let detail = format!(
                "node {node} had entry {index} of term {term} on stable storage and restarts without it"
            );
            return Err(Violation::new("recovery", detail));
        }
        // Recovery made durable whatever it found.
        log.snapshot_index = log.snapshot_index.max(snapshot_index);
        log.terms = found;
        Ok(())
    }
}

/// Whether the log found ends with entries of a later term than a lost one, which then was cut off on purpose. What stands in its place may
/// be older: a later leader passes on what it has of earlier terms.
fn replaced(found: &BTreeMap<u64, u64>, term: u64) -> bool {
    found.last_key_value().is_some_and(|(_, last)| *last > term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::log::EntryKind;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, kind: EntryKind::Normal, data: Default::default() }
    }

    #[test]
    fn a_durable_entry_that_is_gone_is_noticed() {
        let node = NodeId::new(1, 0);
        let mut check = DurableLogs::default();
        check.appended(node, &[(1, 1), (2, 1), (3, 1)]);
        assert!(check.holds(node, 2, 1) && !check.holds(node, 2, 2));
        let all = [entry(1, 1), entry(2, 1), entry(3, 1), entry(4, 1)];
        assert!(check.recovered(node, (0, 0), &all[..2]).is_err());
        assert_eq!(check.recovered(node, (0, 0), &all), Ok(()));
        assert!(check.recovered(node, (0, 0), &all[..3]).is_err(), "recovery made it durable");
        assert_eq!(check.recovered(node, (0, 0), &[entry(1, 1), entry(2, 2)]), Ok(()), "replaced");
        check.appended(node, &[(2, 2)]);
        assert!(!check.holds(node, 3, 1));
        assert!(check.recovered(node, (0, 0), &all).is_err());
        assert_eq!(check.recovered(node, (2, 2), &[]), Ok(()), "a snapshot covers them");
    }

    #[test]
    fn an_older_entry_replaces_a_newer_one_only_in_front_of_a_newer_still() {
        let node = NodeId::new(1, 0);
        let mut check = DurableLogs::default();
        check.appended(node, &[(1, 5), (2, 6), (3, 6)]);
        assert!(check.recovered(node, (0, 0), &[entry(1, 5), entry(2, 5)]).is_err());
        assert_eq!(check.recovered(node, (0, 0), &[entry(1, 5), entry(2, 5), entry(3, 7)]), Ok(()));
    }

    #[test]
    fn a_snapshot_takes_the_tail_of_an_entry_that_it_replaces_and_no_other() {
        let node = NodeId::new(1, 0);
        let mut check = DurableLogs::default();
        check.appended(node, &[(1, 1), (2, 2), (3, 2)]);
        assert!(check.recovered(node, (2, 2), &[]).is_err());
        assert_eq!(check.recovered(node, (2, 3), &[]), Ok(()));
    }

    #[test]
    fn an_installed_snapshot_that_is_gone_is_noticed() {
        let node = NodeId::new(1, 0);
        let mut check = DurableLogs::default();
        let meta = SnapshotMeta { index: 10, term: 2, ..SnapshotMeta::default() };
        check.restarted(node, &meta);
        assert!(check.holds(node, 4, 1));
        assert_eq!(check.recovered(node, (10, 2), &[]), Ok(()));
        assert!(check.recovered(node, (5, 1), &[entry(6, 1)]).is_err());
    }
}

//! Log matching: an entry's index and term determine its content and everything before it. Raft paper, figure 3.
//!
//! It is enough that they determine the content and the term of the entry before: the rest follows by induction.

use super::Violation;
use crate::fingerprint::Fingerprint;
use raftkv_core::log::Entry;
use std::collections::BTreeMap;

/// Every entry that any node ever wrote.
#[derive(Debug, Default)]
pub struct LogMatching {
    entries: BTreeMap<(u64, u64), (u64, Option<u64>)>,
}

impl LogMatching {
    /// A node has this entry behind one of term `term_before` (`None` where that is not known).
    pub fn entry(&mut self, entry: &Entry, term_before: Option<u64>) -> Result<(), Violation> {
        let content = Fingerprint::of(&entry.data);
        let id = (entry.index, entry.term);
        let (known, known_before) = self.entries.entry(id).or_insert((content, term_before));
        if *known != content {
            let detail = format!("two entries have index {} and term {}", id.0, id.1);
            return Err(Violation::new("log matching", detail));
        }
        match (*known_before, term_before) {
            (Some(one), Some(other)) if one != other => {
                let detail = format!(
                    "entry {} of term {} follows one of term {one} here and one of term {other} there",
                    id.0, id.1
                );
                return Err(Violation::new("log matching", detail));
            }
            (None, Some(_)) => *known_before = term_before,
            _ => {}
        }
        Ok(())
    }

    /// No node has this entry, nor was it ever durable.
    pub fn forget(&mut self, index: u64, term: u64) {
        self.entries.remove(&(index, term));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::log::EntryKind;

    #[test]
    fn different_content_and_different_history_are_noticed() {
        let entry = |index, term, data: &'static str| Entry {
            index,
            term,
            kind: EntryKind::Normal,
            data: data.into(),
        };
        let mut check = LogMatching::default();
        assert_eq!(check.entry(&entry(5, 2, "a"), None), Ok(()));
        assert_eq!(check.entry(&entry(5, 2, "a"), Some(1)), Ok(()));
        assert_eq!(check.entry(&entry(5, 3, "b"), Some(2)), Ok(()));
        assert!(check.entry(&entry(5, 2, "b"), Some(1)).is_err());
        assert!(check.entry(&entry(5, 2, "a"), Some(2)).is_err());
    }
}

//! Holds a backup's keys against other keys, and decides which of them go back into a live cluster.
//!
//! Both sides come in order of their keys; the other side comes in pages, since it is read from a cluster. Invariant: nothing that is in
//! the cluster is replaced unless the operator said so, and nothing is ever deleted.

use crate::api::{
    Compare, CompareOp, CompareTarget, KeyRange, KeyValue, PutRequest, TxnOp, TxnRequest,
};
use bytes::Bytes;
use std::cmp::Ordering;
use std::iter::Peekable;

/// A comparison under way.
#[derive(Debug)]
pub struct Comparison<I: Iterator<Item = KeyValue>> {
    backup: Peekable<I>,
}

/// One key, as the two sides have it. At least one side has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// In the backup.
    pub backup: Option<KeyValue>,
    /// On the other side.
    pub other: Option<KeyValue>,
}

/// How the other side stands to the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Both have the key with the same value.
    Same,
    /// Both have the key, with different values.
    Changed,
    /// Only the other side has it.
    Added,
    /// Only the backup has it.
    Deleted,
}

/// What happens to a key that the cluster has with another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays as it is.
    Keep,
    /// It gets the backup's value.
    Overwrite,
}

/// What is to be done about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Write the backup's value.
    Write(Write),
    /// The cluster has this very value.
    Unchanged,
    /// The cluster has another value, which stays.
    Kept,
    /// The backup does not have it.
    NotInBackup,
}

/// A key that goes back into the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: Bytes,
    /// Its value in the backup.
    pub value: Bytes,
    /// Whether it must still be missing when it is written: a key that somebody has made in the meantime stays.
    pub if_absent: bool,
}

impl<I: Iterator<Item = KeyValue>> Comparison<I> {
    /// Begins, with the backup's keys in order.
    pub fn new(backup: I) -> Self {
        Comparison { backup: backup.peekable() }
    }

    /// Takes the next page of the other side, and compares as far as that page reaches; to the end with the last one.
    pub fn page(
        &mut self,
        page: Vec<KeyValue>,
        is_last: bool,
    ) -> impl Iterator<Item = Compared> + use<'_, I> {
        let mut others = page.into_iter().peekable();
        std::iter::from_fn(move || {
            let order = match (self.backup.peek(), others.peek()) {
                (Some(backup), Some(other)) => backup.key.cmp(&other.key),
                // Behind a page there may be more of the other side.
                (Some(_), None) if is_last => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) | (None, None) => return None,
            };
            let backup = if order.is_le() { self.backup.next() } else { None };
            let other = if order.is_ge() { others.next() } else { None };
            Some(Compared { backup, other })
        })
    }
}

impl Compared {
    /// The key.
    pub fn key(&self) -> &Bytes {
        let side = self.backup.as_ref().or(self.other.as_ref());
        &side.expect("one of the sides has the key").key
    }

    /// How the other side stands to the backup.
    pub fn change(&self) -> Change {
        match (&self.backup, &self.other) {
            (Some(backup), Some(other)) if backup.value == other.value => Change::Same,
            (Some(_), Some(_)) => Change::Changed,
            (None, _) => Change::Added,
            (Some(_), None) => Change::Deleted,
        }
    }

    /// What to do about the key, where the other side is the cluster it goes back to.
    pub fn decide(self, existing: Existing) -> Decision {
        let if_absent = match (self.change(), existing) {
            (Change::Same, _) => return Decision::Unchanged,
            (Change::Added, _) => return Decision::NotInBackup,
            (Change::Changed, Existing::Keep) => return Decision::Kept,
            (Change::Deleted, Existing::Keep) => true,
            (Change::Changed | Change::Deleted, Existing::Overwrite) => false,
        };
        let Some(KeyValue { key, value, .. }) = self.backup else { return Decision::NotInBackup };
        Decision::Write(Write { key, value, if_absent })
    }
}

/// One transaction that does these writes, if every key that must be missing is.
pub fn transaction(writes: &[Write]) -> TxnRequest {
    let missing = |write: &Write| Compare {
        range: KeyRange::one(write.key.clone()),
        op: CompareOp::Equal,
        target: CompareTarget::Version(0),
    };
    let put = |write: &Write| {
        TxnOp::Put(PutRequest {
            key: write.key.clone(),
            value: write.value.clone(),
            // The lease it had may be gone, or be somebody else's by now.
            lease: 0,
            return_previous: false,
        })
    };
    TxnRequest {
        compares: writes.iter().filter(|write| write.if_absent).map(missing).collect(),
        success: writes.iter().map(put).collect(),
        failure: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Keys = BTreeMap<u8, u8>;

    fn kv((key, value): (&u8, &u8)) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(&[*key]),
            value: Bytes::copy_from_slice(&[*value]),
            create_revision: 1,
            mod_revision: 1,
            version: 1,
            lease: 9,
        }
    }

    /// Compares in pages of `page_keys`, with an empty page at the end where that is how it comes out.
    fn compare(backup: &Keys, other: &Keys, page_keys: usize) -> Vec<Compared> {
        let mut comparison = Comparison::new(backup.iter().map(kv));
        let mut others: Vec<_> = other.iter().map(kv).collect();
        let mut all = Vec::new();
        loop {
            let rest = others.split_off(page_keys.min(others.len()));
            let is_last = rest.is_empty();
            all.extend(comparison.page(others, is_last));
            if is_last {
                return all;
            }
            others = rest;
        }
    }

    proptest! {
        #[test]
        fn every_key_of_either_side_is_seen_once_and_in_order(
            backup: Keys, other: Keys, page_keys in 1_usize..5,
        ) {
            let all = compare(&backup, &other, page_keys);
            let keys: Vec<u8> = all.iter().map(|compared| compared.key()[0]).collect();
            let mut expected: Vec<u8> = backup.keys().chain(other.keys()).copied().collect();
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(keys, expected);
            for compared in all {
                let key = compared.key()[0];
                let change = match (backup.get(&key), other.get(&key)) {
                    (Some(a), Some(b)) if a == b => Change::Same,
                    (Some(_), Some(_)) => Change::Changed,
                    (Some(_), None) => Change::Deleted,
                    (None, _) => Change::Added,
                };
                prop_assert_eq!(compared.change(), change);
            }
        }
    }

    #[test]
    fn nothing_is_replaced_unless_it_was_asked_for() {
        let backup = Keys::from([(1, 1), (2, 2), (3, 3)]);
        let live = Keys::from([(2, 2), (3, 9), (4, 4)]);
        let decide = |existing| {
            let all = compare(&backup, &live, 2);
            all.into_iter().map(|compared| compared.decide(existing)).collect::<Vec<_>>()
        };
        let write = |key: u8, if_absent| {
            let bytes = || Bytes::copy_from_slice(&[key]);
            Decision::Write(Write { key: bytes(), value: bytes(), if_absent })
        };
        use Decision::{Kept, NotInBackup, Unchanged};
        assert_eq!(decide(Existing::Keep), [write(1, true), Unchanged, Kept, NotInBackup]);
        let overwritten = [write(1, false), Unchanged, write(3, false), NotInBackup];
        assert_eq!(decide(Existing::Overwrite), overwritten);
    }

    #[test]
    fn a_transaction_checks_only_what_must_be_missing() {
        let write = |key: &'static str, if_absent| {
            let key = Bytes::from(key);
            Write { value: key.clone(), key, if_absent }
        };
        let txn = transaction(&[write("a", true), write("b", false)]);
        assert_eq!((txn.compares.len(), txn.success.len(), txn.failure.len()), (1, 2, 0));
        assert_eq!(txn.compares[0].range, KeyRange::one("a"));
    }
}

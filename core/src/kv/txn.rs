//! Puts, deletes and transactions: what a write does to keys.
//!
//! A write is checked as a whole before its first change, so nothing ever has to be undone. Source: etcd v3 (`Txn`): compares
//! on ranges, no key written twice, steps see earlier ones.

use super::key::Key;
use super::session::Answer;
use super::state::KvState;
use super::store::Stored;
use crate::api::{
    Compare, CompareOp, CompareTarget, DeleteRequest, Error, KeyValue, PutRequest, Revision, TxnOp,
    TxnOpResult, TxnRequest, WriteResult,
};
use crate::planted::{self, Bug};
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Bytes of keys and values that the answer to one write may hold. The same on every node, because answers are kept.
pub const WRITE_ANSWER_BYTES_MAX: usize = 4 << 20;

/// Refuses operations that would write a key twice: two puts of it, or a put and a delete that covers it.
pub(super) fn check_written_once(ops: &[TxnOp]) -> Result<(), Error> {
    let mut puts = BTreeSet::new();
    for op in ops {
        if let TxnOp::Put(put) = op
            && !puts.insert(put.key.clone())
        {
            return Err(twice(&put.key));
        }
    }
    for op in ops {
        if let TxnOp::Delete(delete) = op
            && let Some(key) = puts.range::<Bytes, _>(&delete.range.start..).next()
            && delete.range.contains(key)
        {
            return Err(twice(key));
        }
    }
    Ok(())
}

fn twice(key: &[u8]) -> Error {
    let shown = &key[..key.len().min(64)];
    Error::Invalid(format!("the transaction writes key \"{}\" twice", shown.escape_ascii()))
}

impl KvState {
    pub(super) fn put_alone(&mut self, put: &PutRequest) -> Answer {
        self.check_put(put)?;
        check_room(self.previous_bytes_put(put))?;
        let same = planted::is(Bug::RevisionReused) && self.store.revision % 8 == 7;
        let previous = self.put(put, self.store.revision + u64::from(!same));
        Ok(WriteResult::Put { revision: self.store.revision, previous })
    }

    pub(super) fn delete_alone(&mut self, delete: &DeleteRequest) -> Answer {
        check_room(self.previous_bytes_delete(delete))?;
        let (deleted, previous) = self.delete(delete, self.store.revision + 1);
        Ok(WriteResult::Delete { revision: self.store.revision, deleted, previous })
    }

    pub(super) fn txn(&mut self, txn: &TxnRequest) -> Answer {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let refused = planted::is(Bug::TransactionPartlyApplied);
        let previous_bytes = if refused { 0 } else { self.check_ops(ops)? };
        let at = self.store.revision + 1;
        let mut room = WRITE_ANSWER_BYTES_MAX - previous_bytes;
        let mut results = Vec::with_capacity(ops.len());
        let cut = usize::from(planted::is(Bug::TransactionCutShort)).min(ops.len());
        for op in &ops[..ops.len() - cut] {
            results.push(match op {
                TxnOp::Range(request) => {
                    let (response, bytes) = self.read(request, room);
                    room -= bytes.min(room);
                    TxnOpResult::Range(response)
                }
                TxnOp::Put(put) => TxnOpResult::Put(self.put(put, at)),
                TxnOp::Delete(delete) => {
                    let (deleted, previous) = self.delete(delete, at);
                    TxnOpResult::Delete { deleted, previous }
                }
            });
        }
        Ok(WriteResult::Txn { revision: self.store.revision, succeeded, results })
    }

    /// Deletes one key with what hangs on it.
    pub(super) fn delete_key(&mut self, key: &Key, at: Revision) -> Option<Stored> {
        let old = self.store.delete(key, at)?;
        if !planted::is(Bug::DeletedKeyKeepsLease) {
            self.leases.detach(old.lease, key);
        }
        Some(old)
    }

    fn put(&mut self, put: &PutRequest, at: Revision) -> Option<KeyValue> {
        let key = Key::new(&put.key);
        let old = self.store.put(&key, &put.value, put.lease, at);
        let old_lease = old.as_ref().map_or(0, |old| old.lease);
        if old_lease != put.lease {
            self.leases.detach(old_lease, &key);
            self.leases.attach(put.lease, &key);
        }
        old.filter(|_| put.return_previous).map(|old| old.to_kv(&key, true))
    }

    fn delete(&mut self, delete: &DeleteRequest, at: Revision) -> (u64, Vec<KeyValue>) {
        let keys = self.keys_in(&delete.range);
        let mut previous = Vec::new();
        for key in &keys {
            let old = self.delete_key(key, at);
            previous.extend(old.filter(|_| delete.return_previous).map(|old| old.to_kv(key, true)));
        }
        (keys.len() as u64, previous)
    }

    /// Whether all of `ops` can be done; how much room their previous versions take in the answer.
    fn check_ops(&self, ops: &[TxnOp]) -> Result<usize, Error> {
        check_written_once(ops)?;
        let mut previous_bytes = 0_usize;
        for op in ops {
            previous_bytes = previous_bytes.saturating_add(match op {
                TxnOp::Range(request) => {
                    self.check_readable(request.revision)?;
                    0
                }
                TxnOp::Put(put) => {
                    self.check_put(put)?;
                    self.previous_bytes_put(put)
                }
                TxnOp::Delete(delete) => self.previous_bytes_delete(delete),
            });
        }
        check_room(previous_bytes)
    }

    fn check_put(&self, put: &PutRequest) -> Result<(), Error> {
        if put.lease != 0 && !self.leases.exists(put.lease) {
            return Err(Error::LeaseNotFound(put.lease));
        }
        Ok(())
    }

    fn previous_bytes_put(&self, put: &PutRequest) -> usize {
        let old = put.return_previous.then(|| self.store.get(&put.key)).flatten();
        old.map_or(0, |old| put.key.len() + old.value_len())
    }

    fn previous_bytes_delete(&self, delete: &DeleteRequest) -> usize {
        if !delete.return_previous {
            return 0;
        }
        self.store.live(&delete.range).map(|(key, old)| key.len() + old.value_len()).sum()
    }

    /// Whether a compare holds for every key of its range, or, where there is none, for a key that does not exist.
    fn holds(&self, compare: &Compare) -> bool {
        let mut any = false;
        let all = self.store.live(&compare.range).all(|(_, stored)| {
            any = true;
            key_holds(compare, Some(stored))
        });
        all && (any || key_holds(compare, None) || planted::is(Bug::CompareOfNothingHolds))
    }
}

fn check_room(previous_bytes: usize) -> Result<usize, Error> {
    if previous_bytes > WRITE_ANSWER_BYTES_MAX {
        return Err(Error::TooLarge {
            what: "the previous versions asked for".into(),
            got: previous_bytes as u64,
            limit: WRITE_ANSWER_BYTES_MAX as u64,
        });
    }
    Ok(previous_bytes)
}

fn key_holds(compare: &Compare, stored: Option<&Stored>) -> bool {
    let number = |of: fn(&Stored) -> u64| stored.map_or(0, of);
    let order = match &compare.target {
        CompareTarget::Value(value) => match stored.and_then(|stored| stored.value.as_deref()) {
            Some(stored) => stored.cmp(value),
            None => return false,
        },
        CompareTarget::Version(version) => number(|stored| stored.version).cmp(version),
        CompareTarget::CreateRevision(at) => number(|stored| stored.create_revision).cmp(at),
        CompareTarget::ModRevision(at) => number(|stored| stored.mod_revision).cmp(at),
        CompareTarget::Lease(lease) => number(|stored| stored.lease).cmp(lease),
    };
    match compare.op {
        CompareOp::Equal => order == Ordering::Equal,
        CompareOp::NotEqual => order != Ordering::Equal,
        CompareOp::Greater => order == Ordering::Greater,
        CompareOp::Less => order == Ordering::Less,
    }
}

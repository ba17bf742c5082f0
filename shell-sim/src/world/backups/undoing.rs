//! Undoing a deletion, as `backup restore-keys` does: keys of a backup that the cluster has no more are put back, each by a transaction
//! that leaves alone what is there.
//!
//! Invariant: every attempt writes a value of its own, which names the one it brings back, so that no value is ever written twice.

use crate::check::loss;
use crate::random::Draw;
use bytes::Bytes;
use raftkv_core::api::{
    Compare, CompareOp, CompareTarget, KeyRange, PutRequest, Request, Response, TxnOp, TxnRequest,
    WriteOp, WriteResult,
};
use raftkv_core::kv::KvState;
use raftkv_core::rng::Rng;
use std::collections::VecDeque;

/// Attempts at one key before it is given up.
const TRIES: u32 = 12;

/// What a value begins with that was put back.
const ORIGIN: &[u8] = b"undone ";

/// Keys to be put back, and what came of it.
#[derive(Debug)]
pub(super) struct Undoing {
    keys: VecDeque<(Bytes, Bytes)>,
    tries: u32,
    pub(super) put_back: u64,
    pub(super) spared: u64,
}

impl Undoing {
    /// Of a backup's keys at most so many, drawn.
    pub(super) fn new(state: &KvState, most: usize, rng: &mut Rng) -> Self {
        let all = loss::contents(state).into_iter();
        let mut keys: Vec<(Bytes, Bytes)> = all.map(|(key, found)| (key, found.value)).collect();
        rng.shuffle(&mut keys);
        keys.truncate(most);
        Undoing { keys: keys.into(), tries: 0, put_back: 0, spared: 0 }
    }

    /// What to ask next; `None` when all is done. No `attempt` is made twice.
    pub(super) fn next(&self, attempt: u64) -> Option<Request> {
        let (key, value) = self.keys.front()?;
        let value = [ORIGIN, attempt.to_string().as_bytes(), b" ", value].concat().into();
        let put = PutRequest { key: key.clone(), value, lease: 0, return_previous: false };
        let is_absent = Compare {
            range: KeyRange::one(key.clone()),
            op: CompareOp::Equal,
            target: CompareTarget::CreateRevision(0),
        };
        let success = vec![TxnOp::Put(put)];
        let txn = TxnRequest { compares: vec![is_absent], success, failure: Vec::new() };
        Some(Request::Write { session: None, op: WriteOp::Txn(txn) })
    }

    /// Whether the node that was asked last has answered well.
    pub(super) fn is_served(&self) -> bool {
        self.tries == 0 && self.put_back + self.spared > 0
    }

    /// An answer; `None` when there will be none. Says whether it was a good one.
    pub(super) fn handle(&mut self, response: Option<&Response>) -> bool {
        let is_good = match response {
            Some(Response::Write(WriteResult::Txn { succeeded, .. })) => {
                self.put_back += u64::from(*succeeded);
                self.spared += u64::from(!succeeded);
                true
            }
            _ => false,
        };
        self.tries += 1;
        if is_good || self.tries >= TRIES {
            self.keys.pop_front();
            self.tries = 0;
        }
        is_good
    }
}

//! What clients ask for: a seeded mix of requests over a small set of keys, so that they meet.
//!
//! Invariant: no value is ever written twice in a run, so a value tells which write it came from.

use crate::random::{Draw, Ppm};
use bytes::Bytes;
use raftkv_core::api::{
    Compare, CompareOp, CompareTarget, Consistency, DeleteRequest, KeyRange, LeaseId, PutRequest,
    RangeRequest, Request, Revision, TxnOp, TxnRequest, WriteOp,
};
use raftkv_core::rng::Rng;
use raftkv_core::time::Span;

/// Which requests, and how often. The numbers are weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Put one key.
    pub put: u32,
    /// Read one key.
    pub get: u32,
    /// Read a range, now and then at an older revision or without asking a quorum.
    pub range: u32,
    /// Delete one key or some.
    pub delete: u32,
    /// Compare and swap.
    pub txn: u32,
    /// Grant, keep alive and revoke leases.
    pub lease: u32,
    /// Forget history.
    pub compact: u32,
}

/// The workload of all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkloadOptions {
    /// Which requests.
    pub mix: Mix,
    /// How many keys there are.
    pub keys: u64,
    /// Values are at most this long beside their name.
    pub value_bytes: u64,
    /// Mean time between an answer and the next request of one client.
    pub think: Span,
    /// Writes made in sessions; the rest may not be retried.
    pub sessions: Ppm,
}

/// One client's part.
#[derive(Debug)]
pub struct Workload {
    options: WorkloadOptions,
    client: u32,
    values: u64,
    /// The newest revision this client has seen.
    revision: Revision,
    lease: LeaseId,
}

/// What to ask next.
#[derive(Debug)]
pub enum Wish {
    /// A request as it is.
    Request(Request),
    /// A write that must be applied once.
    Once(WriteOp),
}

impl Workload {
    /// The workload of one client.
    pub fn new(options: WorkloadOptions, client: u32) -> Self {
        Workload { options, client, values: 0, revision: 0, lease: 0 }
    }

    /// The client saw this revision.
    pub fn saw(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// The client holds this lease; 0 for none.
    pub fn holds(&mut self, lease: LeaseId) {
        self.lease = lease;
    }

    /// How long to wait before the next request.
    pub fn think(&self, rng: &mut Rng) -> Span {
        rng.tail(self.options.think)
    }

    /// What to ask next.
    pub fn wish(&mut self, rng: &mut Rng) -> Wish {
        let mix = self.options.mix;
        let weights = [mix.put, mix.get, mix.range, mix.delete, mix.txn, mix.lease, mix.compact];
        let mut draw = rng.below(weights.iter().copied().map(u64::from).sum::<u64>().max(1));
        let mut kind = 0;
        while kind < weights.len() - 1 && draw >= u64::from(weights[kind]) {
            draw -= u64::from(weights[kind]);
            kind += 1;
        }
        match kind {
            0 => self.put_wish(rng),
            1 => Wish::Request(Request::Range(self.get(rng))),
            2 => Wish::Request(Request::Range(self.range(rng))),
            3 => Wish::Once(WriteOp::Delete(self.delete(rng))),
            4 => Wish::Once(WriteOp::Txn(self.txn(rng))),
            5 => Wish::Once(self.lease_wish(rng)),
            _ => {
                let revision = self.revision.saturating_sub(rng.below(50)).max(1);
                Wish::Once(WriteOp::Compact { revision })
            }
        }
    }

    /// A put of a fresh value, which may be retried.
    pub fn put_once(&mut self, rng: &mut Rng) -> Wish {
        Wish::Once(WriteOp::Put(self.put(rng)))
    }

    fn put_wish(&mut self, rng: &mut Rng) -> Wish {
        let put = WriteOp::Put(self.put(rng));
        if rng.happens(self.options.sessions) {
            return Wish::Once(put);
        }
        Wish::Request(Request::Write { session: None, op: put })
    }

    fn key(&self, rng: &mut Rng) -> Bytes {
        format!("k{:03}", rng.below(self.options.keys)).into()
    }

    fn put(&mut self, rng: &mut Rng) -> PutRequest {
        self.values += 1;
        let mut value = format!("c{}.{}", self.client, self.values).into_bytes();
        let padding = rng.below(self.options.value_bytes + 1) as usize;
        value.resize(value.len() + padding, b'.');
        let lease = if self.lease != 0 && rng.happens(Ppm::percent(30)) { self.lease } else { 0 };
        let return_previous = rng.happens(Ppm::percent(20));
        PutRequest { key: self.key(rng), value: value.into(), lease, return_previous }
    }

    fn get(&self, rng: &mut Rng) -> RangeRequest {
        let mut request = RangeRequest::new(KeyRange::one(self.key(rng)));
        request.consistency = consistency(rng);
        request
    }

    fn range(&self, rng: &mut Rng) -> RangeRequest {
        let mut request = RangeRequest::new(self.some_range(rng));
        request.limit = if rng.happens(Ppm::percent(30)) { rng.between(1, 10) } else { 0 };
        request.keys_only = rng.happens(Ppm::percent(10));
        request.count_only = rng.happens(Ppm::percent(10));
        request.consistency = consistency(rng);
        if self.revision > 0 && rng.happens(Ppm::percent(20)) {
            request.revision = self.revision.saturating_sub(rng.below(20)).max(1);
        }
        request
    }

    fn some_range(&self, rng: &mut Rng) -> KeyRange {
        match rng.below(3) {
            0 => KeyRange::all(),
            1 => KeyRange::prefix(format!("k{}", rng.below(self.options.keys.div_ceil(100)))),
            _ => {
                let (one, other) = (self.key(rng), self.key(rng));
                let end = raftkv_core::api::RangeEnd::Before(one.clone().max(other.clone()));
                KeyRange { start: one.min(other), end }
            }
        }
    }

    fn delete(&self, rng: &mut Rng) -> DeleteRequest {
        let range = if rng.happens(Ppm::percent(80)) {
            KeyRange::one(self.key(rng))
        } else {
            self.some_range(rng)
        };
        DeleteRequest { range, return_previous: rng.happens(Ppm::percent(20)) }
    }

    fn txn(&mut self, rng: &mut Rng) -> TxnRequest {
        let (one, other) = (self.key(rng), self.key(rng));
        let target = match rng.below(4) {
            0 => CompareTarget::Version(rng.below(4)),
            1 => CompareTarget::CreateRevision(0),
            2 => CompareTarget::ModRevision(self.revision.saturating_sub(rng.below(30))),
            _ => CompareTarget::Value(format!("c{}.{}", self.client, self.values).into()),
        };
        let op = *rng.pick(&[
            CompareOp::Equal,
            CompareOp::NotEqual,
            CompareOp::Greater,
            CompareOp::Less,
        ]);
        let mut puts: Vec<PutRequest> = Vec::new();
        for key in [one.clone(), other.clone()] {
            // No key may be written twice in one transaction.
            if puts.iter().all(|put| put.key != key) {
                puts.push(PutRequest { key, ..self.put(rng) });
            }
        }
        let mut success: Vec<TxnOp> = puts.into_iter().map(TxnOp::Put).collect();
        success.push(TxnOp::Range(RangeRequest::new(KeyRange::one(other.clone()))));
        let delete = DeleteRequest { range: KeyRange::one(one.clone()), return_previous: true };
        let mut failure = vec![TxnOp::Range(RangeRequest::new(KeyRange::one(other)))];
        if rng.happens(Ppm::percent(30)) {
            failure.push(TxnOp::Delete(delete));
        }
        let compares = vec![Compare { range: KeyRange::one(one), op, target }];
        TxnRequest { compares, success, failure }
    }

    fn lease_wish(&self, rng: &mut Rng) -> WriteOp {
        if self.lease == 0 {
            return WriteOp::LeaseGrant { id: 0, ttl_ms: rng.between(500, 20_000) };
        }
        if rng.happens(Ppm::percent(70)) {
            return WriteOp::LeaseKeepAlive { id: self.lease };
        }
        WriteOp::LeaseRevoke { id: self.lease }
    }
}

fn consistency(rng: &mut Rng) -> Consistency {
    if rng.happens(Ppm::percent(10)) { Consistency::Stale } else { Consistency::Linearizable }
}

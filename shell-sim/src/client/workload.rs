//! What clients ask for: a seeded mix of requests over a small set of keys, so that they meet.
//!
//! Invariant: no value is ever written twice in a run, so a value tells which write it came from.

use crate::random::{Draw, Ppm};
use bytes::Bytes;
use raftkv_core::api::{
    Compare, CompareOp, CompareTarget, Consistency, DeleteRequest, KeyRange, LeaseId, PutRequest,
    RangeEnd, RangeRequest, Request, Revision, TxnOp, TxnRequest, WriteOp,
};
use raftkv_core::rng::Rng;
use raftkv_core::time::Span;

/// A value's own name is never longer.
const NAME_BYTES: usize = 16;

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
    /// Requests that one client may have under way.
    pub pipeline: u32,
    /// Reads asked of any node, not of the one that answered last.
    pub reads_anywhere: Ppm,
    /// Whether all values are equally long: records of a log then fit in each other's places.
    pub alike: bool,
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
        name(rng.below(self.options.keys))
    }

    fn put(&mut self, rng: &mut Rng) -> PutRequest {
        self.values += 1;
        let mut value = format!("c{}.{}", self.client, self.values).into_bytes();
        let padding = rng.below(self.options.value_bytes + 1) as usize;
        let length = match self.options.alike {
            true => NAME_BYTES + self.options.value_bytes as usize,
            false => value.len() + padding,
        };
        value.resize(length, b'.');
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

    /// A range; one that ends before a key usually ends before one that exists.
    fn some_range(&self, rng: &mut Rng) -> KeyRange {
        match rng.below(6) {
            0 | 1 => KeyRange::all(),
            2 => KeyRange::prefix(format!("k{}", rng.below(self.options.keys.div_ceil(100)))),
            3 => {
                let start = rng.below(self.options.keys);
                let end = start + rng.between(1, 3);
                let end = RangeEnd::Before(name(end.min(self.options.keys - 1).max(start)));
                KeyRange { start: name(start), end }
            }
            _ => {
                let (one, other) = (self.key(rng), self.key(rng));
                let end = RangeEnd::Before(one.clone().max(other.clone()));
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

    /// Compares one key or some, and changes up to four keys, or a range.
    fn txn(&mut self, rng: &mut Rng) -> TxnRequest {
        let mut keys: Vec<Bytes> = Vec::new();
        for _ in 0..rng.between(1, 4) {
            // No key may be written twice in one transaction.
            let key = self.key(rng);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let compares = (0..rng.between(1, 2)).map(|_| self.compare(rng, &keys)).collect();
        let mut success: Vec<TxnOp> = keys.iter().map(|key| self.change(rng, key)).collect();
        success.push(TxnOp::Range(RangeRequest::new(self.some_range(rng))));
        let mut failure = vec![TxnOp::Range(RangeRequest::new(KeyRange::one(keys[0].clone())))];
        if rng.happens(Ppm::percent(30)) {
            failure.push(TxnOp::Delete(self.delete(rng)));
        }
        TxnRequest { compares, success, failure }
    }

    fn change(&mut self, rng: &mut Rng, key: &Bytes) -> TxnOp {
        if rng.happens(Ppm::percent(20)) {
            let range = KeyRange::one(key.clone());
            return TxnOp::Delete(DeleteRequest { range, return_previous: true });
        }
        TxnOp::Put(PutRequest { key: key.clone(), ..self.put(rng) })
    }

    fn compare(&self, rng: &mut Rng, keys: &[Bytes]) -> Compare {
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
        let range = match rng.happens(Ppm::percent(20)) {
            true => self.some_range(rng),
            false => KeyRange::one(rng.pick(keys).clone()),
        };
        Compare { range, op, target }
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

fn name(key: u64) -> Bytes {
    format!("k{key:03}").into()
}

fn consistency(rng: &mut Rng) -> Consistency {
    if rng.happens(Ppm::percent(10)) { Consistency::Stale } else { Consistency::Linearizable }
}

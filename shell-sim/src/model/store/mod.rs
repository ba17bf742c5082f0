//! A simulated object store, seen through a shell that has retried what it may: an error that arrives here is final.
//!
//! Contract. It never shows an object in part; changes, loses or replaces an object without being told to; replaces one with
//! `if_absent`; answers `Transient`, `Denied` or `Full` to something that was done or will be; reads an object as it was before; lists
//! anything wrongly that is older than [`StoreFaults::staleness`]; tells a wrong time of when an object was written.
//!
//! It may answer `Unknown` to a write that was done, is done later, or never; answer `Exists` to a write that its own first try did; list
//! what has just gone and not what has just come; keep the parts of uploads that nobody ends, and show them as strangers; carry out
//! or not what was under way when the asking process died; be down, slow, full, or deny everything or only deletion, for as long as
//! it is told to; damage objects, or lose all of them, when told to ([`Damage`]).

mod bucket;
mod faults;

use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use bucket::Sight;
use raftkv_core::backup::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp, ObjectName};
use raftkv_core::ids::OpId;
use raftkv_core::rng::Rng;
use raftkv_core::time::Span;
use std::collections::BTreeMap;

pub use bucket::{Bucket, Damage, Fact};
pub use faults::{Outage, StoreCounts, StoreFaults, describe};

/// Names an operation: machines number theirs from 1, so each run of one is a session of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Whose operation.
    pub session: u64,
    /// Which of them.
    pub op: OpId,
}

/// How an operation ended.
pub type Answer = Result<BlobDone, BlobError>;

/// The store.
#[derive(Debug)]
pub struct Store {
    rng: Rng,
    faults: StoreFaults,
    bucket: Bucket,
    outages: BTreeMap<Outage, SimTime>,
    effects: BTreeMap<(SimTime, u64), Effect>,
    answers: BTreeMap<(SimTime, u64), (Call, Answer)>,
    sequence: u64,
    counts: StoreCounts,
}

/// Something that will be done.
#[derive(Debug)]
struct Effect {
    call: Call,
    op: BlobOp,
    /// Whether the result is what is answered.
    is_answered: bool,
}

/// What becomes of an operation.
enum Fate {
    Fine,
    /// Done, but the answer is lost.
    AnswerLost,
    /// Not done, and the answer is lost.
    RequestLost,
    /// Done only after the asker has given up.
    Late,
    /// Done, and asked again by the shell, which never saw the first answer.
    Retried,
    Refused(BlobErrorKind, &'static str),
}

impl Store {
    /// An empty store.
    pub fn new(faults: StoreFaults, rng: Rng) -> Self {
        Store {
            rng,
            faults,
            bucket: Bucket::default(),
            outages: BTreeMap::new(),
            effects: BTreeMap::new(),
            answers: BTreeMap::new(),
            sequence: 0,
            counts: StoreCounts::default(),
        }
    }

    /// Hands an operation in.
    pub fn submit(&mut self, now: SimTime, call: Call, op: BlobOp) {
        self.counts.asked += 1;
        let slowness = if self.is_out(now, Outage::Slow) { 50 } else { 1 };
        let latency = Span(self.rng.tail(self.faults.latency_mean).0 * slowness + 1);
        let (due, timeout) = (now + latency, now + latency + self.faults.timeout);
        match self.fate(now, &op) {
            Fate::Fine => self.effect(due, call, op, true),
            Fate::Refused(kind, why) => self.answer(due, call, Err(refusal(kind, &op, why))),
            Fate::RequestLost => {
                self.counts.requests_lost += 1;
                self.answer(timeout, call, Err(unknown(&op)));
            }
            Fate::AnswerLost => {
                self.counts.answers_lost += 1;
                self.answer(timeout, call, Err(unknown(&op)));
                self.effect(due, call, op, false);
            }
            Fate::Late => {
                self.counts.late += 1;
                self.answer(timeout, call, Err(unknown(&op)));
                let later = timeout + self.rng.tail(self.faults.timeout);
                self.effect(later, call, op, false);
            }
            Fate::Retried => {
                self.counts.retried += 1;
                self.effect(due, call, op.clone(), false);
                self.effect(timeout, call, op, true);
            }
        }
    }

    /// The next answer that has come by `now`.
    pub fn poll(&mut self, now: SimTime) -> Option<(Call, Answer)> {
        self.advance(now);
        let entry = self.answers.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    /// When to be polled again.
    pub fn next_wake(&self) -> SimTime {
        let effect = self.effects.first_key_value().map_or(SimTime::NEVER, |((at, _), _)| *at);
        let answer = self.answers.first_key_value().map_or(SimTime::NEVER, |((at, _), _)| *at);
        effect.min(answer)
    }

    /// The process that asked is gone: nothing is answered, and what was under way is done or not.
    pub fn abandon(&mut self, session: u64) {
        self.answers.retain(|_, (call, _)| call.session != session);
        let rng = &mut self.rng;
        self.effects
            .retain(|_, effect| effect.call.session != session || rng.happens(Ppm::percent(50)));
        for effect in self.effects.values_mut().filter(|effect| effect.call.session == session) {
            effect.is_answered = false;
        }
    }

    /// From now until then the store is like this.
    pub fn begin_outage(&mut self, outage: Outage, until: SimTime) {
        self.counts.outages += 1;
        let end = self.outages.entry(outage).or_default();
        *end = (*end).max(until);
    }

    /// The store is good from now on. What was damaged stays so.
    pub fn heal(&mut self) {
        self.faults = StoreFaults::none();
        self.outages.clear();
    }

    /// Something happens to an object. Says what, if anything did; nothing does while a write is under way, which could undo it.
    pub fn damage(&mut self, now: SimTime, object: ObjectName, damage: Damage) -> Option<String> {
        if self.effects.values().any(|effect| !faults::reads(&effect.op)) {
            return None;
        }
        let what = self.bucket.damage(now, object, damage, &mut self.rng)?;
        *self.counts.damaged.entry(damage.name()).or_default() += 1;
        Some(what)
    }

    /// An object passes for a day and a bit older from now on, as one does that nobody has written for so long. Says whether it is there.
    pub fn age(&mut self, object: ObjectName) -> bool {
        self.bucket.age(object)
    }

    /// It loses all that is in it, unless a write is under way. Says whether it did.
    pub fn lose_all(&mut self, now: SimTime) -> bool {
        if self.effects.values().any(|effect| !faults::reads(&effect.op)) {
            return false;
        }
        self.bucket.lose_all(now);
        *self.counts.damaged.entry("store lost").or_default() += 1;
        true
    }

    /// What is really there.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The next thing that happened to what is there.
    pub fn poll_fact(&mut self) -> Option<Fact> {
        self.bucket.poll_fact()
    }

    /// Does an operation at once and without faults: to look at what is really there with the machines that read backups.
    pub fn look(&mut self, now: SimTime, op: BlobOp) -> Answer {
        self.bucket.read(now, &op, Sight::Fresh, &mut self.rng)
    }

    /// Whether no listing is ever stale.
    pub fn lists_truly(&self) -> bool {
        self.faults.stale_listing == Ppm::NEVER && self.counts.stale_listings == 0
    }

    /// How often each fault fired.
    pub fn counts(&self) -> &StoreCounts {
        &self.counts
    }

    fn is_out(&self, now: SimTime, outage: Outage) -> bool {
        self.outages.get(&outage).is_some_and(|until| now < *until)
    }

    fn fate(&mut self, now: SimTime, op: &BlobOp) -> Fate {
        let refused = Outage::REFUSING
            .into_iter()
            .find(|outage| self.is_out(now, *outage) && outage.concerns(op));
        if let Some(outage) = refused {
            *self.counts.refused.entry(outage.name()).or_default() += 1;
            return Fate::Refused(outage.error(), outage.name());
        }
        if self.rng.happens(self.faults.transient) {
            self.counts.transient += 1;
            return Fate::Refused(BlobErrorKind::Transient, "503, slow down");
        }
        if faults::reads(op) {
            return Fate::Fine;
        }
        if self.rng.happens(self.faults.request_lost) {
            return Fate::RequestLost;
        }
        if self.rng.happens(self.faults.answer_lost) {
            return Fate::AnswerLost;
        }
        if self.rng.happens(self.faults.late) {
            return Fate::Late;
        }
        if matches!(op, BlobOp::Put { .. }) && self.rng.happens(self.faults.retried) {
            return Fate::Retried;
        }
        Fate::Fine
    }

    fn effect(&mut self, at: SimTime, call: Call, op: BlobOp, is_answered: bool) {
        self.sequence += 1;
        self.effects.insert((at, self.sequence), Effect { call, op, is_answered });
    }

    fn answer(&mut self, at: SimTime, call: Call, answer: Answer) {
        self.sequence += 1;
        self.answers.insert((at, self.sequence), (call, answer));
    }

    fn advance(&mut self, now: SimTime) {
        while let Some(entry) = self.effects.first_entry()
            && entry.key().0 <= now
        {
            let ((at, _), Effect { call, op, is_answered }) = entry.remove_entry();
            let result = if faults::reads(&op) {
                let sight = self.sight(&op);
                self.bucket.read(at, &op, sight, &mut self.rng)
            } else {
                self.bucket.write(at, call, op)
            };
            if is_answered {
                self.answer(at, call, result);
            }
        }
    }

    fn sight(&mut self, op: &BlobOp) -> Sight {
        if *op == BlobOp::List && self.rng.happens(self.faults.stale_listing) {
            self.counts.stale_listings += 1;
            return Sight::Stale(self.faults.staleness);
        }
        Sight::Fresh
    }
}

fn unknown(op: &BlobOp) -> BlobError {
    refusal(BlobErrorKind::Unknown, op, "no answer in time")
}

fn refusal(kind: BlobErrorKind, op: &BlobOp, why: &str) -> BlobError {
    BlobError { kind, message: format!("{}: {why}", faults::describe(op)) }
}

#[cfg(test)]
mod tests;

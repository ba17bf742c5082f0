//! Linearizable reads by ReadIndex (thesis §6.4): collected, confirmed in batches, tried again when no answer comes.
//!
//! Invariants: every attempt has a context that was never used before, by this process or an earlier life of this node, because
//! raft answers a context it still holds with the older index it was first asked with; a read joins only attempts made after it
//! arrived; answers may come in any order, late, twice, or never. A late one still counts for the reads that were part of its
//! attempt: where an answer always takes longer than a retry waits, none would ever count otherwise.

use crate::ids::ReqId;
use crate::planted::{self, Bug};
use crate::rng::{Rng, Seed};
use crate::time::{Mono, Span};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};

/// Attempts that were given up and may still be answered.
const LATE_MAX: usize = 16;

/// Reads on their way to being safe.
#[derive(Debug)]
pub struct Reads {
    nonce: u64,
    attempts: u64,
    retry_after: Span,
    /// Arrived, not yet part of an attempt.
    waiting: Vec<ReqId>,
    /// The attempt under way.
    asked: Option<Attempt>,
    /// Those before it, given up, oldest first. Their reads are part of the one under way, or wait to be.
    late: VecDeque<Attempt>,
    /// Confirmed: the index to wait for, ascending.
    confirmed: VecDeque<(u64, Vec<ReqId>)>,
}

#[derive(Debug)]
struct Attempt {
    context: Bytes,
    reads: Vec<ReqId>,
    deadline: Mono,
}

impl Reads {
    /// `retry_after` is how long an attempt may go unanswered.
    pub fn new(seed: &Seed, retry_after: Span) -> Self {
        let mut rng: Rng = seed.fork("read contexts");
        Reads {
            nonce: rng.next_u64(),
            attempts: 0,
            retry_after,
            waiting: Vec::new(),
            asked: None,
            late: VecDeque::new(),
            confirmed: VecDeque::new(),
        }
    }

    /// A read arrived.
    pub fn add(&mut self, req: ReqId) {
        match &mut self.asked {
            Some(asked) if planted::is(Bug::ReadJoinsEarlierAttempt) => asked.reads.push(req),
            _ => self.waiting.push(req),
        }
    }

    /// The next attempt to hand to raft, if one is wanted now. One is under way at a time: reads that arrive meanwhile share the
    /// next, which is what makes many of them cheap.
    pub fn next_attempt(&mut self, now: Mono) -> Option<Bytes> {
        if let Some(late) = self.asked.take_if(|attempt| attempt.deadline <= now) {
            self.waiting.extend(&late.reads);
            self.late.push_back(late);
            if self.late.len() > LATE_MAX {
                self.late.pop_front();
            }
        }
        if self.asked.is_some() || self.waiting.is_empty() {
            return None;
        }
        self.attempts += u64::from(!planted::is(Bug::ReadContextReused));
        let mut context = self.nonce.to_le_bytes().to_vec();
        context.extend_from_slice(&self.attempts.to_le_bytes());
        let context = Bytes::from(context);
        let reads = std::mem::take(&mut self.waiting);
        let mut deadline = now + self.retry_after;
        if planted::is(Bug::ReadNeverRetried) {
            deadline = Mono(u64::MAX);
        }
        self.asked = Some(Attempt { context: context.clone(), reads, deadline });
        Some(context)
    }

    /// The leader changed: the attempt under way is not going to be answered, nor are those before it.
    pub fn retry_now(&mut self) {
        self.late.clear();
        if let Some(attempt) = self.asked.take() {
            self.waiting.extend(attempt.reads);
        }
    }

    /// Raft confirmed a context at an index.
    pub fn confirm(&mut self, context: &[u8], index: u64) {
        let reads = match self.asked.take_if(|attempt| attempt.context == context) {
            Some(attempt) => {
                // Every read of an earlier attempt was part of this one.
                self.late.clear();
                attempt.reads
            }
            None => self.answered_late(context),
        };
        if !reads.is_empty() {
            // A later attempt cannot be confirmed below an earlier one by the same leader, but it may after a change of leader.
            let floor = self.confirmed.back().map_or(0, |(last, _)| *last);
            self.confirmed.push_back((index.max(floor), reads));
        }
    }

    /// The reads of an attempt that was given up, and is answered after all.
    fn answered_late(&mut self, context: &[u8]) -> Vec<ReqId> {
        let Some(at) = self.late.iter().position(|attempt| attempt.context == context) else {
            return Vec::new();
        };
        // What was asked before that is not needed any more: its reads are among these.
        let Some(attempt) = self.late.drain(..=at).next_back() else { return Vec::new() };
        let answered: BTreeSet<ReqId> = attempt.reads.iter().copied().collect();
        let waits = |req: &ReqId| !answered.contains(req);
        self.waiting.retain(waits);
        self.late.iter_mut().chain(&mut self.asked).for_each(|later| later.reads.retain(waits));
        self.asked.take_if(|asked| asked.reads.is_empty());
        attempt.reads
    }

    /// Reads that may be served now that `applied` is.
    pub fn ready(&mut self, applied: u64) -> Vec<ReqId> {
        let applied = if planted::is(Bug::ReadBeforeApplied) { u64::MAX } else { applied };
        let mut ready = Vec::new();
        while self.confirmed.front().is_some_and(|(index, _)| *index <= applied) {
            ready.extend(self.confirmed.pop_front().into_iter().flat_map(|(_, reads)| reads));
        }
        ready
    }

    /// Gives up every read, e.g. because the node stops.
    pub fn take_all(&mut self) -> Vec<ReqId> {
        self.late.clear();
        let confirmed = std::mem::take(&mut self.confirmed).into_iter().flat_map(|(_, r)| r);
        let asked = self.asked.take().into_iter().flat_map(|attempt| attempt.reads);
        confirmed.chain(asked).chain(std::mem::take(&mut self.waiting)).collect()
    }

    /// When an attempt must be tried again.
    pub fn deadline(&self) -> Option<Mono> {
        self.asked.as_ref().map(|attempt| attempt.deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads() -> Reads {
        Reads::new(&Seed::from_number(1), Span(100))
    }

    #[test]
    fn a_retry_uses_a_fresh_context_and_answers_its_reads_once() {
        let mut reads = reads();
        reads.add(ReqId(1));
        let first = reads.next_attempt(Mono(0)).unwrap();
        assert_eq!(reads.next_attempt(Mono(99)), None);
        let second = reads.next_attempt(Mono(100)).unwrap();
        assert_ne!(first, second);
        reads.confirm(&second, 5);
        reads.confirm(&first, 3);
        assert_eq!(reads.ready(4), []);
        assert_eq!(reads.ready(5), [ReqId(1)]);
        assert_eq!(reads.ready(u64::MAX), []);
    }

    #[test]
    fn answers_that_always_come_late_count_for_those_that_asked() {
        let mut reads = reads();
        reads.add(ReqId(1));
        let first = reads.next_attempt(Mono(0)).unwrap();
        reads.add(ReqId(2));
        let second = reads.next_attempt(Mono(100)).unwrap();
        reads.confirm(&first, 3);
        assert_eq!(reads.ready(3), [ReqId(1)], "the second came after the first was asked");
        let third = reads.next_attempt(Mono(200)).unwrap();
        reads.confirm(&second, 4);
        assert_eq!(reads.ready(4), [ReqId(2)]);
        assert_eq!(reads.deadline(), None, "nothing is asked for any more");
        reads.confirm(&third, 5);
        assert_eq!(reads.ready(u64::MAX), []);
        assert_eq!(reads.next_attempt(Mono(900)), None);
    }

    #[test]
    fn after_a_change_of_leader_earlier_answers_count_no_more() {
        let mut reads = reads();
        reads.add(ReqId(1));
        let first = reads.next_attempt(Mono(0)).unwrap();
        let second = reads.next_attempt(Mono(100)).unwrap();
        reads.retry_now();
        reads.confirm(&first, 3);
        reads.confirm(&second, 3);
        assert_eq!(reads.ready(u64::MAX), []);
        assert!(reads.next_attempt(Mono(101)).is_some());
    }

    #[test]
    fn a_read_never_joins_an_attempt_made_before_it_came() {
        let mut reads = reads();
        reads.add(ReqId(1));
        let first = reads.next_attempt(Mono(0)).unwrap();
        reads.add(ReqId(2));
        reads.confirm(&first, 7);
        assert_eq!(reads.ready(7), [ReqId(1)]);
        assert!(reads.next_attempt(Mono(1)).is_some());
    }

    #[test]
    fn two_lives_of_a_node_never_share_a_context() {
        let (mut one, mut two) = (reads(), Reads::new(&Seed::from_number(2), Span(100)));
        one.add(ReqId(1));
        two.add(ReqId(1));
        assert_ne!(one.next_attempt(Mono(0)), two.next_attempt(Mono(0)));
    }
}

//! Whether a request to an object store is tried again, and when.
//!
//! One [`Retry`] stands for one request. It is told how each try ended and answers: again after a pause, or the end and what kind of
//! end. Invariants: only what is transient is tried again; tries, pauses and the whole time are bounded; a store that says how long to
//! wait is waited for that long, or not at all; a request whose effect was in doubt once never ends as certainly undone. Pauses
//! double and are half random, so that clients which failed together do not come back together.

use super::blob::BlobErrorKind;
use crate::rng::Rng;

/// Bounds on trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Tries in all; at least one is made.
    pub tries: u32,
    /// Pause before the second try; doubles for each further one.
    pub first_pause_ms: u64,
    /// The longest pause, unless the store asks for a longer one.
    pub longest_pause_ms: u64,
    /// No pause begins that would end later than this after the request began.
    pub whole_ms: u64,
    /// How long one try may take.
    pub try_ms: u64,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It only reads.
    Reads,
    /// It changes something in the store.
    Writes,
}

/// How a try ended that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The request never left: no connection.
    Unreachable,
    /// It left, and no answer came, or only half of one.
    Lost,
    /// The store turned it away unread: too many requests, or no time now.
    Busy {
        /// How long it asks to wait.
        retry_after_ms: Option<u64>,
    },
    /// The store failed over it, and may have carried it out.
    Broken {
        /// How long it asks to wait.
        retry_after_ms: Option<u64>,
    },
    /// The store answered no, and would again.
    Refused(BlobErrorKind),
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try again after a pause.
    Again {
        /// The pause.
        pause_ms: u64,
    },
    /// It has failed, like this.
    Failed(BlobErrorKind),
}

/// One request and its tries.
#[derive(Debug)]
pub struct Retry {
    policy: Policy,
    effect: Effect,
    tries: u32,
    is_in_doubt: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            tries: 8,
            first_pause_ms: 200,
            longest_pause_ms: 10_000,
            whole_ms: 180_000,
            try_ms: 60_000,
        }
    }
}

/// A request's bytes may come at this rate, which is that of one of three parts on a line of half a megabit a second.
const BYTES_PER_S_MIN: u64 = 16 << 10;
/// So many tries that take as long as the rate allows fit into the whole time.
const SLOW_TRIES: u64 = 3;

impl Policy {
    /// For a request that carries so many bytes, there or back: on a slow line that takes its time, and nothing has failed.
    #[must_use]
    pub fn for_bytes(self, bytes: u64) -> Policy {
        let more_ms = bytes.saturating_mul(1_000) / BYTES_PER_S_MIN;
        Policy {
            try_ms: self.try_ms.saturating_add(more_ms),
            whole_ms: self.whole_ms.saturating_add(more_ms.saturating_mul(SLOW_TRIES)),
            ..self
        }
    }
}

impl Retry {
    /// Begins a request.
    pub fn new(policy: Policy, effect: Effect) -> Self {
        Retry { policy, effect, tries: 0, is_in_doubt: false }
    }

    /// How many tries have failed.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Whether an earlier try may have been carried out although it seemed to fail.
    pub fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    /// A try failed, `elapsed_ms` after the request began.
    pub fn failed(&mut self, trouble: Trouble, elapsed_ms: u64, rng: &mut Rng) -> Verdict {
        self.tries = self.tries.saturating_add(1);
        let asked_ms = match trouble {
            // Refused because of our own first try, as it may well be: only a look can tell.
            Trouble::Refused(_) if self.is_in_doubt => {
                return Verdict::Failed(BlobErrorKind::Unknown);
            }
            Trouble::Refused(kind) => return Verdict::Failed(kind),
            Trouble::Unreachable => None,
            Trouble::Busy { retry_after_ms } => retry_after_ms,
            Trouble::Lost => {
                self.is_in_doubt |= self.effect == Effect::Writes;
                None
            }
            Trouble::Broken { retry_after_ms } => {
                self.is_in_doubt |= self.effect == Effect::Writes;
                retry_after_ms
            }
        };
        let pause_ms = asked_ms.unwrap_or(0).max(self.pause_ms(rng));
        let ends_ms = elapsed_ms.saturating_add(pause_ms);
        match self.tries < self.policy.tries && ends_ms <= self.policy.whole_ms {
            true => Verdict::Again { pause_ms },
            false if self.is_in_doubt => Verdict::Failed(BlobErrorKind::Unknown),
            false => Verdict::Failed(BlobErrorKind::Transient),
        }
    }

    fn pause_ms(&self, rng: &mut Rng) -> u64 {
        let doublings = (self.tries - 1).min(32);
        let pause_ms = self.policy.first_pause_ms.saturating_mul(1 << doublings);
        let pause_ms = pause_ms.min(self.policy.longest_pause_ms);
        pause_ms / 2 + rng.below(pause_ms / 2 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;
    use proptest::prelude::*;

    const BUSY: Trouble = Trouble::Busy { retry_after_ms: None };
    const BROKEN: Trouble = Trouble::Broken { retry_after_ms: None };

    fn pauses(troubles: &[Trouble], seed: u64) -> Vec<Verdict> {
        let mut rng = Seed::from_number(seed).fork("retry");
        let mut retry = Retry::new(Policy::default(), Effect::Writes);
        troubles.iter().map(|trouble| retry.failed(*trouble, 0, &mut rng)).collect()
    }

    #[test]
    fn pauses_grow_and_are_random_and_repeat_with_the_seed() {
        let verdicts = pauses(&[BUSY; 8], 1);
        assert_eq!(verdicts, pauses(&[BUSY; 8], 1));
        assert_ne!(verdicts, pauses(&[BUSY; 8], 2));
        for (verdict, most_ms) in verdicts.iter().zip([200, 400, 800, 1_600, 3_200, 6_400, 10_000])
        {
            let Verdict::Again { pause_ms } = verdict else { panic!("{verdict:?}") };
            assert!((most_ms / 2..=most_ms).contains(pause_ms), "{pause_ms} of {most_ms}");
        }
        assert_eq!(verdicts[7], Verdict::Failed(BlobErrorKind::Transient));
    }

    #[test]
    fn what_is_long_may_take_long() {
        let usual = Policy::default();
        assert_eq!(usual.for_bytes(0), usual);
        let part = usual.for_bytes(5 << 20);
        assert_eq!((part.try_ms, part.whole_ms), (60_000 + 320_000, 180_000 + 960_000));
        assert_eq!(Policy { try_ms: usual.try_ms, whole_ms: usual.whole_ms, ..part }, usual);
        // A part that failed at the end of its time is tried again.
        let mut retry = Retry::new(part, Effect::Writes);
        let mut rng = Seed::from_number(1).fork("retry");
        let verdict = retry.failed(Trouble::Lost, part.try_ms, &mut rng);
        assert!(matches!(verdict, Verdict::Again { .. }), "{verdict:?}");
        assert_eq!(usual.for_bytes(u64::MAX).try_ms, usual.try_ms + u64::MAX / BYTES_PER_S_MIN);
    }

    #[test]
    fn a_refusal_is_final_and_of_its_kind() {
        for kind in [BlobErrorKind::Denied, BlobErrorKind::Exists, BlobErrorKind::NotFound] {
            assert_eq!(pauses(&[Trouble::Refused(kind)], 1), [Verdict::Failed(kind)]);
            assert_eq!(pauses(&[BUSY, Trouble::Refused(kind)], 1)[1], Verdict::Failed(kind));
        }
    }

    #[test]
    fn a_refusal_after_a_doubt_may_be_our_own_doing() {
        for doubt in [Trouble::Lost, BROKEN] {
            for kind in [BlobErrorKind::Exists, BlobErrorKind::NotFound, BlobErrorKind::Denied] {
                let verdicts = pauses(&[doubt, Trouble::Refused(kind)], 1);
                assert_eq!(verdicts[1], Verdict::Failed(BlobErrorKind::Unknown));
            }
        }
    }

    #[test]
    fn what_only_reads_is_never_in_doubt() {
        let mut rng = Seed::from_number(1).fork("retry");
        let mut retry = Retry::new(Policy { tries: 2, ..Policy::default() }, Effect::Reads);
        assert!(matches!(retry.failed(Trouble::Lost, 0, &mut rng), Verdict::Again { .. }));
        let verdict = retry.failed(BROKEN, 0, &mut rng);
        assert_eq!(verdict, Verdict::Failed(BlobErrorKind::Transient));
    }

    #[test]
    fn the_stores_own_wish_is_kept_or_the_request_given_up() {
        let busy = |ms| Trouble::Busy { retry_after_ms: Some(ms) };
        assert_eq!(pauses(&[busy(30_000)], 1), [Verdict::Again { pause_ms: 30_000 }]);
        assert_eq!(pauses(&[busy(1 << 40)], 1), [Verdict::Failed(BlobErrorKind::Transient)]);
    }

    proptest! {
        #[test]
        fn tries_and_time_are_bounded(
            seed: u64,
            troubles in proptest::collection::vec(0..4u8, 0..50),
            asked_ms: u64,
            try_ms in 0..10_000u64,
        ) {
            let mut rng = Seed::from_number(seed).fork("retry");
            let policy = Policy::default();
            let mut retry = Retry::new(policy, Effect::Writes);
            let mut elapsed_ms = 0u64;
            for trouble in troubles {
                let trouble = match trouble {
                    0 => Trouble::Unreachable,
                    1 => Trouble::Lost,
                    2 => Trouble::Busy { retry_after_ms: Some(asked_ms) },
                    _ => Trouble::Broken { retry_after_ms: None },
                };
                elapsed_ms += try_ms;
                match retry.failed(trouble, elapsed_ms, &mut rng) {
                    Verdict::Again { pause_ms } => elapsed_ms += pause_ms,
                    Verdict::Failed(kind) => {
                        prop_assert_eq!(kind == BlobErrorKind::Unknown, retry.is_in_doubt());
                        break;
                    }
                }
                prop_assert!(retry.tries() < policy.tries && elapsed_ms <= policy.whole_ms);
            }
        }
    }
}

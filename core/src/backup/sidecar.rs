//! What a process that makes backups beside a cluster does when: whether one is due, when to look again, and how long to rest after a failure.
//!
//! What was done is read from the store, not remembered: a slot is taken once a backup of the cluster was begun at or after it. So a process
//! that is started again makes up for missed slots with one backup, and makes none twice; where the cluster has no backup at all, one is due
//! at once. Slots are told by the calendar, rests by the monotonic clock.
//!
//! Invariants: a slot that was settled is not looked at again; a new slot is tried as soon as it is due, whatever failed before; between two
//! tries at one slot lies a rest that doubles; copies that are behind are tried again, too, while no backup is due.

use super::cron::Cron;
use crate::time::{Mono, Now, Span, Wall};

/// The longest wait: a calendar that is set right meanwhile is noticed.
pub const NAP: Span = Span::from_millis(30_000);
/// After the first failure; doubled with each further one.
const REST_MS: u64 = 60_000;
const REST_MS_MAX: u64 = 3_600_000;

/// The machine.
#[derive(Debug)]
pub struct Sidecar {
    cron: Cron,
    /// The slot of which nothing is left to do.
    settled: Option<Wall>,
    /// The slot whose backup failed.
    failed: Option<(Wall, Rest)>,
    /// Since the last slot was settled.
    copies: Copies,
}

/// How copies are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copies {
    Whole,
    Unknown,
    Behind(Rest),
}

/// What is done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// See whether the store has the backup of this slot, and make it if not.
    BackUp(Wall),
    /// Bring the stores that have copies up to date.
    Copy,
    /// Nothing, for so long.
    Wait(Span),
}

/// A time without tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rest {
    failures: u32,
    until: Mono,
}

impl Sidecar {
    /// Begins.
    pub fn new(cron: Cron) -> Self {
        Sidecar { cron, settled: None, failed: None, copies: Copies::Whole }
    }

    /// What is to be done now.
    pub fn step(&self, now: Now) -> Step {
        match self.cron.last_until(now.wall).filter(|slot| Some(*slot) != self.settled) {
            Some(slot) => match self.failed.filter(|(failed, _)| *failed == slot) {
                Some((_, rest)) if rest.until > now.mono => self.wait(now, Some(rest)),
                _ => Step::BackUp(slot),
            },
            None => match self.copies {
                Copies::Whole => self.wait(now, None),
                Copies::Behind(rest) if rest.until > now.mono => self.wait(now, Some(rest)),
                Copies::Behind(_) | Copies::Unknown => Step::Copy,
            },
        }
    }

    /// The store has the backup of this slot, or nothing has changed since the newest one. Whether copies are behind is not known any more.
    pub fn settled(&mut self, slot: Wall) {
        self.settled = Some(slot);
        self.failed = None;
        self.copies = Copies::Unknown;
    }

    /// The backup of this slot was not made.
    pub fn failed(&mut self, slot: Wall, now: Now) {
        let before = self.failed.filter(|(failed, _)| *failed == slot).map(|(_, rest)| rest);
        self.failed = Some((slot, Rest::after(before, now)));
    }

    /// Copies were brought up to date, or not all of them.
    pub fn copied(&mut self, is_whole: bool, now: Now) {
        self.copies = match self.copies {
            _ if is_whole => Copies::Whole,
            Copies::Behind(before) => Copies::Behind(Rest::after(Some(before), now)),
            Copies::Whole | Copies::Unknown => Copies::Behind(Rest::after(None, now)),
        };
    }

    /// Whether the last try at a backup failed.
    pub fn is_failing(&self) -> bool {
        self.failed.is_some()
    }

    /// Until a rest ends or the next slot is due, whichever is first.
    fn wait(&self, now: Now, rest: Option<Rest>) -> Step {
        let slot_ms = self.cron.next_after(now.wall).map(|slot| slot.0.saturating_sub(now.wall.0));
        let slot = slot_ms.map(|ms| Span::from_millis(u64::try_from(ms).unwrap_or(0)));
        let rest = rest.map(|rest| rest.until - now.mono);
        Step::Wait(slot.into_iter().chain(rest).fold(NAP, Span::min))
    }
}

impl Rest {
    fn after(before: Option<Rest>, now: Now) -> Rest {
        let failures = before.map_or(0, |rest| rest.failures);
        let rest_ms = (REST_MS << failures.min(10)).min(REST_MS_MAX);
        let until = now.mono + Span::from_millis(rest_ms);
        Rest { failures: failures.saturating_add(1), until }
    }
}

/// Whether the backup of a slot is there, when this is the time of the newest backup that the cluster has in the store.
pub fn is_taken(slot: Wall, newest: Option<Wall>) -> bool {
    newest.is_some_and(|newest| slot <= newest)
}

#[cfg(test)]
mod tests;

//! When a snapshot is due: after so many entries or bytes of them, after so long if anything was applied, or when asked.

use crate::time::{Mono, Span};

/// A snapshot that took long is not followed by the next, for entries applied, before this many times as long has passed: with a large
/// state and many writes, making snapshots must not become most of what a node does.
const REST_FACTOR: u64 = 9;

/// Counts towards the next snapshot.
#[derive(Clone, Debug)]
pub struct Trigger {
    entries: u64,
    entry_bytes: u64,
    interval: Span,
    /// Bytes of entries applied since the newest snapshot.
    behind_bytes: u64,
    /// Index of the newest snapshot, begun or done.
    last_index: u64,
    last_time: Mono,
    /// No snapshot for entries applied before this.
    rest_until: Mono,
    asked: bool,
}

/// Why a snapshot is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Enough entries were applied.
    Entries,
    /// Enough bytes of entries were applied.
    Bytes,
    /// Enough time has passed.
    Interval,
    /// Someone asked.
    Asked,
}

impl Trigger {
    /// A trigger after `entries` applied entries, `entry_bytes` of them, or `interval`, whichever comes first. The newest snapshot
    /// is at `last_index`.
    pub fn new(entries: u64, entry_bytes: u64, interval: Span, last_index: u64, now: Mono) -> Self {
        Trigger {
            entries,
            entry_bytes,
            interval,
            behind_bytes: 0,
            last_index,
            last_time: now,
            rest_until: now,
            asked: false,
        }
    }

    /// An entry of so many bytes was applied.
    pub fn applied(&mut self, bytes: u64) {
        self.behind_bytes += bytes;
    }

    /// A snapshot is wanted now, whatever was applied.
    pub fn ask(&mut self) {
        self.asked = true;
    }

    /// Whether a snapshot is due with everything up to `applied` applied.
    pub fn due(&self, applied: u64, now: Mono) -> Option<Due> {
        let behind = applied.saturating_sub(self.last_index);
        if self.asked {
            Some(Due::Asked)
        } else if behind >= self.entries.max(1) && now >= self.rest_until {
            Some(Due::Entries)
        } else if self.behind_bytes >= self.entry_bytes {
            Some(Due::Bytes)
        } else if behind > 0 && now - self.last_time >= self.interval {
            Some(Due::Interval)
        } else {
            None
        }
    }

    /// When to look again; `None` while only an applied entry can change the answer.
    pub fn next_check(&self, applied: u64) -> Option<Mono> {
        (applied > self.last_index).then(|| self.last_time + self.interval)
    }

    /// The snapshot that was begun last has ended, well or not.
    pub fn ended(&mut self, now: Mono) {
        let took = now - self.last_time;
        self.rest_until = now + Span(took.0.saturating_mul(REST_FACTOR));
    }

    /// A snapshot at `index` was begun, or one was installed: counting starts anew. A failed one counts too, so that a full disk is not
    /// tried again at once.
    pub fn restart(&mut self, index: u64, now: Mono) {
        self.last_index = self.last_index.max(index);
        self.last_time = now;
        self.behind_bytes = 0;
        self.asked = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_fires_alone() {
        let seconds = |s: u64| Mono(s * 1_000_000_000);
        let mut trigger = Trigger::new(100, 1000, Span::from_millis(10_000), 50, seconds(0));
        assert_eq!(trigger.due(50, seconds(1000)), None);
        assert_eq!(trigger.next_check(50), None);
        assert_eq!(trigger.due(149, seconds(9)), None);
        assert_eq!(trigger.due(150, seconds(9)), Some(Due::Entries));
        assert_eq!(trigger.next_check(51), Some(seconds(10)));
        assert_eq!(trigger.due(51, seconds(10)), Some(Due::Interval));
        trigger.applied(1000);
        assert_eq!(trigger.due(51, seconds(9)), Some(Due::Bytes));
        trigger.ask();
        assert_eq!(trigger.due(50, seconds(0)), Some(Due::Asked));
        trigger.restart(51, seconds(10));
        assert_eq!(trigger.due(51, seconds(100)), None);
    }

    #[test]
    fn a_snapshot_that_took_long_is_followed_by_a_rest() {
        let seconds = |s: u64| Mono(s * 1_000_000_000);
        let mut trigger = Trigger::new(10, 1000, Span::from_millis(1_000_000), 0, seconds(0));
        trigger.restart(10, seconds(1));
        trigger.ended(seconds(3));
        assert_eq!(trigger.due(20, seconds(20)), None);
        assert_eq!(trigger.due(20, seconds(21)), Some(Due::Entries));
        trigger.applied(1000);
        assert_eq!(trigger.due(20, seconds(4)), Some(Due::Bytes));
    }
}

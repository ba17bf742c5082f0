//! Log time as the leader counts it: from where the state stood when leadership began, on by the leader's monotonic clock.
//!
//! Invariants: stamps never fall while this node leads; between two leaders log time may stand still but never jumps ahead, so a lease
//! never ends early. A calendar that is set wrong changes nothing.

use crate::planted::{self, Bug};
use crate::time::{Mono, Now};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaderClock {
    base_ms: u64,
    since: Mono,
}

impl LeaderClock {
    /// Leadership begins, or the state of the terms before is now known in full.
    pub fn start(&mut self, state_ms: u64, now: Now) {
        let calendar_ms = now.wall.0.max(0) as u64;
        let from_calendar = planted::is(Bug::LogTimeFromCalendar);
        let base_ms = if from_calendar { state_ms.max(calendar_ms) } else { state_ms };
        *self = LeaderClock { base_ms, since: now.mono };
    }

    /// Log time now.
    pub fn log_time_ms(&self, now: Now) -> u64 {
        self.base_ms + (now.mono - self.since).as_millis()
    }

    /// When log time will reach `log_time_ms`.
    pub fn when(&self, log_time_ms: u64) -> Mono {
        self.since + crate::time::Span::from_millis(log_time_ms.saturating_sub(self.base_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;

    #[test]
    fn it_runs_by_the_monotonic_clock_only() {
        let at = |ms: u64, wall| Now { mono: Mono(ms * 1_000_000), wall: Wall(wall) };
        let mut clock = LeaderClock::default();
        clock.start(5_000, at(100, 1_000_000));
        assert_eq!(clock.log_time_ms(at(130, -7)), 5_030);
        assert_eq!(clock.when(5_030), Mono(130_000_000));
    }
}

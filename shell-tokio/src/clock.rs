//! The machine's clocks.

use crate::leaf::Clock;
use raftkv_core::time::{Mono, Now, Wall};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock since construction, and the calendar clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that starts at zero.
    pub fn new() -> Self {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let mono = Mono(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        };
        Now { mono, wall: Wall(wall) }
    }

    fn sleep_until(&self, deadline: Mono) -> impl Future<Output = ()> + Send {
        let deadline = self.start + Duration::from_nanos(deadline.0);
        tokio::time::sleep_until(deadline.into())
    }
}

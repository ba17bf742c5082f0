//! Madsim's time in the world's terms, and a timer that is exact: madsim's own makes every sleep a millisecond long at least.

use crate::time::SimTime;
use madsim::time::{Sleep, TimeHandle};
use std::pin::Pin;
use std::time::Duration;

/// How far ahead anybody may sleep: longer than any run.
const AHEAD_MAX: Duration = Duration::from_secs(1 << 24);

/// The moment it is.
pub(super) fn now(time: &TimeHandle) -> SimTime {
    SimTime(u64::try_from(time.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// Ends at `moment`, or at once if that is past.
pub(super) fn until(time: &TimeHandle, moment: SimTime) -> Sleep {
    let ahead = Duration::from_nanos((moment - now(time)).0).min(AHEAD_MAX);
    let deadline = time.now_instant() + ahead;
    let mut sleep = time.sleep_until(deadline);
    Pin::new(&mut sleep).reset(deadline);
    sleep
}

//! The simulation's own time: what a perfect clock outside of all nodes would show. Nodes never see it; they see
//! what [`crate::model::clock::ClockModel`] makes of it.

use raftkv_core::time::Span;
use std::fmt;
use std::ops::{Add, Sub};

/// Nanoseconds since the start of the simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SimTime(pub u64);

impl SimTime {
    /// The end of time: for things that never happen.
    pub const NEVER: SimTime = SimTime(u64::MAX);

    /// A moment given in whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        SimTime(millis.saturating_mul(1_000_000))
    }
}

impl Add<Span> for SimTime {
    type Output = SimTime;
    fn add(self, span: Span) -> SimTime {
        SimTime(self.0.saturating_add(span.0))
    }
}

impl Sub for SimTime {
    type Output = Span;
    /// The span since `earlier`; zero when `earlier` is later.
    fn sub(self, earlier: SimTime) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// Seconds with microseconds, in a fixed width for traces.
impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4}.{:06}", self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000)
    }
}

//! One node's clocks as functions of simulated time.
//!
//! # Contract
//! The monotonic clock never goes back and never stops; it drifts by at most the configured rate. It starts anew with every
//! boot, at an arbitrary value. The calendar clock may run off, jump by years in either direction and stand still: nothing
//! that must be safe may depend on it. The two are not related.

use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use raftkv_core::rng::Rng;
use raftkv_core::time::{Mono, Now, Span, Wall};

/// Calendar time at the start of every simulation, milliseconds since the epoch: 2030-01-01.
pub const START_WALL_MS: i64 = 1_893_456_000_000;

/// How bad clocks may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockFaults {
    /// The monotonic clock runs at most this much too fast or too slow.
    pub drift: Ppm,
    /// Whether the calendar may jump and freeze.
    pub steps: bool,
}

/// The clocks of one node.
#[derive(Debug)]
pub struct ClockModel {
    rng: Rng,
    faults: ClockFaults,
    dials: Dials,
}

/// What the clocks show, until somebody touches them.
#[derive(Clone, Copy, Debug)]
pub struct Dials {
    /// Monotonic clock: value at `since`, and how it advances from there (parts per million of true time).
    since: SimTime,
    mono: Mono,
    rate_ppm: u64,
    wall_offset_ms: i64,
    frozen_wall: Option<Wall>,
}

impl ClockModel {
    /// Clocks that start now.
    pub fn new(now: SimTime, faults: ClockFaults, rng: Rng) -> Self {
        let dials = Dials {
            since: now,
            mono: Mono(0),
            rate_ppm: 1_000_000,
            wall_offset_ms: 0,
            frozen_wall: None,
        };
        let mut clock = ClockModel { rng, faults, dials };
        clock.reboot(now);
        clock
    }

    /// What the clocks show from now on, unless they are disturbed, mended or started again.
    pub fn dials(&self) -> Dials {
        self.dials
    }

    /// Both clocks as the node would read them.
    pub fn read(&self, now: SimTime) -> Now {
        self.dials.read(now)
    }

    /// The first simulated moment at which the monotonic clock has reached `mono`.
    pub fn when(&self, mono: Mono) -> SimTime {
        self.dials.when(mono)
    }

    /// The machine starts again: a new monotonic clock with a new drift; the calendar goes on.
    pub fn reboot(&mut self, now: SimTime) {
        let drift = u64::from(self.faults.drift.0);
        self.dials.rate_ppm = self.rng.between(1_000_000 - drift, 1_000_000 + drift);
        self.dials.since = now;
        self.dials.mono = Mono(self.rng.below(1 << 40));
    }

    /// The calendar jumps, freezes or thaws. Says what happened, for the trace.
    pub fn disturb(&mut self, now: SimTime) -> &'static str {
        const HOUR_MS: u64 = 3_600_000;
        const DECADE_MS: u64 = 87_660 * HOUR_MS;
        if !self.faults.steps {
            return "steady";
        }
        let far = *self.rng.pick(&[HOUR_MS, DECADE_MS]);
        let jump = self.rng.between(1, far) as i64;
        match self.rng.below(4) {
            0 => {
                self.dials.wall_offset_ms = self.dials.wall_offset_ms.saturating_add(jump);
                "forward"
            }
            1 => {
                self.dials.wall_offset_ms = self.dials.wall_offset_ms.saturating_sub(jump);
                "backward"
            }
            2 => {
                self.dials.frozen_wall = Some(self.read(now).wall);
                "frozen"
            }
            _ => {
                self.dials.frozen_wall = None;
                "thawed"
            }
        }
    }

    /// Somebody set the calendar right; it stays right.
    pub fn heal(&mut self) {
        self.dials.wall_offset_ms = 0;
        self.dials.frozen_wall = None;
        self.faults.steps = false;
    }
}

impl Dials {
    /// Both clocks as they show this moment.
    pub fn read(&self, now: SimTime) -> Now {
        let elapsed = u128::from((now - self.since).0) * u128::from(self.rate_ppm) / 1_000_000;
        let true_wall = START_WALL_MS + (now.0 / 1_000_000) as i64;
        let wall = self.frozen_wall.unwrap_or(Wall(true_wall.saturating_add(self.wall_offset_ms)));
        Now { mono: self.mono + Span(elapsed as u64), wall }
    }

    /// The first simulated moment at which the monotonic clock has reached `mono`.
    pub fn when(&self, mono: Mono) -> SimTime {
        let wait = u128::from((mono - self.mono).0) * 1_000_000;
        let wait = wait.div_ceil(u128::from(self.rate_ppm));
        self.since + Span(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

/// A calendar that is right.
pub fn calendar(now: SimTime) -> Wall {
    Wall(START_WALL_MS + (now.0 / 1_000_000) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::rng::Seed;

    fn clock(seed: u64) -> ClockModel {
        let faults = ClockFaults { drift: Ppm::percent(5), steps: true };
        ClockModel::new(SimTime(0), faults, Seed::from_number(seed).fork("clock"))
    }

    #[test]
    fn the_monotonic_clock_advances_and_when_is_its_inverse() {
        for seed in 0..50 {
            let mut clock = clock(seed);
            let mut last = Mono(0);
            for step in 1..100u64 {
                let now = SimTime(step * 7_654_321);
                clock.disturb(now);
                let mono = clock.read(now).mono;
                assert!(mono > last);
                last = mono;
                let target = mono + Span(step * 1_000_003);
                let due = clock.when(target);
                assert!(clock.read(due).mono >= target);
                assert!(clock.read(SimTime(due.0 - 1)).mono < target);
            }
        }
    }

    #[test]
    fn the_calendar_jumps_both_ways_and_heals() {
        let mut clock = clock(1);
        let walls: Vec<i64> = (0..60)
            .map(|_| {
                clock.disturb(SimTime(0));
                clock.read(SimTime(0)).wall.0
            })
            .collect();
        assert!(walls.iter().any(|&wall| wall > START_WALL_MS));
        assert!(walls.iter().any(|&wall| wall < START_WALL_MS));
        clock.heal();
        clock.disturb(SimTime(0));
        assert_eq!(clock.read(SimTime(0)).wall, Wall(START_WALL_MS));
    }
}

//! Draws that fault models need, on the core's seeded generator.
//!
//! Invariant: integers only, so that a seed means the same on every machine and at every optimisation level.

use raftkv_core::rng::Rng;
use raftkv_core::time::Span;

/// A chance in a million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ppm(pub u32);

impl Ppm {
    /// It never happens.
    pub const NEVER: Ppm = Ppm(0);
    /// It always happens.
    pub const ALWAYS: Ppm = Ppm(1_000_000);

    /// A chance in percent.
    pub const fn percent(percent: u32) -> Ppm {
        Ppm(percent * 10_000)
    }
}

/// Draws on a generator.
pub trait Draw {
    /// Whether something with this chance happens. Draws nothing when the chance is zero.
    fn happens(&mut self, chance: Ppm) -> bool;
    /// A number in `low..=high`.
    fn between(&mut self, low: u64, high: u64) -> u64;
    /// A span in `low..=high`.
    fn span(&mut self, low: Span, high: Span) -> Span;
    /// A span around `mean` with a heavy tail: half of them below, one in a thousand ten times as long.
    fn tail(&mut self, mean: Span) -> Span;
    /// One of `items`, which must not be empty.
    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T;
    /// Puts `items` into a random order.
    fn shuffle<T>(&mut self, items: &mut [T]);
}

impl Draw for Rng {
    fn happens(&mut self, chance: Ppm) -> bool {
        chance.0 > 0 && self.below(1_000_000) < u64::from(chance.0)
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "a range runs from low to high");
        low + self.below(high - low + 1)
    }

    fn span(&mut self, low: Span, high: Span) -> Span {
        Span(self.between(low.0, high.0))
    }

    fn tail(&mut self, mean: Span) -> Span {
        // The count of leading zeros is geometric: an exponential distribution in steps, with a uniform draw inside each step.
        let steps = u64::from(self.next_u64().leading_zeros());
        Span(steps * mean.0 + self.below(mean.0.max(1)))
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::rng::Seed;

    #[test]
    fn chances_come_out_about_right() {
        let mut rng = Seed::from_number(3).fork("test");
        let hits = (0..10_000).filter(|_| rng.happens(Ppm::percent(30))).count();
        assert!((2_700..3_300).contains(&hits), "{hits}");
        assert!((0..100).all(|_| !rng.happens(Ppm::NEVER) && rng.happens(Ppm::ALWAYS)));
    }

    #[test]
    fn the_tail_is_heavy_and_rare() {
        let mut rng = Seed::from_number(4).fork("test");
        let draws: Vec<u64> = (0..10_000).map(|_| rng.tail(Span(1_000)).0).collect();
        let below = draws.iter().filter(|&&draw| draw < 1_000).count();
        assert!((4_700..5_300).contains(&below), "{below}");
        let long = draws.iter().filter(|&&draw| draw >= 8_000).count();
        assert!((10..100).contains(&long), "{long}");
    }

    #[test]
    fn shuffling_keeps_every_item() {
        let mut rng = Seed::from_number(5).fork("test");
        let mut items: Vec<u32> = (0..20).collect();
        rng.shuffle(&mut items);
        assert_ne!(items, (0..20).collect::<Vec<_>>());
        items.sort();
        assert_eq!(items, (0..20).collect::<Vec<_>>());
    }
}

//! How fast keys are written: so many a second at most, in batches that are short where the rate is low.

use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Keys per transaction, as long as the cluster takes so many.
const BATCH_KEYS_MAX: usize = 128;
/// So many batches a second, or more: a cluster that is to be spared does not get all keys of a second at once.
const BATCHES_A_SECOND: u32 = 10;

/// When the next keys may be written.
pub struct Pace {
    next_at: Instant,
    per_key: Duration,
}

/// Keys per transaction at this rate.
pub fn batch_keys(rate: u32) -> usize {
    let keys = usize::try_from(rate / BATCHES_A_SECOND).unwrap_or(BATCH_KEYS_MAX);
    keys.clamp(1, BATCH_KEYS_MAX)
}

impl Pace {
    /// At most so many keys a second; 0 is taken for 1.
    pub fn new(rate: u32) -> Pace {
        Pace { next_at: Instant::now(), per_key: Duration::from_secs(1) / rate.max(1) }
    }

    /// Waits until something may be written.
    pub async fn wait(&self) {
        sleep_until(self.next_at).await;
    }

    /// So many keys begin to be written now, and have their time; time that was lost before is not made up for.
    pub fn after(&self, keys: usize) -> Instant {
        let keys = u32::try_from(keys).unwrap_or(u32::MAX);
        self.next_at.max(Instant::now()) + self.per_key.saturating_mul(keys)
    }

    /// They were written; the next ones have to wait until then.
    pub fn written(&mut self, next_at: Instant) {
        self.next_at = next_at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_short_where_the_rate_is_low() {
        let cases = [(1, 1), (9, 1), (10, 1), (19, 1), (20, 2), (500, 50), (1280, 128)];
        for (rate, keys) in cases {
            assert_eq!(batch_keys(rate), keys, "rate {rate}");
        }
        assert_eq!((batch_keys(5000), batch_keys(u32::MAX)), (128, 128));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_spread_over_the_time_that_the_rate_gives_them() {
        for (rate, keys) in [(1, 100), (60, 600), (5000, 10_000)] {
            let (begun, mut pace) = (Instant::now(), Pace::new(rate));
            let (mut left, mut last, mut batches) = (keys, begun, 0);
            while left > 0 {
                let batch = batch_keys(rate).min(left);
                pace.wait().await;
                last = Instant::now();
                pace.written(pace.after(batch));
                left -= batch;
                batches += 1;
                let written = (keys - left) as f64;
                let most = f64::from(rate) * last.duration_since(begun).as_secs_f64();
                assert!(written <= most + batch as f64 + 1.0, "rate {rate}: {written} keys");
            }
            let secs = last.duration_since(begun).as_secs_f64();
            let whole = keys as f64 / f64::from(rate);
            // A sleep ends with a whole millisecond.
            let latest = whole + f64::from(batches) / 1000.0;
            assert!(secs <= latest && secs > whole * 0.95, "rate {rate}: {secs} s");
        }
    }
}

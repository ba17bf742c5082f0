//! How fast a snapshot is written: after each sync its writer rests for a multiple of what the sync took.
//!
//! A disk that is busy with a snapshot keeps every write of the log waiting, and with it every client. Rests leave most of the disk's
//! time to the log and scale with the disk: a slow one gets longer rests, up to a bound, so that a snapshot still comes to its end soon.
//! `docs/PERFORMANCE.md` has the figures.

use crate::io::DiskOp;
use crate::time::{Mono, Span};

/// A rest takes this many times as long as the sync before it.
const REST_FACTOR: u64 = 2;
/// No rest is longer.
const REST_MAX: Span = Span::from_millis(4);

/// Holds a writer's operations back while it rests.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the operation under way began, if it syncs.
    syncing_since: Option<Mono>,
    rest_until: Mono,
    held: Option<DiskOp>,
}

impl Pace {
    /// The operation under way has ended.
    pub fn ended(&mut self, now: Mono) {
        if let Some(since) = self.syncing_since.take() {
            let rest = Span((now - since).0.saturating_mul(REST_FACTOR)).min(REST_MAX);
            self.rest_until = now + rest;
        }
    }

    /// The writer's next operation; `None` where it has to wait for [`Pace::next_timeout`].
    pub fn begin(&mut self, op: DiskOp, now: Mono) -> Option<DiskOp> {
        if now < self.rest_until {
            self.held = Some(op);
            return None;
        }
        let syncs = matches!(op, DiskOp::Write { sync: true, .. });
        self.syncing_since = syncs.then_some(now);
        Some(op)
    }

    /// When to call [`Pace::handle_timeout`] at the latest.
    pub fn next_timeout(&self) -> Option<Mono> {
        self.held.as_ref().map(|_| self.rest_until)
    }

    /// Time has passed; the operation that was held back, once its rest is over.
    pub fn handle_timeout(&mut self, now: Mono) -> Option<DiskOp> {
        let op = self.held.take()?;
        self.begin(op, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::FileName;

    fn millis(millis: u64) -> Mono {
        Mono(millis * 1_000_000)
    }

    fn write(sync: bool) -> DiskOp {
        DiskOp::Write { file: FileName::SnapshotTemp(1), offset: 0, bytes: "x".into(), sync }
    }

    #[test]
    fn only_a_sync_is_followed_by_a_rest_and_it_ends() {
        let mut pace = Pace::default();
        assert_eq!(pace.begin(write(false), millis(0)), Some(write(false)));
        pace.ended(millis(50));
        assert_eq!(pace.begin(write(true), millis(50)), Some(write(true)));
        assert_eq!(pace.next_timeout(), None);
        pace.ended(millis(52));
        assert_eq!(pace.begin(write(false), millis(54)), None);
        assert_eq!(pace.next_timeout(), Some(millis(56)));
        assert_eq!(pace.handle_timeout(millis(55)), None);
        assert_eq!(pace.next_timeout(), Some(millis(56)), "it is still held");
        assert_eq!(pace.handle_timeout(millis(56)), Some(write(false)));
        assert_eq!((pace.next_timeout(), pace.handle_timeout(millis(60))), (None, None));
    }

    #[test]
    fn a_slow_disk_does_not_put_it_off_for_long() {
        let mut pace = Pace::default();
        pace.begin(write(true), millis(0));
        pace.ended(millis(9_000));
        pace.begin(write(true), millis(9_000));
        assert_eq!(pace.next_timeout(), Some(millis(9_004)));
    }
}

//! What the operator does now and then beside making and reading backups.

use super::begin::means;
use super::{Console, Job};
use crate::random::Draw;
use crate::time::SimTime;
use crate::world::backups::rotating::Rotating;
use crate::world::backups::shelf::Shelf;
use raftkv_core::backup::blob::StoreIndex;

impl Console {
    /// Begins an errand, if it is time for one and there is something to do.
    pub(super) fn errand(&mut self, now: SimTime, stores: &Shelf<'_>) -> Option<Job> {
        if !self.errands.happens(self.options.errands) {
            return None;
        }
        self.rotate(now, stores)
    }

    fn rotate(&mut self, now: SimTime, stores: &Shelf<'_>) -> Option<Job> {
        let (old, new) = self.keys.swap(&mut self.errands)?;
        let means = means(now, stores, StoreIndex::PRIMARY, self.keys.access());
        Some(Job::Rotating(Box::new(Rotating::new(old, new, means, stores.count()))))
    }
}

//! What the operator does now and then beside making and reading backups.

use super::begin::means;
use super::{Console, Job};
use crate::model::clock::calendar;
use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use crate::world::backups::mending::Mending;
use crate::world::backups::pinning::Pinning;
use crate::world::backups::rotating::Rotating;
use crate::world::backups::shelf::Shelf;
use crate::world::backups::wants::Want;
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::catalog::ReadCatalog;
use raftkv_core::backup::marker::Owner;

impl Console {
    /// Begins an errand, if it is time for one and there is something to do.
    pub(super) fn errand(&mut self, now: SimTime, stores: &Shelf<'_>) -> Option<Job> {
        if std::mem::take(&mut self.is_rotation_due) {
            return self.rotate(now, stores);
        }
        if !self.errands.happens(self.options.errands) {
            return None;
        }
        let store = StoreIndex(self.errands.below(stores.count().into()) as u8);
        match self.errands.below(4) {
            0 => self.rotate(now, stores),
            1 => Some(self.mend(now, store, stores)),
            _ => Some(self.pin(now, store)),
        }
    }

    /// A key was replaced: now and then its place in the backups is as well, when there is nothing else to do.
    pub(in crate::world::backups) fn plan_rotation(&mut self) {
        let has_errands = self.options.errands != Ppm::NEVER;
        self.is_rotation_due |= has_errands && self.errands.happens(Ppm::percent(50));
    }

    /// Something was lost in a store: mostly somebody hears of it, and looks.
    pub(in crate::world::backups) fn miss(&mut self, now: SimTime, store: StoreIndex) {
        let is_told = self.options.every.is_some() && self.errands.happens(Ppm::percent(70));
        if is_told && !self.wants.contains(&Want::Mend(store)) {
            self.want(now, Want::Mend(store));
        }
    }

    /// Whether its present job is to mend a store.
    pub(in crate::world::backups) fn is_mending(&self) -> bool {
        matches!(self.job, Job::Mending(_))
    }

    /// Whether somebody else runs who takes stores' locks as well.
    pub(in crate::world::backups) fn beside(&mut self, is_other_there: bool) {
        self.is_locked_out = is_other_there;
    }

    fn rotate(&mut self, now: SimTime, stores: &Shelf<'_>) -> Option<Job> {
        let (old, new) = self.keys.swap(&mut self.errands)?;
        let means = means(now, stores, StoreIndex::PRIMARY, self.keys.access());
        Some(Job::Rotating(Box::new(Rotating::new(old, new, means, stores.count()))))
    }

    fn pin(&mut self, now: SimTime, store: StoreIndex) -> Job {
        let catalog = ReadCatalog::new(self.keys.access().keys);
        let owner = Owner(self.errands.bytes());
        Job::Pinning(Box::new(Pinning::new(store, catalog, owner, calendar(now))))
    }

    /// No job while somebody else has the lock.
    pub(super) fn mend(&mut self, now: SimTime, store: StoreIndex, stores: &Shelf<'_>) -> Job {
        if self.is_locked_out {
            return Job::None;
        }
        let (owner, wall) = (Owner(self.errands.bytes()), calendar(now));
        let means = means(now, stores, store, self.keys.access());
        Job::Mending(Box::new(Mending::new(means, owner, wall)))
    }
}

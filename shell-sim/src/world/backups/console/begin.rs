//! What the operator does next: what is wanted of them, or else something drawn.

use super::{Console, Job};
use crate::model::clock::calendar;
use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use crate::world::backups::found::Means;
use crate::world::backups::reading::{Goal, Reading};
use crate::world::backups::shelf::Shelf;
use crate::world::backups::taking::Taking;
use crate::world::backups::wants::Want;
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::marker::Owner;
use raftkv_core::backup::read::Access;
use raftkv_core::backup::verify::Level;

/// A recovery that has failed so often goes on without stores that do not answer.
const PATIENT_FAILURES: u32 = 4;

impl Console {
    /// Begins the next job.
    pub(super) fn begin(&mut self, now: SimTime, stores: &Shelf<'_>) {
        self.session += 1;
        self.steps = 0;
        let (owner, wall) = (Owner(self.rng.bytes()), calendar(now));
        let count = stores.count();
        self.job = match self.wants.front() {
            Some(Want::Plant) => Job::Planting,
            Some(Want::Backup | Want::Proof(None)) => self.take(now),
            Some(Want::Proof(Some(id)) | Want::DrillOf(id) | Want::Undo(id)) => {
                let means = means(now, stores, StoreIndex::PRIMARY, self.keys.access());
                Job::Reading(Box::new(Reading::restore(*id, means, owner, wall)))
            }
            Some(&Want::Mend(store)) => self.mend(now, store, stores),
            Some(Want::Drill) => {
                let means = means(now, stores, StoreIndex::PRIMARY, self.keys.access());
                Job::Reading(Box::new(Reading::new(Goal::DrillNewest, means, owner, wall, count)))
            }
            Some(Want::Recovery) => {
                let means = means(now, stores, StoreIndex::PRIMARY, self.keys.access());
                let reading = Reading::new(Goal::Recover, means, owner, wall, count);
                Job::Reading(Box::new(match self.failures >= PATIENT_FAILURES {
                    true => reading.without_silent_stores(),
                    false => reading,
                }))
            }
            None => match self.errand(now, stores) {
                Some(job) => job,
                None => self.begin_something(now, stores, owner),
            },
        };
        if matches!(self.job, Job::None) {
            self.end(now);
        }
    }

    /// Nothing is wanted: makes a backup, or looks at those that there are, now and then with the wrong keys.
    fn begin_something(&mut self, now: SimTime, stores: &Shelf<'_>, owner: Owner) -> Job {
        let goal = match self.rng.below(10) {
            0..6 => return self.take(now),
            6 => Goal::List,
            7 => Goal::Verify(*self.rng.pick(&Level::ALL)),
            _ => Goal::Drill,
        };
        let access = match self.rng.below(10) {
            0 => self.keys.wrong_access(),
            1 => self.keys.newest_access(),
            _ => self.keys.access(),
        };
        let count = stores.count();
        let store = match count {
            1 => StoreIndex::PRIMARY,
            _ => StoreIndex(self.rng.below(count.into()) as u8),
        };
        let means = means(now, stores, store, access);
        let reading = Reading::new(goal, means, owner, calendar(now), count);
        Job::Reading(Box::new(match self.rng.happens(Ppm::percent(15)) {
            true => reading.without_marks(),
            false => reading,
        }))
    }

    fn take(&self, now: SimTime) -> Job {
        Job::Taking(Box::new(Taking::new(self.settings(), calendar(now))))
    }
}

pub(super) fn means(now: SimTime, stores: &Shelf<'_>, store: StoreIndex, access: Access) -> Means {
    let refusals_before = stores.refusals();
    Means { store, access, began: now, refusals_before, held: false, silent: Vec::new() }
}

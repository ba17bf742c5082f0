//! The job that gives a new key an old one's place in every backup of every store, as `backup key rotate` does.
//!
//! What it says of each backup is judged at once: one that was rotated is restored from what is really there, with the new key alone.

use super::found::{Found, Means};
use crate::check::{Violation, rotation};
use crate::world::World;
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::catalog::{Catalog, ReadCatalog, Standing};
use raftkv_core::backup::machine::Machine;
use raftkv_core::backup::read::{Access, ReadError, ReadTrouble};
use raftkv_core::backup::rotate::{Rotate, Rotated};
use raftkv_core::backup::{BackupId, Key, KeyId, KeyRing};
use raftkv_core::rng::{Rng, Seed};
use std::collections::VecDeque;

/// The job.
#[derive(Debug)]
pub(super) struct Rotating {
    old: KeyId,
    new: Key,
    means: Means,
    /// How many stores there are.
    stores: u8,
    /// What is still to be rotated in the present one.
    waiting: VecDeque<BackupId>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Catalog(Box<ReadCatalog>),
    Rotate(BackupId, Box<Rotate>),
    /// Nothing is left to be done.
    None,
}

impl Rotating {
    /// Begins with a look at the first store's catalog.
    pub(super) fn new(old: KeyId, new: Key, means: Means, stores: u8) -> Self {
        let step = catalog(&means);
        Rotating { old, new, means, stores, waiting: VecDeque::new(), step }
    }

    /// The store in which it works now.
    pub(super) fn store(&self) -> StoreIndex {
        self.means.store
    }

    /// The machine that runs; `None` when the job has ended.
    pub(super) fn machine(&mut self) -> Option<&mut dyn Machine> {
        match &mut self.step {
            Step::Catalog(machine) => Some(machine.as_mut()),
            Step::Rotate(_, machine) => Some(machine.as_mut()),
            Step::None => None,
        }
    }

    /// What was found, once the machine has ended. Another one may run then.
    pub(super) fn conclude(&mut self, rng: &mut Rng) -> Option<Found> {
        if !self.machine()?.is_ended() {
            return None;
        }
        let found = match std::mem::replace(&mut self.step, Step::None) {
            Step::Catalog(machine) => match machine.outcome()?.clone() {
                Ok(catalog) => {
                    self.waiting = concerned(&catalog).collect();
                    Found::Listed(self.means.store, catalog)
                }
                Err(error) => Found::Unlisted(self.means.store, error),
            },
            Step::Rotate(id, machine) => {
                let (result, means) = (machine.outcome()?.clone(), self.means.clone());
                Found::Rotated { id, old: self.old, new: self.new.clone(), result, means }
            }
            Step::None => return None,
        };
        self.go_on(rng);
        Some(found)
    }

    fn go_on(&mut self, rng: &mut Rng) {
        if let Some(id) = self.waiting.pop_front() {
            let (ring, salts) = (self.means.access.keys.clone(), Seed::from_bytes(rng.bytes()));
            let rotate = Rotate::new(id, self.old, self.new.clone(), ring, salts.fork("rotation"));
            self.step = Step::Rotate(id, Box::new(rotate));
        } else if self.means.store.0 + 1 < self.stores {
            self.means.store.0 += 1;
            self.step = catalog(&self.means);
        }
    }
}

fn catalog(means: &Means) -> Step {
    Step::Catalog(Box::new(ReadCatalog::new(means.access.keys.clone())))
}

/// Also what is no complete backup, since it may be made one again, but nothing that was forged.
fn concerned(catalog: &Catalog) -> impl Iterator<Item = BackupId> + '_ {
    let has_data = catalog.entries.iter().filter(|entry| entry.data_bytes.is_some());
    has_data.filter(|entry| !matches!(entry.standing, Standing::Forged(_))).map(|entry| entry.id)
}

impl World {
    /// A backup's keys were changed, or were not.
    pub(super) fn on_rotated(
        &mut self,
        id: BackupId,
        (old, new): (KeyId, &Key),
        result: &Result<Rotated, ReadError>,
        means: &Means,
    ) -> Result<(), Violation> {
        let place = means.store;
        self.tell("rotated", format_args!("{id} in store {}: {result:?}", place.0));
        let (commits, store) = self.backups.truth(place);
        let is_whole =
            commits.is_complete(id) && !store.bucket().is_tampered_since(id, means.began);
        let metadata = commits.metadata(id).filter(|_| is_whole && !commits.was_made_again(id));
        let Some(metadata) = metadata else { return Ok(()) };
        let rotated = match result {
            Ok(rotated) => *rotated,
            Err(error) if error.trouble() == ReadTrouble::Store => return Ok(()),
            Err(error) => return Err(rotation::refused(id, error)),
        };
        let keys = self.backups.openers(place).since(metadata, means.began);
        rotation::check(rotated, metadata, (old, new.id()), keys)?;
        if rotated == Rotated::Changed {
            self.sometimes("a backup's keys were rotated");
            let access = Access { keys: KeyRing::new([new.clone()]), ..means.access.clone() };
            self.backups.restore_truly(self.now, place, id, access)?;
        }
        Ok(())
    }
}

//! A backup whose pin was put, and not taken away since, is taken by no retention.
//!
//! A write or a deletion of a pin whose end nobody knows may be done later, so pins of that backup promise nothing from then on. Nor do they
//! where a listing may not show what was written just before.

use super::Violation;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::StoreIndex;
use std::collections::BTreeSet;

/// The pins of all stores.
#[derive(Debug, Default)]
pub struct Pins {
    kept: BTreeSet<(StoreIndex, BackupId)>,
    uncertain: BTreeSet<(StoreIndex, BackupId)>,
}

impl Pins {
    /// A pin is about to be written, or deleted.
    pub fn begin(&mut self, store: StoreIndex, id: BackupId) {
        self.kept.remove(&(store, id));
    }

    /// That has ended like this.
    pub fn end(&mut self, store: StoreIndex, id: BackupId, is_pin: bool, is_done: bool) {
        match (is_pin, is_done) {
            (_, false) => drop(self.uncertain.insert((store, id))),
            (true, true) if !self.uncertain.contains(&(store, id)) => {
                self.kept.insert((store, id));
            }
            (_, true) => {}
        }
    }

    /// The backups of a store that must stay.
    pub fn kept(&self, store: StoreIndex) -> impl Iterator<Item = BackupId> + '_ {
        self.kept.iter().filter(move |(place, _)| *place == store).map(|(_, id)| *id)
    }

    /// Checks a backup that retention takes.
    pub fn check(&self, store: StoreIndex, removed: BackupId) -> Result<(), Violation> {
        match self.kept.contains(&(store, removed)) {
            true => {
                let detail = format!("{removed} is pinned in store {}, and taken", store.0);
                Err(Violation::new("pins", detail))
            }
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::rng::Seed;

    #[test]
    fn a_pinned_backup_that_goes_is_noticed() {
        let mut rng = Seed::from_number(1).fork("pins");
        let [one, other] = [BackupId::draw(&mut rng), BackupId::draw(&mut rng)];
        let (here, there) = (StoreIndex::PRIMARY, StoreIndex(1));
        let mut pins = Pins::default();
        pins.begin(here, one);
        assert_eq!(pins.check(here, one), Ok(()), "it is not there yet");
        pins.end(here, one, true, true);
        assert!(pins.check(here, one).is_err());
        assert_eq!((pins.check(here, other), pins.check(there, one)), (Ok(()), Ok(())));
        assert_eq!(pins.kept(here).collect::<Vec<_>>(), [one]);
        pins.begin(here, one);
        assert_eq!(pins.check(here, one), Ok(()), "it may be gone already");
        pins.end(here, one, false, false);
        pins.begin(here, one);
        pins.end(here, one, true, true);
        assert_eq!(pins.check(here, one), Ok(()), "the deletion before may be done yet");
    }
}

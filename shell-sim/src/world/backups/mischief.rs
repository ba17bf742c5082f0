//! What goes wrong with the store, with objects in it and with keys, and when.
//!
//! Within the atlas of backups: at least one complete backup stays good, in the primary store or, when that is lost, in another one, so
//! that there is something to come back from.

use super::options::BackupOptions;
use super::{Backups, rotate_key};
use crate::model::store::{Damage, Outage};
use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use crate::world::World;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::{ObjectName, Role, StoreIndex};
use raftkv_core::rng::{Rng, Seed};
use raftkv_core::time::Span;

/// Its plans.
#[derive(Debug)]
pub(super) struct Mischief {
    rng: Rng,
    /// For what is lost.
    losses: Rng,
    /// Chance that metadata is lost when something goes wrong.
    loses: Ppm,
    every: Span,
    strikes: Vec<Strike>,
    next: SimTime,
}

#[derive(Clone, Copy, Debug)]
enum Strike {
    Outage(Outage),
    Damage(Damage),
    Rotate,
}

impl Mischief {
    pub(super) fn new(options: &BackupOptions, seed: &Seed) -> Self {
        let mut rng = seed.fork("mischief");
        let (losses, loses) = (seed.fork("losses"), options.loses_metadata);
        let outages = options.outages.iter().copied().map(Strike::Outage);
        let damages = options.damages.iter().copied().map(Strike::Damage);
        let rotation = options.rotates.then_some(Strike::Rotate);
        let strikes: Vec<Strike> = outages.chain(damages).chain(rotation).collect();
        let every = options.strike_every;
        let next = if strikes.is_empty() { SimTime::NEVER } else { SimTime(0) + rng.tail(every) };
        Mischief { rng, losses, loses, every, strikes, next }
    }

    pub(super) fn next_wake(&self) -> SimTime {
        self.next
    }

    /// It leaves the store alone from now on.
    pub(super) fn rest(&mut self) {
        self.next = SimTime::NEVER;
    }
}

impl World {
    /// Lets something go wrong, if it is time.
    pub(super) fn strike_backups(&mut self) {
        let mischief = &mut self.backups.mischief;
        if mischief.next > self.now {
            return;
        }
        mischief.next = self.now + mischief.rng.tail(mischief.every) + Span(1);
        let strike = *mischief.rng.pick(&mischief.strikes);
        self.lose_some_metadata();
        let mischief = &mut self.backups.mischief;
        match strike {
            Strike::Outage(outage) => {
                let lasts = mischief.rng.tail(Span::from_millis(3_000));
                let until = self.now + lasts;
                if !self.strike_copies(outage, until) {
                    self.backups.store.begin_outage(outage, until);
                }
                self.tell("outage", format_args!("{} for {} ms", outage.name(), lasts.as_millis()));
            }
            Strike::Damage(damage) => self.damage_some_backup(damage),
            Strike::Rotate => {
                self.count("key rotated");
                let Backups { console, canaries, mischief, .. } = &mut self.backups;
                rotate_key(console, canaries, &mut mischief.rng);
                console.plan_rotation();
            }
        }
    }

    /// Now and then somebody deletes the metadata of one complete backup, and mostly the operator hears of that.
    fn lose_some_metadata(&mut self) {
        let Backups { mischief, copies, .. } = &mut self.backups;
        let stores = 1 + copies.stores().count() as u64;
        if !mischief.losses.happens(mischief.loses) {
            return;
        }
        let place = StoreIndex(mischief.losses.below(stores) as u8);
        let (commits, store) = self.backups.truth(place);
        let bucket = store.bucket();
        let whole = commits.complete().map(|metadata| metadata.id);
        let whole: Vec<BackupId> = whole.filter(|id| !bucket.is_tampered(*id)).collect();
        if whole.is_empty() || place == StoreIndex::PRIMARY && self.backups.good_and_kept() < 2 {
            return;
        }
        let object = ObjectName::metadata(*self.backups.mischief.losses.pick(&whole));
        let now = self.now;
        if let Some(what) = self.backups.store_mut(place).damage(now, object, Damage::Delete) {
            self.tell("damage", format_args!("{what} in store {}", place.0));
            self.backups.console.miss(now, place);
        }
    }

    /// With the data centre, the primary store loses all it has, or its newest backup is damaged, if another store has that one whole.
    pub(in crate::world) fn lose_in_primary_store(&mut self) {
        let Some((newest, has_copy)) = self.backups.newest_good() else { return };
        if !has_copy {
            return;
        }
        match self.backups.mischief.rng.below(3) {
            0 if self.backups.store.lose_all(self.now) => {
                self.sometimes("the primary store lost with the data centre");
                self.tell("lost", format_args!("all of the primary store"));
            }
            1 => self.damage_object(ObjectName::data(newest), Damage::Flip),
            _ => {}
        }
    }

    fn damage_some_backup(&mut self, damage: Damage) {
        // What the primary store has lost, copies must give.
        if self.backups.good_and_kept() == 0 {
            return;
        }
        if let Some((at, object)) = self.backups.copies.pick_object() {
            let now = self.now;
            if let Some(what) = self.backups.copies.site(at).store.damage(now, object, damage) {
                self.tell("damage", format_args!("{what} in copies {}", at + 1));
            }
            return;
        }
        // A swap spoils two.
        let spoiled = if damage == Damage::Swap { 2 } else { 1 };
        if self.backups.good_and_kept() <= spoiled {
            return;
        }
        let Backups { store, commits, .. } = &self.backups;
        let objects: Vec<ObjectName> = store
            .bucket()
            .objects()
            .map(|(object, _)| *object)
            .filter(|object| matches!(object.role, Role::Data | Role::Metadata))
            .filter(|object| commits.is_complete(object.backup))
            .collect();
        let rng = &mut self.backups.mischief.rng;
        let object = *rng.pick(&objects);
        self.damage_object(object, damage);
    }

    /// Something happens to an object.
    pub(super) fn damage_object(&mut self, object: ObjectName, damage: Damage) {
        if let Some(what) = self.backups.store.damage(self.now, object, damage) {
            self.tell("damage", format_args!("{what}"));
        }
    }
}

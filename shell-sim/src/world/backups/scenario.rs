//! What directed stories can do with backups and with the data centre.

use crate::check::{Violation, loss};
use crate::model::store::{Damage, Outage};
use crate::world::World;
use crate::world::scenario::Scenario;
use bytes::Bytes;
use raftkv_core::api::KeyValue;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::ObjectName;
use raftkv_core::backup::config::Retention;
use raftkv_core::backup::read::ReadTrouble;
use raftkv_core::time::Span;
use std::collections::BTreeMap;

impl Scenario {
    /// The operator makes a backup, again and again until it is complete.
    pub fn back_up(&mut self) {
        let World { backups, now, .. } = &mut self.world;
        backups.console.back_up(*now);
    }

    /// The operator tries to restore the newest backup in memory.
    pub fn drill(&mut self) {
        let World { backups, now, .. } = &mut self.world;
        backups.console.drill(*now);
    }

    /// The member that makes a backup for the cluster, as the leader has it.
    pub fn maker(&self) -> Option<u32> {
        let leader = self.world.slots.get(self.leader()? as usize - 1)?.state()?;
        Some(leader.backups().run.as_ref()?.node.member())
    }

    /// Whether the last backup that the cluster made itself is complete, as the leader has it.
    pub fn cluster_has_backup(&self) -> bool {
        let leader = self.leader().and_then(|leader| self.world.slots[leader as usize - 1].state());
        let last = leader.and_then(|leader| leader.backups().last.as_ref());
        last.is_some_and(|last| last.is_good())
    }

    /// The operator tries to restore this backup in memory.
    pub fn drill_of(&mut self, backup: BackupId) {
        let World { backups, now, .. } = &mut self.world;
        backups.console.drill_of(*now, backup);
    }

    /// The operator puts back what this backup has and the cluster has not.
    pub fn undo(&mut self, backup: BackupId) {
        let World { backups, now, .. } = &mut self.world;
        backups.console.undo(*now, backup);
    }

    /// What the member holds, by key; nothing while it does not run.
    pub fn contents(&self, member: u32) -> BTreeMap<Bytes, KeyValue> {
        let state = self.world.slots[member as usize - 1].state();
        state.map(loss::contents).unwrap_or_default()
    }

    /// Retention runs now, by these rules, with a calendar that is so far off.
    pub fn prune(&mut self, rules: Retention, offset_ms: i64) {
        let World { backups, now, .. } = &mut self.world;
        backups.janitor.run_now(*now, rules, offset_ms);
    }

    /// How many inputs the run of retention has had, while there is one.
    pub fn prune_steps(&self) -> Option<u64> {
        self.world.backups.janitor.steps()
    }

    /// The process that runs retention dies.
    pub fn kill_prune(&mut self) {
        let World { backups, now, .. } = &mut self.world;
        backups.janitor.die(*now, &mut backups.store);
    }

    /// How many inputs the operator's present job has had, while there is one.
    pub fn job_steps(&self) -> Option<u64> {
        self.world.backups.console.steps()
    }

    /// The operator's process dies.
    pub fn kill_operator(&mut self) {
        let World { backups, now, .. } = &mut self.world;
        let (console, mut shelf) = backups.desk();
        console.die(*now, &mut shelf);
    }

    /// The operator has another key than before, and no old one.
    pub fn lose_keys(&mut self) {
        self.world.backups.console.keys().lose();
    }

    /// The operator replaces a key, and keeps the old one.
    pub fn rotate_key(&mut self) {
        let World { backups, rng, .. } = &mut self.world;
        super::rotate_key(&mut backups.console, &mut backups.canaries, rng);
    }

    /// Complete backups that nobody has damaged, oldest first.
    pub fn good_backups(&self) -> Vec<BackupId> {
        let bucket = self.world.backups.store.bucket();
        let complete = self.world.backups.commits.complete();
        let mut good: Vec<_> = complete
            .filter(|metadata| !bucket.is_tampered(metadata.id))
            .map(|metadata| (metadata.epoch, metadata.index, metadata.timestamp, metadata.id))
            .collect();
        good.sort();
        good.into_iter().map(|(_, _, _, id)| id).collect()
    }

    /// Something happens to an object.
    pub fn damage(&mut self, object: ObjectName, damage: Damage) {
        self.world.damage_object(object, damage);
    }

    /// The store is like this for a while.
    pub fn store_outage(&mut self, outage: Outage, lasts: Span) {
        let until = self.world.now + lasts;
        self.world.backups.store.begin_outage(outage, until);
    }

    /// All machines are gone; the operator begins to restore.
    pub fn lose_data_centre(&mut self) -> Result<(), Violation> {
        self.world.lose_data_centre()
    }

    /// Whether a restored cluster has taken over.
    pub fn is_restored(&self) -> bool {
        self.world.disaster.is_restored() && !self.world.disaster.is_recovering()
    }

    /// Another cluster is restored from a backup, on machines that think they live at the same addresses.
    pub fn restore_elsewhere(&mut self, backup: BackupId) -> Result<(), Violation> {
        let restored = self.world.backups.restore_now(self.world.now, backup)?;
        self.world.found_elsewhere(&restored);
        Ok(())
    }

    /// How often a rare state was reached.
    pub fn reached(&self, state: &str) -> u64 {
        self.world.sometimes.get(state).copied().unwrap_or(0)
    }

    /// What kind of trouble the operator's last restore in memory ended with.
    pub fn last_trouble(&self) -> Option<ReadTrouble> {
        self.world.backups.last_trouble
    }
}

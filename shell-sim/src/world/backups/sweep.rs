//! The last look at the store, when a cluster's life has ended: every backup of it is held against a replay of its log, and some of
//! them are restored from what is really there.

use super::found::Means;
use super::{Backups, World};
use crate::check::backup_restore;
use crate::check::replay::Replay;
use crate::check::{Violation, backup_listing, cluster_backups};
use crate::model::store::Store;
use crate::random::Draw;
use crate::time::SimTime;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::catalog::ReadCatalog;
use raftkv_core::backup::machine::{Action, ActionResult, Machine};
use raftkv_core::backup::read::{Access, ReadBounds};
use raftkv_core::backup::restore::{Restore, Restored};
use raftkv_core::ids::ClusterId;

/// Backups of one cluster that are restored at most.
const RESTORES: usize = 4;

impl World {
    /// Checks every backup of a cluster, whose log was replayed.
    pub(in crate::world) fn sweep_backups(
        &mut self,
        cluster: ClusterId,
        replay: &Replay,
    ) -> Result<(), Violation> {
        let (commits, bucket) = (&self.backups.commits, self.backups.store.bucket());
        let (was_complete, is_tampered) =
            (|id| commits.was_complete(id), |id| bucket.is_tampered(id));
        cluster_backups::check(&replay.steps, was_complete, is_tampered)?;
        let mut ids: Vec<BackupId> = Vec::new();
        for metadata in self.backups.commits.complete().filter(|m| m.cluster == cluster) {
            backup_restore::check_origin(metadata, replay.hashes.get(&metadata.index).copied())?;
            ids.push(metadata.id);
        }
        self.backups.sweep_catalog(self.now)?;
        self.sweep_copies()?;
        self.rng.shuffle(&mut ids);
        for id in ids.into_iter().take(RESTORES) {
            self.backups.sweep_backup(self.now, id)?;
        }
        Ok(())
    }
}

impl Backups {
    fn sweep_catalog(&mut self, now: SimTime) -> Result<(), Violation> {
        let mut machine = ReadCatalog::new(self.console.keys().access().keys);
        look_with(&mut self.store, now, &mut machine);
        let Some(Ok(catalog)) = machine.outcome() else {
            return Err(Violation::new("backup listing", "a good store cannot be listed"));
        };
        backup_listing::check_fresh(catalog, &self.commits, self.store.bucket())
    }

    fn sweep_backup(&mut self, now: SimTime, id: BackupId) -> Result<(), Violation> {
        let access = self.console.keys().access();
        self.restore_truly(now, StoreIndex::PRIMARY, id, access)
    }

    /// Restores a backup from what is really there, and judges what comes of it.
    pub(super) fn restore_truly(
        &mut self,
        now: SimTime,
        store: StoreIndex,
        id: BackupId,
        access: Access,
    ) -> Result<(), Violation> {
        let means = Means {
            store,
            access: access.clone(),
            began: SimTime::NEVER,
            refusals_before: Vec::new(),
            held: false,
            silent: Vec::new(),
        };
        let mut machine = Restore::new(id, access, ReadBounds::default());
        look_with(self.store_mut(store), now, &mut machine);
        let Some(result) = machine.take() else {
            return Err(Violation::new("restorability", format!("restoring {id} never ends")));
        };
        let said =
            result.as_ref().map(|restored| (&restored.metadata, Some(restored.state.hash())));
        self.judge(id, said, &means)
    }

    /// Restores a backup from what is really there.
    pub(in crate::world) fn restore_now(
        &mut self,
        now: SimTime,
        id: BackupId,
    ) -> Result<Restored, Violation> {
        let access = self.console.keys().access();
        let mut machine = Restore::new(id, access, ReadBounds::default());
        look_with(&mut self.store, now, &mut machine);
        let never = || Violation::new("restorability", format!("restoring {id} never ends"));
        let result = machine.take().ok_or_else(never)?;
        result.map_err(|error| Violation::new("restorability", error.to_string()))
    }
}

/// Runs a machine that reads against what is really there.
pub(super) fn look_with(store: &mut Store, now: SimTime, machine: &mut dyn Machine) {
    while let Some(action) = machine.poll_action() {
        machine.handle(match action {
            Action::Blob { op, action, .. } => {
                ActionResult::Blob { op, result: store.look(now, action) }
            }
            Action::Work(work) => ActionResult::Work(work.run()),
        });
    }
}

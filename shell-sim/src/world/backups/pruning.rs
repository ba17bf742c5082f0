//! Retention as nodes run it, behind the backups that they make for their cluster. What they ask the store to delete is judged when they
//! ask.

use super::Backups;
use crate::check::{Violation, retention_kept};
use crate::world::World;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::{BlobOp, ObjectName, Role, StoreIndex};
use raftkv_core::backup::prune::Pruning;

impl Backups {
    /// By which rules nodes prune, if they do.
    pub(in crate::world) fn node_pruning(&mut self) -> Option<Pruning> {
        let access = self.console.keys().access();
        let rules = self.janitor.rules().clone();
        self.nodes_prune.then_some(Pruning { rules, access })
    }

    /// Retention takes a backup from a store: it must not be pinned there, unless somebody has meddled with it.
    pub(super) fn judge_pin(&self, store: StoreIndex, id: BackupId) -> Result<(), Violation> {
        let (_, place) = self.truth(store);
        match place.lists_truly() && !place.bucket().is_tampered(id) {
            true => self.pins.check(store, id),
            false => Ok(()),
        }
    }
}

impl World {
    /// A node asks the store for something. A backup's metadata it deletes when it takes back its own, and when it prunes.
    pub(in crate::world) fn judge_pruning(
        &mut self,
        at: usize,
        op: &BlobOp,
    ) -> Result<(), Violation> {
        match op {
            BlobOp::PutStart { object, .. } => {
                self.slots[at].uploads.insert(object.backup);
            }
            BlobOp::Delete { object: ObjectName { backup, role: Role::Metadata } } => {
                let Backups { commits, janitor, .. } = &self.backups;
                if commits.is_complete(*backup) && !self.slots[at].uploads.contains(backup) {
                    let min = janitor.rules().min_backups.max(1) as usize;
                    retention_kept::check(*backup, commits, min)?;
                    self.backups.judge_pin(StoreIndex::PRIMARY, *backup)?;
                    self.sometimes("a node's retention removes a backup");
                }
            }
            _ => {}
        }
        Ok(())
    }
}

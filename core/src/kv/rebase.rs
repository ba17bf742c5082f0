//! The state that a restored cluster starts from: what it keeps of the old cluster's, and what goes. Why, [`crate::backup::restore`] tells.
//!
//! Invariant: it is what rebuilding it from its own items gives, hash and all, though nothing is rebuilt: live keys stay as they lie.

use super::members::Members;
use super::session::Sessions;
use super::state::KvState;
use crate::api::{Backups, LeaseId, Revision};

impl KvState {
    /// This state for a new cluster whose revisions begin at `revision`, which is none that the old one may have given out: live keys and
    /// leases stay, leases start anew; history, sessions, members and what was made of the old cluster go; the schedule goes on.
    pub fn rebased(mut self, revision: Revision) -> KvState {
        self.store.forget_history();
        (self.store.revision, self.store.compacted) = (revision, revision);
        self.sessions = Sessions::default();
        self.members = Members::default();
        let leases: Vec<(LeaseId, u64)> = self
            .leases
            .infos(self.log_time_ms)
            .iter()
            .map(|lease| (lease.id, lease.ttl_ms))
            .collect();
        for (id, ttl_ms) in leases {
            self.leases.set(id, ttl_ms, self.log_time_ms.saturating_add(ttl_ms));
        }
        self.backups = rebased_backups(self.backups);
        self
    }
}

/// The schedule goes on; what was made of the old cluster is none of the new one's.
fn rebased_backups(backups: Backups) -> Backups {
    let Backups { schedule, paused, slot, .. } = backups;
    match schedule {
        Some(_) => Backups { schedule, paused, slot, ..Backups::default() },
        None => Backups::default(),
    }
}

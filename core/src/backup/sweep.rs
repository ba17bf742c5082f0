//! Removes what is left of backups that broke off long ago and have nothing but their status: nobody gets anything from it any more, and
//! where retention is not configured nothing else takes it away.
//!
//! For whoever holds the store's lock, so that nothing that is listed is being made. Invariants: a backup that has any other object, or a
//! path of its own that is no object, is left alone; age is told by the store's clock, as for [`super::retention`], and without one nothing
//! goes; what cannot be removed is left to the next time.

use super::blob::{BlobDone, BlobError, BlobOp, Listing, ObjectName, Role};
use super::id::BackupId;
use super::machine::{Action, ActionResult, Machine, Outbox};
use super::retention::BROKEN_OFF_MS;
use crate::time::Wall;
use std::collections::{BTreeMap, VecDeque};

/// The machine.
#[derive(Debug)]
pub struct Sweep {
    outbox: Outbox<Purpose>,
    waiting: VecDeque<BackupId>,
    outcome: Option<Result<usize, BlobError>>,
}

#[derive(Clone, Copy, Debug)]
enum Purpose {
    Look,
    Remove,
}

/// Removals under way at once.
const REMOVALS_IN_FLIGHT: usize = 8;

impl Sweep {
    /// Begins.
    pub fn new() -> Self {
        let mut outbox = Outbox::new();
        outbox.blob(Purpose::Look, BlobOp::List);
        Sweep { outbox, waiting: VecDeque::new(), outcome: None }
    }

    /// How many are gone, once it has ended.
    pub fn outcome(&self) -> Option<&Result<usize, BlobError>> {
        let is_over = self.outbox.is_idle() && self.waiting.is_empty();
        self.outcome.as_ref().filter(|_| is_over)
    }

    fn done(&mut self, purpose: Purpose, result: Result<BlobDone, BlobError>) {
        match (purpose, result) {
            (Purpose::Look, Ok(BlobDone::Listing(listing))) => {
                self.waiting = leftovers(&listing).into();
                self.outcome = Some(Ok(0));
            }
            (Purpose::Look, Ok(_)) => self.outcome = Some(Ok(0)),
            (Purpose::Look, Err(error)) => self.outcome = Some(Err(error)),
            (Purpose::Remove, Ok(_)) => {
                if let Some(Ok(removed)) = &mut self.outcome {
                    *removed += 1;
                }
            }
            (Purpose::Remove, Err(_)) => {}
        }
        while self.outbox.count(|_| true) < REMOVALS_IN_FLIGHT
            && let Some(id) = self.waiting.pop_front()
        {
            let object = ObjectName::status(id);
            self.outbox.blob(Purpose::Remove, BlobOp::Delete { object });
        }
    }
}

impl Default for Sweep {
    fn default() -> Self {
        Sweep::new()
    }
}

/// Backups of which only a status is there, and has been for long enough. The lock was written just now, by whoever asks.
fn leftovers(listing: &Listing) -> Vec<BackupId> {
    let locks = listing.objects.iter().filter(|(object, _)| object.is_lock());
    let newest = locks.map(|(object, _)| *object).max();
    let Some(now) = newest.and_then(|lock| listing.written.get(&lock)) else { return Vec::new() };
    let mut roles: BTreeMap<BackupId, Vec<Role>> = BTreeMap::new();
    for (object, _) in &listing.objects {
        roles.entry(object.backup).or_default().push(object.role);
    }
    let is_old = |id: &BackupId| {
        let written = listing.written.get(&ObjectName::status(*id));
        written.is_some_and(|at: &Wall| now.0.saturating_sub(at.0) > BROKEN_OFF_MS)
    };
    let is_bare = |id: &BackupId| {
        let folder = format!("{id}/");
        !listing.strangers.iter().any(|path| path.starts_with(&folder))
    };
    let only_status = roles.into_iter().filter(|(_, roles)| *roles == [Role::Status]);
    only_status.map(|(id, _)| id).filter(|id| is_old(id) && is_bare(id)).collect()
}

impl Machine for Sweep {
    fn poll_action(&mut self) -> Option<Action> {
        self.outbox.poll()
    }

    fn handle(&mut self, result: ActionResult) {
        let ActionResult::Blob { op, result } = result else { return };
        if let Some(purpose) = self.outbox.blob_done(op) {
            self.done(purpose, result);
        }
    }

    fn is_ended(&self) -> bool {
        self.outcome().is_some()
    }
}

//! Removes backups: first what makes them complete, then everything else.
//!
//! Metadata goes first, so that whatever breaks off in between leaves data without metadata: never listed as complete, and found by
//! [`super::fsck`]. The other way round, a list would show a complete backup that has no data any more.
//! A reader puts its hold before it reads the metadata. So once the metadata is gone, every reader that found it has its hold in the
//! store ([`super::mark`]): a second look misses none, and their data stays.
//!
//! Invariants: without force, a pinned or held backup keeps its metadata; data that a reader may need is not deleted; removing
//! again what was removed in part ends in the same.

use super::blob::{BlobDone, BlobError, BlobOp, Listing, ObjectName, Role};
use super::id::BackupId;
use super::machine::{Action, ActionResult, Machine, Outbox};
use super::marker::Owner;
use crate::planted::{self, Bug};
use crate::time::Wall;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// What became of a backup that was to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing of it is left.
    Removed,
    /// It is pinned, and untouched.
    Pinned,
    /// Something uses it, and it is untouched.
    Held(Vec<Owner>),
    /// It is not listed as complete any more, but something that uses it still has its data.
    DataSpared(Vec<Owner>),
    /// The store failed. It may be gone in part.
    Failed(BlobError),
}

/// Whether pins and holds count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// They do.
    Respect,
    /// They do not.
    Override,
}

/// The machine.
#[derive(Debug)]
pub struct Remove {
    force: Force,
    /// Holds that do not count any more, as long as nobody writes them again: by when they were written.
    forgotten: BTreeMap<ObjectName, Wall>,
    outbox: Outbox<Purpose>,
    step: Step,
    waiting: VecDeque<ObjectName>,
    fates: BTreeMap<BackupId, Option<Fate>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Look,
    Metadata,
    LookAgain,
    Rest,
    /// What says that it broke off goes when there is nothing more to say that of.
    Status,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    List,
    Delete(BackupId),
}

/// Deletions under way at once.
const DELETES_IN_FLIGHT: usize = 16;

impl Remove {
    /// Begins to remove these backups.
    pub fn new(ids: impl IntoIterator<Item = BackupId>, force: Force) -> Self {
        let fates = ids.into_iter().map(|id| (id, None)).collect();
        let mut outbox = Outbox::new();
        outbox.blob(Purpose::List, BlobOp::List);
        let forgotten = BTreeMap::new();
        Remove { force, forgotten, outbox, step: Step::Look, waiting: VecDeque::new(), fates }
    }

    /// Takes these holds, last written then by the store's clock, for forgotten: only a newer sign of life counts.
    #[must_use]
    pub fn despite(mut self, holds: impl IntoIterator<Item = (ObjectName, Wall)>) -> Self {
        self.forgotten.extend(holds);
        self
    }

    /// What became of each, once it has ended.
    pub fn outcome(&self) -> Option<impl Iterator<Item = (BackupId, &Fate)>> {
        (self.step == Step::Ended)
            .then(|| self.fates.iter().filter_map(|(id, fate)| Some((*id, fate.as_ref()?))))
    }

    fn listed(&mut self, result: Result<BlobDone, BlobError>) {
        match result {
            Ok(BlobDone::Listing(listing)) if self.step == Step::Look => self.looked(&listing),
            Ok(BlobDone::Listing(listing)) => self.looked_again(&listing),
            Ok(_) => {}
            Err(error) => {
                self.settle_open(|_| Some(Fate::Failed(error.clone())));
                self.step = Step::Ended;
            }
        }
    }

    fn looked(&mut self, listing: &Listing) {
        let uses = self.uses(listing);
        if self.force == Force::Respect {
            self.settle_open(|id| match (uses.holders(id), uses.pinned.contains(&id)) {
                (_, true) => Some(Fate::Pinned),
                (holders, false) if !holders.is_empty() => Some(Fate::Held(holders)),
                _ => None,
            });
        }
        self.step = Step::Metadata;
        let first = match planted::is(Bug::DataRemovedFirst) {
            true => ObjectName::data,
            false => ObjectName::metadata,
        };
        self.waiting = self.open().map(first).collect();
    }

    fn looked_again(&mut self, listing: &Listing) {
        let uses = self.uses(listing);
        if self.force == Force::Respect && !planted::is(Bug::HoldIgnored) {
            self.settle_open(|id| {
                let holders = uses.holders(id);
                let is_used = !holders.is_empty() || uses.pinned.contains(&id);
                is_used.then_some(Fate::DataSpared(holders))
            });
        }
        self.step = Step::Rest;
        let open: Vec<BackupId> = self.open().collect();
        // Data goes even when it is not listed: what an upload left behind has its name.
        self.waiting = open.iter().copied().map(ObjectName::data).collect();
        let rest = listing.objects.iter().map(|(object, _)| *object);
        let is_rest = |role| !matches!(role, Role::Data | Role::Status);
        let rest = rest.filter(|object| is_rest(object.role) && open.contains(&object.backup));
        self.waiting.extend(rest);
    }

    fn uses(&self, listing: &Listing) -> Uses {
        let mut uses = Uses { pinned: Vec::new(), holds: Vec::new() };
        for (object, _) in &listing.objects {
            let written = listing.written.get(object);
            match object.role {
                Role::Pin => uses.pinned.push(object.backup),
                Role::Hold(_) if written.is_some() && written == self.forgotten.get(object) => {}
                Role::Hold(owner) => uses.holds.push((object.backup, owner)),
                _ => {}
            }
        }
        uses
    }

    fn open(&self) -> impl Iterator<Item = BackupId> + '_ {
        self.fates.iter().filter(|(_, fate)| fate.is_none()).map(|(id, _)| *id)
    }

    fn settle_open(&mut self, fate: impl Fn(BackupId) -> Option<Fate>) {
        for (id, settled) in self.fates.iter_mut().filter(|(_, fate)| fate.is_none()) {
            *settled = fate(*id);
        }
    }

    fn advance(&mut self) {
        while self.outbox.count(|_| true) < DELETES_IN_FLIGHT
            && let Some(object) = self.waiting.pop_front()
        {
            // After a failure nothing more is tried: metadata that could not be deleted must keep its data.
            if self.fates.get(&object.backup).is_some_and(Option::is_none) {
                self.outbox.blob(Purpose::Delete(object.backup), BlobOp::Delete { object });
            }
        }
        if !self.outbox.is_idle() {
            return;
        }
        match self.step {
            Step::Metadata if self.open().next().is_some() => {
                self.step = Step::LookAgain;
                self.outbox.blob(Purpose::List, BlobOp::List);
            }
            Step::Rest if self.open().next().is_some() => {
                self.step = Step::Status;
                self.waiting = self.open().map(ObjectName::status).collect();
                self.advance();
            }
            Step::Metadata | Step::Rest | Step::Status => {
                self.settle_open(|_| Some(Fate::Removed));
                self.step = Step::Ended;
            }
            Step::Look | Step::LookAgain | Step::Ended => {}
        }
    }
}

/// Who uses which backups.
struct Uses {
    pinned: Vec<BackupId>,
    holds: Vec<(BackupId, Owner)>,
}

impl Uses {
    fn holders(&self, id: BackupId) -> Vec<Owner> {
        let of_backup = self.holds.iter().filter(|(backup, _)| *backup == id);
        of_backup.map(|(_, owner)| *owner).collect()
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fate::Removed => f.write_str("removed"),
            Fate::Pinned => f.write_str("kept: it was pinned meanwhile"),
            Fate::Held(_) => f.write_str("kept: something uses it"),
            Fate::DataSpared(_) => {
                f.write_str("not listed any more, but something uses its data: backup catalog fsck removes it later")
            }
            Fate::Failed(error) => write!(f, "failed: {error}"),
        }
    }
}

impl Machine for Remove {
    fn poll_action(&mut self) -> Option<Action> {
        self.outbox.poll()
    }

    fn handle(&mut self, result: ActionResult) {
        let ActionResult::Blob { op, result } = result else { return };
        match self.outbox.blob_done(op) {
            Some(Purpose::List) => self.listed(result),
            Some(Purpose::Delete(id)) => {
                if let Err(error) = result {
                    self.fates.insert(id, Some(Fate::Failed(error)));
                }
            }
            None => return,
        }
        self.advance();
    }

    fn is_ended(&self) -> bool {
        self.step == Step::Ended && self.outbox.is_idle()
    }
}

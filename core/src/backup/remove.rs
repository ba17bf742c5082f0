//! Removes backups: first what makes them complete, then everything else.
//!
//! What says that a backup is being removed is written before anything of it goes, and goes last. So a removal that breaks off is told from a
//! backup that has lost its metadata, and [`super::sweep`] finishes it. Whoever pins a backup, or wants to read it, leaves a marker and looks
//! for that afterwards ([`super::mark`]); here it is looked for markers afterwards: one of the two notices the other.
//! Then the metadata goes, so that whatever breaks off from here on leaves data without metadata: never listed as complete. The other way
//! round, a list would show a complete backup that has no data any more. One more look finds the readers of a store that was too full to
//! take the note: they have found the metadata, and their data stays.
//!
//! Invariants: without force, a pinned or held backup keeps its metadata; data that a reader may need is not deleted; removing
//! again what was removed in part ends in the same.

use super::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp, Listing, ObjectName, Role};
use super::id::BackupId;
use super::machine::{Action, ActionResult, Machine, Outbox};
use super::marker::{Marker, Owner};
use crate::planted::{self, Bug};
use crate::time::Wall;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    now: Wall,
    outbox: Outbox<Purpose>,
    step: Step,
    waiting: VecDeque<ObjectName>,
    fates: BTreeMap<BackupId, Option<Fate>>,
    /// Backups that are announced as going, and may have to stay after all.
    announced: BTreeSet<BackupId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Look,
    Announce,
    LookForMarkers,
    Metadata,
    LookAgain,
    Rest,
    /// What says that it broke off, or is being removed, goes when there is nothing more to say that of.
    Status,
    /// So does what was announced and not done.
    Withdraw,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    List,
    Announce,
    Delete(BackupId),
    Withdraw,
}

/// Deletions under way at once.
const DELETES_IN_FLIGHT: usize = 16;

impl Remove {
    /// Begins to remove these backups; it is `now` by the calendar of whoever asks.
    pub fn new(ids: impl IntoIterator<Item = BackupId>, force: Force, now: Wall) -> Self {
        let fates = ids.into_iter().map(|id| (id, None)).collect();
        let mut outbox = Outbox::new();
        outbox.blob(Purpose::List, BlobOp::List);
        Remove {
            force,
            forgotten: BTreeMap::new(),
            now,
            outbox,
            step: Step::Look,
            waiting: VecDeque::new(),
            fates,
            announced: BTreeSet::new(),
        }
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
            Ok(BlobDone::Listing(listing)) => match self.step {
                Step::Look => self.looked(&listing),
                Step::LookForMarkers => self.looked_for_markers(&listing),
                _ => self.looked_again(&listing),
            },
            Ok(_) => {}
            Err(error) => {
                self.settle_open(|_| Some(Fate::Failed(error.clone())));
                self.withdraw();
            }
        }
    }

    fn looked(&mut self, listing: &Listing) {
        self.spare_used(listing);
        self.step = Step::Announce;
        let open: Vec<BackupId> = self.open().collect();
        for id in open {
            let place = ObjectName::removal(id);
            let marker = Marker::new(place, Owner::of(id), "it is being removed", self.now);
            let bytes = marker.render().into();
            self.outbox
                .blob(Purpose::Announce, BlobOp::Put { object: place, bytes, if_absent: false });
            self.announced.insert(id);
        }
    }

    /// Leaves alone what is pinned or held.
    fn spare_used(&mut self, listing: &Listing) {
        if self.force == Force::Override {
            return;
        }
        let uses = self.uses(listing);
        self.settle_open(|id| match (uses.holders(id), uses.pinned.contains(&id)) {
            (_, true) => Some(Fate::Pinned),
            (holders, false) if !holders.is_empty() => Some(Fate::Held(holders)),
            _ => None,
        });
    }

    fn looked_for_markers(&mut self, listing: &Listing) {
        if !planted::is(Bug::HoldIgnored) {
            self.spare_used(listing);
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
        let is_rest = |role| !matches!(role, Role::Data | Role::Status | Role::Removal);
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
            Step::Announce => {
                self.step = Step::LookForMarkers;
                self.outbox.blob(Purpose::List, BlobOp::List);
            }
            Step::Metadata if self.open().next().is_some() => {
                self.step = Step::LookAgain;
                // Nothing brings their metadata back: what says that they go stays until they are gone.
                self.announced.retain(|id| self.fates.get(id).is_some_and(Option::is_some));
                self.outbox.blob(Purpose::List, BlobOp::List);
            }
            Step::Rest if self.open().next().is_some() => {
                self.step = Step::Status;
                let notes = |id| [ObjectName::status(id), ObjectName::removal(id)];
                self.waiting = self.open().flat_map(notes).collect();
                self.advance();
            }
            Step::Metadata | Step::Rest | Step::Status => {
                self.settle_open(|_| Some(Fate::Removed));
                self.withdraw();
            }
            Step::Withdraw => self.step = Step::Ended,
            Step::Look | Step::LookForMarkers | Step::LookAgain | Step::Ended => {}
        }
    }

    /// What is announced and stays as it was is announced no more.
    fn withdraw(&mut self) {
        self.step = Step::Withdraw;
        let stays = |id: &BackupId| self.fates.get(id).is_some_and(is_whole);
        let stays: Vec<BackupId> = self.announced.iter().copied().filter(stays).collect();
        for id in stays {
            let object = ObjectName::removal(id);
            self.outbox.blob(Purpose::Withdraw, BlobOp::Delete { object });
        }
        self.advance();
    }
}

/// Whether a backup whose metadata have not been seen to go certainly has them.
fn is_whole(fate: &Option<Fate>) -> bool {
    match fate {
        Some(Fate::Pinned | Fate::Held(_)) => true,
        Some(Fate::Failed(error)) => error.kind != BlobErrorKind::Unknown,
        Some(Fate::Removed | Fate::DataSpared(_)) | None => false,
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
                f.write_str("not listed any more, but something uses its data: it is removed after a later backup, or by backup catalog fsck")
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
            Some(Purpose::Announce | Purpose::Withdraw) => {}
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

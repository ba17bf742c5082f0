//! Tidies up what nobody finishes and nobody needs: what uploads left that broke off, removals that broke off, and notes of long ago beside
//! backups that turned out well or are gone. Nothing else takes these away where retention is not configured.
//!
//! For whoever holds the store's lock, so that nothing that is listed is being made. Invariants: whole data go only where it was said that
//! their backup is being removed, and only while nothing uses it; age is told by the store's clock, as for [`super::retention`], and without
//! one nothing goes but removals that are finished; what cannot be removed is left to the next time.

use super::blob::{BlobDone, BlobError, BlobOp, Listing, ObjectName, Role};
use super::id::BackupId;
use super::machine::{Action, ActionResult, Machine, Outbox};
use super::retention::BROKEN_OFF_MS;
use crate::time::Wall;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The machine.
#[derive(Debug)]
pub struct Sweep {
    outbox: Outbox<Purpose>,
    /// What goes now, and what goes after it: the notes that say why.
    waiting: VecDeque<ObjectName>,
    last: VecDeque<ObjectName>,
    /// Something of these backups could not be removed.
    failed: BTreeSet<BackupId>,
    outcome: Option<Result<usize, BlobError>>,
}

#[derive(Clone, Copy, Debug)]
enum Purpose {
    Look,
    Remove(BackupId),
}

/// Removals under way at once.
const REMOVALS_IN_FLIGHT: usize = 8;

impl Sweep {
    /// Begins.
    pub fn new() -> Self {
        let mut outbox = Outbox::new();
        outbox.blob(Purpose::Look, BlobOp::List);
        Sweep {
            outbox,
            waiting: VecDeque::new(),
            last: VecDeque::new(),
            failed: BTreeSet::new(),
            outcome: None,
        }
    }

    /// How many objects are gone, once it has ended.
    pub fn outcome(&self) -> Option<&Result<usize, BlobError>> {
        let is_over = self.outbox.is_idle() && self.waiting.is_empty() && self.last.is_empty();
        self.outcome.as_ref().filter(|_| is_over)
    }

    fn done(&mut self, purpose: Purpose, result: Result<BlobDone, BlobError>) {
        match (purpose, result) {
            (Purpose::Look, Ok(BlobDone::Listing(listing))) => {
                self.outcome = Some(Ok(0));
                for (id, backup) in backups(&listing) {
                    let (first, last) = backup.leftovers(id, now(&listing));
                    self.waiting.extend(first);
                    self.last.extend(last);
                }
            }
            (Purpose::Look, Ok(_)) => self.outcome = Some(Ok(0)),
            (Purpose::Look, Err(error)) => self.outcome = Some(Err(error)),
            (Purpose::Remove(_), Ok(_)) => {
                if let Some(Ok(removed)) = &mut self.outcome {
                    *removed += 1;
                }
            }
            (Purpose::Remove(id), Err(_)) => {
                self.failed.insert(id);
            }
        }
        self.advance();
    }

    fn advance(&mut self) {
        if self.waiting.is_empty() && self.outbox.is_idle() {
            self.waiting = std::mem::take(&mut self.last);
            self.waiting.retain(|object| !self.failed.contains(&object.backup));
        }
        while self.outbox.count(|_| true) < REMOVALS_IN_FLIGHT
            && let Some(object) = self.waiting.pop_front()
        {
            self.outbox.blob(Purpose::Remove(object.backup), BlobOp::Delete { object });
        }
    }
}

impl Default for Sweep {
    fn default() -> Self {
        Sweep::new()
    }
}

/// What a store has of a backup.
#[derive(Default)]
struct Found {
    /// Its objects, and when each was written, where the store tells.
    objects: BTreeMap<Role, Option<Wall>>,
    /// Uploads of them that have not ended.
    uploads: BTreeMap<Role, Option<Wall>>,
    /// It has something else.
    is_strange: bool,
}

fn backups(listing: &Listing) -> BTreeMap<BackupId, Found> {
    let mut backups: BTreeMap<BackupId, Found> = BTreeMap::new();
    for (object, _) in listing.objects.iter().filter(|(object, _)| !object.is_lock()) {
        let written = listing.written.get(object).copied();
        backups.entry(object.backup).or_default().objects.insert(object.role, written);
    }
    for (object, begun) in listing.uploads.iter().filter(|(object, _)| !object.is_lock()) {
        // Of several, the youngest.
        let youngest = backups.entry(object.backup).or_default().uploads.entry(object.role);
        youngest.and_modify(|at| *at = (*at).max(*begun)).or_insert(*begun);
    }
    for path in &listing.strangers {
        let id = path.split_once('/').and_then(|(folder, _)| folder.parse().ok());
        if let Some(backup) = id.and_then(|id| backups.get_mut(&id)) {
            backup.is_strange = true;
        }
    }
    backups
}

/// What time it is for the store: it has taken the lock just now, from whoever asks.
fn now(listing: &Listing) -> Option<Wall> {
    let locks = listing.objects.iter().filter(|(object, _)| object.is_lock());
    let newest = locks.map(|(object, _)| *object).max()?;
    listing.written.get(&newest).copied()
}

impl Found {
    /// What of it goes, and what goes when that is gone.
    fn leftovers(&self, id: BackupId, now: Option<Wall>) -> (Vec<ObjectName>, Vec<ObjectName>) {
        let object = |role| ObjectName { backup: id, role };
        let has = |role| self.objects.contains_key(&role);
        let is_old = |at: &Option<Wall>| {
            let age_ms = now.zip(*at).map(|(now, at)| now.0.saturating_sub(at.0));
            age_ms.is_some_and(|age_ms| age_ms > BROKEN_OFF_MS)
        };
        let is_note = |role: &Role| matches!(role, Role::Status | Role::Removal);
        let notes = || self.objects.iter().filter(|(role, _)| is_note(role));
        let (mut first, mut last) = (Vec::new(), Vec::new());
        if has(Role::Metadata) {
            // How it was made, or that it was to go, is of no use beside a backup that is there.
            let old = notes().filter(|(_, written)| is_old(written));
            last.extend(old.map(|(role, _)| object(*role)));
        } else if has(Role::Removal) {
            let is_used = self.objects.iter().any(|(role, written)| match role {
                Role::Pin => has(Role::Data),
                Role::Hold(_) => !is_old(written),
                _ => false,
            });
            if !is_used && !self.is_strange {
                first.push(object(Role::Data));
                let others = self.objects.keys().filter(|role| **role != Role::Data);
                first
                    .extend(others.clone().filter(|role| !is_note(role)).map(|role| object(*role)));
                last.extend(others.filter(|role| is_note(role)).map(|role| object(*role)));
            }
        } else if self.objects.keys().all(|role| *role == Role::Status)
            && self.objects.values().chain(self.uploads.values()).all(is_old)
            && !self.is_strange
        {
            first.extend(self.uploads.keys().map(|role| object(*role)));
            last.extend(self.objects.keys().map(|role| object(*role)));
        }
        (first, last)
    }
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

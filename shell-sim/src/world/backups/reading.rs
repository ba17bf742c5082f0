//! Jobs that read stores: list what is there, verify a backup, restore one in memory, and find the newest backup from which a lost
//! cluster can be brought back, in any of them.

use super::found::{Found, Means};
use crate::random::{Draw, Ppm};
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::{BlobError, ObjectName, StoreIndex};
use raftkv_core::backup::catalog::{Catalog, Entry, ReadCatalog, Standing};
use raftkv_core::backup::choose::{Doubt, choose};
use raftkv_core::backup::machine::Machine;
use raftkv_core::backup::mark::Mark;
use raftkv_core::backup::marker::{Marker, Owner};
use raftkv_core::backup::read::{ReadBounds, ReadError, ReadTrouble};
use raftkv_core::backup::recall::{Next, Recall};
use raftkv_core::backup::replicas::Replicas;
use raftkv_core::backup::restore::{Restore, Restored};
use raftkv_core::backup::select::Selector;
use raftkv_core::backup::verify::{Level, Verify};
use raftkv_core::rng::Rng;
use raftkv_core::time::Wall;

/// What it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Only to see what is there.
    List,
    /// To check some backup.
    Verify(Level),
    /// To restore some backup in memory.
    Drill,
    /// To restore the newest backup in memory.
    DrillNewest,
    /// To find the newest backup that restores.
    Recover,
}

/// A job.
#[derive(Debug)]
pub(super) struct Reading {
    goal: Goal,
    means: Means,
    reader: Reader,
    /// How many stores there are.
    stores: u8,
    /// What those have that were looked through for a recovery, or why they do not tell.
    catalogs: Vec<Result<Catalog, BlobError>>,
    /// What a recovery has tried, and what is left.
    recall: Option<Recall>,
    skipped: Vec<(BackupId, ReadError)>,
    /// Who reads, for holds.
    owner: Owner,
    wall: Wall,
    /// Whether a backup is read without being marked as in use, as by somebody who may not write to the store.
    marks_nothing: bool,
    /// Whether a recovery goes on without stores that do not answer.
    passes_over: bool,
    /// Holds that were put, to be taken away at the end.
    holds: Vec<(StoreIndex, ObjectName)>,
}

#[derive(Debug)]
enum Reader {
    Catalog(Box<ReadCatalog>),
    /// Says that the backup is in use, so that retention spares it.
    Hold(BackupId, Box<Mark>),
    Verify(Box<Verify>),
    Restore(BackupId, Box<Restore>),
    Release(Box<Mark>),
    /// Nothing is left to be read.
    None,
}

impl Reader {
    fn catalog(means: &Means) -> Self {
        Reader::Catalog(Box::new(ReadCatalog::new(means.access.keys.clone())))
    }
}

impl Reading {
    /// Begins with a look at the catalog.
    pub(super) fn new(goal: Goal, means: Means, owner: Owner, wall: Wall, stores: u8) -> Self {
        let reader = Reader::catalog(&means);
        let (catalogs, skipped, holds) = (Vec::new(), Vec::new(), Vec::new());
        let recall = None;
        Reading {
            goal,
            means,
            reader,
            stores,
            catalogs,
            recall,
            skipped,
            owner,
            wall,
            marks_nothing: false,
            passes_over: false,
            holds,
        }
    }

    /// It marks nothing as in use.
    pub(super) fn without_marks(self) -> Self {
        Reading { marks_nothing: true, ..self }
    }

    /// A recovery goes on without stores that do not answer, if another one has something.
    pub(super) fn without_silent_stores(self) -> Self {
        Reading { passes_over: true, ..self }
    }

    /// Holds that were put, or are being put.
    pub(super) fn holds(&self) -> impl Iterator<Item = &(StoreIndex, ObjectName)> {
        self.holds.iter()
    }

    /// Begins to restore this backup in memory.
    pub(super) fn restore(id: BackupId, means: Means, owner: Owner, wall: Wall) -> Self {
        let mut reading = Reading::new(Goal::Drill, means, owner, wall, 1);
        reading.begin_hold(id);
        reading
    }

    /// The store in which it reads now.
    pub(super) fn store(&self) -> StoreIndex {
        self.means.store
    }

    /// The machine that runs; `None` when the job has ended.
    pub(super) fn machine(&mut self) -> Option<&mut dyn Machine> {
        match &mut self.reader {
            Reader::Catalog(machine) => Some(machine.as_mut()),
            Reader::Hold(_, machine) | Reader::Release(machine) => Some(machine.as_mut()),
            Reader::Verify(machine) => Some(machine.as_mut()),
            Reader::Restore(_, machine) => Some(machine.as_mut()),
            Reader::None => None,
        }
    }

    /// What was found, once the machine has ended. Another one may run then.
    pub(super) fn conclude(&mut self, rng: &mut Rng) -> Option<Found> {
        if !self.machine()?.is_ended() {
            return None;
        }
        match std::mem::replace(&mut self.reader, Reader::None) {
            Reader::Catalog(machine) => {
                let store = self.means.store;
                Some(match machine.outcome()?.clone() {
                    catalog if self.goal == Goal::Recover => self.listed_one(catalog),
                    Ok(catalog) => {
                        self.listed(&catalog, rng);
                        Found::Listed(store, catalog)
                    }
                    Err(error) => Found::Unlisted(store, error),
                })
            }
            Reader::Verify(machine) => {
                let report = Box::new(machine.report()?);
                self.release();
                Some(Found::Verified { report, means: self.means.clone() })
            }
            Reader::Hold(id, machine) => Some(match machine.outcome()?.clone() {
                Ok(()) => self.held(id),
                Err(error) => {
                    self.holds.clear();
                    Found::NotHeld { id, error }
                }
            }),
            Reader::Restore(id, machine) => Some(self.restored(id, machine.take()?.map(Box::new))),
            Reader::Release(_) => {
                self.release();
                Some(Found::Released)
            }
            Reader::None => None,
        }
    }

    fn held(&mut self, id: BackupId) -> Found {
        self.means.held = true;
        self.read(id);
        Found::Held(id)
    }

    fn read(&mut self, id: BackupId) {
        let access = self.means.access.clone();
        self.reader = match self.goal {
            Goal::Verify(level) => {
                let verify = Verify::new(id, level, access, ReadBounds::default());
                Reader::Verify(Box::new(verify))
            }
            _ => Reader::Restore(id, Box::new(Restore::new(id, access, ReadBounds::default()))),
        };
    }

    /// Takes the next hold away, if one is left.
    fn release(&mut self) {
        if let Some((store, hold)) = self.holds.pop() {
            self.means.store = store;
            self.reader = Reader::Release(Box::new(Mark::remove(hold)));
        }
    }

    fn listed(&mut self, catalog: &Catalog, rng: &mut Rng) {
        let all: Vec<BackupId> = catalog.entries.iter().map(|entry| entry.id).collect();
        let wants_newest = self.goal == Goal::DrillNewest || rng.happens(Ppm::percent(50));
        let chosen = match catalog.select(&Selector::Latest, self.means.access.plaintext) {
            Ok(newest) if wants_newest => Some(newest.id),
            _ if all.is_empty() => None,
            _ => Some(*rng.pick(&all)),
        };
        if let Some(id) = chosen.filter(|_| self.goal != Goal::List) {
            self.begin_hold(id);
        }
    }

    /// One more store was looked through for a recovery; behind the last one begins the newest backup that any of them has.
    fn listed_one(&mut self, catalog: Result<Catalog, BlobError>) -> Found {
        let store = self.means.store;
        let found = match &catalog {
            Ok(catalog) => Found::Listed(store, catalog.clone()),
            Err(error) => Found::Unlisted(store, error.clone()),
        };
        self.catalogs.push(catalog);
        if store.0 + 1 < self.stores {
            self.means.store = StoreIndex(store.0 + 1);
            self.reader = Reader::catalog(&self.means);
            return found;
        }
        let replicas = Replicas::new(std::mem::take(&mut self.catalogs));
        let Ok(merged) = replicas.merged() else { return found };
        let plaintext = self.means.access.plaintext;
        let choice = choose(&replicas, &merged, &Selector::Latest, plaintext);
        let is_unreadable = |entry: &Entry| matches!(entry.standing, Standing::Unreadable(_));
        // What a store would not give now may be the newest of all.
        let is_deterring = |doubt: &Doubt| match doubt {
            Doubt::Unusable(entry) => is_unreadable(entry),
            Doubt::OtherCluster(_) => true,
            Doubt::Silent(..) => !self.passes_over,
        };
        self.means.silent = replicas.silent().map(|(store, _)| store).collect();
        match choice {
            Ok(choice) if choice.doubts.iter().any(is_deterring) => found,
            Ok(choice) => {
                let newest = choice.entry.id;
                self.recall = Some(Recall::new(replicas, merged, newest, true, plaintext));
                self.hold_next();
                found
            }
            Err(_) if !self.means.silent.is_empty() => found,
            Err(_) if merged.entries.iter().any(is_unreadable) => found,
            Err(_) => Found::Lost { skipped: Vec::new() },
        }
    }

    /// Begins with what a recovery is to read next.
    fn hold_next(&mut self) {
        if let Some((id, store)) = self.recall.as_ref().and_then(Recall::place) {
            self.means.store = store;
            self.begin_hold(id);
        }
    }

    fn restored(&mut self, id: BackupId, result: Result<Box<Restored>, ReadError>) -> Found {
        let means = self.means.clone();
        let error = match (&mut self.recall, result) {
            (None, result) => {
                self.release();
                return Found::Restored { id, result, means };
            }
            (Some(_), Ok(restored)) => {
                self.release();
                let skipped = std::mem::take(&mut self.skipped);
                return Found::Recovered { restored, skipped, means };
            }
            (Some(recall), Err(error)) => match recall.failed(error.clone()) {
                Next::Copy(_) => error,
                Next::Older(_) => {
                    self.skipped.push((id, error.clone()));
                    error
                }
                // What a store would not give now is no reason to take an older backup.
                Next::Nothing { error: hopeful, .. } if hopeful.trouble() == ReadTrouble::Store => {
                    error
                }
                Next::Nothing { .. } => {
                    self.skipped.push((id, error));
                    return Found::Lost { skipped: std::mem::take(&mut self.skipped) };
                }
            },
        };
        self.hold_next();
        Found::Restored { id, result: Err(error), means }
    }

    fn begin_hold(&mut self, id: BackupId) {
        if self.marks_nothing {
            return self.read(id);
        }
        let hold = ObjectName::hold(id, self.owner);
        self.holds.push((self.means.store, hold));
        let marker = Marker::new(hold, self.owner, "simulated reader", self.wall);
        self.reader = Reader::Hold(id, Box::new(Mark::put(&marker)));
    }
}

//! Jobs that read the store: list what is there, verify a backup, restore one in memory, and find the newest backup from which a lost
//! cluster can be brought back.

use super::found::{Found, Means};
use crate::random::{Draw, Ppm};
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::ObjectName;
use raftkv_core::backup::catalog::{Catalog, Entry, ReadCatalog, Standing};
use raftkv_core::backup::machine::Machine;
use raftkv_core::backup::mark::Mark;
use raftkv_core::backup::marker::{Marker, Owner};
use raftkv_core::backup::read::{ReadBounds, ReadError, ReadTrouble};
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
    catalog: Catalog,
    skipped: Vec<(BackupId, ReadError)>,
    /// Who reads, for holds.
    owner: Owner,
    wall: Wall,
    /// Holds that were put, to be taken away at the end.
    holds: Vec<ObjectName>,
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

impl Reading {
    /// Begins with a look at the catalog.
    pub(super) fn new(goal: Goal, means: Means, owner: Owner, wall: Wall) -> Self {
        let reader = Reader::Catalog(Box::new(ReadCatalog::new(means.access.keys.clone())));
        let (catalog, skipped, holds) = (Catalog::default(), Vec::new(), Vec::new());
        Reading { goal, means, reader, catalog, skipped, owner, wall, holds }
    }

    /// Begins to restore this backup in memory.
    pub(super) fn restore(id: BackupId, means: Means, owner: Owner, wall: Wall) -> Self {
        let mut reading = Reading::new(Goal::Drill, means, owner, wall);
        reading.begin_hold(id);
        reading
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
            Reader::Catalog(machine) => Some(match machine.outcome()?.clone() {
                Ok(catalog) => self.listed(catalog, rng),
                Err(error) => Found::Unlisted(error),
            }),
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
        let access = self.means.access.clone();
        self.reader = match self.goal {
            Goal::Verify(level) => {
                let verify = Verify::new(id, level, access, ReadBounds::default());
                Reader::Verify(Box::new(verify))
            }
            _ => Reader::Restore(id, Box::new(Restore::new(id, access, ReadBounds::default()))),
        };
        Found::Held(id)
    }

    /// Takes the next hold away, if one is left.
    fn release(&mut self) {
        if let Some(hold) = self.holds.pop() {
            self.reader = Reader::Release(Box::new(Mark::remove(hold)));
        }
    }

    fn listed(&mut self, catalog: Catalog, rng: &mut Rng) -> Found {
        let is_readable = |entry: &Entry| !matches!(entry.standing, Standing::Unreadable(_));
        if self.goal == Goal::Recover && !catalog.entries.iter().all(is_readable) {
            // What the store would not give now may be the newest of all.
            return Found::Listed(catalog);
        }
        let all: Vec<BackupId> = catalog.entries.iter().map(|entry| entry.id).collect();
        let wants_newest =
            matches!(self.goal, Goal::Recover | Goal::DrillNewest) || rng.happens(Ppm::percent(50));
        let chosen = match catalog.select(&Selector::Latest) {
            Ok(newest) if wants_newest => Some(newest.id),
            _ if all.is_empty() || self.goal == Goal::Recover => None,
            _ => Some(*rng.pick(&all)),
        };
        match (self.goal, chosen) {
            (Goal::Recover, None) => return Found::Lost { skipped: Vec::new() },
            (Goal::Recover, Some(id)) => {
                self.catalog = catalog.clone();
                self.begin_hold(id);
            }
            (Goal::Verify(_) | Goal::Drill | Goal::DrillNewest, Some(id)) => self.begin_hold(id),
            (Goal::List, _) | (_, None) => {}
        }
        Found::Listed(catalog)
    }

    fn restored(&mut self, id: BackupId, result: Result<Box<Restored>, ReadError>) -> Found {
        let means = self.means.clone();
        if self.goal != Goal::Recover {
            self.release();
            return Found::Restored { id, result, means };
        }
        match result {
            Ok(restored) => {
                self.release();
                Found::Recovered { restored, skipped: std::mem::take(&mut self.skipped), means }
            }
            // What the store would not give now is no reason to take an older backup.
            Err(error) if error.trouble() == ReadTrouble::Store => {
                Found::Restored { id, result: Err(error), means }
            }
            Err(error) => {
                self.skipped.push((id, error.clone()));
                match self.catalog.next_older(id).map(|entry| entry.id) {
                    None => Found::Lost { skipped: std::mem::take(&mut self.skipped) },
                    Some(older) => {
                        self.begin_hold(older);
                        Found::Restored { id, result: Err(error), means }
                    }
                }
            }
        }
    }

    fn begin_hold(&mut self, id: BackupId) {
        let hold = ObjectName::hold(id, self.owner);
        self.holds.push(hold);
        let marker = Marker::new(hold, self.owner, "simulated reader", self.wall);
        self.reader = Reader::Hold(id, Box::new(Mark::put(&marker)));
    }
}

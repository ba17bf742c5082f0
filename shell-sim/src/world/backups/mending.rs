//! The job that looks for backups without metadata and rebuilds it from their data, as `backup catalog rebuild` does: under the store's lock,
//! for which it waits a while.
//!
//! What it rebuilt is judged at once: it is what was lost, byte for byte, and the backup restores from what is really there.

use super::found::{Found, Means};
use crate::check::{Violation, rebuilt};
use crate::time::SimTime;
use crate::world::World;
use raftkv_core::backup::blob::{ObjectName, StoreIndex};
use raftkv_core::backup::catalog::{Catalog, ReadCatalog, Standing};
use raftkv_core::backup::fsck::{self, Finding, Making};
use raftkv_core::backup::keep::{Holding, Keep};
use raftkv_core::backup::lock;
use raftkv_core::backup::machine::{Action, ActionResult, Machine};
use raftkv_core::backup::marker::Owner;
use raftkv_core::backup::read::ReadError;
use raftkv_core::backup::rebuild::RebuildMetadata;
use raftkv_core::backup::{BackupId, Metadata};
use raftkv_core::time::{Span, Wall};
use std::collections::VecDeque;

/// It looks at the lock so often.
const TICK: Span = Span::from_millis(1_000);
/// It waits so long for the lock.
const PATIENCE: Span = Span::from_millis(10_000);
/// The lock's operations are numbered from here on.
const LOCK_OPS: u64 = 1 << 32;

/// The job.
#[derive(Debug)]
pub(super) struct Mending {
    means: Means,
    keep: Keep,
    next_tick: SimTime,
    waiting: VecDeque<BackupId>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Locking,
    Catalog(Box<ReadCatalog>),
    Rebuild(BackupId, Box<RebuildMetadata>),
    Leaving,
    Over,
}

impl Mending {
    /// Begins with the lock.
    pub(super) fn new(means: Means, owner: Owner, wall: Wall) -> Self {
        let (marker, began) = (lock::marker(owner, "simulated fsck", wall), means.began);
        let keep = Keep::new(means.store, marker, None, LOCK_OPS, millis(began));
        let step = Step::Locking;
        Mending { means, keep, next_tick: began + TICK, waiting: VecDeque::new(), step }
    }

    /// The store in which it works.
    pub(super) fn store(&self) -> StoreIndex {
        self.means.store
    }

    /// When it wants to be told that time has passed.
    pub(super) fn next_tick(&self) -> SimTime {
        self.next_tick
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: SimTime) {
        if self.next_tick > now {
            return;
        }
        self.next_tick = now + TICK;
        self.keep.tick(millis(now));
        if matches!(self.step, Step::Locking) && now >= self.means.began + PATIENCE {
            self.leave();
        }
        self.look_at_lock();
    }

    /// What was found, once something was.
    pub(super) fn conclude(&mut self) -> Option<Found> {
        let found = match &self.step {
            Step::Catalog(machine) => match machine.outcome()?.clone() {
                Ok(catalog) => {
                    self.waiting = without_metadata(&catalog).collect();
                    Found::Listed(self.means.store, catalog)
                }
                Err(error) => Found::Unlisted(self.means.store, error),
            },
            Step::Rebuild(id, machine) => {
                let (id, result) = (*id, machine.outcome()?.clone());
                Found::Rebuilt { id, result, means: self.means.clone() }
            }
            Step::Leaving if self.keep.is_over() => {
                self.step = Step::Over;
                return Some(Found::Left(self.means.store));
            }
            Step::Locking | Step::Leaving | Step::Over => return None,
        };
        match self.waiting.pop_front() {
            Some(id) if self.keep.holding() == Holding::Yes => {
                let rebuild = RebuildMetadata::new(id, self.means.access.clone());
                self.step = Step::Rebuild(id, Box::new(rebuild));
            }
            _ => self.leave(),
        }
        Some(found)
    }

    fn look_at_lock(&mut self) {
        match self.keep.holding() {
            Holding::Yes if matches!(self.step, Step::Locking) => {
                let catalog = ReadCatalog::new(self.means.access.keys.clone());
                self.step = Step::Catalog(Box::new(catalog));
            }
            Holding::No(_) | Holding::Released if matches!(self.step, Step::Locking) => {
                self.leave();
            }
            _ => {}
        }
    }

    fn leave(&mut self) {
        self.step = Step::Leaving;
        self.keep.release();
    }
}

impl Machine for Mending {
    fn poll_action(&mut self) -> Option<Action> {
        self.keep.poll_action().or_else(|| match &mut self.step {
            Step::Catalog(machine) => machine.poll_action(),
            Step::Rebuild(_, machine) => machine.poll_action(),
            Step::Locking | Step::Leaving | Step::Over => None,
        })
    }

    fn handle(&mut self, result: ActionResult) {
        if let ActionResult::Blob { op, result } = &result
            && self.keep.take(*op, result)
        {
            self.look_at_lock();
            return;
        }
        match &mut self.step {
            Step::Catalog(machine) => machine.handle(result),
            Step::Rebuild(_, machine) => machine.handle(result),
            Step::Locking | Step::Leaving | Step::Over => {}
        }
    }

    fn is_ended(&self) -> bool {
        matches!(self.step, Step::Over)
    }
}

/// Those of which nothing says that they broke off.
fn without_metadata(catalog: &Catalog) -> impl Iterator<Item = BackupId> + '_ {
    let findings = fsck::examine(catalog, Making::Excluded).into_iter();
    findings.filter_map(|finding| match finding {
        Finding::Orphan(id) => {
            let is_lost = |standing: &Standing| *standing == Standing::Incomplete;
            catalog.entries.iter().any(|it| it.id == id && is_lost(&it.standing)).then_some(id)
        }
        _ => None,
    })
}

fn millis(at: SimTime) -> u64 {
    at.0 / 1_000_000
}

impl World {
    /// Metadata was rebuilt, or was not.
    pub(super) fn on_rebuilt(
        &mut self,
        id: BackupId,
        result: Result<&Metadata, &ReadError>,
        means: &Means,
    ) -> Result<(), Violation> {
        let (place, wrong) = (means.store, result.err().map(ToString::to_string));
        let wrong = wrong.unwrap_or_default();
        self.tell("rebuilt", format_args!("{id} in store {} {wrong}", place.0));
        let (commits, store) = self.backups.truth(place);
        let (bucket, object) = (store.bucket(), ObjectName::metadata(id));
        let is_kept = commits.is_complete(id) && bucket.lost(ObjectName::data(id)).is_none();
        // What never was complete broke off.
        let Some(lost) = bucket.lost(object).filter(|_| is_kept) else { return Ok(()) };
        rebuilt::check(id, result, lost, bucket.get(object))?;
        if result.is_ok() {
            self.sometimes("lost metadata was rebuilt");
            self.backups.restore_truly(self.now, place, id, means.access.clone())?;
        }
        Ok(())
    }
}

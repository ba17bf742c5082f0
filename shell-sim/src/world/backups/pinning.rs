//! The job that pins a complete backup, or takes a pin away.

use super::found::Found;
use crate::random::{Draw, Ppm};
use crate::world::World;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::{ObjectName, StoreIndex};
use raftkv_core::backup::catalog::{Catalog, ReadCatalog};
use raftkv_core::backup::machine::{Action, ActionResult, Machine};
use raftkv_core::backup::mark::Mark;
use raftkv_core::backup::marker::{Marker, Owner};
use raftkv_core::rng::Rng;
use raftkv_core::time::Wall;

/// The job.
#[derive(Debug)]
pub(super) struct Pinning {
    store: StoreIndex,
    owner: Owner,
    wall: Wall,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Catalog(Box<ReadCatalog>),
    /// It is about to be done.
    Chosen(Choice),
    Mark(Choice, Box<Mark>),
    Over,
}

/// What is to be done.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Pin(BackupId),
    Unpin(BackupId),
}

impl Pinning {
    /// Begins with a look at the store's catalog.
    pub(super) fn new(store: StoreIndex, catalog: ReadCatalog, owner: Owner, wall: Wall) -> Self {
        Pinning { store, owner, wall, step: Step::Catalog(Box::new(catalog)) }
    }

    /// The store in which it works.
    pub(super) fn store(&self) -> StoreIndex {
        self.store
    }

    /// Of which backup it writes or deletes the pin just now.
    pub(super) fn marking(&self) -> Option<BackupId> {
        match &self.step {
            Step::Mark(choice, _) => Some(choice.backup()),
            _ => None,
        }
    }

    /// What was found, once something was.
    pub(super) fn conclude(&mut self, rng: &mut Rng) -> Option<Found> {
        let store = self.store;
        let (found, next) = match &self.step {
            Step::Catalog(machine) => match machine.outcome()?.clone() {
                Ok(catalog) => {
                    let next = choose(&catalog, rng).map_or(Step::Over, Step::Chosen);
                    (Found::Listed(store, catalog), next)
                }
                Err(error) => (Found::Unlisted(store, error), Step::Over),
            },
            Step::Chosen(choice) => {
                let mark = Box::new(self.mark(*choice));
                (Found::Pinning { store, id: choice.backup() }, Step::Mark(*choice, mark))
            }
            Step::Mark(choice, machine) => {
                let (id, result) = (choice.backup(), machine.outcome()?.clone());
                let is_pin = matches!(choice, Choice::Pin(_));
                (Found::Pinned { store, id, is_pin, result }, Step::Over)
            }
            Step::Over => return None,
        };
        self.step = next;
        Some(found)
    }

    fn mark(&self, choice: Choice) -> Mark {
        match choice {
            Choice::Pin(id) => {
                let pin = ObjectName::pin(id);
                Mark::put(&Marker::new(pin, self.owner, "simulated pin", self.wall))
            }
            Choice::Unpin(id) => Mark::remove(ObjectName::pin(id)),
        }
    }
}

impl Choice {
    fn backup(self) -> BackupId {
        match self {
            Choice::Pin(id) | Choice::Unpin(id) => id,
        }
    }
}

/// Half the times when something is pinned, one of these is not any more; otherwise another one is, mostly an old one.
fn choose(catalog: &Catalog, rng: &mut Rng) -> Option<Choice> {
    let complete = catalog.entries.iter().filter(|entry| entry.is_complete());
    let (pinned, free): (Vec<_>, Vec<_>) = complete.partition(|entry| entry.pin.is_some());
    if !pinned.is_empty() && rng.happens(Ppm::percent(50)) {
        return Some(Choice::Unpin(rng.pick(&pinned).id));
    }
    let oldest = free.len().div_ceil(2);
    (oldest > 0).then(|| Choice::Pin(rng.pick(&free[..oldest]).id))
}

impl Machine for Pinning {
    fn poll_action(&mut self) -> Option<Action> {
        match &mut self.step {
            Step::Catalog(machine) => machine.poll_action(),
            Step::Mark(_, machine) => machine.poll_action(),
            Step::Chosen(_) | Step::Over => None,
        }
    }

    fn handle(&mut self, result: ActionResult) {
        match &mut self.step {
            Step::Catalog(machine) => machine.handle(result),
            Step::Mark(_, machine) => machine.handle(result),
            Step::Chosen(_) | Step::Over => {}
        }
    }

    fn is_ended(&self) -> bool {
        matches!(self.step, Step::Over)
    }
}

impl World {
    /// Retention is about to take these from the primary store: does it spare an older one that is pinned?
    pub(super) fn note_pins(&mut self, going: &[BackupId]) {
        let commits = &self.backups.commits;
        let age = |id: &BackupId| commits.metadata(*id).map(|it| (it.epoch, it.index));
        let newest = going.iter().filter_map(age).max();
        let pinned = self.backups.pins.kept(StoreIndex::PRIMARY);
        if pinned.filter_map(|id| age(&id)).min().is_some_and(|oldest| Some(oldest) < newest) {
            self.sometimes("retention left a pinned backup alone");
        }
    }
}

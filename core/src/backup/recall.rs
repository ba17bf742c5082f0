//! Which copy of which backup is read next when reading one has failed: first the same backup from every other store in which it is
//! complete, and from those that could not tell; then, if that is wanted, the next older one.
//!
//! Invariants: nothing is tried twice; an older backup takes the place of one only when no store that can be listed may ever give that one
//! whole. Which could not be listed, [`super::choose`] tells.

use super::blob::StoreIndex;
use super::catalog::{Catalog, Entry};
use super::format::Plaintext;
use super::id::BackupId;
use super::read::{ReadError, ReadTrouble};
use super::replicas::Replicas;
use crate::planted::{self, Bug};
use std::collections::VecDeque;

/// What has been tried, and what is left.
#[derive(Clone, Debug)]
pub struct Recall {
    replicas: Replicas,
    /// All stores as one.
    catalog: Catalog,
    or_older: bool,
    plaintext: Plaintext,
    id: BackupId,
    /// Where this backup is still to be tried, the next place first.
    places: VecDeque<StoreIndex>,
    /// What is said of this backup if no place is left.
    error: Option<ReadError>,
}

/// What follows a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The same backup from this store.
    Copy(StoreIndex),
    /// The next older one from this store.
    Older(StoreIndex),
    /// Nothing is left to be tried. With `older`, a backup that was not to be taken unasked would be next.
    Nothing {
        /// What is wrong with the one that was tried last.
        error: ReadError,
        /// The next older one that is complete, if the one that was tried is beyond repair.
        older: Option<BackupId>,
    },
}

impl Recall {
    /// Begins with this backup, of which some store has something; `catalog` is what [`Replicas::merged`] gave. With `or_older`, backups
    /// that are older take the place of one that is beyond repair; `plaintext` says whether those that are not encrypted are ours.
    pub fn new(
        replicas: Replicas,
        catalog: Catalog,
        id: BackupId,
        or_older: bool,
        plaintext: Plaintext,
    ) -> Self {
        let places = places(&replicas, id);
        Recall { replicas, catalog, or_older, plaintext, id, places, error: None }
    }

    /// What is to be read now; `None` when nothing is left.
    pub fn place(&self) -> Option<(BackupId, StoreIndex)> {
        self.places.front().map(|store| (self.id, *store))
    }

    /// What the catalog says of the backup that is to be read.
    pub fn entry(&self) -> Option<&Entry> {
        self.find(self.id)
    }

    /// What the catalog says of some backup.
    pub fn find(&self, id: BackupId) -> Option<&Entry> {
        self.catalog.entries.iter().find(|entry| entry.id == id)
    }

    /// What was to be read could not be. The backup is spoken of as the first place found it, or else as the first whose copy may yet turn
    /// out good did.
    pub fn failed(&mut self, error: ReadError) -> Next {
        self.places.pop_front();
        if planted::is(Bug::OtherCopiesNotTried) {
            self.places.clear();
        }
        let worst = self.error.take().filter(|worst| is_hopeful(worst) || !is_hopeful(&error));
        let error = worst.unwrap_or(error);
        if let Some(store) = self.places.front() {
            self.error = Some(error);
            return Next::Copy(*store);
        }
        let older = self.catalog.next_older(self.id, self.plaintext);
        let older = older.filter(|_| !is_hopeful(&error));
        let older = older.map(|entry| entry.id);
        match older.filter(|_| self.or_older) {
            Some(id) => {
                self.id = id;
                self.places = places(&self.replicas, id);
                match self.places.front() {
                    Some(store) => Next::Older(*store),
                    None => Next::Nothing { error, older: None },
                }
            }
            None => Next::Nothing { error, older },
        }
    }
}

/// Where a backup may be whole: in the stores that show it so, and behind these in those that would not give its small objects.
fn places(replicas: &Replicas, id: BackupId) -> VecDeque<StoreIndex> {
    let mut places = replicas.places(id);
    let others = replicas.unreadable(id).filter(|store| !places.contains(store));
    let others: Vec<StoreIndex> = others.collect();
    places.extend(others);
    places.into()
}

/// Whether the same backup may be read another time, or by other means.
fn is_hopeful(error: &ReadError) -> bool {
    match error.trouble() {
        ReadTrouble::Verification | ReadTrouble::NotFound => false,
        ReadTrouble::Store | ReadTrouble::Key | ReadTrouble::Refused => true,
    }
}

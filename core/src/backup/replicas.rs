//! Several stores seen as one: which backups there are in any of them, and where each is whole.
//!
//! Invariants: a store that does not answer, or has lost everything, hides nothing that another store has; the primary store
//! comes first wherever it is as good as another.

use super::blob::{BlobError, StoreIndex};
use super::catalog::{Catalog, Entry, Standing};
use super::id::BackupId;
use std::collections::BTreeMap;

/// What was found in each store, in their order; a store may have failed to answer.
#[derive(Clone, Debug, Default)]
pub struct Replicas {
    catalogs: Vec<Result<Catalog, BlobError>>,
}

impl Replicas {
    /// What was found.
    pub fn new(catalogs: Vec<Result<Catalog, BlobError>>) -> Self {
        Replicas { catalogs }
    }

    /// All of it as one catalog: of each backup the entry of the first store in which it is complete, else of the first in which it may have
    /// been, else of the first that has anything of it. Fails as the first store did when none has answered.
    pub fn merged(&self) -> Result<Catalog, BlobError> {
        let mut answered = self.catalogs.iter().flatten();
        let Some(first) = answered.next() else {
            return match self.catalogs.iter().find_map(|catalog| catalog.as_ref().err()) {
                Some(error) => Err(error.clone()),
                None => Ok(Catalog::default()),
            };
        };
        let mut entries: BTreeMap<BackupId, &Entry> = BTreeMap::new();
        for entry in std::iter::once(first).chain(answered).flat_map(|catalog| &catalog.entries) {
            let best = entries.entry(entry.id).or_insert(entry);
            if rank(entry) < rank(best) {
                *best = entry;
            }
        }
        let mut entries: Vec<Entry> = entries.into_values().cloned().collect();
        entries.sort_by(Entry::order);
        Ok(Catalog { entries, ..first.clone() })
    }

    /// The stores from which a backup may be read: those in which it is complete; if there are none, the first that has anything of it.
    pub fn places(&self, id: BackupId) -> Vec<StoreIndex> {
        let has = |accept: fn(&Entry) -> bool| {
            self.answered().filter(move |(_, catalog)| {
                catalog.entries.iter().any(|entry| entry.id == id && accept(entry))
            })
        };
        let whole: Vec<_> = has(Entry::is_complete).map(|(store, _)| store).collect();
        match whole.is_empty() {
            true => has(|_| true).map(|(store, _)| store).take(1).collect(),
            false => whole,
        }
    }

    /// The stores that have something of a backup, but would not give what tells how it stands.
    pub fn unreadable(&self, id: BackupId) -> impl Iterator<Item = StoreIndex> {
        let is_unreadable = move |entry: &Entry| {
            entry.id == id && matches!(entry.standing, Standing::Unreadable(_))
        };
        let answered = self.answered();
        answered
            .filter(move |(_, catalog)| catalog.entries.iter().any(is_unreadable))
            .map(|(store, _)| store)
    }

    /// What one store has of a backup.
    pub fn entry(&self, store: StoreIndex, id: BackupId) -> Option<&Entry> {
        let catalog = self.catalogs.get(usize::from(store.0))?.as_ref().ok()?;
        catalog.entries.iter().find(|entry| entry.id == id)
    }

    /// The stores that did not answer, and why.
    pub fn silent(&self) -> impl Iterator<Item = (StoreIndex, &BlobError)> {
        let each = self.indexed();
        each.filter_map(|(store, catalog)| Some((store, catalog.as_ref().err()?)))
    }

    fn answered(&self) -> impl Iterator<Item = (StoreIndex, &Catalog)> {
        self.indexed().filter_map(|(store, catalog)| Some((store, catalog.as_ref().ok()?)))
    }

    fn indexed(&self) -> impl Iterator<Item = (StoreIndex, &Result<Catalog, BlobError>)> {
        (0..).map(StoreIndex).zip(&self.catalogs)
    }
}

/// How much an entry tells of a backup, the most first: a store that has it complete, one in which something is wrong with it, one that has a
/// part of it.
fn rank(entry: &Entry) -> u8 {
    match entry.standing {
        Standing::Complete(_) => 0,
        Standing::DataMissing(_)
        | Standing::Damaged(_)
        | Standing::Forged(_)
        | Standing::Unreadable(_) => 1,
        Standing::Incomplete | Standing::NotWhole(_) | Standing::HalfRemoved => 2,
    }
}

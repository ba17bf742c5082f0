//! Which backup is meant among those of several stores, and what speaks against taking it for the newest.
//!
//! Invariant: whoever picks by age learns of every newer backup that is not usable, and of every store that could not be listed, since that one
//! may have a newer backup. What is named by its id is what it is, in whichever store it is found.

use super::blob::{BlobError, StoreIndex};
use super::catalog::{Catalog, Entry};
use super::replicas::Replicas;
use super::select::{SelectError, Selector};

/// A backup that was picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// What is known of it.
    pub entry: &'a Entry,
    /// Why it may not be what was asked for: backups first, then stores. With any of these it is not to be used unasked.
    pub doubts: Vec<Doubt<'a>>,
}

/// Why a backup may not be the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt<'a> {
    /// This one is newer, and damaged, forged or unreadable wherever it is.
    Unusable(&'a Entry),
    /// This store could not be listed.
    Silent(StoreIndex, &'a BlobError),
}

/// Picks a backup in `merged`, which is what [`Replicas::merged`] gave.
///
/// # Errors
/// [`SelectError`]
pub fn choose<'a>(
    replicas: &'a Replicas,
    merged: &'a Catalog,
    selector: &Selector,
) -> Result<Choice<'a>, SelectError> {
    let entry = merged.select(selector)?;
    let unusable = merged.unusable_newer_than(entry.id).map(Doubt::Unusable);
    let silent = replicas.silent().map(|(store, error)| Doubt::Silent(store, error));
    let doubts = match selector {
        Selector::Latest => unusable.chain(silent).collect(),
        Selector::At(_) => silent.collect(),
        Selector::Prefix(_) => Vec::new(),
    };
    Ok(Choice { entry, doubts })
}

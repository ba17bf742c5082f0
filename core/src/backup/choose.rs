//! Which backup is meant among those of several stores, and what speaks against taking it for the newest.
//!
//! Invariant: whoever picks by age learns of every backup that is not usable and newer, or may be, and of every store that could not be listed, since that one
//! may have a newer backup. What is named by its id is what it is, in whichever store it is found.

use super::blob::{BlobError, StoreIndex};
use super::catalog::{Catalog, Entry};
use super::replicas::Replicas;
use super::select::{SelectError, Selector};
use crate::time::Wall;

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
    /// This one is newer, or its metadata do not tell how old it is; and it is damaged, forged or unreadable wherever it is.
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
    let until = match selector {
        Selector::Latest => Wall(i64::MAX),
        Selector::At(at) => *at,
        Selector::Prefix(_) => return Ok(Choice { entry, doubts: Vec::new() }),
    };
    let is_meant = |entry: &&Entry| entry.metadata.as_ref().is_none_or(|it| it.timestamp <= until);
    let unusable = merged.unusable_newer_than(entry.id).filter(is_meant).map(Doubt::Unusable);
    let silent = replicas.silent().map(|(store, error)| Doubt::Silent(store, error));
    Ok(Choice { entry, doubts: unusable.chain(silent).collect() })
}

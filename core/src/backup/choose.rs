//! Which backup is meant among those of several stores, and what speaks against taking it for the newest.
//!
//! Invariant: whoever picks by age learns of every backup that is not usable and newer, or may be, of another cluster's that cannot be ordered among
//! this one's, and of every store that could not be listed, since that one may have a newer backup. What is named by its id is what it is, in whichever store it is found.

use super::blob::{BlobError, StoreIndex};
use super::catalog::{Catalog, Entry};
use super::format::Plaintext;
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
    /// This one is newer, or does not tell how old it is; and wherever it is, it is damaged, forged, unreadable, without its metadata or, as far
    /// as the keys at hand tell, not ours.
    Unusable(&'a Entry),
    /// This one is of another cluster with the same restore epoch, and may be newer or older.
    OtherCluster(&'a Entry),
    /// This store could not be listed.
    Silent(StoreIndex, &'a BlobError),
}

/// Picks a backup in `merged`, which is what [`Replicas::merged`] gave; `plaintext` says whether those that are not encrypted count as ours.
///
/// # Errors
/// [`SelectError`]
pub fn choose<'a>(
    replicas: &'a Replicas,
    merged: &'a Catalog,
    selector: &Selector,
    plaintext: Plaintext,
) -> Result<Choice<'a>, SelectError> {
    let entry = merged.select(selector, plaintext)?;
    let until = match selector {
        Selector::Latest => Wall(i64::MAX),
        Selector::At(at) => *at,
        Selector::Prefix(_) => return Ok(Choice { entry, doubts: Vec::new() }),
    };
    // Without metadata: no later than what is known to be too late.
    let later = merged
        .entries
        .iter()
        .filter(|it| it.genuine(plaintext).is_some_and(|metadata| metadata.timestamp > until));
    let too_late = later.filter_map(Entry::point).min();
    let is_meant = |entry: &&Entry| match &entry.metadata {
        Some(metadata) => metadata.timestamp <= until,
        None => entry.point().zip(too_late).is_none_or(|(point, too_late)| point < too_late),
    };
    let unusable = merged.unusable_newer_than(entry.id, plaintext);
    let unusable = unusable.filter(is_meant).map(Doubt::Unusable);
    let rival =
        entry.metadata.as_ref().and_then(|it| merged.rival(it.cluster, it.epoch, plaintext));
    let unusable = unusable.chain(rival.map(Doubt::OtherCluster));
    let silent = replicas.silent().map(|(store, error)| Doubt::Silent(store, error));
    Ok(Choice { entry, doubts: unusable.chain(silent).collect() })
}

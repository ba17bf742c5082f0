//! Above which restore epoch a new cluster begins, by what the stores still have of those before it.
//!
//! Invariants: it is above every epoch of which there is a genuine backup, and above every other one that anything in the stores claims, such as
//! data without metadata, damaged data, or what is sealed for a key that is not at hand; but claims that are far above are not believed, so
//! that whoever can write to a store cannot use the epochs up. For a store that is not heard some are passed over: clusters may have lived
//! whose backups are there only.

use super::catalog::{Catalog, Entry};
use super::format::Plaintext;
use super::replicas::Replicas;
use crate::ids::Epoch;

/// A claim is believed that is no further than this above what is certain.
const CLAIMED_AHEAD: u64 = 1_000;
/// So many are passed over for stores that are not heard.
pub const PASSED_OVER: u64 = 16;

/// The highest epoch that a cluster of before may have had. `merged` is what [`Replicas::merged`] gave; `plaintext` says whether backups that are
/// not encrypted count as ours.
pub fn highest(replicas: &Replicas, merged: &Catalog, plaintext: Plaintext) -> Epoch {
    let genuine = merged.entries.iter().filter_map(|entry| entry.genuine(plaintext));
    let certain = genuine.map(|metadata| metadata.epoch.0).max().unwrap_or(0);
    let claims = merged.entries.iter().filter_map(Entry::point).map(|(epoch, _)| epoch.0);
    let believed = claims.filter(|claim| *claim <= certain.saturating_add(CLAIMED_AHEAD));
    let highest = believed.max().unwrap_or(certain);
    match replicas.silent().next() {
        None => Epoch(highest),
        Some(_) => Epoch(highest.saturating_add(PASSED_OVER)),
    }
}

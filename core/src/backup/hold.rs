//! Holds: what keeps a backup from being removed while something reads it.
//!
//! A holder says every few seconds that it is still there ([`super::mark::Mark::renew`]), and takes its hold away in the end. One that died
//! cannot. Invariants: a hold counts until it was not written for [`FORGOTTEN_AFTER_MS`], by the clock of the store that has it, read
//! while the store's lock is held; where the store does not tell, it counts for ever; a newer sign of life makes it count again.

use super::blob::ObjectName;
use super::catalog::Entry;
use super::marker::Owner;
use crate::time::Wall;

/// After how long without a sign of life a hold keeps nothing from retention any more: whoever put it is dead, or was held up for ten thousand
/// times as long as its signs of life are apart.
pub const FORGOTTEN_AFTER_MS: i64 = 24 * 60 * 60 * 1000;

/// Something that uses a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Tells it from others.
    pub owner: Owner,
    /// Who it is, for people.
    pub note: String,
    /// How often it gave a sign of life; `None` when its marker cannot be read.
    pub beats: Option<u64>,
    /// When it last did, by the store's clock, where it tells.
    pub written: Option<Wall>,
}

/// The holds of a backup that count. `store` is the time by the store's clock, if that is known.
pub(super) fn counting(entry: &Entry, store: Option<Wall>) -> impl Iterator<Item = &Hold> {
    entry.holds.iter().filter(move |hold| hold.forgotten_since(store).is_none())
}

/// The others, and when they were last written.
pub(super) fn forgotten(
    entry: &Entry,
    store: Option<Wall>,
) -> impl Iterator<Item = (ObjectName, Wall)> {
    entry.holds.iter().filter_map(move |hold| {
        Some((ObjectName::hold(entry.id, hold.owner), hold.forgotten_since(store)?))
    })
}

impl Hold {
    /// When one that does not count any more gave its last sign of life.
    fn forgotten_since(&self, store: Option<Wall>) -> Option<Wall> {
        let (now, at) = (store?, self.written?);
        (now.0.saturating_sub(at.0) > FORGOTTEN_AFTER_MS).then_some(at)
    }
}

//! Which keys each revision changed: an index over the retained versions, for watches and compaction.
//!
//! Invariant: it holds exactly the versions newer than the compacted revision. It is made of the versions when it is first needed, because a
//! state that is only read, or only stored again, never needs it.

use super::key::Key;
use super::tree::{Sorted, Tree};
use crate::api::Revision;
use std::sync::OnceLock;

/// A revision and one key that it changed.
pub(super) type Change = (Revision, Key);

/// The index.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes(OnceLock<Tree<Change, ()>>);

impl Changes {
    /// The index of a store that never had a version.
    pub(super) fn empty() -> Self {
        Changes(OnceLock::from(Tree::default()))
    }

    /// The index, made of `versions` (in any order) if there is none yet.
    pub(super) fn get<I: Iterator<Item = Change>>(
        &self,
        versions: impl FnOnce() -> I,
    ) -> &Tree<Change, ()> {
        self.0.get_or_init(|| sorted(versions().collect()))
    }

    /// As [`Changes::get`], to be changed.
    pub(super) fn get_mut<I: Iterator<Item = Change>>(
        &mut self,
        versions: impl FnOnce() -> I,
    ) -> &mut Tree<Change, ()> {
        self.get(versions);
        self.0.get_mut().expect("it was just made")
    }
}

fn sorted(mut changes: Vec<Change>) -> Tree<Change, ()> {
    changes.sort_unstable();
    let mut sorted = Sorted::default();
    changes.into_iter().for_each(|change| sorted.push(change, ()));
    sorted.finish()
}

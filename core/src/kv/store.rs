//! Every key with its retained versions: the multi-version store under the state.
//!
//! Live keys lie in one ordered map, so reading the newest revision never meets the past; what was superseded or deleted
//! lies in a second one until it is compacted; an index finds what each revision changed. All are persistent: a clone is a
//! frozen view that costs nothing. Invariants: a key changes at most once in a revision; `changes` holds exactly the retained
//! versions newer than `compacted`; of the versions at or before it only a key's newest stays, and only if it is no deletion.
//! Source of the model: etcd v3 (revisions, create and mod revision, version).

use super::changes::{Change, Changes};
use super::hash::StateHash;
use super::key::Key;
use super::tree::{Entries, Sorted, Tree};
use super::unsummed::{Summing, Unsummed};
use crate::api::{Error, KeyRange, KeyValue, LeaseId, RangeEnd, Revision};
use crate::planted::{self, Bug};
use bytes::Bytes;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

/// One version of a key; a deletion when it has no value.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) mod_revision: Revision,
    pub(super) create_revision: Revision,
    pub(super) version: u64,
    pub(super) lease: LeaseId,
    pub(super) value: Option<Arc<[u8]>>,
}

/// All keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
    live: Tree<Key, Stored>,
    past: Tree<(Key, Revision), Stored>,
    changes: Changes,
    bytes: u64,
    hash: StateHash,
}

impl Store {
    /// Live keys.
    pub(super) fn keys(&self) -> u64 {
        self.live.len() as u64
    }

    /// Bytes of live keys and values.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hash over all retained versions.
    pub(super) fn hash(&self) -> StateHash {
        self.hash
    }

    /// The newest version of a live key.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Stored> {
        self.live.get(key)
    }

    /// The live keys of a range, in order.
    pub(super) fn live(&self, range: &KeyRange) -> impl Iterator<Item = (&Key, &Stored)> {
        let rest = self.live.iter_from::<[u8]>(Bound::Included(&range.start));
        let end_too = |key: &Key| {
            planted::is(Bug::RangeEndIncluded)
                && matches!(&range.end, RangeEnd::Before(end) if **end == **key)
        };
        rest.take_while(move |(key, _)| range.contains(key) || end_too(key))
    }

    /// Calls `visit` with every key of a range that lived at `revision`, in order.
    pub(super) fn visit_at<'a>(
        &'a self,
        range: &KeyRange,
        revision: Revision,
        mut visit: impl FnMut(&'a Key, &'a Stored),
    ) {
        let mut live = self.live(range).map(|(key, _)| key).peekable();
        let mut past = self.next_past(Bound::Included(&(Key::new(&range.start), 0)), range);
        loop {
            let key = match (live.peek(), past) {
                (Some(live), Some(past)) => past.min(live),
                (Some(live), None) => live,
                (None, Some(past)) => past,
                (None, None) => return,
            };
            if let Some(stored) = self.at(key, revision) {
                visit(key, stored);
            }
            live.next_if(|live| *live == key);
            if past == Some(key) {
                past = self.next_past(Bound::Excluded(&(key.clone(), Revision::MAX)), range);
            }
        }
    }

    /// The version of a key that was visible at `revision`; `None` where it did not exist.
    pub(super) fn at(&self, key: &Key, revision: Revision) -> Option<&Stored> {
        self.newest_until(key, revision).filter(|stored| stored.value.is_some())
    }

    /// The version that `revision` made of `key`.
    pub(super) fn made_by(&self, key: &Key, revision: Revision) -> Option<&Stored> {
        self.newest_until(key, revision).filter(|stored| stored.mod_revision == revision)
    }

    /// What changed from `from` on, in order of revision and key.
    pub(super) fn changes(&self, from: Bound<&Change>) -> impl Iterator<Item = &Change> + use<'_> {
        let changes = self.changes.get(|| retained(&self.live, &self.past, self.compacted));
        changes.iter_from(from).map(|(change, ())| change)
    }

    /// Makes the index of changes now, rather than when the first write or watch needs it.
    pub(super) fn index_changes(&mut self) {
        self.changes_mut();
    }

    /// The revision that made the change with this number, from 0; the newest one where there are not as many.
    pub(super) fn revision_of_change(&self, number: usize) -> Revision {
        let mut changes = self.changes(Bound::Unbounded);
        changes.nth(number).map_or(self.revision, |(revision, _)| *revision)
    }

    /// Takes all versions out, to be read one by one.
    pub(super) fn take_versions(&mut self) -> Versions {
        self.changes = Changes::empty();
        Versions {
            live: std::mem::take(&mut self.live).into_entries().peekable(),
            past: std::mem::take(&mut self.past).into_entries().peekable(),
        }
    }

    /// Writes a key in revision `at`, which must be the newest or the next; returns the version before.
    pub(super) fn put(
        &mut self,
        key: &Key,
        value: &[u8],
        lease: LeaseId,
        at: Revision,
    ) -> Option<Stored> {
        let (create_revision, version) = match self.live.get(key) {
            Some(old) if planted::is(Bug::VersionNotRaised) => (old.create_revision, old.version),
            Some(old) => (old.create_revision, old.version + 1),
            None => (at, 1),
        };
        let value = Some(value.into());
        let stored = Stored { mod_revision: at, create_revision, version, lease, value };
        self.revision = at;
        self.bytes += size(key, &stored);
        stored.add_to(&mut self.hash, key);
        self.changes_mut().insert((at, key.clone()), ());
        let old = self.live.insert(key.clone(), stored)?;
        self.bytes -= size(key, &old);
        self.past.insert((key.clone(), old.mod_revision), old.clone());
        Some(old)
    }

    /// Deletes a key in revision `at`; returns what it was, `None` (and no new revision) when it was not there.
    pub(super) fn delete(&mut self, key: &Key, at: Revision) -> Option<Stored> {
        // Made of what is there: once the key is gone, its last version would be missing.
        self.index_changes();
        let old = self.live.remove(key)?;
        let deletion =
            Stored { mod_revision: at, create_revision: 0, version: 0, lease: 0, value: None };
        self.revision = at;
        self.bytes -= size(key, &old);
        if !planted::is(Bug::HashIgnoresDeletes) {
            deletion.add_to(&mut self.hash, key);
        }
        self.changes_mut().insert((at, key.clone()), ());
        self.past.insert((key.clone(), old.mod_revision), old.clone());
        self.past.insert((key.clone(), at), deletion);
        Some(old)
    }

    /// Forgets what cannot be seen from `revision` on.
    pub(super) fn compact(&mut self, revision: Revision) -> Result<(), Error> {
        if revision > self.revision {
            return Err(Error::FutureRevision { asked: revision, newest: self.revision });
        }
        if revision < self.compacted {
            return Err(Error::Compacted { asked: revision, oldest: self.compacted });
        }
        self.index_changes();
        self.compacted = revision;
        let revision = revision + u64::from(planted::is(Bug::CompactionOneTooFar));
        while let Some((change, ())) = self.changes_mut().first()
            && change.0 <= revision
        {
            let change = change.clone();
            self.changes_mut().remove(&change);
            self.forget_before(&change.1, revision);
        }
        Ok(())
    }

    /// Forgets everything but the live keys, as a compaction at the newest revision does, in one sweep.
    pub(super) fn forget_history(&mut self) {
        for ((key, _), stored) in self.past.iter_from::<(Key, Revision)>(Bound::Unbounded) {
            self.hash.remove(&canonical(key, stored, &mut [0; HEADER_BYTES]));
        }
        (self.past, self.changes) = (Tree::default(), Changes::empty());
        self.compacted = self.revision;
    }

    fn changes_mut(&mut self) -> &mut Tree<Change, ()> {
        self.changes.get_mut(|| retained(&self.live, &self.past, self.compacted))
    }

    fn newest_until(&self, key: &Key, revision: Revision) -> Option<&Stored> {
        match self.live.get(key) {
            Some(live) if live.mod_revision <= revision => Some(live),
            _ => {
                let ((found, _), stored) = self.past.at_or_before(&(key.clone(), revision))?;
                (found == key).then_some(stored)
            }
        }
    }

    fn next_past(&self, from: Bound<&(Key, Revision)>, range: &KeyRange) -> Option<&Key> {
        let ((key, _), _) = self.past.iter_from(from).next()?;
        range.contains(key).then_some(key)
    }

    fn forget_before(&mut self, key: &Key, revision: Revision) {
        let superseded = self.live.get(key).is_some_and(|live| live.mod_revision <= revision);
        let from = (key.clone(), 0);
        let mut old: Vec<Revision> = self
            .past
            .iter_from(Bound::Included(&from))
            .map(|((past, at), _)| (past, *at))
            .take_while(|(past, at)| *past == key && *at <= revision)
            .map(|(_, at)| at)
            .collect();
        if !superseded && self.at(key, revision).is_some() {
            old.pop();
        }
        for at in old {
            if let Some(stored) = self.past.remove(&(key.clone(), at)) {
                self.hash.remove(&canonical(key, &stored, &mut [0; HEADER_BYTES]));
            }
        }
    }
}

/// All versions of a frozen store in order of key and revision, deletions too. What was passed is not held any more.
#[derive(Clone, Debug)]
pub(super) struct Versions {
    live: Peekable<Entries<Key, Stored>>,
    past: Peekable<Entries<(Key, Revision), Stored>>,
}

impl Versions {
    /// The next version, where its key is wanted.
    pub(super) fn next_if(&mut self, wanted: impl FnOnce(&Key) -> bool) -> Option<(Key, Stored)> {
        let is_past = match (self.live.peek(), self.past.peek()) {
            (Some((live, _)), Some(((past, _), _))) => past <= live,
            (_, past) => past.is_some(),
        };
        if is_past {
            let next = self.past.next_if(|((key, _), _)| wanted(key));
            return next.map(|((key, _), stored)| (key, stored));
        }
        self.live.next_if(|(key, _)| wanted(key))
    }
}

/// A store being read back: versions come in order of key and revision, and the trees are built from the bottom.
#[derive(Debug, Default)]
pub(super) struct Loading {
    live: Sorted<Key, Stored>,
    past: Sorted<(Key, Revision), Stored>,
    bytes: u64,
    summing: Summing,
}

impl Loading {
    /// Nothing yet; its hash is summed up in batches that [`Loading::take_batch`] gives out.
    pub(super) fn summed_elsewhere() -> Self {
        Loading { summing: Summing::elsewhere(), ..Loading::default() }
    }

    /// Versions to be summed up on another thread, if there are enough.
    pub(super) fn take_batch(&mut self) -> Option<Unsummed> {
        self.summing.take_batch()
    }

    /// A batch was summed up.
    pub(super) fn put_back(&mut self, sum: StateHash) {
        self.summing.put_back(sum);
    }

    /// Takes the next version of a store compacted at `compacted`. `newest`: no other version of the key follows.
    pub(super) fn push(&mut self, key: Key, stored: Stored, newest: bool) {
        self.summing.add(&key, &stored);
        if newest && stored.value.is_some() {
            self.bytes += size(&key, &stored);
            self.live.push(key, stored);
        } else {
            self.past.push((key, stored.mod_revision), stored);
        }
    }

    /// The store, once all versions are taken.
    pub(super) fn finish(self, revision: Revision, compacted: Revision) -> Store {
        let Loading { live, past, bytes, summing } = self;
        Store {
            revision,
            compacted,
            live: live.finish(),
            past: past.finish(),
            changes: Changes::default(),
            bytes,
            hash: summing.sum(),
        }
    }
}

impl Stored {
    /// Adds this version of `key` to a hash.
    pub(super) fn add_to(&self, hash: &mut StateHash, key: &Key) {
        hash.add(&canonical(key, self, &mut [0; HEADER_BYTES]));
    }

    /// This version as an answer shows it.
    pub(super) fn to_kv(&self, key: &Key, with_value: bool) -> KeyValue {
        KeyValue {
            key: key.to_bytes(),
            value: if with_value { self.value_bytes().unwrap_or_default() } else { Bytes::new() },
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }

    /// The value, shared.
    pub(super) fn value_bytes(&self) -> Option<Bytes> {
        self.value.clone().map(Bytes::from_owner)
    }

    /// The value's length; 0 for a deletion.
    pub(super) fn value_len(&self) -> usize {
        self.value.as_ref().map_or(0, |value| value.len())
    }
}

/// The versions that a watch may still be shown.
fn retained<'a>(
    live: &'a Tree<Key, Stored>,
    past: &'a Tree<(Key, Revision), Stored>,
    compacted: Revision,
) -> impl Iterator<Item = Change> + use<'a> {
    let live = live.iter_from::<Key>(Bound::Unbounded);
    let live = live.map(|(key, stored)| (stored.mod_revision, key));
    let past = past.iter_from::<(Key, Revision)>(Bound::Unbounded);
    let past = past.map(|((key, revision), _)| (*revision, key));
    let newer = live.chain(past).filter(move |(revision, _)| *revision > compacted);
    newer.map(|(revision, key)| (revision, key.clone()))
}

fn size(key: &Key, stored: &Stored) -> u64 {
    (key.len() + stored.value_len()) as u64
}

const HEADER_BYTES: usize = 42;

/// What the hash sees of a version: `V`, revisions, counter, lease, whether there is a value, the key's length (all little
/// endian), key, value.
fn canonical<'a>(
    key: &'a Key,
    stored: &'a Stored,
    header: &'a mut [u8; HEADER_BYTES],
) -> [&'a [u8]; 3] {
    header[0] = b'V';
    header[1..9].copy_from_slice(&stored.mod_revision.to_le_bytes());
    header[9..17].copy_from_slice(&stored.create_revision.to_le_bytes());
    header[17..25].copy_from_slice(&stored.version.to_le_bytes());
    header[25..33].copy_from_slice(&stored.lease.to_le_bytes());
    header[33] = u8::from(stored.value.is_some());
    header[34..42].copy_from_slice(&(key.len() as u64).to_le_bytes());
    [header, key, stored.value.as_deref().unwrap_or_default()]
}

//! The state rebuilt from items: what loading a snapshot and restoring a backup do.
//!
//! Items come from files and peers, so nothing about them is taken on trust: [`Builder`] accepts exactly the sequences that
//! [`super::items::Items`] can yield (cut anywhere), and a state it finishes keeps every invariant that applying commands relies on.

use super::backups::check_backups;
use super::hash::StateHash;
use super::item::{Item, Meta, Version};
use super::key::Key;
use super::session::{SESSIONS_MAX, check_answers};
use super::state::KvState;
use super::store::{Loading, Stored};
use super::unsummed::Unsummed;
use crate::api::{LeaseId, Revision};
use crate::planted::{self, Bug};
use bytes::Bytes;
use imbl::OrdMap;

/// Revisions, counters and ids stay below this, so that counting on never overflows.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// Why an item does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("item {number} ({what}) does not fit: {why}; the source is damaged, use another")]
pub struct BadItem {
    /// Its place in the sequence, from 0.
    pub number: u64,
    /// Its kind.
    pub what: &'static str,
    /// What is wrong.
    pub why: &'static str,
}

/// A state under construction.
#[derive(Debug, Default)]
pub struct Builder {
    state: KvState,
    number: u64,
    last: Option<Place>,
    /// All versions but the pending one.
    loading: Loading,
    /// The newest version so far; whether another one of its key follows is not known yet.
    pending: Option<(Key, Stored)>,
}

/// Where an item stands in the canonical order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Meta,
    Backups,
    Member(u32, u32),
    Incarnation(u32),
    Lease(LeaseId),
    Session(u64),
    Keys,
}

const LAST_INCARNATION: Place = Place::Incarnation(u32::MAX);

impl Builder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing yet; most of the state hash is summed up in batches that [`Builder::take_batch`] gives out.
    pub fn summed_elsewhere() -> Self {
        Builder { loading: Loading::summed_elsewhere(), ..Builder::default() }
    }

    /// Versions to be summed up on another thread, if there are enough. Every sum goes back to [`Builder::put_back`] before the end.
    pub fn take_batch(&mut self) -> Option<Unsummed> {
        self.loading.take_batch()
    }

    /// A batch was summed up.
    pub fn put_back(&mut self, sum: StateHash) {
        self.loading.put_back(sum);
    }

    /// Takes the next item.
    ///
    /// # Errors
    /// [`BadItem`]; the builder is of no use afterwards.
    pub fn push<B: AsRef<[u8]>>(&mut self, item: Item<B>) -> Result<(), BadItem> {
        let (number, what) = (self.number, kind(&item));
        self.number += 1;
        self.take(item).map_err(|why| BadItem { number, what, why })
    }

    /// The state, once all items are taken.
    ///
    /// # Errors
    /// [`BadItem`] where something is missing at the end.
    pub fn finish(mut self) -> Result<KvState, BadItem> {
        let number = self.number;
        let bad = |why| BadItem { number, what: "the end", why };
        match self.last {
            None => return Err(bad("there is no meta item")),
            Some(last) if last <= LAST_INCARNATION => self.check_incarnations().map_err(bad)?,
            Some(_) => self.settle().map_err(bad)?,
        }
        let Builder { mut state, loading, .. } = self;
        state.store = loading.finish(state.store.revision, state.store.compacted);
        Ok(state)
    }

    fn take<B: AsRef<[u8]>>(&mut self, item: Item<B>) -> Result<(), &'static str> {
        let place = place(&item);
        match (self.last, place) {
            (None, Place::Meta) => {}
            (None, _) => return Err("the first item must be the meta item"),
            (Some(Place::Keys), Place::Keys) => {}
            (Some(last), place) if last < place => {}
            _ => return Err("it is out of order"),
        }
        if place > LAST_INCARNATION && self.last <= Some(LAST_INCARNATION) {
            self.check_incarnations()?;
        }
        self.last = Some(place);
        match item {
            Item::Meta(meta) => self.meta(meta),
            Item::Backups(backups) => {
                check_backups(&backups)?;
                self.state.backups = *backups;
                Ok(())
            }
            Item::Member(info) => {
                self.state.members.load(info);
                Ok(())
            }
            Item::Incarnation { member, incarnation } => {
                self.state.members.remember(member, incarnation);
                Ok(())
            }
            Item::Lease { id, ttl_ms, deadline_ms } => {
                check(id != 0, "lease 0 stands for none")?;
                self.state.leases.set(id, ttl_ms, deadline_ms);
                Ok(())
            }
            Item::Session { id, used_ms, floor, answers } => {
                self.session(id, used_ms, floor, &answers)
            }
            Item::Key { key, versions } => self.key(key.as_ref(), versions),
        }
    }

    fn meta(&mut self, meta: Meta) -> Result<(), &'static str> {
        check(meta.revision <= NUMBER_MAX, "the revision is too high")?;
        check(meta.compacted <= meta.revision, "more is compacted than there is")?;
        let reused = u64::from(planted::is(Bug::RevisionReusedAfterRestart));
        self.state.store.revision = meta.revision.saturating_sub(reused);
        self.state.store.compacted = meta.compacted;
        self.state.log_time_ms = meta.log_time_ms;
        self.state.wall = meta.wall;
        Ok(())
    }

    /// Every member's own incarnation must be remembered.
    fn check_incarnations(&self) -> Result<(), &'static str> {
        let members = &self.state.members;
        let known = |member, incarnation| members.incarnation(member) >= Some(incarnation);
        let all = members.iter().all(|info| known(info.node.member(), info.node.incarnation()));
        check(all, "a member's incarnation was never given")
    }

    fn session<B: AsRef<[u8]>>(
        &mut self,
        id: u64,
        used_ms: u64,
        floor: u64,
        answers: &[(u64, B)],
    ) -> Result<(), &'static str> {
        check(self.state.sessions.len() < SESSIONS_MAX, "there are too many sessions")?;
        check(used_ms <= self.state.log_time_ms, "the session was used in the future")?;
        check(answers.is_sorted_by(|(a, _), (b, _)| a < b), "its answers are out of order")?;
        check(answers.first().is_none_or(|(n, _)| *n >= floor), "it answers below its floor")?;
        check_answers(answers)?;
        // Copied, so that a kept answer does not pin the buffer it was read from.
        let copied = answers.iter().map(|(n, bytes)| (*n, Bytes::copy_from_slice(bytes.as_ref())));
        let answers: OrdMap<u64, Bytes> = copied.collect();
        self.state.sessions.load(id, used_ms, floor, answers);
        Ok(())
    }

    fn key<B: AsRef<[u8]>>(
        &mut self,
        key: &[u8],
        versions: Vec<Version<B>>,
    ) -> Result<(), &'static str> {
        check(!versions.is_empty(), "a key has no version")?;
        let key = Key::new(key);
        match &self.pending {
            Some((last, _)) if *last > key => return Err("keys are out of order"),
            Some((last, _)) if *last < key => self.settle()?,
            _ => {}
        }
        for version in versions {
            self.version(&key, version)?;
        }
        Ok(())
    }

    fn version<B: AsRef<[u8]>>(
        &mut self,
        key: &Key,
        version: Version<B>,
    ) -> Result<(), &'static str> {
        let (revision, compacted) = (self.state.store.revision, self.state.store.compacted);
        check((1..=revision).contains(&version.mod_revision), "a version's revision is not there")?;
        let old = self.pending.take();
        match &version.value {
            None => check_deletion(&version, compacted)?,
            Some(_) => check_value(&version)?,
        }
        match old {
            None => check_first(&version, compacted)?,
            Some((_, old)) => {
                check_next(&old, &version, compacted)?;
                self.loading.push(key.clone(), old, false);
            }
        }
        let stored = Stored {
            mod_revision: version.mod_revision,
            create_revision: version.create_revision,
            version: version.version,
            lease: version.lease,
            value: version.value.map(|value| value.as_ref().into()),
        };
        self.pending = Some((key.clone(), stored));
        Ok(())
    }

    /// The pending version is the newest of its key.
    fn settle(&mut self) -> Result<(), &'static str> {
        let Some((key, stored)) = self.pending.take() else { return Ok(()) };
        if stored.lease != 0 {
            check(self.state.leases.exists(stored.lease), "a live key's lease is not there")?;
            self.state.leases.attach(stored.lease, &key);
        }
        self.loading.push(key, stored, true);
        Ok(())
    }
}

fn check(holds: bool, why: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(why) }
}

fn check_deletion<B>(version: &Version<B>, compacted: Revision) -> Result<(), &'static str> {
    let bare = version.create_revision == 0 && version.version == 0 && version.lease == 0;
    check(bare, "a deletion has more than a revision")?;
    check(version.mod_revision > compacted, "a deletion outlived its compaction")
}

fn check_value<B>(version: &Version<B>) -> Result<(), &'static str> {
    let created = (1..=version.mod_revision).contains(&version.create_revision);
    check(created, "a key was created after it was written")?;
    let writes = version.mod_revision - version.create_revision;
    let counted = version.version >= 1 && version.version - 1 <= writes;
    check(counted, "a key was written more often than there are revisions")?;
    let first = (version.version == 1) == (writes == 0);
    check(first, "a key's first version is the one that creates it")
}

/// The oldest retained version of a key: where nothing is compacted before it, its very first.
fn check_first<B>(version: &Version<B>, compacted: Revision) -> Result<(), &'static str> {
    let created = version.create_revision == version.mod_revision;
    check(created || version.mod_revision <= compacted, "a key's older versions are missing")
}

fn check_next<B>(old: &Stored, new: &Version<B>, compacted: Revision) -> Result<(), &'static str> {
    check(old.mod_revision < new.mod_revision, "versions are out of order")?;
    check(new.mod_revision > compacted, "a compacted version is still there")?;
    match (&old.value, &new.value) {
        (None, None) => Err("a key was deleted twice"),
        (Some(_), None) => Ok(()),
        (None, Some(_)) => {
            let created = new.create_revision == new.mod_revision;
            check(created, "a deleted key goes on as before")
        }
        (Some(_), Some(_)) => {
            let next = new.create_revision == old.create_revision
                && new.version == old.version.saturating_add(1);
            check(next, "a version does not follow from the one before")
        }
    }
}

fn place<B>(item: &Item<B>) -> Place {
    match item {
        Item::Meta(_) => Place::Meta,
        Item::Backups(_) => Place::Backups,
        Item::Member(info) => Place::Member(info.node.member(), info.node.incarnation()),
        Item::Incarnation { member, .. } => Place::Incarnation(*member),
        Item::Lease { id, .. } => Place::Lease(*id),
        Item::Session { id, .. } => Place::Session(*id),
        Item::Key { .. } => Place::Keys,
    }
}

fn kind<B>(item: &Item<B>) -> &'static str {
    match item {
        Item::Meta(_) => "meta",
        Item::Backups(_) => "backups",
        Item::Member(_) => "member",
        Item::Incarnation { .. } => "incarnation",
        Item::Lease { .. } => "lease",
        Item::Session { .. } => "session",
        Item::Key { .. } => "key",
    }
}

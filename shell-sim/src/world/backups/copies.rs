//! The stores to which nodes copy their backups, each with troubles of its own, and what must be true of them.
//!
//! Invariants: a backup of a node is complete in every store that must have it before it is in the primary one; a copy is the
//! backup, and was complete when its `metadata.json` appeared; nodes prune copies by the rules; a good store's catalog shows every copy, and it restores.

use super::Backups;
use super::options::BackupOptions;
use crate::check::backup_commit::Commits;
use crate::check::openers::{Openers, Opens};
use crate::check::{Violation, backup_listing, required_copies, retention_kept};
use crate::model::store::{Answer, Call, Fact, Outage, Store};
use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use crate::world::World;
use raftkv_core::backup::blob::{BlobOp, ObjectName, Role, StoreIndex};
use raftkv_core::backup::bounds::MAX_PARTS;
use raftkv_core::backup::catalog::ReadCatalog;
use raftkv_core::backup::metadata::{Checksum, Signed};
use raftkv_core::backup::read::ReadBounds;
use raftkv_core::backup::restore::Restore;
use raftkv_core::backup::{BackupId, Metadata};
use raftkv_core::node::copies::Copies as CopyPlan;
use raftkv_core::rng::{Rng, Seed};
use std::collections::BTreeSet;

/// All of them.
#[derive(Debug)]
pub(super) struct Copies {
    sites: Vec<Site>,
    /// How many stores, the primary one included, must have a backup before it counts.
    pub(super) required: u8,
    /// Backups that nodes have completed in the primary store, or tried to.
    of_nodes: BTreeSet<BackupId>,
    rng: Rng,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) store: Store,
    commits: Commits,
    openers: Openers,
}

impl Copies {
    pub(super) fn new(options: &BackupOptions, seed: &Seed) -> Self {
        let site = |at: u32| Site {
            store: Store::new(options.copy_store, seed.fork(&format!("copies {at}"))),
            commits: Commits::of_copies(),
            openers: Openers::default(),
        };
        Copies {
            sites: (1..=options.copies).map(site).collect(),
            required: options.required_copies.min(options.copies + 1) as u8,
            of_nodes: BTreeSet::new(),
            rng: seed.fork("copies"),
        }
    }

    pub(super) fn next_wake(&self) -> SimTime {
        self.sites.iter().map(|site| site.store.next_wake()).min().unwrap_or(SimTime::NEVER)
    }

    pub(super) fn heal(&mut self) {
        self.sites.iter_mut().for_each(|site| site.store.heal());
    }

    pub(super) fn stores(&self) -> impl Iterator<Item = &Store> {
        self.sites.iter().map(|site| &site.store)
    }

    pub(super) fn stores_mut(&mut self) -> impl Iterator<Item = &mut Store> {
        self.sites.iter_mut().map(|site| &mut site.store)
    }

    /// Backups that are complete in one of them, there since before this moment, and that nobody has damaged.
    pub(super) fn good(&self, before: SimTime) -> impl Iterator<Item = &Metadata> {
        self.sites.iter().flat_map(move |site| good(&site.commits, &site.store, before))
    }

    /// What really happened in each of them, and what is there.
    pub(super) fn truths(&self) -> impl Iterator<Item = (&Commits, &Store)> {
        self.sites.iter().map(|site| (&site.commits, &site.store))
    }

    /// Whether no listing of any of them is ever stale.
    pub(super) fn list_truly(&self) -> bool {
        self.stores().all(Store::lists_truly)
    }

    /// The next answer of any of them.
    pub(super) fn poll(&mut self, now: SimTime) -> Option<(Call, Answer)> {
        self.sites.iter_mut().find_map(|site| site.store.poll(now))
    }

    /// One of them, about half the times when there are any: trouble strikes there instead.
    pub(super) fn pick(&mut self) -> Option<&mut Site> {
        if self.sites.is_empty() || self.rng.happens(Ppm::percent(50)) {
            return None;
        }
        let at = self.rng.below(self.sites.len() as u64) as usize;
        self.sites.get_mut(at)
    }

    /// An object of one of them.
    pub(super) fn pick_object(&mut self) -> Option<(usize, ObjectName)> {
        if self.sites.is_empty() || self.rng.happens(Ppm::percent(50)) {
            return None;
        }
        let at = self.rng.below(self.sites.len() as u64) as usize;
        let objects = self.sites[at].store.bucket().objects().map(|(object, _)| *object);
        let objects: Vec<_> = objects.filter(|object| !object.is_lock()).collect();
        (!objects.is_empty()).then(|| (at, *self.rng.pick(&objects)))
    }

    pub(super) fn site(&mut self, at: usize) -> &mut Site {
        &mut self.sites[at]
    }

    /// Whether one of them has had something else in the place of a backup since before this moment.
    pub(super) fn has_spoiled(&self, at: usize, id: BackupId, before: SimTime) -> bool {
        let (commits, store) = self.truth(at);
        let bucket = store.bucket();
        let Some(truth) = commits.metadata(id) else { return false };
        let data = bucket.get(ObjectName::data(id));
        let metadata = bucket.get(ObjectName::metadata(id));
        let is_whole = data.is_some_and(|data| Checksum::of(data) == truth.checksum)
            && metadata
                .is_some_and(|said| Signed::parse(said).is_ok_and(|it| it.claims() == truth));
        bucket.was_tampered(id, before) && !bucket.is_mended(id) && !is_whole
    }

    /// What really happened in one of them, and what is there.
    pub(super) fn truth(&self, at: usize) -> (&Commits, &Store) {
        (&self.sites[at].commits, &self.sites[at].store)
    }

    /// Which keys open what one of them has.
    pub(super) fn openers(&self, at: usize) -> &Openers {
        &self.sites[at].openers
    }
}

/// Backups that are complete in a store, there since before this moment, and that nobody has damaged.
pub(super) fn good<'a>(
    commits: &'a Commits,
    store: &'a Store,
    before: SimTime,
) -> impl Iterator<Item = &'a Metadata> {
    let bucket = store.bucket();
    let is_there = move |metadata: &&Metadata| {
        let written = bucket.written(ObjectName::metadata(metadata.id));
        !bucket.is_tampered(metadata.id) && written.is_some_and(|written| written < before)
    };
    commits.complete().filter(is_there)
}

impl Backups {
    /// Where nodes copy to, if they do.
    pub(in crate::world) fn node_copies(&mut self) -> Option<CopyPlan> {
        let count = self.copies.sites.len();
        let access = self.console.keys().access();
        let names = (1..=count).map(|at| format!("copies-{at}")).collect();
        (self.nodes_are_able && count > 0).then_some(CopyPlan {
            names,
            access,
            max_parts: MAX_PARTS,
        })
    }

    /// A node asks a store for something.
    pub(in crate::world) fn submit(
        &mut self,
        now: SimTime,
        store: StoreIndex,
        call: Call,
        op: BlobOp,
    ) {
        if let (StoreIndex::PRIMARY, BlobOp::Put { object, .. }) = (store, &op)
            && object.role == Role::Metadata
        {
            self.copies.of_nodes.insert(object.backup);
        }
        self.shelf().submit(now, store, call, op);
    }

    /// The process that asked is gone.
    pub(in crate::world) fn abandon(&mut self, session: u64) {
        self.shelf().abandon(session);
    }

    /// A backup became complete in the primary store.
    pub(super) fn judge_required(&self, id: BackupId) -> Result<(), Violation> {
        if !self.copies.of_nodes.contains(&id) {
            return Ok(());
        }
        let required = self.copies.sites.iter().take(usize::from(self.copies.required) - 1);
        let has = |site: &Site| site.commits.is_complete(id) || site.store.bucket().is_tampered(id);
        required_copies::check(id, required.map(has))
    }
}

impl World {
    /// What has happened in the stores with copies.
    pub(super) fn note_copies(&mut self) -> Result<(), Violation> {
        for at in 0..self.backups.copies.sites.len() {
            while let Some(fact) = self.backups.copies.sites[at].store.poll_fact() {
                self.note_copy(at, &fact)?;
            }
        }
        Ok(())
    }

    fn note_copy(&mut self, at: usize, fact: &Fact) -> Result<(), Violation> {
        let Backups { copies, commits, canaries, .. } = &mut self.backups;
        let site = &mut copies.sites[at];
        site.commits.fact(fact, site.store.bucket())?;
        site.openers.fact(self.now, fact)?;
        let (what, object) = match fact {
            Fact::Written(_, bytes) => return canaries.seen("a store with copies", bytes),
            Fact::Begun(object) => ("upload", object),
            Fact::Removed(object) => ("removed", object),
            Fact::Appeared(object) => ("appeared", object),
        };
        if what == "appeared" && object.role == Role::Metadata {
            let copy = site.commits.metadata(object.backup);
            let is_copied = commits.was_complete(object.backup);
            if is_copied && !site.store.bucket().is_tampered(object.backup) {
                required_copies::check_same(copy, commits.metadata(object.backup))?;
            }
            self.sometimes(match is_copied {
                true => "a backup was copied to another store",
                false => "a backup was complete where it had to be, before it counted",
            });
        }
        self.trace.line(self.now, "copies", what, format_args!("{object} in {}", at + 1));
        Ok(())
    }

    /// A node asks a store with copies for something: what it deletes there is judged when it asks.
    pub(in crate::world) fn judge_pruning_copies(
        &mut self,
        slot: usize,
        store: StoreIndex,
        op: &BlobOp,
    ) -> Result<(), Violation> {
        let BlobOp::Delete { object: ObjectName { backup, role: Role::Metadata } } = op else {
            return Ok(());
        };
        let Backups { copies, janitor, .. } = &self.backups;
        let site = &copies.sites[usize::from(store.0) - 1];
        // What it wrote itself it may take back, and what is damaged it may replace.
        let is_own = self.slots[slot].uploads.contains(backup);
        if is_own || !site.commits.is_complete(*backup) || site.store.bucket().is_tampered(*backup)
        {
            return Ok(());
        }
        let min = janitor.rules().min_backups.max(1) as usize;
        retention_kept::check(*backup, &site.commits, min)?;
        self.backups.judge_pin(store, *backup)?;
        self.sometimes("a node's retention removes a copy");
        Ok(())
    }

    /// An outage in one of these stores.
    pub(super) fn strike_copies(&mut self, outage: Outage, until: SimTime) -> bool {
        let Some(site) = self.backups.copies.pick() else { return false };
        site.store.begin_outage(outage, until);
        true
    }

    /// The last look at these stores: the catalog is right, and one of the copies restores to what it says.
    pub(super) fn sweep_copies(&mut self) -> Result<(), Violation> {
        let keys = self.backups.console.keys().access();
        for at in 0..self.backups.copies.sites.len() {
            let now = self.now;
            let mut machine = ReadCatalog::new(keys.keys.clone());
            let site = &mut self.backups.copies.sites[at];
            super::sweep::look_with(&mut site.store, now, &mut machine);
            let Some(Ok(catalog)) = machine.outcome() else {
                return Err(Violation::new("backup listing", "a good store cannot be listed"));
            };
            backup_listing::check_fresh(catalog, &site.commits, site.store.bucket())?;
            let whole = site.commits.complete().map(|metadata| metadata.id);
            let whole: Vec<_> = whole.filter(|id| !site.store.bucket().is_tampered(*id)).collect();
            if whole.is_empty() {
                continue;
            }
            let id = *self.backups.copies.rng.pick(&whole);
            let site = &mut self.backups.copies.sites[at];
            let mut machine = Restore::new(id, keys.clone(), ReadBounds::default());
            super::sweep::look_with(&mut site.store, now, &mut machine);
            let opens = |it| site.openers.opens(&keys, it, SimTime::NEVER) == Opens::Always;
            let has_key = site.commits.metadata(id).is_some_and(opens);
            required_copies::check_restores(id, has_key, machine.take())?;
            self.sometimes("a copy was restored in memory");
        }
        Ok(())
    }
}

//! After each run that this node has made, the stores that have copies of backups are brought up to date; and when it starts, if the
//! newest run was its own: what it was copying when it ended would otherwise wait for the next one.
//!
//! Invariant: only while no newer run is known, wherever it is made: that one needs the locks, and whoever made it keeps the copies.

use super::Node;
use crate::api::{Backups, CopyReport, Ended};
use crate::backup::BackupId;
use crate::backup::blob::{BlobDone, BlobError, StoreIndex};
use crate::backup::lock;
use crate::backup::making::Order;
use crate::backup::marker::Owner;
use crate::backup::prune::Pruning;
use crate::backup::read::Access;
use crate::backup::tend::{self, News, Tend};
use crate::ids::{Identity, OpId};
use crate::log::Level;
use crate::time::{Now, Wall};
use std::collections::BTreeMap;

/// Where copies of backups are kept.
#[derive(Clone, Debug)]
pub struct Copies {
    /// What the stores are called; the first of them is the one after the primary store.
    pub names: Vec<String>,
    /// What tells genuine backups.
    pub access: Access,
    /// How many parts of an object each of these stores takes.
    pub max_parts: u32,
}

/// What this node copies.
#[derive(Debug)]
pub(super) struct Copier {
    copies: Option<Copies>,
    /// The number of the run that it follows, and the machine.
    tend: Option<(u64, Tend)>,
    /// What to do when that one has stopped.
    next: Option<(u64, tend::Order)>,
    next_op: u64,
    next_lock_op: u64,
    /// The last entry that the log had when this life of the node began.
    born: u64,
    /// The newest run that was followed in this life.
    followed: u64,
    /// What came of each store's last turn.
    reports: BTreeMap<StoreIndex, CopyReport>,
}

impl Copier {
    /// A node that copies nothing until it is told what. Its log ends with entry `born`.
    pub(super) fn new(born: u64) -> Self {
        // Operations have numbers of their own, as those of the locks have, and go on from one run to the next.
        Copier {
            copies: None,
            tend: None,
            next: None,
            next_op: 1 << 61,
            next_lock_op: 1 << 62,
            born,
            followed: 0,
            reports: BTreeMap::new(),
        }
    }

    /// The last entry that the log had when this life of the node began.
    pub(super) fn born(&self) -> u64 {
        self.born
    }

    /// Takes the result of an operation, if it is about copies; says whether it was.
    pub(super) fn take(&mut self, op: OpId, result: &Result<BlobDone, BlobError>) -> bool {
        self.tend.as_mut().is_some_and(|(_, tend)| tend.take(op, result))
    }

    /// Notes what came of a store.
    fn note(&mut self, news: &News, name: &str, at: Wall) {
        let News { store, behind, what, .. } = news.clone();
        self.reports.insert(store, CopyReport { store: name.to_owned(), at, behind, what });
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Now) {
        if let Some((_, tend)) = &mut self.tend {
            tend.tick(now);
        }
    }
}

impl Node {
    /// Keeps copies of all backups in further stores.
    pub fn copy_backups(&mut self, copies: Copies) {
        self.copier.copies = Some(copies);
    }

    /// A run of this node is over; only after one that ended well may older copies go.
    pub(super) fn begin_copies(&mut self, number: u64, order: &Order, is_good: bool) {
        self.plan_copies(number, order.id, order.older.pruning().filter(|_| is_good).cloned());
        self.drive_copies();
    }

    /// Copying is next, in the name of this backup.
    fn plan_copies(&mut self, number: u64, id: BackupId, pruning: Option<Pruning>) {
        let Some(Copies { names, access, max_parts }) = self.copier.copies.clone() else { return };
        let Identity { node, cluster, .. } = self.identity;
        let note = format!("copies of backups, by node {node} of cluster {cluster}");
        let order = tend::Order {
            stores: StoreIndex::first(1 + names.len() as u8).skip(1).collect(),
            marker: lock::marker(Owner::of(id), &note, self.now.wall),
            access,
            max_parts,
            pruning,
        };
        self.copier.followed = number;
        self.copier.next = Some((number, order));
    }

    /// After a start: goes on with what followed the newest run, if that was this node's, and ended before anybody went on with it.
    fn resume_copies(&mut self) {
        let Backups { run: None, last: Some(Ended { number, id, node, .. }), .. } =
            self.state.backups()
        else {
            return;
        };
        let (number, id) = (*number, *id);
        let is_ours = *node == self.identity.node && number <= self.copier.born;
        if is_ours && number > self.copier.followed && self.consensus.leader().is_some() {
            self.plan_copies(number, id, None);
        }
    }

    /// What came of each store's last turn, as long as this node keeps the copies.
    pub(super) fn copy_reports(&self) -> Vec<CopyReport> {
        let last = self.state.backups().last.as_ref();
        let keeps = last.is_none_or(|last| last.node == self.identity.node);
        self.copier.reports.values().filter(|_| keeps).cloned().collect()
    }

    /// Gives out what is to be done.
    pub(super) fn drive_copies(&mut self) {
        self.resume_copies();
        let Backups { run, last, .. } = self.state.backups();
        let newest = run.as_ref().map(|run| run.number).or(last.as_ref().map(|last| last.number));
        let is_wanted = |number: u64| newest.is_none_or(|newest| newest <= number);
        if self.copier.tend.is_none()
            && let Some((number, order)) =
                self.copier.next.take_if(|(number, _)| is_wanted(*number))
        {
            let Copier { next_op, next_lock_op, .. } = self.copier;
            self.copier.tend = Some((number, Tend::new(order, (next_op, next_lock_op), self.now)));
        }
        let Some((number, mut tend)) = self.copier.tend.take() else { return };
        if !is_wanted(number) || self.copier.next.is_some() {
            tend.stop();
        }
        while let Some(action) = tend.poll_action() {
            self.give_out(action);
        }
        while let Some(news) = tend.take_news() {
            let names = self.copier.copies.as_ref().map(|copies| &copies.names);
            let at = usize::from(news.store.0).saturating_sub(1);
            let name = names.and_then(|names| names.get(at)).map_or("?", String::as_str).to_owned();
            let line = format!("copies of backups in {name}: {}", news.what);
            self.copier.note(&news, &name, self.now.wall);
            self.log(if news.failed { Level::Warn } else { Level::Info }, line);
        }
        match tend.is_over() {
            true => (self.copier.next_op, self.copier.next_lock_op) = tend.next_ops(),
            false => self.copier.tend = Some((number, tend)),
        }
    }
}

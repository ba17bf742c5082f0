//! After each run that this node has made, the stores that have copies of backups are brought up to date; and when it starts, if the
//! newest backup is one of its own: what it was copying when it ended would otherwise wait for the next run.
//!
//! Invariant: only while no other run is under way, wherever it is made: that one may need the locks.

use super::Node;
use crate::api::{CopyReport, Ended};
use crate::backup::blob::{BlobDone, BlobError, StoreIndex};
use crate::backup::lock;
use crate::backup::making::Order;
use crate::backup::marker::Owner;
use crate::backup::prune::Pruning;
use crate::backup::tend::{self, News, Tend};
use crate::backup::{BackupId, KeyRing};
use crate::ids::{Identity, OpId};
use crate::log::Level;
use crate::time::{Now, Wall};
use std::collections::BTreeMap;

/// Where copies of backups are kept.
#[derive(Clone, Debug)]
pub struct Copies {
    /// What the stores are called; the first of them is the one after the primary store.
    pub names: Vec<String>,
    /// Keys that tell genuine backups.
    pub keys: KeyRing,
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
    /// Since the start it was not looked whether something is left from before.
    is_fresh: bool,
    /// What came of each store's last turn.
    reports: BTreeMap<StoreIndex, CopyReport>,
}

impl Copier {
    /// A node that copies nothing until it is told what.
    pub(super) fn new() -> Self {
        // Operations have numbers of their own, as those of the locks have, and go on from one run to the next.
        Copier {
            copies: None,
            tend: None,
            next: None,
            next_op: 1 << 61,
            next_lock_op: 1 << 62,
            is_fresh: true,
            reports: BTreeMap::new(),
        }
    }

    /// Takes the result of an operation, if it is about copies; says whether it was.
    pub(super) fn take(&mut self, op: OpId, result: &Result<BlobDone, BlobError>) -> bool {
        self.tend.as_mut().is_some_and(|(_, tend)| tend.take(op, result))
    }

    /// What came of each store's last turn.
    pub(super) fn reports(&self) -> Vec<CopyReport> {
        self.reports.values().cloned().collect()
    }

    /// Notes what came of a store. That pruning went well after it says nothing new.
    fn note(&mut self, news: &News, name: &str, at: Wall) {
        let News { store, pruning, failed, what } = news;
        if *failed || !*pruning {
            let report =
                CopyReport { store: name.to_owned(), at, failed: *failed, what: what.clone() };
            self.reports.insert(*store, report);
        }
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
        self.plan_copies(number, order.id, order.pruning.clone().filter(|_| is_good));
        self.drive_copies();
    }

    /// Copying is next, in the name of this backup.
    fn plan_copies(&mut self, number: u64, id: BackupId, pruning: Option<Pruning>) {
        let Some(Copies { names, keys }) = self.copier.copies.clone() else { return };
        let Identity { node, cluster, .. } = self.identity;
        let note = format!("copies of backups, by node {node} of cluster {cluster}");
        let order = tend::Order {
            stores: StoreIndex::first(1 + names.len() as u8).skip(1).collect(),
            marker: lock::marker(Owner::of(id), &note, self.now.wall),
            keys,
            pruning,
        };
        self.copier.next = Some((number, order));
    }

    /// After a start, once the cluster is known: goes on with what followed the newest backup, if that is this node's.
    fn resume_copies(&mut self) {
        if !self.copier.is_fresh || self.consensus.leader().is_none() {
            return;
        }
        self.copier.is_fresh = false;
        let here = self.identity.node.member();
        if let Some(Ended { number, id, node, .. }) = self.state.backups().complete
            && node.member() == here
        {
            self.plan_copies(number, id, None);
        }
    }

    /// Gives out what is to be done.
    pub(super) fn drive_copies(&mut self) {
        self.resume_copies();
        let run = self.state.backups().run.as_ref().map(|run| run.number);
        let is_wanted = |number: u64| run.is_none_or(|run| run == number);
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

//! After each run that this node has made, the stores that have copies of backups are brought up to date.
//!
//! Invariant: only while no other run is under way, wherever it is made: that one may need the locks.

use super::Node;
use crate::backup::KeyRing;
use crate::backup::blob::{BlobDone, BlobError, StoreIndex};
use crate::backup::create::Source;
use crate::backup::lock;
use crate::backup::making::Order;
use crate::backup::marker::Owner;
use crate::backup::tend::{self, News, Tend};
use crate::ids::OpId;
use crate::log::Level;
use crate::time::Now;

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
}

impl Copier {
    /// A node that copies nothing until it is told what.
    pub(super) fn new() -> Self {
        // Operations have numbers of their own, as those of the locks have, and go on from one run to the next.
        Copier { copies: None, tend: None, next: None, next_op: 1 << 61, next_lock_op: 1 << 62 }
    }

    /// Takes the result of an operation, if it is about copies; says whether it was.
    pub(super) fn take(&mut self, op: OpId, result: &Result<BlobDone, BlobError>) -> bool {
        self.tend.as_mut().is_some_and(|(_, tend)| tend.take(op, result))
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
        let Some(Copies { names, keys }) = self.copier.copies.clone() else { return };
        let Source { node, cluster, .. } = &order.source;
        let note = format!("copies of backups, by node {node} of cluster {cluster}");
        let order = tend::Order {
            stores: StoreIndex::first(1 + names.len() as u8).skip(1).collect(),
            marker: lock::marker(Owner::of(order.id), &note, self.now.wall),
            keys,
            pruning: order.pruning.clone().filter(|_| is_good),
        };
        self.copier.next = Some((number, order));
        self.drive_copies();
    }

    /// Gives out what is to be done.
    pub(super) fn drive_copies(&mut self) {
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
        while let Some(News { store, failed, what }) = tend.take_news() {
            let names = self.copier.copies.as_ref().map(|copies| &copies.names);
            let at = usize::from(store.0).saturating_sub(1);
            let name = names.and_then(|names| names.get(at)).map_or("?", String::as_str);
            let line = format!("copies of backups in {name}: {what}");
            self.log(if failed { Level::Warn } else { Level::Info }, line);
        }
        match tend.is_over() {
            true => (self.copier.next_op, self.copier.next_lock_op) = tend.next_ops(),
            false => self.copier.tend = Some((number, tend)),
        }
    }
}

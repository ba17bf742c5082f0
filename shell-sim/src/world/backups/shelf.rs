//! Every store, as the operator's command line reaches them.

use super::copies::Copies;
use crate::model::store::{Call, Store};
use crate::time::SimTime;
use raftkv_core::backup::blob::{BlobOp, ObjectName, StoreIndex};

/// All of them.
#[derive(Debug)]
pub(super) struct Shelf<'a> {
    pub(super) primary: &'a mut Store,
    pub(super) copies: &'a mut Copies,
}

impl Shelf<'_> {
    /// Asks one of them for something.
    pub(super) fn submit(&mut self, now: SimTime, store: StoreIndex, call: Call, op: BlobOp) {
        match usize::from(store.0).checked_sub(1) {
            None => self.primary.submit(now, call, op),
            Some(at) => self.copies.site(at).store.submit(now, call, op),
        }
    }

    /// An object passes for a day and a bit older from now on. Says whether it is there.
    pub(super) fn age(&mut self, store: StoreIndex, object: ObjectName) -> bool {
        match usize::from(store.0).checked_sub(1) {
            None => self.primary.age(object),
            Some(at) => self.copies.site(at).store.age(object),
        }
    }

    /// The process that asked is gone.
    pub(super) fn abandon(&mut self, session: u64) {
        self.primary.abandon(session);
        self.copies.stores_mut().for_each(|store| store.abandon(session));
    }

    /// How often each of them has refused something.
    pub(super) fn refusals(&self) -> Vec<u64> {
        let all = std::iter::once(&*self.primary).chain(self.copies.stores());
        all.map(|store| store.counts().refusals()).collect()
    }

    /// How many there are.
    pub(super) fn count(&self) -> u8 {
        1 + self.copies.stores().count() as u8
    }
}

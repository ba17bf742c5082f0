//! The state read as items, in the one canonical order, while the store goes on changing.
//!
//! [`Items`] owns a frozen view, so it can be kept for as long as a slow reader takes; it lets go of keys as it passes them. Where a
//! key's versions are cut into several items follows from the state alone: equal states yield equal sequences.

use super::item::{Item, Meta, Version};
use super::state::KvState;
use super::store::{Stored, Versions};
use crate::api::{Backups, LeaseId};
use crate::planted::{self, Bug};

/// An item of a key ends with the version that takes it to this many bytes.
const ITEM_BYTES: usize = 256 << 10;
/// What a version takes in an item beside its value, at most about.
const VERSION_BYTES: usize = 32;

/// All items of one state. Each step is O(log n) at worst, and nearly free on average.
#[derive(Clone, Debug)]
pub struct Items {
    /// All but the versions.
    state: KvState,
    versions: Versions,
    next: Next,
}

/// What comes next, each after the one named.
#[derive(Clone, Copy, Debug)]
enum Next {
    Meta,
    Backups,
    Member(Option<(u32, u32)>),
    Incarnation(Option<u32>),
    Lease(Option<LeaseId>),
    Session(Option<u64>),
    Key,
}

impl KvState {
    /// The state as items, from a frozen view.
    pub fn items(&self) -> Items {
        let mut state = self.clone();
        let versions = state.store.take_versions();
        Items { state, versions, next: Next::Meta }
    }
}

impl Iterator for Items {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            let state = &self.state;
            let (item, next) = match self.next {
                Next::Meta => (Some(meta(state)), Next::Backups),
                Next::Backups => (backups(state), Next::Member(None)),
                Next::Member(after) => match state.members.after(after) {
                    Some(info) => {
                        let at = (info.node.member(), info.node.incarnation());
                        (Some(Item::Member(info.clone())), Next::Member(Some(at)))
                    }
                    None => (None, Next::Incarnation(None)),
                },
                Next::Incarnation(after)
                    if after.is_some() && planted::is(Bug::IncarnationsNotInSnapshot) =>
                {
                    (None, Next::Lease(None))
                }
                Next::Incarnation(after) => match state.members.incarnation_after(after) {
                    Some((member, incarnation)) => {
                        let item = Item::Incarnation { member, incarnation };
                        (Some(item), Next::Incarnation(Some(member)))
                    }
                    None => (None, Next::Lease(None)),
                },
                Next::Lease(after) => match state.leases.after(after) {
                    Some((id, lease)) => {
                        let (ttl_ms, deadline_ms) = (lease.ttl_ms, lease.deadline_ms);
                        (Some(Item::Lease { id, ttl_ms, deadline_ms }), Next::Lease(Some(id)))
                    }
                    None => (None, Next::Session(None)),
                },
                Next::Session(_) if planted::is(Bug::SessionsNotInSnapshot) => (None, Next::Key),
                Next::Session(after) => match state.sessions.after(after) {
                    Some((id, session)) => {
                        let (used_ms, floor) = (session.used_ms, session.floor);
                        let answers =
                            session.answers.iter().map(|(n, bytes)| (*n, bytes.clone())).collect();
                        let item = Item::Session { id, used_ms, floor, answers };
                        (Some(item), Next::Session(Some(id)))
                    }
                    None => (None, Next::Key),
                },
                Next::Key => return self.key_item(),
            };
            self.next = next;
            if item.is_some() {
                return item;
            }
        }
    }
}

impl Items {
    fn key_item(&mut self) -> Option<Item> {
        let (key, stored) = self.versions.next_if(|_| true)?;
        let mut bytes = VERSION_BYTES + stored.value_len();
        let mut versions = vec![version(&stored)];
        while bytes < ITEM_BYTES
            && let Some((_, stored)) = self.versions.next_if(|next| *next == key)
        {
            bytes += VERSION_BYTES + stored.value_len();
            versions.push(version(&stored));
        }
        Some(Item::Key { key: key.to_bytes(), versions })
    }
}

fn meta(state: &KvState) -> Item {
    Item::Meta(Meta {
        revision: state.revision(),
        compacted: state.compacted(),
        log_time_ms: state.log_time_ms,
        wall: state.wall,
    })
}

/// Nothing where there never was a schedule or a run, so that such states keep the snapshots they always had.
fn backups(state: &KvState) -> Option<Item> {
    let known = state.backups != Backups::default();
    known.then(|| Item::Backups(Box::new(state.backups.clone())))
}

fn version(stored: &Stored) -> Version {
    Version {
        mod_revision: stored.mod_revision,
        create_revision: stored.create_revision,
        version: stored.version,
        lease: stored.lease,
        value: stored.value_bytes(),
    }
}

//! Leases: keys that go when their lease ends, by log time.
//!
//! Log time is the leader's monotonic clock as written into the log, so every replica ends a lease at the same entry, and none
//! ends early because of a calendar or a change of leader. Invariants: `deadlines` mirrors `leases`; `attached` holds exactly
//! the live keys with a lease, and a live key names only a lease that exists.

use super::hash::StateHash;
use super::key::Key;
use crate::api::{LeaseId, LeaseInfo};
use crate::planted::{self, Bug};
use imbl::{OrdMap, OrdSet};
use std::ops::Bound;

/// One lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) ttl_ms: u64,
    pub(super) deadline_ms: u64,
    keys: u64,
}

/// All leases.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    leases: OrdMap<LeaseId, Lease>,
    deadlines: OrdSet<(u64, LeaseId)>,
    attached: OrdSet<(LeaseId, Key)>,
    hash: StateHash,
}

impl Leases {
    /// Hash over all leases.
    pub(super) fn hash(&self) -> StateHash {
        self.hash
    }

    /// Whether there is such a lease.
    pub(super) fn exists(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// The first lease after the one of this id.
    pub(super) fn after(&self, after: Option<LeaseId>) -> Option<(LeaseId, &Lease)> {
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.leases.range::<_, LeaseId>((from, Bound::Unbounded));
        rest.next().map(|(id, lease)| (*id, lease))
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    /// Every lease as clients see it.
    pub(super) fn infos(&self, log_time_ms: u64) -> Vec<LeaseInfo> {
        let info = |(id, lease): (&LeaseId, &Lease)| LeaseInfo {
            id: *id,
            ttl_ms: lease.ttl_ms,
            remaining_ms: lease.deadline_ms.saturating_sub(log_time_ms),
            keys: lease.keys,
        };
        self.leases.iter().map(info).collect()
    }

    /// When the first lease ends.
    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.get_min().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// A lease that has ended at this log time.
    pub(super) fn due(&self, log_time_ms: u64) -> Option<LeaseId> {
        let early_ms = if planted::is(Bug::LeaseEndsEarly) { 500 } else { 0 };
        let is_due = |deadline: u64| deadline <= log_time_ms + early_ms;
        self.deadlines.get_min().filter(|(deadline, _)| is_due(*deadline)).map(|(_, id)| *id)
    }

    /// The first id that is free, counting up from `from`.
    pub(super) fn free_id(&self, from: LeaseId) -> LeaseId {
        let mut id = from.max(1);
        while self.exists(id) {
            id = id.checked_add(1).unwrap_or(1);
        }
        id
    }

    /// Starts a lease, or starts its time anew.
    pub(super) fn set(&mut self, id: LeaseId, ttl_ms: u64, deadline_ms: u64) {
        let keys = self.leases.get(&id).map_or(0, |lease| lease.keys);
        self.forget(id);
        self.hash.add(&[&canonical(id, ttl_ms, deadline_ms)]);
        self.deadlines.insert((deadline_ms, id));
        self.leases.insert(id, Lease { ttl_ms, deadline_ms, keys });
    }

    /// Starts a lease's time to live anew; its length, or `None` where there is no such lease.
    pub(super) fn keep_alive(&mut self, id: LeaseId, log_time_ms: u64) -> Option<u64> {
        let ttl_ms = self.leases.get(&id)?.ttl_ms;
        if !planted::is(Bug::KeepAliveIgnored) {
            self.set(id, ttl_ms, log_time_ms.saturating_add(ttl_ms));
        }
        Some(ttl_ms)
    }

    /// Ends a lease; the keys that must go with it, in order. They stay attached until each is detached.
    pub(super) fn end(&mut self, id: LeaseId) -> Vec<Key> {
        self.forget(id);
        self.attached
            .range::<_, (LeaseId, Key)>((Bound::Included(&(id, Key::EMPTY)), Bound::Unbounded))
            .take_while(|(lease, _)| *lease == id)
            .map(|(_, key)| key.clone())
            .collect()
    }

    /// A key now belongs to this lease; 0 means none.
    pub(super) fn attach(&mut self, id: LeaseId, key: &Key) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys += u64::from(self.attached.insert((id, key.clone())).is_none());
        }
    }

    /// A key no longer belongs to this lease; 0 means none.
    pub(super) fn detach(&mut self, id: LeaseId, key: &Key) {
        if id != 0
            && self.attached.remove(&(id, key.clone())).is_some()
            && let Some(lease) = self.leases.get_mut(&id)
        {
            lease.keys -= 1;
        }
    }

    fn forget(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.remove(&id) {
            self.deadlines.remove(&(lease.deadline_ms, id));
            self.hash.remove(&[&canonical(id, lease.ttl_ms, lease.deadline_ms)]);
        }
    }
}

/// What the hash sees of a lease: `L`, id, time to live, deadline, little endian.
fn canonical(id: LeaseId, ttl_ms: u64, deadline_ms: u64) -> [u8; 25] {
    let mut bytes = [b'L'; 25];
    bytes[1..9].copy_from_slice(&id.to_le_bytes());
    bytes[9..17].copy_from_slice(&ttl_ms.to_le_bytes());
    bytes[17..25].copy_from_slice(&deadline_ms.to_le_bytes());
    bytes
}

//! The state as a sequence of items in one canonical order: what snapshots hold and what the state hash sums up.

use crate::api::{Backups, LeaseId, MemberInfo, Revision};
use crate::time::Wall;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One piece of the state. A snapshot holds `Meta` first, then backups, members, leases, sessions and keys, each in ascending order.
///
/// Keys, values and answers are `B`: of their own, or `&[u8]` where they lie in what is being decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item<B = Bytes> {
    /// What there is exactly one of.
    Meta(Meta),
    /// A member.
    Member(MemberInfo),
    /// The highest incarnation ever given to a member number, present or removed.
    Incarnation {
        /// The member's number.
        member: u32,
        /// The incarnation.
        incarnation: u32,
    },
    /// A lease.
    Lease {
        /// Its id.
        id: LeaseId,
        /// Time to live in milliseconds.
        ttl_ms: u64,
        /// Log time at which it ends.
        deadline_ms: u64,
    },
    /// A client session.
    Session {
        /// Its id: the index of the entry that opened it.
        id: u64,
        /// Log time of its last use.
        used_ms: u64,
        /// Numbers below this are forgotten.
        floor: u64,
        /// Kept answers by number: postcard of `Result<WriteResult, Error>`.
        answers: Vec<(u64, B)>,
    },
    /// A key with every version that is not compacted, oldest first. A version with `value` `None` is a deletion.
    Key {
        /// The key.
        key: B,
        /// Its versions.
        versions: Vec<Version<B>>,
    },
    /// What is known about backups that the cluster makes, where it is anything. Comes right behind `Meta`, in snapshots of version 2.
    Backups(Box<Backups>),
}

/// What there is exactly one of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The newest revision.
    pub revision: Revision,
    /// The oldest readable revision.
    pub compacted: Revision,
    /// Log time in milliseconds.
    pub log_time_ms: u64,
    /// The newest calendar stamp.
    pub wall: Wall,
}

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version<B = Bytes> {
    /// The revision that made it.
    pub mod_revision: Revision,
    /// The revision at which the key came into being; 0 for a deletion.
    pub create_revision: Revision,
    /// Writes since then; 0 for a deletion.
    pub version: u64,
    /// The lease, or 0.
    pub lease: LeaseId,
    /// The value; `None` marks a deletion.
    pub value: Option<B>,
}

impl Item<&[u8]> {
    /// With bytes of its own.
    pub fn into_owned(self) -> Item {
        let owned = Bytes::copy_from_slice;
        match self {
            Item::Meta(meta) => Item::Meta(meta),
            Item::Member(info) => Item::Member(info),
            Item::Incarnation { member, incarnation } => Item::Incarnation { member, incarnation },
            Item::Lease { id, ttl_ms, deadline_ms } => Item::Lease { id, ttl_ms, deadline_ms },
            Item::Session { id, used_ms, floor, answers } => {
                let answers = answers.into_iter().map(|(n, bytes)| (n, owned(bytes))).collect();
                Item::Session { id, used_ms, floor, answers }
            }
            Item::Key { key, versions } => {
                let versions = versions.into_iter().map(|version| Version {
                    mod_revision: version.mod_revision,
                    create_revision: version.create_revision,
                    version: version.version,
                    lease: version.lease,
                    value: version.value.map(owned),
                });
                Item::Key { key: owned(key), versions: versions.collect() }
            }
            Item::Backups(backups) => Item::Backups(backups),
        }
    }
}

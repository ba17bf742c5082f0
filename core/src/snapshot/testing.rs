//! Snapshots, states and a disk to test with.

use super::Header;
use crate::api::{Backups, LeaseId, MemberInfo, MemberRole, PutRequest, Schedule, WriteOp};
use crate::ids::{ClusterId, Epoch, Identity, NodeId};
use crate::io::{DiskDone, DiskError, DiskErrorKind, DiskOp, FileName};
use crate::kv::item::{Meta, Version};
use crate::kv::{Action, Command, Item, KvState, StateHash};
use crate::log::ConfState;
use crate::time::Wall;
use crate::wire::peer::SnapshotMeta;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

pub const IDENTITY: Identity =
    Identity { cluster: ClusterId([9; 16]), epoch: Epoch(3), node: NodeId::new(1, 0) };

pub fn meta(index: u64, term: u64) -> SnapshotMeta {
    let conf = ConfState { voters: vec![NodeId::new(1, 0)], ..ConfState::default() };
    SnapshotMeta { index, term, conf }
}

/// Files in memory, where every operation is durable at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemDisk {
    pub files: BTreeMap<FileName, Vec<u8>>,
    /// Everything that was done, reads left out.
    pub done: Vec<DiskOp>,
    /// Writes fail from this many bytes on.
    pub capacity: Option<usize>,
}

impl MemDisk {
    pub fn run(&mut self, op: DiskOp) -> Result<DiskDone, DiskError> {
        let missing = || error(DiskErrorKind::Missing);
        if !matches!(op, DiskOp::Read { .. }) {
            self.done.push(op.clone());
        }
        match op {
            DiskOp::Create { file, reserve_bytes, bytes } => {
                let mut contents = bytes.to_vec();
                contents.resize(contents.len().max(reserve_bytes as usize), 0);
                self.files.insert(file, contents);
            }
            DiskOp::Write { file, offset, bytes, .. } => {
                let contents = self.files.get_mut(&file).ok_or_else(missing)?;
                let end = offset as usize + bytes.len();
                if self.capacity.is_some_and(|capacity| end > capacity) {
                    return Err(error(DiskErrorKind::Full));
                }
                contents.resize(contents.len().max(end), 0);
                contents[offset as usize..end].copy_from_slice(&bytes);
            }
            DiskOp::Publish { from, to } => {
                let contents = self.files.remove(&from).ok_or_else(missing)?;
                self.files.insert(to, contents);
            }
            DiskOp::Sync { file } => {
                self.files.get(&file).ok_or_else(missing)?;
            }
            DiskOp::Read { file, offset, len_bytes } => {
                let contents = self.files.get(&file).ok_or_else(missing)?;
                let start = (offset as usize).min(contents.len());
                let end = (start + len_bytes as usize).min(contents.len());
                return Ok(DiskDone::Bytes(Bytes::copy_from_slice(&contents[start..end])));
            }
            DiskOp::Remove { file } => {
                self.files.remove(&file);
            }
        }
        Ok(DiskDone::Done)
    }

    pub fn listing(&self) -> Vec<(FileName, u64)> {
        self.files.iter().map(|(file, contents)| (*file, contents.len() as u64)).collect()
    }
}

fn error(kind: DiskErrorKind) -> DiskError {
    DiskError { kind, message: "a test's disk".into() }
}

/// A write of one key.
pub fn put(key: &str, value: &[u8]) -> Command {
    let put = PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value),
        lease: 0,
        return_previous: false,
    };
    let action = Action::Write { session: None, op: WriteOp::Put(put) };
    Command { log_time_ms: 1, wall: Wall(2), action }
}

/// A state with so many keys of 100 bytes each, and one long one.
pub fn state(keys: u64) -> KvState {
    let mut state = KvState::new();
    state.apply(2, &put("long", &vec![7; 700_000]));
    for number in 0..keys {
        state.apply(3 + number, &put(&format!("users/{number:08}"), &[number as u8; 100]));
    }
    state
}

/// A header that need not match any items.
pub fn header() -> Header {
    Header {
        cluster: IDENTITY.cluster,
        epoch: IDENTITY.epoch,
        meta: meta(700, 4),
        revision: 321,
        state_hash: StateHash::default(),
        keys: 5,
        bytes: 6,
    }
}

/// One of everything, then `count` keys: live, deleted, with history, and one item longer than a chunk.
pub fn sample_items(count: u64) -> Vec<Item> {
    let version = |revision, value: Option<Bytes>| Version {
        mod_revision: revision,
        create_revision: revision.min(7),
        version: 1,
        lease: 0,
        value,
    };
    let mut items = vec![
        Item::Meta(Meta { revision: 321, compacted: 5, log_time_ms: 99, wall: Wall(-1) }),
        Item::Member(MemberInfo {
            node: NodeId::new(1, 0),
            address: "127.0.0.1:7400".into(),
            role: MemberRole::Voter,
        }),
        Item::Incarnation { member: 1, incarnation: 0 },
        Item::Lease { id: 17, ttl_ms: 5000, deadline_ms: 6000 },
        Item::Session { id: 20, used_ms: 3, floor: 2, answers: vec![(2, vec![255, 0].into())] },
    ];
    for number in 0..count {
        let key = match number % 5 {
            0 => format!("/registry/pods/{number:06}").into_bytes(),
            1 => format!("users/{number:06}").into_bytes(),
            2 => format!("plain{number:06}").into_bytes(),
            _ => [&[0xff, 0xfe][..], &number.to_be_bytes()].concat(),
        };
        let length = if number == 3 { 600_000 } else { number as usize % 200 };
        let value = Some(vec![number as u8; length].into());
        let versions = match number % 7 {
            0 => vec![version(8, value), version(9, None)],
            1 => vec![version(8, Some("old".into())), version(9, value)],
            _ => vec![version(8, value)],
        };
        items.push(Item::Key { key: key.into(), versions });
    }
    items
}

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from),
        "[ -~\\n\"äß漢]{0,12}".prop_map(Bytes::from),
    ]
}

fn version() -> impl Strategy<Value = Version> {
    let value = proptest::option::of(bytes(60));
    (any::<[u64; 3]>(), any::<LeaseId>(), value).prop_map(|(numbers, lease, value)| Version {
        mod_revision: numbers[0],
        create_revision: numbers[1],
        version: numbers[2],
        lease,
        value,
    })
}

/// Any item, in any shape.
pub fn item() -> impl Strategy<Value = Item> {
    let answers = proptest::collection::vec((any::<u64>(), bytes(20)), 0..3);
    let versions = proptest::collection::vec(version(), 0..4);
    let role =
        prop_oneof![Just(MemberRole::Voter), Just(MemberRole::Learner), Just(MemberRole::Joining)];
    prop_oneof![
        (any::<[u64; 3]>(), any::<i64>()).prop_map(|(n, wall)| Item::Meta(Meta {
            revision: n[0],
            compacted: n[1],
            log_time_ms: n[2],
            wall: Wall(wall),
        })),
        (any::<u64>(), ".{0,12}", role).prop_map(|(node, address, role)| {
            Item::Member(MemberInfo { node: NodeId(node), address, role })
        }),
        any::<(u32, u32)>()
            .prop_map(|(member, incarnation)| Item::Incarnation { member, incarnation }),
        any::<[u64; 3]>().prop_map(|n| Item::Lease { id: n[0], ttl_ms: n[1], deadline_ms: n[2] }),
        (any::<[u64; 3]>(), answers).prop_map(|(n, answers)| Item::Session {
            id: n[0],
            used_ms: n[1],
            floor: n[2],
            answers,
        }),
        ".{0,12}".prop_map(|cron| Item::Backups(Box::new(Backups {
            schedule: Some(Schedule { cron, timezone: "UTC".into(), prune: true }),
            ..Backups::default()
        }))),
        (bytes(40), versions).prop_map(|(key, versions)| Item::Key { key, versions }),
    ]
}

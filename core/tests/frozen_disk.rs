//! Files written by earlier builds are read for ever, and today's build still writes the same bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "frozen examples are files")]

use bytes::Bytes;
use raftkv_core::api::{Backups, Ended, MemberInfo, MemberRole, Run, RunOutcome, Schedule};
use raftkv_core::boot::{Standing, identity};
use raftkv_core::ids::{ClusterId, Epoch, Identity, NodeId};
use raftkv_core::io::DiskOp;
use raftkv_core::kv::item::{Meta, Version};
use raftkv_core::kv::{Item, StateHash};
use raftkv_core::log::{ConfState, Entry, EntryKind, HardState};
use raftkv_core::snapshot::json::{Exporter, Importer};
use raftkv_core::snapshot::{Decoder, Encoder, Header};
use raftkv_core::time::Wall;
use raftkv_core::wal::{WalRecord, WalWriter, recover};
use raftkv_core::wire::peer::SnapshotMeta;
use std::path::Path;

const IDENTITY: Identity =
    Identity { cluster: ClusterId(*b"0123456789abcdef"), epoch: Epoch(2), node: NodeId::new(3, 1) };

/// The frozen file, after a comparison with what today's build writes.
fn frozen(name: &str, today: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen").join(name);
    if std::env::var_os("FREEZE").is_some() && !path.exists() {
        std::fs::write(&path, today).unwrap();
    }
    let frozen = std::fs::read(&path).unwrap();
    assert!(frozen == today, "{name} is written differently: that is a new version of the format");
    frozen
}

fn member() -> MemberInfo {
    let (node, address) = (NodeId::new(1, 0), "127.0.0.1:7401".into());
    MemberInfo { node, address, role: MemberRole::Voter }
}

fn conf() -> ConfState {
    ConfState { voters: vec![NodeId::new(1, 0), NodeId::new(3, 1)], ..ConfState::default() }
}

#[test]
fn identities() {
    for (name, standing) in [
        ("identity-member-v1.bin", Standing::Member),
        ("identity-joining-v1.bin", Standing::Joining(vec![member()])),
    ] {
        let file = frozen(name, &identity::encode(&IDENTITY, &standing));
        assert_eq!(identity::decode(&file), Ok((IDENTITY, standing)));
    }
}

#[test]
fn log_segment() {
    let entry =
        |index, kind, data: &'static [u8]| Entry { index, term: 4, kind, data: data.into() };
    let hard_state = HardState { term: 4, vote: NodeId::new(3, 1), commit: 9 };
    let snapshot = SnapshotMeta { index: 9, term: 3, conf: conf() };
    let first = WalRecord {
        hard_state: Some(hard_state),
        snapshot: Some(snapshot.clone()),
        entries: Vec::new(),
    };
    let entries =
        vec![entry(10, EntryKind::Normal, b"data"), entry(11, EntryKind::Membership, b"")];
    let second = WalRecord { entries: entries.clone(), ..WalRecord::default() };

    let mut wal = WalWriter::new(IDENTITY);
    wal.set_segment_bytes(512);
    let mut today = Vec::new();
    for record in [first, second] {
        for op in wal.append(&record) {
            match op {
                DiskOp::Create { reserve_bytes, bytes, .. } => {
                    today = bytes.to_vec();
                    today.resize(reserve_bytes as usize, 0);
                }
                DiskOp::Write { offset, bytes, .. } => {
                    today[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let file = frozen("wal-v1.bin", &today);
    let recovered = recover(IDENTITY, [(1, Bytes::from(file))]).unwrap();
    assert_eq!(recovered.hard_state, hard_state);
    assert_eq!(recovered.snapshot, Some(snapshot));
    assert_eq!(recovered.entries, entries);
    assert_eq!(recovered.torn, None);
}

fn header() -> Header {
    Header {
        cluster: IDENTITY.cluster,
        epoch: IDENTITY.epoch,
        meta: SnapshotMeta { index: 700, term: 4, conf: conf() },
        revision: 321,
        state_hash: StateHash::default(),
        keys: 2,
        bytes: 14,
    }
}

fn items() -> Vec<Item> {
    let version = |mod_revision, create_revision, version, value: Option<&'static [u8]>| Version {
        mod_revision,
        create_revision,
        version,
        lease: if version == 2 { 17 } else { 0 },
        value: value.map(Bytes::from_static),
    };
    vec![
        Item::Meta(Meta { revision: 321, compacted: 5, log_time_ms: 99, wall: Wall(-1) }),
        Item::Member(member()),
        Item::Incarnation { member: 3, incarnation: 1 },
        Item::Lease { id: 17, ttl_ms: 5000, deadline_ms: 6000 },
        Item::Session { id: 20, used_ms: 3, floor: 2, answers: vec![(2, b"\xff\0"[..].into())] },
        Item::Key {
            key: "a".into(),
            versions: vec![version(7, 7, 1, Some(b"")), version(8, 7, 2, Some(b"text \"1\""))],
        },
        Item::Key {
            key: "gone".into(),
            versions: vec![version(9, 9, 1, Some(b"x")), version(10, 0, 0, None)],
        },
        Item::Key {
            key: b"\xff\xfe"[..].into(),
            versions: vec![version(11, 11, 1, Some(b"\x80"))],
        },
    ]
}

#[test]
fn snapshot() {
    let today: Vec<u8> = Encoder::new(header(), items().into_iter()).flatten().collect();
    let file = frozen("snapshot-v1.snap", &today);
    let mut decoder = Decoder::new();
    assert_eq!(decoder.push(&file).unwrap(), items());
    assert_eq!(decoder.finish().unwrap().0, header());
}

/// A state that knows of a schedule, a run under way, and runs that ended.
fn backups() -> Backups {
    let id = "d90ad4b2-5a96-475e-85f1-329ec2662b35".parse().unwrap();
    let (node, slot) = (NodeId::new(3, 1), Some(Wall(1_764_900_000_000)));
    let ended = |number, outcome| Ended {
        number,
        id,
        slot,
        node,
        revision: 300,
        started: Wall(1_764_900_000_100),
        ended: Wall(1_764_900_000_900),
        committing: true,
        outcome,
    };
    Backups {
        schedule: Some(Schedule {
            cron: "0 2 * * *".into(),
            timezone: "Europe/Berlin".into(),
            prune: true,
        }),
        paused: true,
        slot: Wall(1_764_900_000_000),
        failures: 2,
        rest_until_ms: 77,
        run: Some(Run {
            number: 690,
            id,
            slot: None,
            node,
            life: 1 << 60,
            revision: 320,
            same_as: Some((id, 4096)),
            started: Wall(1_764_900_001_000),
            deadline_ms: 60_099,
            committing: false,
        }),
        last: Some(ended(680, RunOutcome::Failed { why: "store unavailable".into() })),
        complete: Some(ended(650, RunOutcome::Complete { data_bytes: 4096 })),
    }
}

#[test]
fn snapshot_that_knows_of_backups() {
    let mut with = items();
    with.insert(1, Item::Backups(Box::new(backups())));
    let today: Vec<u8> = Encoder::new(header(), with.clone().into_iter()).flatten().collect();
    let file = frozen("snapshot-v2.snap", &today);
    let mut decoder = Decoder::new();
    assert_eq!(decoder.push(&file).unwrap(), with);
    assert_eq!(decoder.finish().unwrap().0, header());
}

#[test]
fn json() {
    let mut exporter = Exporter::new();
    let mut today = exporter.header(&header());
    items().iter().for_each(|item| today += &exporter.item(item));
    today += &exporter.end();
    let file = frozen("snapshot-v1.json", today.as_bytes());
    let mut importer = Importer::new();
    assert_eq!(importer.push(&file).unwrap(), items());
    assert_eq!(importer.finish().unwrap(), header());
}

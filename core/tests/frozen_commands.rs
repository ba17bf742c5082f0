//! Log entries written by earlier builds are read for ever, do what they did, and today's build still writes the same bytes.
//!
//! Two files: the data of one entry for every kind of command (each behind its length, 32 bits little-endian), and a snapshot of
//! the state they lead to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "frozen examples are files")]

use bytes::Bytes;
use raftkv_core::api::{
    Compare, CompareOp, CompareTarget, DeleteRequest, KeyRange, MemberInfo, MemberRole, PutRequest,
    RangeRequest, RunOutcome, Schedule, SessionRef, TxnOp, TxnRequest, WriteOp,
};
use raftkv_core::ids::{ClusterId, Epoch, Identity, NodeId};
use raftkv_core::kv::command::Action;
use raftkv_core::kv::{BackupOp, Command, KvState, MemberChange, Outcome};
use raftkv_core::log::ConfState;
use raftkv_core::snapshot::{Encoder, Header, Loader};
use raftkv_core::time::Wall;
use raftkv_core::wire::peer::SnapshotMeta;
use std::path::Path;

const IDENTITY: Identity =
    Identity { cluster: ClusterId(*b"0123456789abcdef"), epoch: Epoch(2), node: NodeId::new(3, 1) };

fn put(key: &'static str, value: &'static [u8], lease: u64) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), lease, return_previous: true }
}

fn delete(range: KeyRange) -> DeleteRequest {
    DeleteRequest { range, return_previous: false }
}

fn compare(range: KeyRange, op: CompareOp, target: CompareTarget) -> Compare {
    Compare { range, op, target }
}

fn transaction() -> TxnRequest {
    let one = KeyRange::one;
    TxnRequest {
        compares: vec![
            compare(one("a"), CompareOp::Equal, CompareTarget::Value("1".into())),
            compare(one("b"), CompareOp::Less, CompareTarget::Version(1)),
            compare(KeyRange::prefix("a"), CompareOp::Greater, CompareTarget::CreateRevision(0)),
            compare(one("a"), CompareOp::NotEqual, CompareTarget::ModRevision(99)),
            compare(one("a"), CompareOp::Equal, CompareTarget::Lease(0)),
        ],
        success: vec![
            TxnOp::Range(RangeRequest::new(KeyRange::all())),
            TxnOp::Put(put("b", b"\xff\0", 0)),
            TxnOp::Delete(delete(one("nothing"))),
        ],
        failure: vec![TxnOp::Put(put("wrong", b"way", 0))],
    }
}

/// One of every kind. New kinds go to a file of their own.
fn commands() -> Vec<Command> {
    let session = |sequence| {
        Some(SessionRef { session: 1, sequence, acknowledged_below: sequence.saturating_sub(1) })
    };
    let write = |session, op| Action::Write { session, op };
    let actions = [
        Action::SessionOpen,
        write(session(1), WriteOp::Put(put("a", b"1", 0))),
        // A retry: it changes nothing.
        write(session(1), WriteOp::Put(put("a", b"1", 0))),
        write(session(2), WriteOp::Txn(transaction())),
        write(None, WriteOp::LeaseGrant { id: 7, ttl_ms: 60_000 }),
        write(None, WriteOp::LeaseGrant { id: 8, ttl_ms: 5 }),
        write(None, WriteOp::Put(put("leased", b"x", 7))),
        write(None, WriteOp::Put(put("short", b"x", 8))),
        write(None, WriteOp::LeaseKeepAlive { id: 7 }),
        write(None, WriteOp::LeaseGrant { id: 9, ttl_ms: 60_000 }),
        write(None, WriteOp::LeaseRevoke { id: 9 }),
        Action::Tick,
        write(None, WriteOp::Put(put("c/1", b"", 0))),
        write(None, WriteOp::Delete(delete(KeyRange::prefix("c/")))),
        write(None, WriteOp::Compact { revision: 3 }),
    ];
    let stamped = |(index, action): (u64, Action)| {
        let wall = Wall(1_700_000_000_000 - index as i64);
        Command { log_time_ms: 10 * index, wall, action }
    };
    (1..).zip(actions).map(stamped).collect()
}

fn change() -> MemberChange {
    let upsert = vec![
        MemberInfo { node: IDENTITY.node, address: "[::1]:7401".into(), role: MemberRole::Voter },
        MemberInfo { node: NodeId::new(2, 0), address: "b:1".into(), role: MemberRole::Joining },
        MemberInfo { node: NodeId::new(4, 0), address: "d:1".into(), role: MemberRole::Learner },
    ];
    MemberChange { upsert, remove: vec![NodeId::new(3, 0)] }
}

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

fn lengths_and_data(entries: impl Iterator<Item = Bytes>) -> Vec<u8> {
    let one = |data: Bytes| [&(data.len() as u32).to_le_bytes()[..], &data].concat();
    entries.flat_map(one).collect()
}

fn data_of(mut file: &[u8]) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = file.split_first_chunk() {
        let (data, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        entries.push(data.to_vec());
        file = rest;
    }
    entries
}

#[test]
fn commands_and_the_state_they_lead_to() {
    let today = lengths_and_data(commands().iter().map(Command::encode));
    let file = frozen("commands-v1.bin", &today);
    let read: Vec<Command> =
        data_of(&file).iter().map(|data| Command::decode(data).unwrap()).collect();
    assert_eq!(read, commands());

    let mut state = KvState::new();
    state.apply_members(&change());
    for (index, command) in (1..).zip(&read) {
        state.apply(index, command);
    }
    let conf = ConfState { voters: vec![IDENTITY.node], ..ConfState::default() };
    let meta = SnapshotMeta { index: read.len() as u64, term: 4, conf };
    let header = Header::of(&IDENTITY, meta, &state);
    let today: Vec<u8> = Encoder::new(header.clone(), state.items()).flatten().collect();
    let mut loader = Loader::default();
    loader.push(&frozen("state-v1.snap", &today)).unwrap();
    let (frozen_header, loaded) = loader.finish().unwrap();
    assert_eq!(frozen_header, header);
    assert_eq!(loaded.hash(), state.hash());
    // What the commands are here to do was done: a, b and leased are left, the rest went by deletion, revocation or time.
    assert_eq!(state.keys(), 3);
}

#[test]
fn membership() {
    let today = lengths_and_data(std::iter::once(change().encode()));
    let file = frozen("member-change-v1.bin", &today);
    assert_eq!(MemberChange::decode(&data_of(&file)[0]).unwrap(), change());
}

/// What is done about backups, of every kind.
fn backup_commands() -> Vec<Command> {
    let id = "d90ad4b2-5a96-475e-85f1-329ec2662b35".parse().unwrap();
    let schedule = Schedule { cron: "*/30 * * * *".into(), timezone: "UTC".into(), prune: true };
    let start = |slot| BackupOp::Start { id, slot, node: IDENTITY.node, life: 9, lease_ms: 60_000 };
    let end = |number, outcome| BackupOp::End { number, outcome };
    let ops = [
        BackupOp::Schedule(Some(schedule)),
        BackupOp::Pause(true),
        BackupOp::Pause(false),
        start(None),
        BackupOp::Extend { number: 4, lease_ms: 60_000 },
        BackupOp::Commit { number: 4, lease_ms: 60_000 },
        end(4, RunOutcome::Complete { data_bytes: 4096 }),
        start(Some(Wall(1_700_001_000_000))),
        end(8, RunOutcome::Unchanged { since: id }),
        start(None),
        end(10, RunOutcome::Failed { why: "store unavailable".into() }),
        start(None),
        BackupOp::Abandon { number: 12 },
        BackupOp::Schedule(None),
    ];
    let stamped = |(index, op): (u64, BackupOp)| {
        let (log_time_ms, wall) = (60_000 * index, Wall(1_700_000_000_000 + index as i64));
        Command { log_time_ms, wall, action: Action::Backup(op) }
    };
    (1..).zip(ops).map(stamped).collect()
}

#[test]
fn commands_about_backups() {
    let today = lengths_and_data(backup_commands().iter().map(Command::encode));
    let file = frozen("commands-v2.bin", &today);
    let read: Vec<Command> =
        data_of(&file).iter().map(|data| Command::decode(data).unwrap()).collect();
    assert_eq!(read, backup_commands());
    let mut state = KvState::new();
    for (index, command) in (1..).zip(&read) {
        let outcome = state.apply(index, command);
        assert_eq!(outcome, Outcome::Backup(Ok(())), "command {index}");
    }
    let backups = state.backups();
    assert_eq!(backups.last.as_ref().map(|last| &last.outcome), Some(&RunOutcome::Abandoned));
    assert_eq!(backups.complete.as_ref().map(|complete| complete.number), Some(4));
}

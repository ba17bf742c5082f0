//! States to back up, and short ways to make and read a backup.

use super::store::Store;
use bytes::Bytes;
use raftkv_core::api::{MemberInfo, MemberRole, PutRequest, WriteOp};
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::create::{Bounds, Create, Outcome, Settings, Source};
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::read::{Access, ReadBounds, ReadError};
use raftkv_core::backup::restore::{Restore, Restored};
use raftkv_core::backup::verify::{Level, Report, Verify};
use raftkv_core::backup::{BackupId, Key, KeyRing};
use raftkv_core::ids::{ClusterId, Epoch, NodeId};
use raftkv_core::kv::command::Action;
use raftkv_core::kv::{Command, KvState, MemberChange};
use raftkv_core::log::ConfState;
use raftkv_core::rng::{Rng, Seed};
use raftkv_core::snapshot::{Encoder, Header};
use raftkv_core::time::Wall;
use raftkv_core::wire::peer::SnapshotMeta;

pub const NODE: NodeId = NodeId::new(1, 0);
pub const GZIP: Compression = Compression::Gzip { level: 6 };
pub const CLUSTER: ClusterId = ClusterId(*b"sample cluster 1");

/// A state with this many keys, made from commands.
pub fn state(keys: u64) -> KvState {
    let mut state = KvState::new();
    let member =
        MemberInfo { node: NODE, address: "127.0.0.1:7400".into(), role: MemberRole::Voter };
    state.apply_members(&MemberChange { upsert: vec![member], remove: Vec::new() });
    let mut apply = |index, action| {
        let wall = Wall(1_764_930_600_000 + index as i64);
        state.apply(index, &Command { log_time_ms: index, wall, action });
    };
    apply(1, Action::SessionOpen);
    let op = WriteOp::LeaseGrant { id: 77, ttl_ms: 60_000 };
    apply(2, Action::Write { session: None, op });
    for number in 0..keys {
        let put = PutRequest {
            key: format!("app/users/{:05}", number % (keys / 2 + 1)).into(),
            value: Bytes::from(format!("value {number} of a user, as it might be")),
            lease: if number % 10 == 0 { 77 } else { 0 },
            return_previous: false,
        };
        apply(number + 3, Action::Write { session: None, op: WriteOp::Put(put) });
    }
    state
}

/// What writes the snapshot stream of a state.
pub fn encoder(state: &KvState, index: u64) -> Encoder {
    let conf = ConfState { voters: vec![NODE], ..ConfState::default() };
    let header = Header {
        cluster: CLUSTER,
        epoch: Epoch(1),
        meta: SnapshotMeta { index, term: 3, conf },
        revision: state.revision(),
        state_hash: state.hash(),
        keys: state.keys(),
        bytes: state.bytes(),
    };
    Encoder::new(header, state.items())
}

/// The snapshot stream of a state.
pub fn stream(state: &KvState, index: u64) -> (Header, Vec<Bytes>) {
    let encoder = encoder(state, index);
    (encoder.header().clone(), encoder.collect())
}

pub fn source(header: &Header, state: &KvState) -> Source {
    Source::new(header, NODE, state.members().cloned().collect())
}

pub fn settings(compression: Compression, recipients: &[Key]) -> Settings {
    Settings {
        compression,
        stores: 1,
        recipients: recipients.to_vec(),
        plain_is_said: false,
        version: "0.1.0".into(),
        bounds: Bounds {
            chunk_bytes: 4096,
            chunks_in_flight: 3,
            part_bytes: 9000,
            parts_in_flight: 2,
            max_parts: 10_000,
        },
    }
}

pub fn key(number: u64) -> Key {
    Key::draw(&mut Seed::from_number(number).fork("recipient"))
}

pub fn rng(number: u64) -> Rng {
    Seed::from_number(number).fork("backup")
}

/// Feeds a stream to a machine, driving it all the while.
pub fn feed(store: &mut Store, create: &mut Create, chunks: &[Bytes]) {
    store.drive(create);
    for piece in chunks.iter().flat_map(|chunk| chunk.chunks(3000)) {
        while !create.wants_input() {
            if create.outcome().is_some() {
                return;
            }
            store.drive(create);
        }
        create.push(piece);
    }
    create.finish();
    store.drive(create);
}

/// Makes a backup; panics when it fails.
pub fn backup(store: &mut Store, state: &KvState, index: u64, settings: Settings) -> BackupId {
    let (header, chunks) = stream(state, index);
    let mut rng = rng(index);
    let now = Wall(1_764_930_645_000 + index as i64);
    let mut create = Create::new(source(&header, state), settings, now, &mut rng).unwrap();
    feed(store, &mut create, &chunks);
    match create.outcome() {
        Some(Outcome::Complete(metadata)) => metadata.id,
        other => panic!("the backup did not complete: {other:?}"),
    }
}

pub fn access(keys: &[Key]) -> Access {
    let plaintext = if keys.is_empty() { Plaintext::Allowed } else { Plaintext::Refused };
    Access { keys: KeyRing::new(keys.iter().cloned()), plaintext }
}

pub fn bounds() -> ReadBounds {
    ReadBounds { window_bytes: 5000, windows: 3, chunks_in_flight: 3 }
}

pub fn restore(store: &mut Store, id: BackupId, access: Access) -> Result<Restored, ReadError> {
    let mut restore = Restore::new(id, access, bounds());
    store.drive(&mut restore);
    restore.take().expect("the machine ends")
}

pub fn verify(store: &mut Store, id: BackupId, level: Level, access: Access) -> Report {
    let mut verify = Verify::new(id, level, access, bounds());
    store.drive(&mut verify);
    verify.report().expect("the machine ends")
}

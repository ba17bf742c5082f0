//! Well-formed bytes to start from, for every target.

use super::backups;
use super::store::{Order, Store};
use bytes::{Bytes, BytesMut};
use raftkv_core::api::{
    DeleteRequest, KeyRange, MemberInfo, MemberRole, PutRequest, Request, Response, Schedule,
    SessionRef, TxnOp, TxnRequest, WriteOp,
};
use raftkv_core::backup::Key;
use raftkv_core::backup::blob::ObjectName;
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::create::{Bounds, Create, Settings, Source};
use raftkv_core::backup::marker::{Marker, Owner};
use raftkv_core::boot::{Standing, identity};
use raftkv_core::ids::{ClusterId, Epoch, Identity, NodeId};
use raftkv_core::io::DiskOp;
use raftkv_core::kv::{Action, BackupOp, Command, KvState, MemberChange};
use raftkv_core::log::{ConfState, Entry, EntryKind, HardState};
use raftkv_core::rng::Seed;
use raftkv_core::snapshot::json::Exporter;
use raftkv_core::snapshot::{Encoder, Header};
use raftkv_core::time::Wall;
use raftkv_core::wal::{WalRecord, WalWriter};
use raftkv_core::wire::client::{RequestFrame, ResponseFrame};
use raftkv_core::wire::frame;
use raftkv_core::wire::handshake::{Hello, Welcome};
use raftkv_core::wire::peer::{PeerFrame, RaftKind, RaftMessage, SnapshotMeta};
use serde::Serialize;

/// Whose files the seeds are.
pub const IDENTITY: Identity =
    Identity { cluster: ClusterId([7; 16]), epoch: Epoch(1), node: NodeId::new(1, 0) };

/// The first byte of inputs whose checksums are put right.
const SEALED: u8 = 1;

/// Everything that can stand in a backup configuration, by keys.
const CONFIG: &str = r#"provider:
  type: minio
  s3_bucket: backups
  s3_path: prod/
  s3_endpoint: "http://127.0.0.1:9000"
  s3_access_key: 'id'
  s3_secret_key: "se\u0063ret"
required_copies: 1
backup:
  compression: {enabled: true, type: gzip, level: 6}
  encryption:
    enabled: true
    type: aes-256-gcm
    key_file: /etc/raftkv/backup-key
    more_keys: [{env: KEY}]
    old_keys:
      - command: [vault, read]
  node_id: ~
  prefix: backups/
schedule: {enabled: yes, cron_expression: "0 2 * * MON", timezone: UTC, enable_pruning: true}
retention: &rules
  retention_days: 30
  max_backups: 10
  min_backups: 3
  keep_daily: 0x7
  prune_on_backup: true
"#;

/// Stores by their URLs.
const CONFIG_WITH_COPIES: &str = r#"{provider: {url: "s3://b/p%2Fq?region=x&endpoint=http%3A%2F%2Fh"}, required_copies: 2,
 copies: [{name: a, provider: {url: "gs://b/p"}}, {name: b, provider: {url: "azblob://c?account=x", azure_key: AAAA}},
 {name: c, provider: {url: "file:///a%20b"}}], backup: {compression: {enabled: false}}}
"#;

macro_rules! frozen_backup {
    ($directory:literal, $file:literal) => {
        include_bytes!(concat!(
            "../../core/tests/frozen/",
            $directory,
            "/cd11a5da-37bc-41a7-af78-95893ef7789c/",
            $file
        ))
    };
}

/// Where a target starts.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "backup_config" => [CONFIG, CONFIG_WITH_COPIES].map(|text| text.as_bytes().to_vec()).into(),
        "backup_keys" => vec![sealed(frozen_backup!("backup-2-encrypted", "keys.bin"))],
        "backup_markers" => vec![marker()],
        "backup_metadata" => vec![frozen_backup!("backup-1-plain", "metadata.json").to_vec()],
        "backup_object" => backups().iter().map(|backup| sealed(&backup.data)).collect(),
        "backup_reader" => backups().iter().map(Backup::seed).collect(),
        "client_frames" => client_frames(),
        "commands" => vec![commands().map(|command| command.encode()).join(&0xff)],
        "cron" => vec![b"5/15 8-18 1,15 jan-DEC MON\nEurope/Berlin".to_vec()],
        "identity_file" => {
            vec![sealed(identity::encode(&IDENTITY, &Standing::Joining(vec![member()])))]
        }
        "peer_frames" => peer_frames(),
        "snapshot_file" => {
            vec![sealed(snapshot(&state())), sealed(snapshot(&state_with_backups()))]
        }
        "snapshot_json" => vec![snapshot_json(&state()), snapshot_json(&state_with_backups())],
        "wal_segments" => vec![sealed(wal_segments())],
        _ => panic!("no seed for the target {target}"),
    }
}

fn sealed(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    [&[SEALED], bytes.as_ref()].concat()
}

fn put(key: &'static str, lease: u64) -> PutRequest {
    PutRequest { key: key.into(), value: "value".into(), lease, return_previous: true }
}

fn member() -> MemberInfo {
    MemberInfo { node: IDENTITY.node, address: "127.0.0.1:7401".into(), role: MemberRole::Voter }
}

/// One of everything that can be applied.
fn commands() -> [Command; 8] {
    let session = SessionRef { session: 1, sequence: 1, acknowledged_below: 1 };
    let write = |session, op| Action::Write { session, op };
    let delete = DeleteRequest { range: KeyRange::prefix("a"), return_previous: false };
    let txn = TxnRequest {
        success: vec![TxnOp::Put(put("b", 0)), TxnOp::Delete(delete.clone())],
        ..TxnRequest::default()
    };
    [
        Action::SessionOpen,
        write(Some(session), WriteOp::LeaseGrant { id: 5, ttl_ms: 60 }),
        write(None, WriteOp::Put(put("a", 5))),
        write(None, WriteOp::Txn(txn)),
        write(None, WriteOp::Delete(delete)),
        write(None, WriteOp::Compact { revision: 2 }),
        Action::Tick,
        Action::Backup(BackupOp::Schedule(Some(schedule()))),
    ]
    .map(|action| Command { log_time_ms: 9, wall: Wall(1), action })
}

fn state() -> KvState {
    let mut state = KvState::new();
    state.apply_members(&MemberChange { upsert: vec![member()], remove: Vec::new() });
    for (index, command) in (1..).zip(&commands()[..5]) {
        state.apply(index, command);
    }
    state
}

/// A state that knows of a schedule and a run, which make its snapshots ones of version 2.
fn state_with_backups() -> KvState {
    let mut state = state();
    let id = "d90ad4b2-5a96-475e-85f1-329ec2662b35".parse().expect("an id");
    let node = IDENTITY.node;
    let start = BackupOp::Start { id, slot: None, node, life: 1, lease_ms: 9 };
    for (index, op) in [(6, BackupOp::Schedule(Some(schedule()))), (7, start)] {
        let action = Action::Backup(op);
        state.apply(index, &Command { log_time_ms: 9, wall: Wall(1), action });
    }
    state
}

fn schedule() -> Schedule {
    Schedule { cron: "0 2 * * *".into(), timezone: "UTC".into(), prune: true }
}

fn snapshot_meta() -> SnapshotMeta {
    let conf = ConfState { voters: vec![IDENTITY.node], ..ConfState::default() };
    SnapshotMeta { index: 5, term: 1, conf }
}

fn snapshot(state: &KvState) -> Vec<u8> {
    let header = Header::of(&IDENTITY, snapshot_meta(), state);
    let mut encoder = Encoder::new(header, state.items());
    std::iter::from_fn(|| encoder.next_chunk()).flatten().collect()
}

fn snapshot_json(state: &KvState) -> Vec<u8> {
    let mut exporter = Exporter::new();
    let mut text = exporter.header(&Header::of(&IDENTITY, snapshot_meta(), state));
    state.items().for_each(|item| text.push_str(&exporter.item(&item)));
    text.push_str(&exporter.end());
    text.into_bytes()
}

/// The objects of a backup.
struct Backup {
    metadata: Vec<u8>,
    keys: Vec<u8>,
    data: Vec<u8>,
}

/// The key that opens every backup that is encrypted.
pub fn backup_key() -> Key {
    Key::draw(&mut Seed::from_number(1).fork("recipient"))
}

/// Of both formats, plain and encrypted, compressed in every way that is built in.
fn backups() -> Vec<Backup> {
    let mut backups = vec![
        Backup {
            metadata: frozen_backup!("backup-1-plain", "metadata.json").into(),
            keys: Vec::new(),
            data: frozen_backup!("backup-1-plain", "data.db").into(),
        },
        Backup {
            metadata: frozen_backup!("backup-2-encrypted", "metadata.json").into(),
            keys: frozen_backup!("backup-2-encrypted", "keys.bin").into(),
            data: frozen_backup!("backup-2-encrypted", "data.db").into(),
        },
    ];
    let (gzip, zstd) = (Compression::Gzip { level: 6 }, Compression::Zstd { level: 3 });
    for compression in [Compression::None, gzip, zstd] {
        if compression.check_built().is_ok() {
            backups.push(Backup::make(compression, &[]));
        }
    }
    if zstd.check_built().is_ok() {
        backups.push(Backup::make(zstd, &[backup_key()]));
    }
    backups
}

impl Backup {
    /// Of a state that fills one chunk and a part of the next, unless it is kept as it is: what is not compressed would be too long.
    fn make(compression: Compression, recipients: &[Key]) -> Backup {
        let mut state = state_with_backups();
        if compression != Compression::None {
            let value = Bytes::from(vec![b'v'; 4096]);
            let op = WriteOp::Put(PutRequest { value, ..put("c", 0) });
            let action = Action::Write { session: None, op };
            state.apply(8, &Command { log_time_ms: 9, wall: Wall(1), action });
        }
        let header = Header::of(&IDENTITY, snapshot_meta(), &state);
        let source = Source::new(&header, IDENTITY.node, state.members().cloned().collect());
        let bounds = Bounds { chunk_bytes: 4096, ..Bounds::default() };
        let recipients = recipients.to_vec();
        let settings = Settings {
            compression,
            stores: 1,
            recipients,
            plain_is_said: false,
            version: "fuzz".into(),
            bounds,
        };
        let mut rng = Seed::from_number(2).fork("backup");
        let mut create = Create::new(source, settings, Wall(0), &mut rng).expect("good settings");
        let mut store = Store::default();
        store.drive(&mut create, Order::FirstIn);
        create.push(&snapshot(&state));
        create.finish();
        store.drive(&mut create, Order::FirstIn);
        let id = create.id();
        let object = |name: ObjectName| store.objects[&name.path()].to_vec();
        let (metadata, data) = (object(ObjectName::metadata(id)), object(ObjectName::data(id)));
        Backup { metadata, keys: Vec::new(), data }
    }

    /// As the target for whole backups takes it.
    fn seed(&self) -> Vec<u8> {
        let length =
            |part: &[u8]| u16::try_from(part.len()).expect("seeds are short").to_le_bytes();
        let lengths = [length(&self.metadata), length(&self.keys)].concat();
        [&[backups::RESTORED], &lengths[..], &self.metadata, &self.keys, &self.data].concat()
    }
}

/// A lock, behind its path.
fn marker() -> Vec<u8> {
    let mut marker = Marker::new(ObjectName::lock(7), Owner([1; 16]), "backup create", Wall(0));
    marker.beats = 3;
    let path = format!("{}\n", marker.place.path());
    [path.as_bytes(), &marker.render()].concat()
}

fn entries() -> Vec<Entry> {
    let entry = |(index, command): (u64, Command)| Entry {
        index,
        term: 1,
        kind: EntryKind::Normal,
        data: command.encode(),
    };
    (1..).zip(commands()).map(entry).collect()
}

/// Two segments of three records.
fn wal_segments() -> Vec<u8> {
    let mut writer = WalWriter::new(IDENTITY);
    writer.set_segment_bytes(256);
    let hard_state = HardState { term: 1, vote: IDENTITY.node, commit: 0 };
    let mut files: Vec<Vec<u8>> = Vec::new();
    for entries in entries().chunks(3) {
        let record =
            WalRecord { hard_state: Some(hard_state), snapshot: None, entries: entries.to_vec() };
        for op in writer.append(&record) {
            match op {
                DiskOp::Create { bytes, .. } => files.push(bytes.to_vec()),
                DiskOp::Write { offset, bytes, .. } => {
                    let file = files.last_mut().expect("a segment is created before it is written");
                    file.resize(file.len().max(offset as usize + bytes.len()), 0);
                    file[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
                }
                other => panic!("an append does not {other:?}"),
            }
        }
        writer.handle_durable(writer.sequence());
    }
    files.concat()
}

/// Frames of one type, behind the byte that says which.
fn frames<T: Serialize>(kind: u8, frames: &[T]) -> Vec<u8> {
    let mut out = BytesMut::from(&[kind][..]);
    frames.iter().for_each(|value| frame::encode(value, &mut out));
    out.to_vec()
}

fn client_frames() -> Vec<Vec<u8>> {
    let session = Some(SessionRef { session: 1, sequence: 2, acknowledged_below: 1 });
    let request = Request::Write { session, op: WriteOp::Put(put("key", 0)) };
    let requests =
        [RequestFrame { id: 1, request }, RequestFrame { id: 2, request: Request::Status }];
    let responses = [ResponseFrame { id: 3, response: Response::SessionOpened { session: 7 } }];
    vec![frames(0, &requests), frames(1, &responses)]
}

fn peer_frames() -> Vec<Vec<u8>> {
    let message = RaftMessage {
        kind: RaftKind::Append,
        to: NodeId::new(2, 0),
        from: IDENTITY.node,
        term: 1,
        log_term: 1,
        index: 4,
        entries: entries(),
        commit: 3,
        commit_term: 1,
        snapshot: None,
        request_snapshot: 0,
        reject: false,
        reject_hint: 0,
        context: Bytes::new(),
        priority: 0,
    };
    let snapshot = snapshot_meta();
    let bytes = Bytes::from_static(b"chunk");
    let chunk = PeerFrame::SnapshotChunk { snapshot, term: 1, offset: 0, total_bytes: 5, bytes };
    let peer = [PeerFrame::Raft(Box::new(message)), chunk];
    let hello = Hello { from: IDENTITY, to: NodeId::new(2, 0) };
    vec![frames(0, &peer), frames(1, &[hello]), frames(2, &[Welcome::Accepted])]
}

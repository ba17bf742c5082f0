//! The stages of the backup pipeline, one thread each, over the snapshot of a state with 100,000 keys of some 100 bytes. Rates are of
//! the plain stream. Before that: what compressing chunks on their own costs.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use raftkv_core::api::{PutRequest, WriteOp};
use raftkv_core::backup::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp, ObjectName};
use raftkv_core::backup::compress::{Compression, compress};
use raftkv_core::backup::create::{Bounds, Create, Outcome, Settings, Source};
use raftkv_core::backup::decompress::decompress;
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::machine::{Action, ActionResult, Machine};
use raftkv_core::backup::read::{Access, ReadBounds};
use raftkv_core::backup::restore::Restore;
use raftkv_core::backup::verify::{Level, Verify};
use raftkv_core::backup::{BackupId, Key, KeyRing};
use raftkv_core::ids::{ClusterId, Epoch, NodeId};
use raftkv_core::kv::command::Action as Write;
use raftkv_core::kv::{Command, KvState};
use raftkv_core::rng::Seed;
use raftkv_core::snapshot::{Decoder, Encoder, Header};
use raftkv_core::time::Wall;
use raftkv_core::wire::peer::SnapshotMeta;
use std::collections::BTreeMap;
use std::sync::LazyLock;

const CHUNK_BYTES: usize = 512 << 10;
const LEVELS: [u8; 3] = [1, 6, 9];

/// A snapshot: its header and the whole stream.
static SNAPSHOT: LazyLock<(Header, Vec<u8>)> = LazyLock::new(|| {
    let mut state = KvState::new();
    let mut rng = Seed::from_number(1).fork("values");
    for index in 1..=100_000_u64 {
        let value = format!(
            "{{\"name\":\"user {index}\",\"mail\":\"{:x}@example.com\",\"visits\":{},\"note\":\"{:016x}\"}}",
            rng.below(1 << 32),
            rng.below(1000),
            rng.next_u64()
        );
        let put = PutRequest {
            key: format!("app/users/{:08}", rng.below(1 << 26)).into(),
            value: value.into(),
            lease: 0,
            return_previous: false,
        };
        let action = Write::Write { session: None, op: WriteOp::Put(put) };
        state.apply(index, &Command { log_time_ms: index, wall: Wall(0), action });
    }
    let header = Header {
        cluster: ClusterId([1; 16]),
        epoch: Epoch(0),
        meta: SnapshotMeta { index: 100_000, term: 1, ..SnapshotMeta::default() },
        revision: state.revision(),
        state_hash: state.hash(),
        keys: state.keys(),
        bytes: state.bytes(),
    };
    let mut encoder = Encoder::new(header.clone(), state.items());
    let chunks = std::iter::from_fn(|| encoder.next_chunk());
    (header, chunks.flatten().collect())
});

fn main() {
    let plain = plain();
    println!("snapshot: {} bytes", plain.len());
    for level in LEVELS {
        let gzip = |bytes: &[u8]| compress(Compression::Gzip { level }, bytes).unwrap().len();
        let chunked: usize = plain.chunks(CHUNK_BYTES).map(gzip).sum();
        println!(
            "gzip-{level}: {chunked} bytes in chunks of 512 KiB, {} in one piece",
            gzip(plain)
        );
    }
    divan::main();
}

fn plain() -> &'static [u8] {
    &SNAPSHOT.1
}

#[divan::bench(args = LEVELS)]
fn gzip_chunks(bencher: Bencher, level: u8) {
    bencher.counter(BytesCount::new(plain().len())).bench(|| {
        for chunk in plain().chunks(CHUNK_BYTES) {
            black_box(compress(Compression::Gzip { level }, chunk));
        }
    });
}

#[cfg(feature = "zstd")]
#[divan::bench(args = [256, 512, 1024, 2048])]
fn zstd_chunks(bencher: Bencher, chunk_kib: usize) {
    bencher.counter(BytesCount::new(plain().len())).bench(|| {
        for chunk in plain().chunks(chunk_kib << 10) {
            black_box(compress(Compression::Zstd { level: 3 }, chunk));
        }
    });
}

#[divan::bench]
fn gunzip_chunks(bencher: Bencher) {
    let gzip = Compression::Gzip { level: 6 };
    let chunks: Vec<_> = plain().chunks(CHUNK_BYTES).collect();
    let packed: Vec<_> = chunks.iter().map(|chunk| compress(gzip, chunk).unwrap()).collect();
    bencher.counter(BytesCount::new(plain().len())).bench(|| {
        for (chunk, packed) in chunks.iter().zip(&packed) {
            black_box(decompress(gzip, packed, chunk.len()).unwrap());
        }
    });
}

#[divan::bench]
fn decode_stream(bencher: Bencher) {
    bencher.counter(BytesCount::new(plain().len())).bench(|| {
        let mut decoder = Decoder::new();
        for chunk in plain().chunks(CHUNK_BYTES) {
            black_box(decoder.push(chunk).unwrap());
        }
        decoder.finish().unwrap()
    });
}

#[divan::bench(args = ["none", "gzip-1", "gzip-6"])]
fn create_encrypted(bencher: Bencher, compression: &str) {
    bencher
        .counter(BytesCount::new(plain().len()))
        .bench(|| create(black_box(by_name(compression))).1.len());
}

#[divan::bench(args = ["none", "gzip-6"])]
fn verify_decrypt(bencher: Bencher, compression: &str) {
    let (id, mut store) = create(by_name(compression));
    bencher.counter(BytesCount::new(plain().len())).bench_local(|| {
        let mut verify = Verify::new(id, Level::Decrypt, access(), ReadBounds::default());
        drive(&mut verify, &mut store);
        assert!(verify.report().unwrap().result.is_ok());
    });
}

#[divan::bench(args = ["none", "gzip-6"])]
fn restore_to_state(bencher: Bencher, compression: &str) {
    let (id, mut store) = create(by_name(compression));
    bencher.counter(BytesCount::new(plain().len())).bench_local(|| {
        let mut restore = Restore::new(id, access(), ReadBounds::default());
        drive(&mut restore, &mut store);
        restore.take().unwrap().unwrap().state
    });
}

type Store = BTreeMap<String, Bytes>;

fn by_name(name: &str) -> Compression {
    match name {
        "none" => Compression::None,
        "gzip-1" => Compression::Gzip { level: 1 },
        "gzip-6" => Compression::Gzip { level: 6 },
        name => panic!("{name} is no compression"),
    }
}

fn key() -> Key {
    Key::from_bytes([7; 32])
}

fn access() -> Access {
    Access { keys: KeyRing::new([key()]), plaintext: Plaintext::Refused }
}

fn create(compression: Compression) -> (BackupId, Store) {
    let (header, plain) = &*SNAPSHOT;
    let mut store = Store::new();
    let settings = Settings {
        compression,
        stores: 1,
        recipients: vec![key()],
        plain_is_said: false,
        version: "0".into(),
        bounds: Bounds::default(),
    };
    let source = Source::new(header, NodeId::new(1, 0), Vec::new());
    let mut rng = Seed::from_number(1).fork("backup");
    let mut create = Create::new(source, settings, Wall(0), &mut rng).unwrap();
    drive(&mut create, &mut store);
    for piece in plain.chunks(CHUNK_BYTES) {
        create.push(piece);
        drive(&mut create, &mut store);
    }
    create.finish();
    drive(&mut create, &mut store);
    assert!(matches!(create.outcome(), Some(Outcome::Complete(_))));
    (create.id(), store)
}

/// One thread; parts are put together in memory.
fn drive(machine: &mut impl Machine, store: &mut Store) {
    while let Some(action) = machine.poll_action() {
        let result = match action {
            Action::Work(work) => ActionResult::Work(work.run()),
            Action::Blob { op, action, .. } => {
                ActionResult::Blob { op, result: answer(action, store) }
            }
        };
        machine.handle(result);
    }
}

fn answer(action: BlobOp, store: &mut Store) -> Result<BlobDone, BlobError> {
    match action {
        BlobOp::PutPart { bytes, number, .. } => {
            store.insert(format!("part {number:05}"), bytes);
        }
        BlobOp::Put { object, bytes, .. } => {
            let is_part = |path: &String| path.starts_with("part ");
            let parts = store.iter().filter(|(path, _)| is_part(path));
            let data: Vec<u8> = parts.flat_map(|(_, bytes)| bytes.clone()).collect();
            store.retain(|path, _| !is_part(path));
            store.insert(format!("{}/data.db", object.backup), data.into());
            store.insert(object.path(), bytes);
        }
        BlobOp::Get { object, offset, len_bytes } => {
            let bytes = found(object, store)?;
            let end = bytes.len().min((offset + len_bytes) as usize);
            return Ok(BlobDone::Bytes(bytes.slice(offset as usize..end)));
        }
        BlobOp::Head { object } => {
            return Ok(BlobDone::Length(found(object, store)?.len() as u64));
        }
        _ => {}
    }
    Ok(BlobDone::Done)
}

fn found(object: ObjectName, store: &Store) -> Result<&Bytes, BlobError> {
    let path = object.path();
    let missing = BlobError { kind: BlobErrorKind::NotFound, message: path.clone() };
    store.get(&path).ok_or(missing)
}

//! What making a backup holds in memory, with three stores of which one stalls: `core/src/backup/bounds.rs` says how much it may be.
//!
//! The stores are servers in this process that speak as much of S3 as an upload needs, and keep nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use bytes::Bytes;
use peak_alloc::PeakAlloc;
use raftkv_core::api::{PutRequest, WriteOp};
use raftkv_core::backup::blob::{BlobOp, StoreIndex};
use raftkv_core::backup::bounds::{Bounds, MEMORY_BYTES};
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::create::{Create, Outcome, Settings, Source};
use raftkv_core::backup::provider::Provider;
use raftkv_core::backup::retry::Policy;
use raftkv_core::ids::{ClusterId, Epoch, NodeId, OpId};
use raftkv_core::kv::command::Action;
use raftkv_core::kv::{Command, KvState};
use raftkv_core::log::ConfState;
use raftkv_core::rng::Seed;
use raftkv_core::snapshot::{Encoder, Header};
use raftkv_core::time::Wall;
use raftkv_core::wire::peer::SnapshotMeta;
use raftkv_node::blob::{BlobStore, Pending, Piece, Storage, drive_create, open_provider};
use serde_json::json;
use std::future::pending;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use tokio::sync::mpsc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const NODE: NodeId = NodeId::new(1, 0);
/// Four times what may be held.
const KEYS: u64 = 4096;
const VALUE_BYTES: usize = 64 << 10;
const STORES: u8 = 3;
/// The client of the last store holds so many parts, of which none is answered, before the machine has to keep them.
const CLIENT_PARTS: usize = 4;

/// How many parts came to each store.
struct Arrived {
    /// So many come to the others while the last one answers to none: one less than there are, because a client keeps its newest part until there is
    /// another.
    ahead: usize,
    parts: Mutex<[usize; STORES as usize]>,
    changed: Condvar,
}

struct Stores(Vec<Box<dyn BlobStore>>);

impl Storage for Stores {
    fn submit_in(&mut self, store: StoreIndex, op: OpId, action: BlobOp) -> Pending {
        self.0[usize::from(store.0)].submit(op, action)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_stores_of_which_one_stalls_take_no_more_memory_than_one() {
    // As on a machine with many processors.
    let bounds = Bounds::for_processors(128);
    let ahead = CLIENT_PARTS + bounds.parts_in_flight - 1;
    let arrived = Arrived { ahead, parts: Mutex::default(), changed: Condvar::new() };
    let arrived = Arc::new(arrived);
    let stores = (0..STORES).map(|number| open(&serve(usize::from(number), arrived.clone())));
    let mut stores = Stores(stores.collect());
    // The state lives on, so that only what the backup takes makes a difference.
    let state = state();
    let (mut create, encoder) = begin(&state, bounds);
    let (pieces, stream) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        for bytes in encoder {
            pieces.blocking_send(Piece::Bytes(bytes)).unwrap();
        }
        pieces.blocking_send(Piece::End).unwrap();
    });
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    drive_create(&mut create, &mut stores, stream, pending(), |_| {}).await;
    let held = MEMORY.peak_usage() - before;
    let Some(Outcome::Complete(metadata)) = create.outcome() else {
        panic!("{:?}", create.outcome())
    };
    assert!(metadata.data_bytes >= 4 * MEMORY_BYTES);
    let parts = *arrived.parts.lock().unwrap();
    assert!(parts.iter().all(|count| *count > 50), "{parts:?}");
    assert!(held as u64 <= MEMORY_BYTES, "{held} bytes were held at once");
}

/// One that does not compress.
fn state() -> KvState {
    let mut rng = Seed::from_number(1).fork("values");
    let mut state = KvState::new();
    for number in 0..KEYS {
        let mut value = vec![0; VALUE_BYTES];
        rng.fill(&mut value);
        let put = PutRequest {
            key: format!("key/{number:05}").into(),
            value: Bytes::from(value),
            lease: 0,
            return_previous: false,
        };
        let action = Action::Write { session: None, op: WriteOp::Put(put) };
        state.apply(number + 1, &Command { log_time_ms: number, wall: Wall(0), action });
    }
    state
}

fn begin(state: &KvState, bounds: Bounds) -> (Create, Encoder) {
    let conf = ConfState { voters: vec![NODE], ..ConfState::default() };
    let header = Header {
        cluster: ClusterId(*b"sample cluster 1"),
        epoch: Epoch(1),
        meta: SnapshotMeta { index: KEYS, term: 3, conf },
        revision: state.revision(),
        state_hash: state.hash(),
        keys: state.keys(),
        bytes: state.bytes(),
    };
    let settings = Settings {
        compression: Compression::None,
        stores: STORES,
        recipients: Vec::new(),
        plain_is_said: false,
        version: "0.1.0".into(),
        bounds,
    };
    let source = Source::new(&header, NODE, Vec::new());
    let mut rng = Seed::from_number(2).fork("backup");
    let create = Create::new(source, settings, Wall(1_764_930_600_000), &mut rng).unwrap();
    (create, Encoder::new(header, state.items()))
}

fn open(endpoint: &str) -> Box<dyn BlobStore> {
    let provider: Provider = serde_json::from_value(json!({
        "type": "minio",
        "s3_bucket": "bucket",
        "s3_endpoint": endpoint,
        "s3_access_key": "access",
        "s3_secret_key": "secret",
    }))
    .unwrap();
    open_provider(&provider, "", Policy::default()).unwrap()
}

/// A store, and its endpoint. The last one answers to no part before the others have several. It ends with the process.
fn serve(number: usize, arrived: Arc<Arrived>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let arrived = arrived.clone();
            std::thread::spawn(move || answer(&mut stream.unwrap(), number, &arrived));
        }
    });
    format!("http://{address}")
}

/// One request for each connection.
fn answer(stream: &mut TcpStream, number: usize, arrived: &Arrived) -> Option<()> {
    let head = read(stream)?;
    let (status, body) = match head.split(' ').next()? {
        "HEAD" => (404, String::new()),
        "GET" => (200, "<ListMultipartUploadsResult/>".into()),
        "POST" if head.contains("uploadId=") => (200, "<CompleteMultipartUploadResult/>".into()),
        "POST" => {
            let started = "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>";
            (200, started.into())
        }
        _ if head.contains("partNumber=") => {
            arrived.take(number);
            (200, String::new())
        }
        _ => (200, String::new()),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} .\r\netag: \"1\"\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).ok()
}

impl Arrived {
    /// One more came to this store; returns when it may be answered.
    fn take(&self, number: usize) {
        let mut parts = self.parts.lock().unwrap();
        parts[number] += 1;
        self.changed.notify_all();
        let last = usize::from(STORES) - 1;
        if number == last {
            drop(
                self.changed.wait_while(parts, |parts| {
                    parts[..last].iter().any(|count| *count < self.ahead)
                }),
            );
        }
    }
}

/// A request's head. Its body is read to the end, and forgotten.
fn read(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: u64 = length.map_or(0, |length| length.parse().unwrap());
    std::io::copy(&mut stream.take(length), &mut std::io::sink()).ok()?;
    Some(head)
}

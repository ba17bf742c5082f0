//! A whole backup on a store: made, listed, verified, restored.

use super::suite::POLICY;
use bytes::Bytes;
use raftkv_core::api::PutRequest;
use raftkv_core::api::WriteOp;
use raftkv_core::backup::catalog::{Proof, ReadCatalog, Standing};
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::create::{Bounds, Create, Outcome, Settings, Source};
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::provider::Provider;
use raftkv_core::backup::read::{Access, ReadBounds};
use raftkv_core::backup::restore::Restore;
use raftkv_core::backup::verify::{Level, Verify};
use raftkv_core::backup::{Key, KeyRing};
use raftkv_core::ids::{ClusterId, Epoch, NodeId};
use raftkv_core::kv::command::Action;
use raftkv_core::kv::{Command, KvState};
use raftkv_core::log::ConfState;
use raftkv_core::rng::Seed;
use raftkv_core::snapshot::{Encoder, Header};
use raftkv_core::time::Wall;
use raftkv_core::wire::peer::SnapshotMeta;
use raftkv_node::blob::{BlobStore, Piece, drive, drive_create, open_provider};
use std::future::pending;
use tokio::sync::{mpsc, oneshot};

const NODE: NodeId = NodeId::new(1, 0);
/// Values that do not compress, so that there are several parts.
const KEYS: u64 = 250;
const VALUE_BYTES: usize = 64 << 10;

/// Makes one, and brings it back.
pub async fn goes_around(provider: &Provider) {
    let mut store = open_provider(provider, "backups/", POLICY).unwrap();
    let key = Key::draw(&mut Seed::from_number(1).fork("key"));
    let state = state();
    let made = create(store.as_mut(), &state, &key).await;
    let Outcome::Complete(metadata) = made else { panic!("{made:?}") };
    assert!(metadata.data_bytes > 2 * Bounds::default().part_bytes as u64);
    let access = || Access { keys: KeyRing::new([key.clone()]), plaintext: Plaintext::Refused };
    let mut catalog = ReadCatalog::new(KeyRing::new([key.clone()]));
    drive(&mut catalog, store.as_mut(), |_| {}).await;
    let catalog = catalog.outcome().unwrap().as_ref().unwrap().clone();
    let standings: Vec<_> =
        catalog.entries.iter().map(|entry| (entry.id, &entry.standing)).collect();
    assert_eq!(standings, [(metadata.id, &Standing::Complete(Proof::Authentic))]);
    let mut verify = Verify::new(metadata.id, Level::Decrypt, access(), ReadBounds::default());
    drive(&mut verify, store.as_mut(), |_| {}).await;
    assert!(verify.report().unwrap().result.is_ok());
    let mut restore = Restore::new(metadata.id, access(), ReadBounds::default());
    drive(&mut restore, store.as_mut(), |_| {}).await;
    assert_eq!(restore.take().unwrap().unwrap().state.hash(), state.hash());
}

/// Begins one whose stream stays open, and is told to stop when most of it is in the store.
pub async fn is_taken_back_when_told_to_stop(provider: &Provider) {
    let mut store = open_provider(provider, "backups/", POLICY).unwrap();
    let state = state();
    let mut create = begin(&state, &Key::draw(&mut Seed::from_number(1).fork("key")));
    let (pieces, stream) = mpsc::channel(2);
    let (stop, stopped) = oneshot::channel();
    let encoder = Encoder::new(header(&state), state.items());
    tokio::spawn(async move {
        for bytes in encoder.take(200) {
            pieces.send(Piece::Bytes(bytes)).await.unwrap();
        }
        stop.send(()).unwrap();
        pieces.closed().await;
    });
    let stop = async move { stopped.await.unwrap() };
    drive_create(&mut create, store.as_mut(), stream, stop, |_| {}).await;
    let Some(Outcome::Failed(failure)) = create.outcome() else { panic!("{:?}", create.outcome()) };
    assert!(failure.cause.to_string().contains("told to stop") && !failure.left_behind);
    let mut catalog = ReadCatalog::new(KeyRing::default());
    drive(&mut catalog, store.as_mut(), |_| {}).await;
    assert_eq!(catalog.outcome().unwrap().as_ref().unwrap().entries, []);
}

/// A backup of a state, sealed for a key.
pub async fn create(store: &mut dyn BlobStore, state: &KvState, key: &Key) -> Outcome {
    let mut create = begin(state, key);
    let (pieces, stream) = mpsc::channel(2);
    let encoder = Encoder::new(header(state), state.items());
    tokio::spawn(async move {
        for bytes in encoder {
            if pieces.send(Piece::Bytes(bytes)).await.is_err() {
                return;
            }
        }
        let _ = pieces.send(Piece::End).await;
    });
    drive_create(&mut create, store, stream, pending(), |_| {}).await;
    create.outcome().unwrap().clone()
}

fn begin(state: &KvState, key: &Key) -> Create {
    let header = header(state);
    let settings = Settings {
        compression: Compression::Gzip { level: 1 },
        stores: 1,
        recipients: vec![key.clone()],
        plain_is_said: false,
        version: "0.1.0".into(),
        bounds: Bounds::default(),
    };
    let source = Source::new(&header, NODE, Vec::new());
    let mut rng = Seed::from_number(2).fork("backup");
    Create::new(source, settings, Wall(1_764_930_600_000), &mut rng).unwrap()
}

/// A state of some megabytes.
pub fn state() -> KvState {
    let mut rng = Seed::from_number(3).fork("values");
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
        let wall = Wall(1_764_930_600_000);
        state.apply(number + 1, &Command { log_time_ms: number, wall, action });
    }
    state
}

fn header(state: &KvState) -> Header {
    Header {
        cluster: ClusterId(*b"sample cluster 1"),
        epoch: Epoch(1),
        meta: SnapshotMeta {
            index: KEYS,
            term: 3,
            conf: ConfState { voters: vec![NODE], ..ConfState::default() },
        },
        revision: state.revision(),
        state_hash: state.hash(),
        keys: state.keys(),
        bytes: state.bytes(),
    }
}

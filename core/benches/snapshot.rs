//! Snapshots of keys with values of 100 bytes: encoding, decoding, loading into a state, and the JSON form.

use bytes::Bytes;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use raftkv_core::api::{PutRequest, WriteOp};
use raftkv_core::ids::{ClusterId, Epoch, Identity, NodeId};
use raftkv_core::kv::{Action, Command, Item, KvState};
use raftkv_core::snapshot::json::{Exporter, Importer};
use raftkv_core::snapshot::{Decoder, Encoder, Header, Loader};
use raftkv_core::time::Wall;
use raftkv_core::wire::peer::SnapshotMeta;

const KEYS: u64 = 200_000;
const PIECE_BYTES: usize = 512 << 10;

fn main() {
    divan::main();
}

fn state() -> KvState {
    let mut state = KvState::new();
    for number in 0..KEYS {
        let put = PutRequest {
            key: format!("users/{number:010}").into(),
            value: vec![number as u8; 100].into(),
            lease: 0,
            return_previous: false,
        };
        let action = Action::Write { session: None, op: WriteOp::Put(put) };
        state.apply(2 + number, &Command { log_time_ms: 1, wall: Wall(0), action });
    }
    state
}

fn header(state: &KvState) -> Header {
    let identity =
        Identity { cluster: ClusterId([1; 16]), epoch: Epoch(0), node: NodeId::new(1, 0) };
    Header::of(&identity, SnapshotMeta { index: KEYS, term: 2, ..SnapshotMeta::default() }, state)
}

fn file(state: &KvState) -> Vec<Bytes> {
    Encoder::new(header(state), state.items()).collect()
}

fn length(chunks: &[Bytes]) -> usize {
    chunks.iter().map(Bytes::len).sum()
}

/// From items to bytes.
#[divan::bench]
fn encode_items(bencher: Bencher<'_, '_>) {
    let state = state();
    let items: Vec<Item> = state.items().collect();
    let bytes = length(&file(&state));
    bencher
        .counter(BytesCount::new(bytes))
        .counter(ItemsCount::new(KEYS))
        .with_inputs(|| items.clone())
        .bench_values(|items| Encoder::new(header(&state), items.into_iter()).count());
}

/// From a state to bytes: what a node does.
#[divan::bench]
fn encode_state(bencher: Bencher<'_, '_>) {
    let state = state();
    let bytes = length(&file(&state));
    bencher
        .counter(BytesCount::new(bytes))
        .counter(ItemsCount::new(KEYS))
        .bench(|| Encoder::new(header(&state), state.items()).count());
}

/// From bytes to items.
#[divan::bench]
fn decode_items(bencher: Bencher<'_, '_>) {
    let file = file(&state()).concat();
    bencher.counter(BytesCount::new(file.len())).counter(ItemsCount::new(KEYS)).bench(|| {
        let mut decoder = Decoder::new();
        let items: usize =
            file.chunks(PIECE_BYTES).map(|piece| decoder.push(piece).expect("whole").len()).sum();
        (items, decoder.finish().expect("whole"))
    });
}

/// From bytes to a state: what a start and a restore do.
#[divan::bench]
fn load_state(bencher: Bencher<'_, '_>) {
    let file = file(&state()).concat();
    bencher.counter(BytesCount::new(file.len())).counter(ItemsCount::new(KEYS)).bench(|| {
        let mut loader = Loader::new();
        file.chunks(PIECE_BYTES).for_each(|piece| loader.push(piece).expect("whole"));
        loader.finish().expect("whole")
    });
}

/// From items to JSON lines.
#[divan::bench]
fn export_json(bencher: Bencher<'_, '_>) {
    let state = state();
    let items: Vec<Item> = state.items().collect();
    let bytes = length(&file(&state));
    bencher.counter(BytesCount::new(bytes)).bench(|| {
        let mut exporter = Exporter::new();
        items.iter().map(|item| exporter.item(item).len()).sum::<usize>()
    });
}

/// From JSON lines to items.
#[divan::bench]
fn import_json(bencher: Bencher<'_, '_>) {
    let state = state();
    let mut exporter = Exporter::new();
    let mut text = exporter.header(&header(&state));
    state.items().for_each(|item| text += &exporter.item(&item));
    text += &exporter.end();
    bencher.counter(BytesCount::new(text.len())).bench(|| {
        let mut importer = Importer::new();
        let items: usize = text
            .as_bytes()
            .chunks(PIECE_BYTES)
            .map(|piece| importer.push(piece).expect("whole").len())
            .sum();
        (items, importer.finish().expect("whole"))
    });
}

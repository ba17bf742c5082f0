//! The key-value state: applying writes, and reading ranges, with keys and values as in the comparison with etcd.

use divan::Bencher;
use divan::counter::ItemsCount;
use raftkv_core::api::{KeyRange, PutRequest, RangeRequest, WriteOp};
use raftkv_core::kv::{Action, Command, KvState};
use raftkv_core::time::Wall;

const WRITES: u64 = 10_000;
const PAGE_KEYS: u64 = 1_000;
const RANGE_BYTES: usize = 4 << 20;

fn main() {
    divan::main();
}

fn key(number: u64) -> String {
    format!("bench/{number:012}")
}

/// A write of key `number` by the entry at `index`.
fn put(index: u64, number: u64) -> Command {
    let put = PutRequest {
        key: key(number).into(),
        value: vec![index as u8; 100].into(),
        lease: 0,
        return_previous: false,
    };
    let action = Action::Write { session: None, op: WriteOp::Put(put) };
    Command { log_time_ms: 1, wall: Wall(0), action }
}

fn state(keys: u64) -> KvState {
    let mut state = KvState::new();
    for number in 0..keys {
        state.apply(1 + number, &put(1 + number, number));
    }
    state
}

/// Spread over all keys, without repeating any soon.
fn spread(number: u64, keys: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys
}

/// Writes of new keys, in order.
#[divan::bench]
fn apply_new_keys(bencher: Bencher<'_, '_>) {
    let commands: Vec<Command> = (1..=WRITES).map(|index| put(index, index)).collect();
    bencher.counter(ItemsCount::new(WRITES)).with_inputs(KvState::new).bench_values(|mut state| {
        for (command, index) in commands.iter().zip(1..) {
            state.apply(index, command);
        }
        state
    });
}

/// Writes of keys that are there, anywhere among so many.
#[divan::bench(args = [10_000, 1_000_000])]
fn apply_anywhere(bencher: Bencher<'_, '_>, keys: u64) {
    let mut state = state(keys);
    let commands: Vec<Command> =
        (0..WRITES).map(|number| put(number, spread(number, keys))).collect();
    bencher.counter(ItemsCount::new(WRITES)).bench_local(|| {
        for command in &commands {
            state.apply(keys, command);
        }
    });
}

/// The same while a frozen view is held, as when a snapshot is written: what the writes touch is copied first.
#[divan::bench(args = [10_000, 1_000_000])]
fn apply_anywhere_beside_a_view(bencher: Bencher<'_, '_>, keys: u64) {
    let state = state(keys);
    let commands: Vec<Command> =
        (0..WRITES).map(|number| put(number, spread(number, keys))).collect();
    bencher.counter(ItemsCount::new(WRITES)).with_inputs(|| state.clone()).bench_local_values(
        |mut state| {
            for command in &commands {
                state.apply(keys, command);
            }
            state
        },
    );
}

/// Reads of one key, anywhere among a million.
#[divan::bench]
fn read_one(bencher: Bencher<'_, '_>) {
    let state = state(1_000_000);
    let requests: Vec<RangeRequest> = (0..WRITES)
        .map(|number| RangeRequest::new(KeyRange::one(key(spread(number, 1_000_000)))))
        .collect();
    bencher.counter(ItemsCount::new(WRITES)).bench(|| {
        let found = |request| state.range(request, RANGE_BYTES).expect("it is readable").count;
        requests.iter().map(found).sum::<u64>()
    });
}

/// A page of keys with their values.
#[divan::bench]
fn read_page(bencher: Bencher<'_, '_>) {
    let state = state(PAGE_KEYS);
    let request = RangeRequest::new(KeyRange::all());
    bencher
        .counter(ItemsCount::new(PAGE_KEYS))
        .bench(|| state.range(&request, RANGE_BYTES).expect("it is readable"));
}

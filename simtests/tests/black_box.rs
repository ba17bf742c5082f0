//! Linearizability from outside, on a sample of seeds: a second opinion that shares no code with the checkers of the simulation.

mod linearizability;

use bytes::Bytes;
use linearizability::{Operation, Verdict, check};
use raftkv_core::api::{
    Compare, CompareOp, CompareTarget, DeleteRequest, KeyRange, KeyValue, PutRequest, RangeRequest,
    RangeResponse, Request, Response, TxnOp, TxnOpResult, TxnRequest, WriteOp, WriteResult,
};
use raftkv_sim::history::{History, Outcome};
use raftkv_sim::world::World;
use raftkv_sim::world::options::{Options, Ring};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Seeds 0 up to this.
const SEEDS: u64 = 150;

#[test]
fn sampled_seeds_are_linearizable() {
    let (next, steps, caught) = (AtomicU64::new(0), AtomicUsize::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..simtests::campaign::all_processors() {
            scope.spawn(|| {
                while let seed @ 0..SEEDS = next.fetch_add(1, Ordering::Relaxed) {
                    let mut history = seen_by_clients(seed);
                    let verdict = check(&history);
                    steps.fetch_add(verdict.steps, Ordering::Relaxed);
                    let fine = Verdict { steps: verdict.steps, ..Verdict::default() };
                    assert_eq!(verdict, fine, "{}", simtests::reproduce(Ring::Models, seed));
                    // The same history with one stale answer must not pass.
                    if let Some(key) = make_a_read_stale(&mut history) {
                        assert_eq!(check(&history).illegal, [key], "seed {seed} with a stale read");
                        caught.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (steps, caught) = (steps.into_inner(), caught.into_inner());
    println!("{SEEDS} seeds, {steps} steps at keys, {caught} planted stale reads");
    assert!(steps as u64 > 100 * SEEDS, "only {steps} steps were looked at");
    assert!(caught > SEEDS / 4, "only {caught} histories had a read to make stale");
}

fn seen_by_clients(seed: u64) -> Vec<Operation> {
    let mut options = Options::draw(seed);
    // The search explodes with the requests that overlap at one key.
    options.workload.pipeline = 1;
    // What the operator puts back from backups no client knows of.
    options.backups.every = None;
    let (_, History { operations, .. }) = World::new(options, None).run_recorded();
    let operation = |operation: raftkv_sim::history::Operation| {
        let answer = match operation.outcome {
            Outcome::Refused(_) => return None,
            Outcome::Unknown => None,
            Outcome::Done(response) => Some((operation.end.0, response)),
        };
        let (client, call) = (operation.client, operation.call.0);
        Some(Operation { client, call, request: operation.request, answer })
    };
    operations.into_iter().filter_map(operation).collect()
}

/// Lets a read that began after two puts of its key, one after the other, answer with the first. Gives the key.
fn make_a_read_stale(history: &mut [Operation]) -> Option<Bytes> {
    let puts: Vec<(Bytes, Bytes, u64, u64)> = history
        .iter()
        .filter_map(|operation| match (&operation.request, &operation.answer) {
            (Request::Write { op: WriteOp::Put(put), .. }, Some((end, _))) => {
                Some((put.key.clone(), put.value.clone(), operation.call, *end))
            }
            _ => None,
        })
        .collect();
    history.iter_mut().find_map(|operation| {
        let plain = |key: &Bytes| Request::Range(RangeRequest::new(KeyRange::one(key.clone())));
        let Some((_, Response::Range(response))) = &mut operation.answer else { return None };
        let kv = response.kvs.first_mut()?;
        let of_key = || puts.iter().filter(|(key, ..)| *key == kv.key);
        let second = of_key().rfind(|(.., end)| *end < operation.call)?;
        let first = of_key().find(|(.., end)| *end < second.2)?;
        if operation.request != plain(&kv.key) {
            return None;
        }
        kv.value = first.1.clone();
        Some(kv.key.clone())
    })
}

fn operation(
    client: u32,
    (call, end): (u64, u64),
    request: Request,
    response: Response,
) -> Operation {
    Operation { client, call, request, answer: Some((end, response)) }
}

fn kv(value: &'static str) -> KeyValue {
    KeyValue {
        key: "k".into(),
        value: value.into(),
        create_revision: 0,
        mod_revision: 0,
        version: 0,
        lease: 0,
    }
}

fn put_of(value: &'static str, lease: u64) -> PutRequest {
    PutRequest { key: "k".into(), value: value.into(), lease, return_previous: false }
}

fn write(op: WriteOp) -> Request {
    Request::Write { session: None, op }
}

fn put(client: u32, time: (u64, u64), value: &'static str) -> Operation {
    let result = WriteResult::Put { revision: 0, previous: None };
    operation(client, time, write(WriteOp::Put(put_of(value, 0))), Response::Write(result))
}

/// A put whose outcome nobody knows.
fn lost_put(client: u32, call: u64, value: &'static str, lease: u64) -> Operation {
    Operation { client, call, request: write(WriteOp::Put(put_of(value, lease))), answer: None }
}

fn range_of(value: Option<&'static str>) -> RangeResponse {
    let kvs: Vec<KeyValue> = value.map(kv).into_iter().collect();
    RangeResponse { revision: 0, count: kvs.len() as u64, kvs, more: false }
}

fn get(client: u32, time: (u64, u64), value: Option<&'static str>) -> Operation {
    let request = RangeRequest::new(KeyRange::one("k"));
    operation(client, time, Request::Range(request), Response::Range(range_of(value)))
}

fn get_all(client: u32, time: (u64, u64), value: Option<&'static str>) -> Operation {
    let request = RangeRequest::new(KeyRange::all());
    operation(client, time, Request::Range(request), Response::Range(range_of(value)))
}

fn delete(client: u32, time: (u64, u64), previous: Option<&'static str>) -> Operation {
    let previous: Vec<KeyValue> = previous.map(kv).into_iter().collect();
    let request = DeleteRequest { range: KeyRange::one("k"), return_previous: true };
    let deleted = previous.len() as u64;
    let result = WriteResult::Delete { revision: 0, deleted, previous };
    operation(client, time, write(WriteOp::Delete(request)), Response::Write(result))
}

/// Compare and swap; one that fails reads the key.
fn swap(old: &'static str, new: &'static str) -> Request {
    let target = CompareTarget::Value(old.into());
    let compare = Compare { range: KeyRange::one("k"), op: CompareOp::Equal, target };
    let txn = TxnRequest {
        compares: vec![compare],
        success: vec![TxnOp::Put(put_of(new, 0))],
        failure: vec![TxnOp::Range(RangeRequest::new(KeyRange::one("k")))],
    };
    write(WriteOp::Txn(txn))
}

fn swapped(client: u32, time: (u64, u64), old: &'static str, new: &'static str) -> Operation {
    let results = vec![TxnOpResult::Put(None)];
    let result = WriteResult::Txn { revision: 0, succeeded: true, results };
    operation(client, time, swap(old, new), Response::Write(result))
}

fn not_swapped(client: u32, time: (u64, u64), old: &'static str, found: &'static str) -> Operation {
    let results = vec![TxnOpResult::Range(range_of(Some(found)))];
    let result = WriteResult::Txn { revision: 0, succeeded: false, results };
    operation(client, time, swap(old, "never"), Response::Write(result))
}

#[test]
fn good_histories_pass() {
    let good: &[(&str, Vec<Operation>)] = &[
        ("one after the other", vec![put(1, (0, 1), "a"), get(2, (2, 3), Some("a"))]),
        (
            "two at once, read in either order",
            vec![
                put(1, (0, 9), "a"),
                put(2, (0, 9), "b"),
                get(3, (1, 2), Some("b")),
                get(3, (3, 4), Some("a")),
            ],
        ),
        ("ends and begins at one moment", vec![put(1, (0, 5), "a"), get(2, (5, 6), None)]),
        (
            "unknown, and seen late",
            vec![put(1, (0, 1), "a"), lost_put(2, 2, "b", 0), get(3, (8, 9), Some("b"))],
        ),
        (
            "unknown, and never seen",
            vec![put(1, (0, 1), "a"), lost_put(2, 2, "b", 0), get(3, (8, 9), Some("a"))],
        ),
        (
            "an unknown swap that was done",
            vec![
                put(1, (0, 1), "a"),
                Operation { client: 2, call: 2, request: swap("a", "b"), answer: None },
                swapped(3, (3, 4), "b", "c"),
                get_all(1, (5, 6), Some("c")),
            ],
        ),
        (
            "a leased key that went by itself",
            vec![
                put(1, (0, 1), "a"),
                lost_put(2, 2, "b", 7),
                get(3, (8, 9), None),
                delete(3, (10, 11), None),
            ],
        ),
        (
            "swaps and deletions",
            vec![
                put(1, (0, 1), "a"),
                swapped(2, (2, 3), "a", "b"),
                not_swapped(1, (2, 5), "a", "b"),
                delete(2, (6, 7), Some("b")),
                get_all(1, (8, 9), None),
            ],
        ),
    ];
    for (story, history) in good {
        let verdict = check(history);
        assert!(verdict.illegal.is_empty() && verdict.unknown.is_empty(), "{story}: {verdict:?}");
    }
}

#[test]
fn bad_histories_do_not() {
    let bad: &[(&str, Vec<Operation>)] = &[
        ("a stale read", vec![put(1, (0, 1), "a"), put(1, (2, 3), "b"), get(2, (4, 5), Some("a"))]),
        ("a lost write", vec![put(1, (0, 1), "a"), get(2, (2, 3), None)]),
        ("a lost write, in a range", vec![put(1, (0, 1), "a"), get_all(2, (2, 3), None)]),
        ("a value out of nowhere", vec![put(1, (0, 1), "a"), get(2, (2, 3), Some("z"))]),
        ("a read from the future", vec![get(2, (0, 1), Some("a")), put(1, (2, 3), "a")]),
        (
            "reads that go back",
            vec![
                put(1, (0, 1), "a"),
                put(1, (2, 9), "b"),
                get(2, (3, 4), Some("b")),
                get(2, (5, 6), Some("a")),
            ],
        ),
        (
            "two who swapped the same value",
            vec![put(1, (0, 1), "a"), swapped(1, (2, 5), "a", "b"), swapped(2, (2, 5), "a", "c")],
        ),
        (
            "a swap that failed for nothing",
            vec![put(1, (0, 1), "a"), put(1, (2, 3), "b"), not_swapped(2, (4, 5), "x", "a")],
        ),
        (
            "a deleted key that came back",
            vec![put(1, (0, 1), "a"), delete(1, (2, 3), Some("a")), get(2, (4, 5), Some("a"))],
        ),
        (
            "an unknown write that was seen, and then not",
            vec![
                put(1, (0, 1), "a"),
                lost_put(2, 2, "b", 0),
                get(3, (4, 5), Some("b")),
                get(3, (6, 7), Some("a")),
            ],
        ),
        (
            "an unknown write that was seen before it was asked for",
            vec![get(3, (0, 1), Some("b")), lost_put(2, 2, "b", 0)],
        ),
        (
            "a key without a lease that went by itself",
            vec![put(1, (0, 1), "a"), lost_put(2, 2, "b", 0), get(3, (8, 9), None)],
        ),
    ];
    for (story, history) in bad {
        assert_eq!(check(history).illegal, ["k"], "{story}");
    }
}

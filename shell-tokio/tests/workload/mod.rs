//! Clients that put, read, delete and swap a few keys at once, and write down what they asked and were told.
//!
//! Invariants: no value is written twice; a request that the client library says was not applied is left out, so that a value
//! of it which shows up nevertheless comes out of nowhere.

use super::linearizability::Operation;
use bytes::Bytes;
use raftkv_core::api::{
    Compare, CompareOp, CompareTarget, DeleteRequest, Error, KeyRange, PutRequest, RangeRequest,
    RangeResponse, Request, Response, TxnOp, TxnOpResult, TxnRequest, WriteOp, WriteResult,
};
use raftkv_core::rng::Rng;
use raftkv_node::client::{Client, ClientError};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Clients at once.
pub const CLIENTS: u32 = 7;
/// Keys of one history: few enough that clients meet, many enough that each key's history stays short.
const KEYS: u64 = 12;
/// Between two requests of a client, at most.
const THINK: Duration = Duration::from_millis(40);
/// Values take several sectors.
const PADDING_BYTES_MAX: u64 = 3_000;

/// What clients did and saw.
pub struct Record {
    name: u64,
    began: Instant,
    stopped: AtomicBool,
    answers: AtomicUsize,
    operations: Mutex<Vec<Operation>>,
}

impl Record {
    /// An empty one, about keys that are named after it.
    pub fn new(name: u64) -> Record {
        Record {
            name,
            began: Instant::now(),
            stopped: AtomicBool::new(false),
            answers: AtomicUsize::new(0),
            operations: Mutex::default(),
        }
    }

    /// No client begins a new request.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Requests answered so far.
    pub fn answers(&self) -> usize {
        self.answers.load(Ordering::SeqCst)
    }

    /// Everything there is.
    pub fn take(&self) -> Vec<Operation> {
        std::mem::take(&mut *self.lock())
    }

    fn keys(&self) -> impl Iterator<Item = Bytes> {
        (0..KEYS).map(|number| self.key(number))
    }

    fn key(&self, number: u64) -> Bytes {
        format!("{}/{number:02}", self.name).into()
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks until the record is stopped.
pub async fn run(client: Client, number: u32, record: std::sync::Arc<Record>, rng: Rng) {
    let mut worker = Worker { client, number, rng, values: 0, known: BTreeMap::new() };
    while !record.stopped.load(Ordering::SeqCst) {
        let request = worker.wish(&record);
        worker.ask(&record, request).await;
        let think = worker.rng.below(THINK.as_millis() as u64);
        sleep(Duration::from_millis(think)).await;
    }
    worker.client.close().await;
}

/// Reads every key, until each was read.
pub async fn read_everything(client: &Client, record: &Record) {
    for key in record.keys() {
        let request = Request::Range(RangeRequest::new(KeyRange::one(key)));
        let deadline = Instant::now() + super::PATIENCE;
        while !ask(client, CLIENTS, record, request.clone()).await {
            assert!(Instant::now() < deadline, "the last read of a key gets no answer");
        }
    }
}

/// How many revisions the requests made if each was done once, at least and at most.
pub fn revisions(history: &[Operation]) -> RangeInclusive<u64> {
    let (mut least, mut most) = (0, 0);
    for operation in history {
        let Request::Write { op, .. } = &operation.request else { continue };
        let made = match (op, operation.answer.as_ref().map(|(_, response)| response)) {
            (WriteOp::Put(_), Some(_)) => Some(true),
            (_, Some(Response::Write(WriteResult::Delete { deleted, .. }))) => Some(*deleted > 0),
            (_, Some(Response::Write(WriteResult::Txn { succeeded, .. }))) => Some(*succeeded),
            _ => None,
        };
        least += u64::from(made == Some(true));
        most += u64::from(made != Some(false));
    }
    least..=most
}

/// What happened to some keys, a line for each request that names one, or many keys at once.
pub fn story<'a>(history: &[Operation], keys: impl Iterator<Item = &'a Bytes>) -> String {
    let names: Vec<String> = keys.map(|key| format!("{key:?}")).collect();
    let lines = history.iter().map(|operation| format!("{operation:?}").replace("....", ""));
    let told = |line: &String| {
        line.contains("Before(") || names.iter().any(|name| line.contains(name.as_str()))
    };
    lines.filter(told).collect::<Vec<_>>().join("\n")
}

struct Worker {
    client: Client,
    number: u32,
    rng: Rng,
    values: u64,
    /// The value that this client last knew of each key.
    known: BTreeMap<Bytes, Bytes>,
}

impl Worker {
    fn wish(&mut self, record: &Record) -> Request {
        let key = record.key(self.rng.below(KEYS));
        let return_previous = self.rng.below(2) == 0;
        let op = match self.rng.below(100) {
            0..40 => WriteOp::Put(PutRequest { return_previous, ..self.put(key) }),
            40..65 => return Request::Range(RangeRequest::new(KeyRange::one(key))),
            65..72 => {
                let range = KeyRange::prefix(format!("{}/", record.name));
                return Request::Range(RangeRequest::new(range));
            }
            72..82 => WriteOp::Delete(DeleteRequest { range: KeyRange::one(key), return_previous }),
            _ => self.swap(key),
        };
        Request::Write { session: None, op }
    }

    /// Replaces the value that it knows, or else tells what is there.
    fn swap(&mut self, key: Bytes) -> WriteOp {
        let target = match self.known.get(&key) {
            Some(value) => CompareTarget::Value(value.clone()),
            None => CompareTarget::Version(0),
        };
        let range = KeyRange::one(key.clone());
        WriteOp::Txn(TxnRequest {
            compares: vec![Compare { range: range.clone(), op: CompareOp::Equal, target }],
            success: vec![TxnOp::Put(self.put(key))],
            failure: vec![TxnOp::Range(RangeRequest::new(range))],
        })
    }

    fn put(&mut self, key: Bytes) -> PutRequest {
        self.values += 1;
        let mut value = format!("c{}.{}", self.number, self.values).into_bytes();
        let padding = self.rng.below(PADDING_BYTES_MAX) as usize;
        value.resize(value.len() + padding, b'.');
        PutRequest { key, value: value.into(), lease: 0, return_previous: false }
    }

    async fn ask(&mut self, record: &Record, request: Request) {
        if ask(&self.client, self.number, record, request).await {
            let operations = record.lock();
            let own = operations.iter().rev().find(|operation| operation.client == self.number);
            let own = own.expect("it was just written down").clone();
            drop(operations);
            self.learn(&own);
        }
    }

    fn learn(&mut self, operation: &Operation) {
        let Some((_, response)) = &operation.answer else { return };
        let mut learn = |key: &Bytes, range: &RangeResponse| {
            match range.kvs.iter().find(|kv| kv.key == key) {
                Some(kv) => self.known.insert(key.clone(), kv.value.clone()),
                None => self.known.remove(key),
            };
        };
        match (&operation.request, response) {
            (Request::Range(request), Response::Range(range)) => {
                learn(&request.range.start, range);
            }
            (
                Request::Write { op: WriteOp::Txn(txn), .. },
                Response::Write(WriteResult::Txn { results, .. }),
            ) => {
                if let [TxnOpResult::Range(range)] = &results[..] {
                    learn(&txn.compares[0].range.start, range);
                }
            }
            _ => {}
        }
    }
}

/// Asks once, and writes down what came of it. False if nothing is known to have come of it.
async fn ask(client: &Client, number: u32, record: &Record, request: Request) -> bool {
    let call = record.now();
    let operation = |answer| Operation { client: number, call, request: request.clone(), answer };
    let answer = match &request {
        Request::Range(range) => client.range(range.clone()).await.map(Response::Range),
        Request::Write { op, .. } => client.write(op.clone()).await.map(Response::Write),
        other => panic!("no client asks for {other:?}"),
    };
    match answer {
        Ok(response) => {
            record.lock().push(operation(Some((record.now(), response))));
            record.answers.fetch_add(1, Ordering::SeqCst);
            true
        }
        Err(ClientError::OutcomeUnknown { .. }) => {
            record.lock().push(operation(None));
            false
        }
        Err(ClientError::Unreachable { .. } | ClientError::Timeout { .. }) => false,
        Err(ClientError::Refused(error)) if error.retryable() => false,
        // A session that was forgotten, or its number: the write did nothing.
        Err(ClientError::Refused(Error::SessionUnknown(_) | Error::SequenceForgotten { .. })) => {
            false
        }
        Err(error) => panic!("{request:?}: {error}"),
    }
}

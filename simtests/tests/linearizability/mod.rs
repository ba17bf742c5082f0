//! Linearizability seen from outside: what clients asked and were told, against a model of single keys, by porcupine-rs
//! (the search of Wing and Gong with Lowe's memory).
//!
//! Nothing of the inside helps here: no log, no revisions. Requests over many keys are looked at key by key, which can miss a
//! violation between keys, but never make one up. What the model leaves out for the same reason: stale and historical reads, answers
//! that only count. Values must never be written twice.
//!
//! Requests of unknown outcome would make the search explode, so they are pruned as etcd's robustness tests do: one whose value nobody ever
//! saw is left out, one whose value was seen had been done before the first answer that shows it. Only what may have deleted a key stays open for ever.

use bytes::Bytes;
use porcupine_rs::{CheckResult, Model};
use raftkv_core::api::{
    Compare, CompareOp, CompareTarget, Consistency, KeyRange, KeyValue, PutRequest, RangeEnd,
    RangeRequest, RangeResponse, Request, Response, TxnOp, TxnOpResult, TxnRequest, WriteOp,
    WriteResult,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One request that was not refused.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who asked.
    pub client: u32,
    /// When, on any clock that all clients share.
    pub call: u64,
    /// What.
    pub request: Request,
    /// The answer and when it came; `None` when the outcome is not known.
    pub answer: Option<(u64, Response)>,
}

/// What a whole history was found to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Keys whose history cannot be.
    pub illegal: Vec<Bytes>,
    /// Keys whose search took too long.
    pub unknown: Vec<Bytes>,
    /// Steps that were looked at, all keys together.
    pub steps: usize,
}

/// More clients at a key than this make the search explode.
const CLIENTS_MAX: usize = 8;
/// What one key's search may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Checks every key by itself.
pub fn check(history: &[Operation]) -> Verdict {
    let mut verdict = Verdict::default();
    for (key, steps) in project(history) {
        let clients: BTreeSet<u32> = steps.iter().map(|step| step.client).collect();
        assert!(clients.len() <= CLIENTS_MAX, "{} clients meet at {key:?}", clients.len());
        verdict.steps += steps.len();
        let steps: Vec<_> = steps.into_iter().map(Step::into_porcupine).collect();
        // The call that also explains itself takes workers that were stopped in time for failed ones.
        match porcupine_rs::check_operations_timeout::<SingleKey>(&steps, PATIENCE) {
            CheckResult::Ok => {}
            CheckResult::Illegal => verdict.illegal.push(key),
            CheckResult::Unknown => verdict.unknown.push(key),
        }
    }
    verdict
}

/// A key's value, and whether a lease may take it away at any time.
type State = Option<(Bytes, bool)>;

#[derive(Clone)]
struct SingleKey;

/// What one request saw of one key and then did to it.
#[derive(Clone, Debug)]
struct Touch {
    /// The key's value, or that there was none.
    seen: Vec<Option<Bytes>>,
    effect: Effect,
}

#[derive(Clone, Debug)]
enum Effect {
    Keep,
    Set { value: Bytes, leased: bool },
    Clear,
}

impl Model for SingleKey {
    type State = State;
    type Op = Touch;
    type Metadata = ();

    fn init() -> State {
        None
    }

    fn step(state: &State, touch: &Touch) -> (bool, State) {
        let mut state = state.clone();
        for seen in &touch.seen {
            match (&state, seen) {
                (Some((value, _)), Some(seen)) if value == seen => {}
                (None, None) => {}
                (Some((_, true)), None) => state = None,
                _ => return (false, state),
            }
        }
        let state = match &touch.effect {
            Effect::Keep => state,
            Effect::Set { value, leased } => Some((value.clone(), *leased)),
            Effect::Clear => None,
        };
        (true, state)
    }
}

/// A touch with its place in time.
struct Step {
    client: u32,
    call: u64,
    /// Never, if it is not known to have been done.
    end: Option<u64>,
    touch: Touch,
}

impl Step {
    fn into_porcupine(self) -> porcupine_rs::Operation<SingleKey> {
        // At one moment requests begin before others end: as if they overlapped.
        let place = |time: u64, after: i64| {
            i64::try_from(time)
                .map_or(i64::MAX, |time| time.saturating_mul(2).saturating_add(after))
        };
        porcupine_rs::Operation {
            client_id: Some(self.client),
            call_time: place(self.call, 0),
            return_time: self.end.map_or(i64::MAX, |end| place(end, 1)),
            op: self.touch,
            metadata: None,
        }
    }
}

/// Each key's part of the history.
fn project(history: &[Operation]) -> BTreeMap<Bytes, Vec<Step>> {
    let keys = written_keys(history);
    let mut steps: BTreeMap<Bytes, Vec<Step>> = BTreeMap::new();
    // When each value was first certainly there.
    let mut first_seen: BTreeMap<(Bytes, Bytes), u64> = BTreeMap::new();
    let mut open = Vec::new();
    for operation in history {
        let Operation { client, call, .. } = *operation;
        let answered = operation.answer.as_ref();
        let told = answered.map(|(end, response)| (*end, touches(operation, response, &keys)));
        let Some((end, Some(touches))) = told else {
            open.push(operation);
            continue;
        };
        for (key, touch) in touches {
            for value in touch.seen.iter().flatten() {
                let first = first_seen.entry((key.clone(), value.clone())).or_insert(end);
                *first = end.min(*first);
            }
            steps.entry(key).or_default().push(Step { client, call, end: Some(end), touch });
        }
    }
    for operation in open {
        let Operation { client, call, .. } = *operation;
        for (key, effect) in possible_effects(&operation.request, &keys) {
            let seen_at = |value: &Bytes| first_seen.get(&(key.clone(), value.clone())).copied();
            let (effect, end) = match effect {
                Effect::Keep => continue,
                Effect::Clear => (Effect::Clear, None),
                Effect::Set { ref value, leased } => match seen_at(value) {
                    Some(end) => (effect, Some(end)),
                    // It may have come and gone, with what was there before.
                    None if leased => (Effect::Clear, None),
                    None => continue,
                },
            };
            let touch = Touch { seen: Vec::new(), effect };
            steps.entry(key).or_default().push(Step { client, call, end, touch });
        }
    }
    steps
}

/// All keys that anybody may have written.
fn written_keys(history: &[Operation]) -> BTreeSet<Bytes> {
    let mut keys = BTreeSet::new();
    for operation in history {
        match &operation.request {
            Request::Write { op: WriteOp::Put(put), .. } => drop(keys.insert(put.key.clone())),
            Request::Write { op: WriteOp::Txn(txn), .. } => {
                keys.extend(txn.success.iter().chain(&txn.failure).filter_map(|op| match op {
                    TxnOp::Put(put) => Some(put.key.clone()),
                    TxnOp::Range(_) | TxnOp::Delete(_) => None,
                }));
            }
            _ => {}
        }
    }
    keys
}

/// The touches of one request, at most one a key.
struct Touches<'a> {
    keys: &'a BTreeSet<Bytes>,
    touches: BTreeMap<Bytes, Touch>,
}

/// What an answered request saw and did; `None` when the answer does not tell.
fn touches(
    operation: &Operation,
    response: &Response,
    keys: &BTreeSet<Bytes>,
) -> Option<BTreeMap<Bytes, Touch>> {
    let mut touches = Touches { keys, touches: BTreeMap::new() };
    match (&operation.request, response) {
        (Request::Range(request), Response::Range(response))
            if request.consistency == Consistency::Linearizable =>
        {
            touches.range(request, response);
        }
        (Request::Write { op: WriteOp::Put(put), .. }, Response::Write(result)) => match result {
            WriteResult::Put { previous, .. } => touches.put(put, previous.as_ref()),
            _ => touches.put(&PutRequest { return_previous: false, ..put.clone() }, None),
        },
        (Request::Write { op: WriteOp::Delete(delete), .. }, Response::Write(result)) => {
            match result {
                WriteResult::Delete { deleted, previous, .. } => {
                    touches.delete(&delete.range, *deleted, delete.return_previous, previous);
                }
                _ => touches.delete(&delete.range, 1, false, &[]),
            }
        }
        (Request::Write { op: WriteOp::Txn(txn), .. }, Response::Write(result)) => {
            let WriteResult::Txn { succeeded, results, .. } = result else { return None };
            touches.txn(txn, *succeeded, results);
        }
        _ => {}
    }
    Some(touches.touches)
}

impl Touches<'_> {
    fn at(&mut self, key: &Bytes) -> &mut Touch {
        let nothing = Touch { seen: Vec::new(), effect: Effect::Keep };
        self.touches.entry(key.clone()).or_insert(nothing)
    }

    /// What stood there before the request; what it wrote itself is no news, and keys that none of the clients writes are none of theirs.
    fn saw(&mut self, key: &Bytes, value: Option<&Bytes>) {
        if !self.keys.contains(key) {
            return;
        }
        let touch = self.at(key);
        if matches!(touch.effect, Effect::Keep) {
            touch.seen.push(value.cloned());
        }
    }

    fn saw_all(&mut self, range: &KeyRange, kvs: &[KeyValue], complete: bool) {
        let present: BTreeMap<&Bytes, &Bytes> = kvs.iter().map(|kv| (&kv.key, &kv.value)).collect();
        let absent: Vec<&Bytes> = match (&range.end, complete) {
            (RangeEnd::Single, true) => vec![&range.start],
            (_, true) => self.keys.iter().filter(|key| range.contains(key)).collect(),
            (_, false) => Vec::new(),
        };
        let absent = absent.into_iter().filter(|key| !present.contains_key(key));
        absent.for_each(|key| self.saw(key, None));
        present.iter().for_each(|(key, value)| self.saw(key, Some(value)));
    }

    fn range(&mut self, request: &RangeRequest, response: &RangeResponse) {
        if request.revision == 0 && !request.keys_only && !request.count_only {
            self.saw_all(&request.range, &response.kvs, request.limit == 0 && !response.more);
        }
    }

    fn put(&mut self, put: &PutRequest, previous: Option<&KeyValue>) {
        if put.return_previous {
            self.saw(&put.key, previous.map(|kv| &kv.value));
        }
        self.at(&put.key).effect = set(put);
    }

    fn delete(&mut self, range: &KeyRange, deleted: u64, told: bool, previous: &[KeyValue]) {
        if told || deleted == 0 {
            self.saw_all(range, previous, true);
        }
        for key in in_range(range, self.keys) {
            self.at(&key).effect = Effect::Clear;
        }
    }

    fn txn(&mut self, txn: &TxnRequest, succeeded: bool, results: &[TxnOpResult]) {
        for Compare { range, op, target } in txn.compares.iter().filter(|_| succeeded) {
            match (&range.end, op, target) {
                (RangeEnd::Single, CompareOp::Equal, CompareTarget::Value(value)) => {
                    self.saw(&range.start, Some(value));
                }
                (
                    RangeEnd::Single,
                    CompareOp::Equal,
                    CompareTarget::Version(0) | CompareTarget::CreateRevision(0),
                ) => self.saw(&range.start, None),
                _ => {}
            }
        }
        let ops = if succeeded { &txn.success } else { &txn.failure };
        for (op, result) in ops.iter().zip(results) {
            match (op, result) {
                (TxnOp::Range(request), TxnOpResult::Range(response)) => {
                    self.range(request, response);
                }
                (TxnOp::Put(put), TxnOpResult::Put(previous)) => self.put(put, previous.as_ref()),
                (TxnOp::Delete(delete), TxnOpResult::Delete { deleted, previous }) => {
                    self.delete(&delete.range, *deleted, delete.return_previous, previous);
                }
                _ => panic!("{op:?} was answered with {result:?}"),
            }
        }
    }
}

/// Everything a request of unknown outcome may have done, if it was done.
fn possible_effects(request: &Request, keys: &BTreeSet<Bytes>) -> Vec<(Bytes, Effect)> {
    let clears = |range: &KeyRange| {
        in_range(range, keys).into_iter().map(|key| (key, Effect::Clear)).collect()
    };
    match request {
        Request::Write { op: WriteOp::Put(put), .. } => vec![(put.key.clone(), set(put))],
        Request::Write { op: WriteOp::Delete(delete), .. } => clears(&delete.range),
        Request::Write { op: WriteOp::Txn(txn), .. } => {
            let effects = |op: &TxnOp| match op {
                TxnOp::Put(put) => vec![(put.key.clone(), set(put))],
                TxnOp::Delete(delete) => clears(&delete.range),
                TxnOp::Range(_) => Vec::new(),
            };
            txn.success.iter().chain(&txn.failure).flat_map(effects).collect()
        }
        _ => Vec::new(),
    }
}

fn set(put: &PutRequest) -> Effect {
    Effect::Set { value: put.value.clone(), leased: put.lease != 0 }
}

fn in_range(range: &KeyRange, keys: &BTreeSet<Bytes>) -> Vec<Bytes> {
    keys.iter().filter(|key| range.contains(key)).cloned().collect()
}

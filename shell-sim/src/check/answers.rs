//! An answer holds only what was asked for: keys inside the range, in order, each once, no more of them than the limit allows, and a count
//! that fits. Compared key by key here, without the code that answered.

use super::Violation;
use crate::history::{History, Outcome};
use raftkv_core::api::{
    DeleteRequest, KeyRange, RangeEnd, RangeRequest, RangeResponse, Request, Response, TxnOp,
    TxnOpResult, WriteOp, WriteResult,
};

const PROPERTY: &str = "answers";

/// Checks every answer of the run.
pub fn check(history: &History) -> Result<(), Violation> {
    for operation in &history.operations {
        let Outcome::Done(response) = &operation.outcome else { continue };
        let verdict = match (&operation.request, response) {
            (Request::Range(asked), Response::Range(answer)) => range(asked, answer),
            (Request::Write { op, .. }, Response::Write(result)) => write(op, result),
            _ => Ok(()),
        };
        verdict.map_err(|what| {
            let detail = format!("{:?} is answered {response:?}: {what}", operation.request);
            Violation::new(PROPERTY, detail)
        })?;
    }
    Ok(())
}

fn range(asked: &RangeRequest, answer: &RangeResponse) -> Result<(), String> {
    if let Some(kv) = answer.kvs.iter().find(|kv| !holds(&asked.range, &kv.key)) {
        return Err(format!("{:?} was not asked for", kv.key));
    }
    if !answer.kvs.is_sorted_by(|one, next| one.key < next.key) {
        return Err("keys are out of order, or there twice".into());
    }
    let found = answer.kvs.len() as u64;
    if asked.limit > 0 && found > asked.limit {
        return Err(format!("{found} keys, where {} are allowed", asked.limit));
    }
    if !asked.count_only && !answer.more && answer.count != found {
        return Err(format!("{found} keys, and a count of {}", answer.count));
    }
    Ok(())
}

fn write(op: &WriteOp, result: &WriteResult) -> Result<(), String> {
    match (op, result) {
        (WriteOp::Delete(asked), WriteResult::Delete { deleted, previous, .. }) => {
            delete(asked, *deleted, previous.iter().map(|kv| kv.key.as_ref()))
        }
        (WriteOp::Txn(asked), WriteResult::Txn { succeeded, results, .. }) => {
            let ops = if *succeeded { &asked.success } else { &asked.failure };
            if ops.len() != results.len() {
                return Err(format!("{} operations have {} results", ops.len(), results.len()));
            }
            ops.iter().zip(results).try_for_each(|pair| match pair {
                (TxnOp::Range(asked), TxnOpResult::Range(answer)) => range(asked, answer),
                (TxnOp::Delete(asked), TxnOpResult::Delete { deleted, previous }) => {
                    delete(asked, *deleted, previous.iter().map(|kv| kv.key.as_ref()))
                }
                (TxnOp::Put(_), TxnOpResult::Put(_)) => Ok(()),
                (op, result) => Err(format!("{op:?} has the result {result:?}")),
            })
        }
        _ => Ok(()),
    }
}

fn delete<'a>(
    asked: &DeleteRequest,
    deleted: u64,
    mut previous: impl ExactSizeIterator<Item = &'a [u8]>,
) -> Result<(), String> {
    if asked.return_previous && previous.len() as u64 != deleted {
        return Err(format!("{deleted} deleted, {} returned", previous.len()));
    }
    match previous.find(|key| !holds(&asked.range, key)) {
        Some(key) => Err(format!("{key:?} was not to be deleted")),
        None => Ok(()),
    }
}

/// Whether a key is in a range, by what a range is said to be.
fn holds(range: &KeyRange, key: &[u8]) -> bool {
    let ends = match &range.end {
        RangeEnd::Single => key > range.start.as_ref(),
        RangeEnd::Before(end) => key >= end.as_ref(),
        RangeEnd::Unbounded => false,
    };
    key >= range.start.as_ref() && !ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Operation;
    use crate::time::SimTime;
    use raftkv_core::api::KeyValue;

    fn kv(key: &'static str) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: "v".into(),
            create_revision: 1,
            mod_revision: 1,
            version: 1,
            lease: 0,
        }
    }

    fn verdict(request: Request, response: Response) -> Result<(), Violation> {
        let outcome = Outcome::Done(response);
        let (call, end) = (SimTime(0), SimTime(1));
        let operation = Operation { client: 0, request, call, end, outcome, attempts: 1 };
        check(&History { operations: vec![operation], ..History::default() })
    }

    fn before_c() -> KeyRange {
        KeyRange { start: "a".into(), end: RangeEnd::Before("c".into()) }
    }

    #[test]
    fn keys_outside_the_range_out_of_order_and_beyond_the_limit_are_noticed() {
        let answered = |keys: &[&'static str], count| {
            let request = RangeRequest { limit: 2, ..RangeRequest::new(before_c()) };
            let kvs = keys.iter().map(|key| kv(key)).collect();
            let answer = RangeResponse { revision: 1, kvs, count, more: false };
            verdict(Request::Range(request), Response::Range(answer))
        };
        assert_eq!(answered(&["a", "b"], 2), Ok(()));
        assert!(answered(&["a", "c"], 2).is_err(), "the end is not part of it");
        assert!(answered(&["b", "a"], 2).is_err());
        assert!(answered(&["a", "a"], 2).is_err());
        assert!(answered(&["a", "aa", "b"], 3).is_err());
        assert!(answered(&["a"], 2).is_err());
    }

    #[test]
    fn deleting_what_was_not_named_is_noticed() {
        let op = WriteOp::Delete(DeleteRequest { range: before_c(), return_previous: true });
        let request = Request::Write { session: None, op };
        let deleted = |keys: &[&'static str], deleted| {
            let previous = keys.iter().map(|key| kv(key)).collect();
            let result = WriteResult::Delete { revision: 2, deleted, previous };
            verdict(request.clone(), Response::Write(result))
        };
        assert_eq!(deleted(&["a", "b"], 2), Ok(()));
        assert!(deleted(&["a", "c"], 2).is_err());
        assert!(deleted(&["a"], 2).is_err());
    }
}

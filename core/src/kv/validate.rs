//! What the leader refuses before a request becomes part of the log.
//!
//! Limits are settings of a node, so they are looked at here only: applying must come out the same on nodes set differently.

use super::txn::check_written_once;
use crate::api::{
    Compare, CompareTarget, DeleteRequest, Error, KeyRange, PutRequest, RangeEnd, RangeRequest,
    Request, Schedule, SessionRef, TxnOp, TxnRequest, WriteOp,
};
use crate::backup::cron::Cron;
use crate::config::Limits;

/// The longest time to live a lease may have: 292 years, so that deadlines never overflow.
pub const TTL_MS_MAX: u64 = i64::MAX as u64 / 1_000_000;

/// Checks a request against the limits and itself.
///
/// # Errors
/// [`Error::TooLarge`] and [`Error::Invalid`].
pub fn validate(request: &Request, limits: &Limits) -> Result<(), Error> {
    let checker = Checker { limits };
    match request {
        Request::Range(range) => checker.read(range),
        Request::Write { session, op } => {
            session.as_ref().map_or(Ok(()), check_session)?;
            checker.write(op)
        }
        Request::Watch(watch) => checker.range(&watch.range),
        Request::BackupSchedule { schedule: Some(schedule) } => check_schedule(schedule),
        _ => Ok(()),
    }
}

struct Checker<'a> {
    limits: &'a Limits,
}

impl Checker<'_> {
    fn write(&self, op: &WriteOp) -> Result<(), Error> {
        match op {
            WriteOp::Put(put) => self.put(put)?,
            WriteOp::Delete(delete) => self.range(&delete.range)?,
            WriteOp::Txn(txn) => self.txn(txn)?,
            WriteOp::LeaseGrant { ttl_ms, .. } => check_ttl(*ttl_ms)?,
            WriteOp::LeaseRevoke { id } | WriteOp::LeaseKeepAlive { id } => check_lease(*id)?,
            WriteOp::Compact { .. } => {}
        }
        at_most("the write", write_bytes(op), self.limits.write_bytes)
    }

    fn txn(&self, txn: &TxnRequest) -> Result<(), Error> {
        let steps = txn.compares.len() + txn.success.len().max(txn.failure.len());
        at_most("the number of compares and operations", steps, self.limits.txn_ops)?;
        txn.compares.iter().try_for_each(|compare| self.range(&compare.range))?;
        for ops in [&txn.success, &txn.failure] {
            ops.iter().try_for_each(|op| self.txn_op(op))?;
            check_written_once(ops)?;
        }
        Ok(())
    }

    fn txn_op(&self, op: &TxnOp) -> Result<(), Error> {
        match op {
            TxnOp::Range(range) => self.read(range),
            TxnOp::Put(put) => self.put(put),
            TxnOp::Delete(delete) => self.range(&delete.range),
        }
    }

    fn put(&self, put: &PutRequest) -> Result<(), Error> {
        check_key(&put.key)?;
        at_most("the key", put.key.len(), self.limits.key_bytes)?;
        at_most("the value", put.value.len(), self.limits.value_bytes)
    }

    fn read(&self, request: &RangeRequest) -> Result<(), Error> {
        self.range(&request.range)
    }

    fn range(&self, range: &KeyRange) -> Result<(), Error> {
        at_most("the range's first key", range.start.len(), self.limits.key_bytes)?;
        match &range.end {
            RangeEnd::Single => check_key(&range.start),
            RangeEnd::Before(end) if *end <= range.start => {
                Err(Error::Invalid("the range ends before it begins".into()))
            }
            RangeEnd::Before(end) => at_most("the range's end", end.len(), self.limits.key_bytes),
            RangeEnd::Unbounded => Ok(()),
        }
    }
}

fn at_most(what: &str, got: usize, limit: usize) -> Result<(), Error> {
    if got > limit {
        return Err(Error::TooLarge { what: what.into(), got: got as u64, limit: limit as u64 });
    }
    Ok(())
}

fn check_key(key: &[u8]) -> Result<(), Error> {
    if key.is_empty() { Err(Error::Invalid("the key is empty".into())) } else { Ok(()) }
}

fn check_ttl(ttl_ms: u64) -> Result<(), Error> {
    if ttl_ms == 0 {
        return Err(Error::Invalid("a lease lives for at least 1 ms".into()));
    }
    if ttl_ms > TTL_MS_MAX {
        return Err(Error::Invalid(format!("a lease lives for at most {TTL_MS_MAX} ms")));
    }
    Ok(())
}

fn check_lease(id: u64) -> Result<(), Error> {
    if id == 0 { Err(Error::Invalid("lease 0 stands for none".into())) } else { Ok(()) }
}

fn check_session(write: &SessionRef) -> Result<(), Error> {
    if write.sequence == 0 {
        return Err(Error::Invalid("writes of a session are numbered from 1".into()));
    }
    if write.acknowledged_below > write.sequence {
        return Err(Error::Invalid("a write cannot be acknowledged before it is answered".into()));
    }
    Ok(())
}

fn check_schedule(schedule: &Schedule) -> Result<(), Error> {
    let read = Cron::parse(&schedule.cron, &schedule.timezone);
    read.map(drop).map_err(|error| Error::Invalid(error.to_string()))
}

/// Bytes of all keys and values in a write.
fn write_bytes(op: &WriteOp) -> usize {
    match op {
        WriteOp::Put(put) => put_bytes(put),
        WriteOp::Delete(delete) => delete_bytes(delete),
        WriteOp::Txn(txn) => {
            let compares: usize = txn.compares.iter().map(compare_bytes).sum();
            let ops: usize = txn.success.iter().chain(&txn.failure).map(txn_op_bytes).sum();
            compares + ops
        }
        WriteOp::LeaseGrant { .. }
        | WriteOp::LeaseRevoke { .. }
        | WriteOp::LeaseKeepAlive { .. }
        | WriteOp::Compact { .. } => 0,
    }
}

fn txn_op_bytes(op: &TxnOp) -> usize {
    match op {
        TxnOp::Range(request) => range_bytes(&request.range),
        TxnOp::Put(put) => put_bytes(put),
        TxnOp::Delete(delete) => delete_bytes(delete),
    }
}

fn put_bytes(put: &PutRequest) -> usize {
    put.key.len() + put.value.len()
}

fn delete_bytes(delete: &DeleteRequest) -> usize {
    range_bytes(&delete.range)
}

fn compare_bytes(compare: &Compare) -> usize {
    let value = match &compare.target {
        CompareTarget::Value(value) => value.len(),
        _ => 0,
    };
    range_bytes(&compare.range) + value
}

fn range_bytes(range: &KeyRange) -> usize {
    let end = match &range.end {
        RangeEnd::Before(end) => end.len(),
        RangeEnd::Single | RangeEnd::Unbounded => 0,
    };
    range.start.len() + end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::WatchRequest;
    use bytes::Bytes;

    fn check(op: WriteOp) -> Result<(), Error> {
        let limits = Limits {
            key_bytes: 8,
            value_bytes: 16,
            txn_ops: 2,
            write_bytes: 20,
            ..Limits::default()
        };
        validate(&Request::Write { session: None, op }, &limits)
    }

    fn put(key: &'static str, value: &'static str) -> PutRequest {
        PutRequest { key: key.into(), value: value.into(), lease: 0, return_previous: false }
    }

    fn too_large(result: Result<(), Error>) -> bool {
        matches!(result, Err(Error::TooLarge { .. }))
    }

    fn invalid(result: Result<(), Error>) -> bool {
        matches!(result, Err(Error::Invalid(_)))
    }

    #[test]
    fn puts_have_a_key_and_keep_to_every_limit() {
        assert_eq!(check(WriteOp::Put(put("12345678", "123456789012"))), Ok(()));
        assert!(invalid(check(WriteOp::Put(put("", "x")))));
        assert!(too_large(check(WriteOp::Put(put("123456789", "")))));
        assert!(too_large(check(WriteOp::Put(put("1", "12345678901234567")))));
        assert!(too_large(check(WriteOp::Put(put("12345678", "1234567890123")))));
    }

    #[test]
    fn transactions_are_short_and_write_no_key_twice() {
        let txn = |success: Vec<TxnOp>| {
            check(WriteOp::Txn(TxnRequest { success, ..TxnRequest::default() }))
        };
        let puts = |keys: &[&'static str]| keys.iter().map(|k| TxnOp::Put(put(k, ""))).collect();
        assert_eq!(txn(puts(&["a", "b"])), Ok(()));
        assert!(too_large(txn(puts(&["a", "b", "c"]))));
        assert!(invalid(txn(puts(&["a", "a"]))));
        let covers = DeleteRequest { range: KeyRange::prefix("a"), return_previous: false };
        assert!(invalid(txn(vec![TxnOp::Delete(covers), TxnOp::Put(put("ab", ""))])));
        let beside = DeleteRequest { range: KeyRange::prefix("a"), return_previous: false };
        assert_eq!(txn(vec![TxnOp::Delete(beside), TxnOp::Put(put("b", ""))]), Ok(()));
    }

    #[test]
    fn impossible_requests_are_named() {
        assert!(invalid(check(WriteOp::LeaseGrant { id: 0, ttl_ms: 0 })));
        assert!(invalid(check(WriteOp::LeaseGrant { id: 0, ttl_ms: u64::MAX })));
        assert!(invalid(check(WriteOp::LeaseRevoke { id: 0 })));
        let backwards = KeyRange { start: "b".into(), end: RangeEnd::Before("a".into()) };
        let read = Request::Range(RangeRequest::new(backwards));
        assert!(invalid(validate(&read, &Limits::default())));
        let watch = WatchRequest {
            range: KeyRange::one(Bytes::new()),
            from_revision: 0,
            with_previous: false,
        };
        assert!(invalid(validate(&Request::Watch(watch), &Limits::default())));
        for (sequence, acknowledged_below) in [(0, 0), (3, 4)] {
            let session = Some(SessionRef { session: 1, sequence, acknowledged_below });
            let request = Request::Write { session, op: WriteOp::Put(put("a", "")) };
            assert!(invalid(validate(&request, &Limits::default())));
        }
    }
}

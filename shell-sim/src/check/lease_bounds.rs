//! Lease bounds: a lease never ends before its time to live has passed since its grant or last keep-alive was *asked for*, by the fastest
//! clock any leader may have had. That it ends at all is demanded by the second phase, which waits for it.
//!
//! Calendars that jump, leaders that change and processes that are paused must change nothing about it. etcd #15247.

use super::Violation;
use super::replay::Step;
use crate::history::History;
use crate::random::Ppm;
use crate::time::SimTime;
use raftkv_core::api::{LeaseId, Request, SessionRef, WriteOp, WriteResult};
use raftkv_core::kv::{Action, Outcome};
use std::collections::BTreeMap;

/// Log time counts whole milliseconds.
const ROUNDING_MS: u64 = 1;

/// Checks every lease that ended. `applied_at` says when an entry was first applied anywhere; no clock runs faster than true by
/// more than `drift`.
pub fn check(
    history: &History,
    steps: &[Step],
    applied_at: impl Fn(u64) -> Option<SimTime>,
    drift: Ppm,
) -> Result<(), Violation> {
    let asked_at = calls(history);
    let mut started: BTreeMap<LeaseId, (SimTime, u64)> = BTreeMap::new();
    for step in steps {
        let ended_at = applied_at(step.index).unwrap_or(SimTime::NEVER);
        for lease in &step.leases_expired {
            let Some((since, ttl_ms)) = started.get(lease) else { continue };
            let shortest_ns =
                u128::from(ttl_ms.saturating_sub(ROUNDING_MS)) * 1_000_000 * 1_000_000
                    / u128::from(1_000_000 + drift.0);
            let lasted = ended_at - *since;
            if u128::from(lasted.0) < shortest_ns {
                let detail = format!(
                    "lease {lease} of {ttl_ms} ms was asked for at {since} and ended with entry {} at {ended_at}",
                    step.index
                );
                return Err(Violation::new("lease bounds", detail));
            }
        }
        let Action::Write { session: Some(SessionRef { session, sequence, .. }), op } =
            &step.command.action
        else {
            continue;
        };
        if let (
            WriteOp::LeaseGrant { .. } | WriteOp::LeaseKeepAlive { .. },
            Outcome::Write(Ok(WriteResult::Lease { id, ttl_ms, .. })),
            Some(asked),
        ) = (op, &step.outcome, asked_at.get(&(*session, *sequence)))
        {
            started.insert(*id, (*asked, *ttl_ms));
        }
    }
    Ok(())
}

fn calls(history: &History) -> BTreeMap<(u64, u64), SimTime> {
    let mut calls = BTreeMap::new();
    for operation in &history.operations {
        if let Request::Write { session: Some(session), .. } = &operation.request {
            calls.insert((session.session, session.sequence), operation.call);
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Operation, Outcome as Ending};
    use raftkv_core::kv::Command;
    use raftkv_core::time::Wall;

    fn step(index: u64, op: WriteOp, expired: &[LeaseId]) -> Step {
        let session = SessionRef { session: 1, sequence: index, acknowledged_below: 0 };
        let action = Action::Write { session: Some(session), op };
        let result = WriteResult::Lease { revision: 1, id: 7, ttl_ms: 1_000 };
        Step {
            index,
            command: Command { log_time_ms: 0, wall: Wall(0), action },
            outcome: Outcome::Write(Ok(result)),
            revision_before: 1,
            revision: 1,
            leases_expired: expired.to_vec(),
        }
    }

    #[test]
    fn a_lease_that_ends_early_is_noticed() {
        let grant = WriteOp::LeaseGrant { id: 7, ttl_ms: 1_000 };
        let session = SessionRef { session: 1, sequence: 1, acknowledged_below: 0 };
        let history = History {
            operations: vec![Operation {
                client: 0,
                request: Request::Write { session: Some(session), op: grant.clone() },
                call: SimTime::from_millis(100),
                end: SimTime::NEVER,
                outcome: Ending::Unknown,
                attempts: 1,
            }],
            ..History::default()
        };
        let steps = [step(1, grant, &[]), step(2, WriteOp::LeaseRevoke { id: 9 }, &[7])];
        let check_at =
            |ms: u64, drift| check(&history, &steps, |_| Some(SimTime::from_millis(ms)), drift);
        assert_eq!(check_at(1_100, Ppm::NEVER), Ok(()));
        assert!(check_at(1_050, Ppm::NEVER).is_err());
        assert_eq!(check_at(1_060, Ppm::percent(5)), Ok(()), "the leader's clock was fast");
        assert!(check_at(1_030, Ppm::percent(5)).is_err());
    }
}

//! Acknowledged writes are there at the end, on every node that lives: each key is as the last acknowledged put left it, or was changed later.
//!
//! This looks at nothing but answers, changes and the nodes' final states, so it holds whatever the log looks like inside.

use super::Violation;
use crate::history::{History, Outcome};
use raftkv_core::api::{Event, EventKind, KeyRange, RangeRequest, Request, Response, WriteOp};
use raftkv_core::kv::KvState;
use std::collections::BTreeMap;

/// Checks the final state of one node.
pub fn check(history: &History, events: &[Event], end: &KvState) -> Result<(), Violation> {
    let all = end
        .range(&RangeRequest::new(KeyRange::all()), usize::MAX)
        .map_err(|error| Violation::new("acknowledged writes", error.to_string()))?;
    let live: BTreeMap<&[u8], _> = all.kvs.iter().map(|kv| (kv.key.as_ref(), kv)).collect();
    let mut deleted: BTreeMap<&[u8], u64> = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind == EventKind::Delete) {
        let newest = deleted.entry(event.kv.key.as_ref()).or_default();
        *newest = event.kv.mod_revision.max(*newest);
    }
    for operation in &history.operations {
        let (Request::Write { op: WriteOp::Put(put), .. }, Outcome::Done(Response::Write(result))) =
            (&operation.request, &operation.outcome)
        else {
            continue;
        };
        let revision = result.revision();
        let there = match live.get(put.key.as_ref()) {
            Some(kv) => {
                kv.mod_revision > revision || kv.mod_revision == revision && kv.value == put.value
            }
            None => deleted.get(put.key.as_ref()).is_some_and(|deleted| *deleted > revision),
        };
        if !there {
            let found = live.get(put.key.as_ref());
            let detail = format!(
                "{put:?} was acknowledged at revision {revision}, at the end there is {found:?}"
            );
            return Err(Violation::new("acknowledged writes", detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Operation;
    use crate::time::SimTime;
    use raftkv_core::api::{PutRequest, WriteResult};
    use raftkv_core::kv::{Action, Command};
    use raftkv_core::time::Wall;

    fn put(value: &'static str) -> WriteOp {
        let key = "k".into();
        WriteOp::Put(PutRequest { key, value: value.into(), lease: 0, return_previous: false })
    }

    fn acknowledged(value: &'static str, revision: u64) -> History {
        let mut history = History::default();
        history.operations.push(Operation {
            client: 0,
            request: Request::Write { session: None, op: put(value) },
            call: SimTime(0),
            end: SimTime(1),
            outcome: Outcome::Done(Response::Write(WriteResult::Put { revision, previous: None })),
            attempts: 1,
        });
        history
    }

    #[test]
    fn a_write_that_is_gone_or_changed_is_noticed() {
        let mut state = KvState::new();
        let action = Action::Write { session: None, op: put("a") };
        state.apply(1, &Command { log_time_ms: 1, wall: Wall(0), action });
        let revision = state.revision();
        assert_eq!(check(&acknowledged("a", revision), &[], &state), Ok(()));
        assert!(check(&acknowledged("b", revision), &[], &state).is_err());
        assert!(check(&acknowledged("b", revision + 1), &[], &state).is_err());
        assert!(check(&acknowledged("a", revision), &[], &KvState::new()).is_err());
    }
}

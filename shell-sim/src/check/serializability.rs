//! Strict serializability: all answers are those of one execution in some order that respects real time.
//!
//! The order is known: writes by their place in the log, reads by the revision they name. So checking is a replay and a sweep,
//! transactions over many keys included. It covers durability of acknowledged writes, too: one that is not in the log is a violation.

use super::Violation;
use super::replay::{Replay, Step};
use super::semantics::wordless;
use crate::history::{History, Operation, Outcome};
use crate::time::SimTime;
use raftkv_core::api::{
    Consistency, RangeResponse, Request, Response, SessionRef, WriteOp, WriteResult,
};
use raftkv_core::kv::{self, Action};
use std::collections::BTreeMap;

const PROPERTY: &str = "strict serializability";

/// Checks every answer of the run.
pub fn check(history: &History, replay: &Replay) -> Result<(), Violation> {
    let places = Places::new(replay);
    let mut placed: BTreeMap<Point, Vec<(SimTime, SimTime)>> = BTreeMap::new();
    for operation in &history.operations {
        let point = match (&operation.outcome, &operation.request) {
            (Outcome::Unknown, _) => None,
            (Outcome::Done(response), Request::Range(_)) => read(operation, response, replay)?,
            (Outcome::Done(response), _) => Some(write(operation, response, &places)?),
            (Outcome::Refused(error), _) => {
                let is_told = |step: &Step| match &step.outcome {
                    kv::Outcome::Write(Err(first)) => wordless(first) == wordless(error),
                    _ => false,
                };
                if places.find(&operation.request).is_some_and(|step| !is_told(step)) {
                    return Err(violation(operation, format!("refused ({error}), but applied")));
                }
                None
            }
        };
        if let Some(point) = point {
            placed.entry(point).or_default().push((operation.call, operation.end));
        }
    }
    sweep(&placed)
}

/// A place in the one order: after the change that made a revision (`false`), or later but before the next (`true`).
type Point = (u64, bool);

/// No operation may come before one in the order that had ended before it began.
fn sweep(placed: &BTreeMap<Point, Vec<(SimTime, SimTime)>>) -> Result<(), Violation> {
    let mut first_end_later = (SimTime::NEVER, (0, false));
    for (point, operations) in placed.iter().rev() {
        for (call, _) in operations {
            if first_end_later.0 < *call {
                let (end, (revision, _)) = first_end_later;
                let detail = format!(
                    "an operation that began at {call} is placed at revision {}, but one at revision {revision} had ended at {end}",
                    point.0
                );
                return Err(Violation::new(PROPERTY, detail));
            }
        }
        for (_, end) in operations {
            first_end_later = first_end_later.min((*end, *point));
        }
    }
    Ok(())
}

fn read(
    operation: &Operation,
    response: &Response,
    replay: &Replay,
) -> Result<Option<Point>, Violation> {
    let (Request::Range(request), Response::Range(response)) = (&operation.request, response)
    else {
        return Err(violation(operation, format!("answered with {response:?}")));
    };
    let Some(state) = replay.states.get(&response.revision) else {
        let detail = format!("answered at revision {}, which never was", response.revision);
        return Err(violation(operation, detail));
    };
    let expected: RangeResponse = state.range(request, usize::MAX).map_err(|error| {
        violation(operation, format!("answered, but should be refused: {error}"))
    })?;
    if expected != *response {
        return Err(violation(operation, format!("answered {response:?}, expected {expected:?}")));
    }
    let linearizable = request.consistency == Consistency::Linearizable;
    Ok(linearizable.then_some((response.revision, true)))
}

fn write(operation: &Operation, response: &Response, places: &Places) -> Result<Point, Violation> {
    let step = match response {
        Response::SessionOpened { session } => places.at(*session),
        _ => places.find(&operation.request),
    };
    let Some(step) = step else {
        return Err(violation(operation, "acknowledged, but not in the log".into()));
    };
    let fits = match (response, &step.outcome) {
        (Response::SessionOpened { session }, kv::Outcome::SessionOpened(opened)) => {
            session == opened
        }
        (Response::Write(WriteResult::AppliedBefore { revision }), kv::Outcome::Write(Ok(_))) => {
            *revision == step.revision
        }
        (Response::Write(got), kv::Outcome::Write(Ok(first))) => got == first,
        _ => false,
    };
    if !fits {
        let detail =
            format!("answered {response:?}, but entry {} led to {:?}", step.index, step.outcome);
        return Err(violation(operation, detail));
    }
    Ok((step.revision, step.revision == step.revision_before))
}

/// Finds the entry that applied a request.
struct Places<'a> {
    by_index: BTreeMap<u64, &'a Step>,
    by_session: BTreeMap<(u64, u64), &'a Step>,
    by_value: BTreeMap<&'a [u8], &'a Step>,
}

impl<'a> Places<'a> {
    fn new(replay: &'a Replay) -> Self {
        let mut places = Places {
            by_index: BTreeMap::new(),
            by_session: BTreeMap::new(),
            by_value: BTreeMap::new(),
        };
        for step in &replay.steps {
            places.by_index.insert(step.index, step);
            match &step.command.action {
                Action::Write { session: Some(SessionRef { session, sequence, .. }), .. } => {
                    places.by_session.entry((*session, *sequence)).or_insert(step);
                }
                Action::Write { session: None, op: WriteOp::Put(put) } => {
                    places.by_value.entry(&put.value).or_insert(step);
                }
                _ => {}
            }
        }
        places
    }

    fn at(&self, index: u64) -> Option<&'a Step> {
        self.by_index.get(&index).copied()
    }

    fn find(&self, request: &Request) -> Option<&'a Step> {
        match request {
            Request::Write { session: Some(session), .. } => {
                self.by_session.get(&(session.session, session.sequence)).copied()
            }
            Request::Write { session: None, op: WriteOp::Put(put) } => {
                self.by_value.get(put.value.as_ref()).copied()
            }
            _ => None,
        }
    }
}

fn violation(operation: &Operation, what: String) -> Violation {
    let Operation { client, request, call, .. } = operation;
    Violation::new(PROPERTY, format!("client {client} at {call} {request:?}: {what}"))
}

#[cfg(test)]
mod tests;

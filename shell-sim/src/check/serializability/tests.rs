//! Histories that must be accepted, and ones that must not.

use super::*;
use crate::check::replay;
use raftkv_core::api::{KeyRange, PutRequest, RangeRequest};
use raftkv_core::kv::{Command, KvState};
use raftkv_core::log::{Entry, EntryKind};
use raftkv_core::time::Wall;

fn put(value: &'static str) -> WriteOp {
    WriteOp::Put(PutRequest {
        key: "k".into(),
        value: value.into(),
        lease: 0,
        return_previous: false,
    })
}

fn log(values: &[&'static str]) -> Replay {
    let entries: Vec<Entry> = values
        .iter()
        .zip(1..)
        .map(|(value, index)| {
            let action = Action::Write { session: None, op: put(value) };
            let command = Command { log_time_ms: index, wall: Wall(0), action };
            Entry { index, term: 1, kind: EntryKind::Normal, data: command.encode() }
        })
        .collect();
    replay::replay(0, KvState::new(), &entries.iter().collect::<Vec<_>>(), |_| None).unwrap()
}

fn operation(call: u64, end: u64, request: Request, response: Response) -> Operation {
    Operation {
        client: 0,
        request,
        call: SimTime(call),
        end: SimTime(end),
        outcome: Outcome::Done(response),
        attempts: 1,
    }
}

fn wrote(call: u64, end: u64, value: &'static str, revision: u64) -> Operation {
    let request = Request::Write { session: None, op: put(value) };
    let result = WriteResult::Put { revision, previous: None };
    operation(call, end, request, Response::Write(result))
}

/// A read that answers what the state was at `revision`.
fn read(call: u64, end: u64, revision: u64, replay: &Replay) -> Operation {
    let request = RangeRequest::new(KeyRange::one("k"));
    let response = replay.states[&revision].range(&request, usize::MAX).unwrap();
    operation(call, end, Request::Range(request), Response::Range(response))
}

fn verdict(operations: Vec<Operation>, replay: &Replay) -> bool {
    let history = History { operations, watches: Vec::new() };
    check(&history, replay).is_ok()
}

#[test]
fn good_histories_pass() {
    let replay = log(&["a", "b"]);
    let revisions: Vec<u64> = replay.steps.iter().map(|step| step.revision).collect();
    let [one, two] = revisions[..] else { panic!("two writes make two revisions") };
    let good = vec![wrote(0, 10, "a", one), wrote(20, 30, "b", two), read(40, 50, two, &replay)];
    assert!(verdict(good, &replay));
    let concurrent =
        vec![wrote(0, 100, "b", two), wrote(0, 100, "a", one), read(50, 60, one, &replay)];
    assert!(verdict(concurrent, &replay));
}

#[test]
fn bad_histories_do_not() {
    let replay = log(&["a", "b"]);
    let [one, two] = [replay.steps[0].revision, replay.steps[1].revision];
    let stale = vec![wrote(0, 10, "a", one), wrote(20, 30, "b", two), read(40, 50, one, &replay)];
    assert!(!verdict(stale, &replay), "a read after a write ended must see it");
    let backwards = vec![read(0, 10, two, &replay), read(20, 30, one, &replay)];
    assert!(!verdict(backwards, &replay), "reads may not go back");
    let swapped = vec![wrote(20, 30, "a", one), wrote(0, 10, "b", two)];
    assert!(!verdict(swapped, &replay), "real time orders writes");
    let lost = vec![wrote(0, 10, "c", 3)];
    assert!(!verdict(lost, &replay), "an acknowledged write must be in the log");
    let wrong_revision = vec![wrote(0, 10, "a", two)];
    assert!(!verdict(wrong_revision, &replay), "answers must be true");
    let mut forged = read(0, 10, two, &replay);
    if let Outcome::Done(Response::Range(response)) = &mut forged.outcome {
        response.kvs[0].value = "z".into();
    }
    assert!(!verdict(vec![forged], &replay), "values must be true");
    let early = vec![read(0, 10, two, &replay), wrote(20, 30, "b", two)];
    assert!(!verdict(early, &replay), "a read cannot see a write that has not begun");
}

#[test]
fn a_refused_write_that_was_applied_is_noticed() {
    let replay = log(&["a"]);
    let mut refused = wrote(0, 10, "a", 1);
    refused.outcome = Outcome::Refused(raftkv_core::api::Error::Invalid("no".into()));
    assert!(!verdict(vec![refused], &replay));
}

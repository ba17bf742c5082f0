//! What a disaster lost is exactly what is reported: the restored cluster holds every change up to the revision that the restore names,
//! and nothing from after it.

use super::Violation;
use super::replay::Replay;
use crate::history::{History, Outcome};
use bytes::Bytes;
use raftkv_core::api::{Event, EventKind, KeyRange, KeyValue, RangeRequest, Response, Revision};
use raftkv_core::kv::KvState;
use std::collections::BTreeMap;

const PROPERTY: &str = "reported loss";

/// Acknowledged writes of a lost cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Up to the reported revision: they are there.
    pub kept: u64,
    /// After it: they are gone.
    pub lost: u64,
}

/// Holds what a cluster starts from against the log of the lost one, of which everything up to `reported` was restored.
pub fn check(replay: &Replay, reported: Revision, restored: &KvState) -> Result<(), Violation> {
    let first = replay.states.values().next().map(contents).unwrap_or_default();
    check_contents(first, &replay.events, reported, &contents(restored))
}

/// How many acknowledged writes were kept, and how many were lost.
pub fn count(history: &History, reported: Revision) -> Loss {
    let mut loss = Loss::default();
    for operation in &history.operations {
        if let Outcome::Done(Response::Write(result)) = &operation.outcome {
            match result.revision() <= reported {
                true => loss.kept += 1,
                false => loss.lost += 1,
            }
        }
    }
    loss
}

/// The newest revision that any client was told.
pub fn newest_told(history: &History) -> Revision {
    let told = history.operations.iter().map(|operation| match &operation.outcome {
        Outcome::Done(Response::Write(result)) => result.revision(),
        Outcome::Done(Response::Range(range)) => range.revision,
        _ => 0,
    });
    told.chain(history.watches.iter().map(|watch| watch.upto)).max().unwrap_or(0)
}

/// Every key of a state.
pub fn contents(state: &KvState) -> BTreeMap<Bytes, KeyValue> {
    let all = state.range(&RangeRequest::new(KeyRange::all()), usize::MAX);
    let kvs = all.map(|range| range.kvs).unwrap_or_default();
    kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect()
}

fn check_contents(
    mut expected: BTreeMap<Bytes, KeyValue>,
    events: &[Event],
    reported: Revision,
    found: &BTreeMap<Bytes, KeyValue>,
) -> Result<(), Violation> {
    for event in events.iter().filter(|event| event.kv.mod_revision <= reported) {
        match event.kind {
            EventKind::Put => expected.insert(event.kv.key.clone(), event.kv.clone()),
            EventKind::Delete => expected.remove(&event.kv.key),
        };
    }
    let differs = expected.iter().find(|(key, kv)| found.get(*key) != Some(*kv));
    if let Some((key, kv)) = differs {
        let detail = format!(
            "reported to hold everything up to revision {reported}, but {key:?} is {:?} instead of {kv:?}",
            found.get(key)
        );
        return Err(Violation::new(PROPERTY, detail));
    }
    match found.iter().find(|(key, _)| !expected.contains_key(*key)) {
        None => Ok(()),
        Some((key, kv)) => {
            let detail = format!("{key:?} is there as {kv:?}, but not at revision {reported}");
            Err(Violation::new(PROPERTY, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, revision: Revision) -> Event {
        let kv = KeyValue {
            key: key.into(),
            value: "v".into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
        };
        Event { kind: EventKind::Put, kv, previous: None }
    }

    #[test]
    fn a_missing_a_resurrected_and_an_unreported_key_are_noticed() {
        let gone = Event { kind: EventKind::Delete, ..put("a", 3) };
        let events = [put("a", 1), put("b", 2), gone, put("c", 4)];
        let check = |reported, found: &[&Event]| {
            let found = found.iter().map(|event| (event.kv.key.clone(), event.kv.clone()));
            check_contents(BTreeMap::new(), &events, reported, &found.collect())
        };
        let [a, b, _, c] = &events;
        assert_eq!(check(3, &[b]), Ok(()));
        assert_eq!(check(2, &[a, b]), Ok(()));
        assert!(check(3, &[]).is_err(), "a write is missing");
        assert!(check(3, &[a, b]).is_err(), "a deleted key is back");
        assert!(check(3, &[b, c]).is_err(), "a write was reported lost, but is there");
        assert!(check(3, &[&put("b", 9)]).is_err(), "another version");
    }
}

//! What watches promise, one property a file, from etcd's list of watch guarantees as its robustness tests check them.

pub mod atomic;
pub mod ordered;
pub mod reliable;
pub mod resumable;
pub mod undisturbed;
pub mod unique;

use super::Violation;
use crate::history::WatchRun;
use raftkv_core::api::Event;

/// Checks all stretches of all watchers against every change of the run.
pub fn check(runs: &[WatchRun], events: &[Event]) -> Result<(), Violation> {
    for run in runs {
        ordered::check(run)?;
        unique::check(run)?;
        atomic::check(run)?;
        reliable::check(run, events)?;
    }
    resumable::check(runs)
}

fn describe(run: &WatchRun) -> String {
    format!("watcher {} on {:?} from revision {} to {}", run.watcher, run.range, run.from, run.upto)
}

#[cfg(test)]
mod testing {
    use crate::history::WatchRun;
    use raftkv_core::api::{Event, EventKind, KeyRange, KeyValue};

    pub(super) fn event(key: &'static str, revision: u64) -> Event {
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

    /// A stretch of a watch of the key `a`, whose events came in one answer.
    pub(super) fn run(from: u64, upto: u64, events: &[Event]) -> WatchRun {
        WatchRun {
            watcher: 0,
            range: KeyRange::one("a"),
            with_previous: false,
            from,
            upto,
            after_compaction: false,
            events: events.to_vec(),
            answers: vec![(upto, events.len())],
        }
    }
}

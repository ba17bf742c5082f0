//! Watches: ordered, unique, reliable, atomic and resumable. An unbroken watch from one revision to another brings exactly the
//! changes of its range in between, in order. From etcd's list of watch guarantees, as its robustness tests check them.

use super::Violation;
use crate::history::WatchRun;
use raftkv_core::api::Event;

/// Checks one stretch of a watch against every change of the run.
pub fn check(run: &WatchRun, events: &[Event]) -> Result<(), Violation> {
    let due: Vec<&Event> = events
        .iter()
        .filter(|event| (run.from..=run.upto).contains(&event.kv.mod_revision))
        .filter(|event| run.range.contains(&event.kv.key))
        .collect();
    let fits = |(got, due): (&Event, &&Event)| {
        let previous_fits = match &got.previous {
            None => true,
            previous => run.with_previous && *previous == due.previous,
        };
        got.kind == due.kind && got.kv == due.kv && previous_fits
    };
    if let Some(at) = run.events.iter().zip(&due).position(|pair| !fits(pair)) {
        let detail =
            format!("{}: due was {:?}, but {:?} came", describe(run), due[at], run.events[at]);
        return Err(Violation::new("watch", detail));
    }
    if run.events.len() != due.len() {
        let (came, due) = (run.events.len(), due.len());
        let detail = format!("{}: {due} events were due, {came} came", describe(run));
        return Err(Violation::new("watch", detail));
    }
    Ok(())
}

fn describe(run: &WatchRun) -> String {
    format!("watch of {:?} from revision {} to {}", run.range, run.from, run.upto)
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::api::{EventKind, KeyRange, KeyValue};

    fn event(key: &'static str, revision: u64) -> Event {
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
    fn lost_repeated_and_misordered_events_are_noticed() {
        let events = [event("a", 1), event("b", 2), event("a", 3), event("a", 4)];
        let run = |events: &[Event]| WatchRun {
            range: KeyRange::one("a"),
            with_previous: false,
            from: 1,
            upto: 3,
            events: events.to_vec(),
        };
        let [one, other, two, late] = events.clone();
        assert_eq!(check(&run(&[one.clone(), two.clone()]), &events), Ok(()));
        for bad in [
            vec![one.clone()],
            vec![two.clone(), one.clone()],
            vec![one.clone(), one.clone(), two.clone()],
            vec![one.clone(), other, two.clone()],
            vec![one, two, late],
        ] {
            assert!(check(&run(&bad), &events).is_err(), "{bad:?}");
        }
    }
}

//! Reliable: an unbroken watch from one revision to another brings every change of its range in between, as it was made, and no other.

use super::describe;
use crate::check::Violation;
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
        return Err(Violation::new("watch: reliable", detail));
    }
    if run.events.len() != due.len() {
        let (came, due) = (run.events.len(), due.len());
        let detail = format!("{}: {due} events were due, {came} came", describe(run));
        return Err(Violation::new("watch: reliable", detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::watch::testing::{event, run};

    #[test]
    fn lost_foreign_and_changed_events_are_noticed() {
        let events = [event("a", 1), event("b", 2), event("a", 3), event("a", 4)];
        let [one, other, two, late] = events.clone();
        assert_eq!(check(&run(1, 3, &[one.clone(), two.clone()]), &events), Ok(()));
        let mut changed = two.clone();
        changed.kv.value = "w".into();
        for bad in [
            vec![one.clone()],
            vec![one.clone(), changed],
            vec![one.clone(), other, two.clone()],
            vec![one, two, late],
        ] {
            assert!(check(&run(1, 3, &bad), &events).is_err(), "{bad:?}");
        }
    }
}

//! Unique: no change comes twice.

use super::describe;
use crate::check::Violation;
use crate::history::WatchRun;
use std::collections::BTreeSet;

/// Checks one stretch of a watch.
pub fn check(run: &WatchRun) -> Result<(), Violation> {
    let mut seen = BTreeSet::new();
    let again =
        run.events.iter().find(|event| !seen.insert((event.kv.mod_revision, &event.kv.key)));
    match again {
        None => Ok(()),
        Some(event) => {
            let detail = format!("{}: {event:?} came twice", describe(run));
            Err(Violation::new("watch: unique", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::watch::testing::{event, run};

    #[test]
    fn a_repeated_event_is_noticed() {
        let [one, two] = [event("a", 1), event("a", 2)];
        assert_eq!(check(&run(1, 2, &[one.clone(), two.clone()])), Ok(()));
        assert!(check(&run(1, 2, &[one.clone(), two, one])).is_err());
    }
}

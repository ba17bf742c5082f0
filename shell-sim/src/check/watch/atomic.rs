//! Atomic: the changes of one revision come in one answer, and an answer that names a revision has brought everything up to it.
//!
//! (An answer larger than a mebibyte is cut; the workload makes none.)

use super::describe;
use crate::check::Violation;
use crate::history::WatchRun;

/// Checks one stretch of a watch.
pub fn check(run: &WatchRun) -> Result<(), Violation> {
    for (revision, came) in &run.answers {
        let (before, after) = run.events.split_at(*came);
        let too_new = before.iter().find(|event| event.kv.mod_revision > *revision);
        let too_late = after.iter().find(|event| event.kv.mod_revision <= *revision);
        if let Some(event) = too_new.or(too_late) {
            let detail = format!(
                "{}: the answer that says revision {revision} is complete parts it from {event:?}",
                describe(run)
            );
            return Err(Violation::new("watch: atomic", detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::watch::testing::{event, run};

    #[test]
    fn half_a_transaction_and_a_late_event_are_noticed() {
        let mut whole = run(1, 2, &[event("a", 1), event("a", 2), event("b", 2)]);
        whole.answers = vec![(1, 1), (2, 3)];
        assert_eq!(check(&whole), Ok(()));
        whole.answers = vec![(1, 1), (2, 2), (2, 3)];
        assert!(check(&whole).is_err(), "half of revision 2 came late");
        whole.answers = vec![(1, 2), (2, 3)];
        assert!(check(&whole).is_err(), "an answer held more than it said");
    }
}

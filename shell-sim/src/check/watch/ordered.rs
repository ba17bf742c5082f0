//! Ordered: changes come by revision, and within one revision by key.

use super::describe;
use crate::check::Violation;
use crate::history::WatchRun;

/// Checks one stretch of a watch.
pub fn check(run: &WatchRun) -> Result<(), Violation> {
    let place = |at: usize| (run.events[at].kv.mod_revision, &run.events[at].kv.key);
    match (1..run.events.len()).find(|at| place(*at) < place(at - 1)) {
        None => Ok(()),
        Some(at) => {
            let detail =
                format!("{}: {:?} came after {:?}", describe(run), place(at), place(at - 1));
            Err(Violation::new("watch: ordered", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::watch::testing::{event, run};

    #[test]
    fn time_that_goes_backwards_is_noticed() {
        let [one, other, two] = [event("a", 1), event("b", 1), event("a", 3)];
        assert_eq!(check(&run(1, 3, &[one.clone(), other.clone(), two.clone()])), Ok(()));
        assert!(check(&run(1, 3, &[two, one.clone()])).is_err());
        assert!(check(&run(1, 3, &[other, one])).is_err());
    }
}

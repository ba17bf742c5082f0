//! Resumable: a watch taken up again, on whatever node, goes on exactly behind what had come; unless that is compacted, and then it is told so.

use super::describe;
use crate::check::Violation;
use crate::history::WatchRun;
use raftkv_core::api::Revision;
use std::collections::BTreeMap;

/// Checks all stretches, each watcher's in the order they were taken up.
pub fn check(runs: &[WatchRun]) -> Result<(), Violation> {
    let mut covered: BTreeMap<u32, Revision> = BTreeMap::new();
    for run in runs {
        let upto = covered.entry(run.watcher).or_default();
        let goes_on = run.from == *upto + 1 || run.after_compaction && run.from > *upto;
        let early = run.events.first().filter(|event| event.kv.mod_revision < run.from);
        if !goes_on || early.is_some() {
            let detail =
                format!("{}: everything up to {upto} had come, then {early:?}", describe(run));
            return Err(Violation::new("watch: resumable", detail));
        }
        *upto = run.upto.max(*upto);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::watch::testing::{event, run};

    #[test]
    fn a_gap_and_an_overlap_are_noticed() {
        let first = run(1, 4, &[event("a", 2)]);
        assert_eq!(check(&[first.clone(), run(5, 6, &[event("a", 5)])]), Ok(()));
        assert!(check(&[first.clone(), run(6, 6, &[])]).is_err());
        assert!(check(&[first.clone(), run(4, 6, &[])]).is_err());
        assert!(check(&[first.clone(), run(5, 6, &[event("a", 4)])]).is_err());
        let told = WatchRun { after_compaction: true, ..run(9, 9, &[]) };
        assert_eq!(check(&[first, told]), Ok(()));
    }
}

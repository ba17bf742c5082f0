//! What a cluster says of the backups that it makes is so: a run that ended as complete has left a complete backup, one that found nothing
//! new names a complete backup, and no backup of a run is complete that the cluster had not let pass. So a node that was cut off
//! and given up never completes behind its cluster's back. Fencing: Kleppmann, "How to do distributed locking", 2016. And a slot of
//! the schedule whose run has ended well is not taken up again, as long as the calendars of those who lead agree.

use super::Violation;
use super::replay::Step;
use raftkv_core::api::{RunOutcome, Schedule};
use raftkv_core::backup::BackupId;
use raftkv_core::kv::{AHEAD_MS, Action, BackupOp, Outcome};
use raftkv_core::time::Wall;
use std::collections::BTreeMap;

const PROPERTY: &str = "cluster's backups";

/// Checks every run in a replayed log. `was_complete` says which backups have ever been complete in the store, `is_tampered` with which
/// somebody has meddled there: perhaps before they were.
pub fn check(
    steps: &[Step],
    was_complete: impl Fn(BackupId) -> bool,
    is_tampered: impl Fn(BackupId) -> bool,
) -> Result<(), Violation> {
    let mut runs: BTreeMap<u64, Run> = BTreeMap::new();
    let mut slots = Slots::default();
    for step in steps {
        let (Action::Backup(op), Outcome::Backup(Ok(()))) = (&step.command.action, &step.outcome)
        else {
            continue;
        };
        match op {
            BackupOp::Schedule(schedule) if !slots.are_of(schedule.as_ref()) => {
                slots = Slots { schedule: schedule.clone(), ..Slots::default() };
            }
            BackupOp::Pause(false) => {
                slots = Slots { schedule: slots.schedule, ..Slots::default() };
            }
            BackupOp::Start { id, slot, .. } => {
                if let Some(slot) = slot {
                    slots.take_up(*slot, step.command.wall, step.index)?;
                }
                runs.insert(step.index, Run { id: *id, slot: *slot, may_commit: false });
            }
            BackupOp::Commit { number, .. } => {
                if let Some(run) = runs.get_mut(number) {
                    run.may_commit = true;
                }
            }
            BackupOp::End { number, outcome } => {
                let Some(run) = runs.get(number) else { continue };
                let named = match outcome {
                    RunOutcome::Complete { .. } => run.id,
                    RunOutcome::Unchanged { since } => *since,
                    _ => continue,
                };
                if !was_complete(named) && !is_tampered(named) {
                    let detail = format!(
                        "run {number} ended with {outcome:?}, but backup {named} never was complete"
                    );
                    return Err(Violation::new(PROPERTY, detail));
                }
                slots.made.extend(run.slot.map(|slot| (slot, *number)));
            }
            _ => {}
        }
    }
    let escaped = runs.iter().find(|(_, run)| !run.may_commit && was_complete(run.id));
    match escaped {
        None => Ok(()),
        Some((number, run)) => {
            let id = run.id;
            let detail = format!("backup {id} is complete, but run {number} was not let pass");
            Err(Violation::new(PROPERTY, detail))
        }
    }
}

#[derive(Debug)]
struct Run {
    id: BackupId,
    slot: Option<Wall>,
    may_commit: bool,
}

/// What became of slots since the schedule got this calendar, or was resumed.
#[derive(Debug, Default)]
struct Slots {
    schedule: Option<Schedule>,
    /// Slots whose run ended well, and which that was.
    made: BTreeMap<Wall, u64>,
    /// The latest calendar by which one was taken up.
    latest: Wall,
}

impl Slots {
    /// Whether slots of a schedule mean the same as these.
    fn are_of(&self, schedule: Option<&Schedule>) -> bool {
        let calendar = |it: &Schedule| (it.cron.clone(), it.timezone.clone());
        self.schedule.as_ref().map(calendar) == schedule.map(calendar)
    }

    fn take_up(&mut self, slot: Wall, wall: Wall, number: u64) -> Result<(), Violation> {
        self.latest = self.latest.max(wall);
        let calendars_agree = self.latest.0 <= wall.0.saturating_add(AHEAD_MS);
        match self.made.get(&slot).filter(|_| calendars_agree) {
            None => Ok(()),
            Some(made) => {
                let detail = format!(
                    "run {number} is for slot {slot:?}, as run {made} was, which ended well"
                );
                Err(Violation::new(PROPERTY, detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::ids::NodeId;
    use raftkv_core::kv::Command;
    use raftkv_core::rng::Seed;
    use raftkv_core::time::Wall;

    fn step(index: u64, op: BackupOp) -> Step {
        Step {
            index,
            command: Command { log_time_ms: 0, wall: Wall(0), action: Action::Backup(op) },
            outcome: Outcome::Backup(Ok(())),
            revision_before: 1,
            revision: 1,
            leases_expired: Vec::new(),
        }
    }

    #[test]
    fn a_false_end_and_a_backup_behind_the_clusters_back_are_noticed() {
        let id = BackupId::draw(&mut Seed::from_number(1).fork("id"));
        let node = NodeId::new(1, 0);
        let start = || step(5, BackupOp::Start { id, slot: None, node, life: 1, lease_ms: 1 });
        let commit = || step(6, BackupOp::Commit { number: 5, lease_ms: 1 });
        let outcome = RunOutcome::Complete { data_bytes: 1 };
        let end = || step(7, BackupOp::End { number: 5, outcome: outcome.clone() });
        let (yes, no) = (|_: BackupId| true, |_: BackupId| false);
        assert_eq!(check(&[start(), commit(), end()], yes, no), Ok(()));
        assert_eq!(check(&[start(), commit()], no, no), Ok(()));
        assert!(check(&[start(), commit(), end()], no, no).is_err(), "it is not there");
        assert_eq!(check(&[start(), commit(), end()], no, yes), Ok(()), "it was damaged before");
        assert!(check(&[start()], yes, yes).is_err(), "nobody let it pass");
    }

    #[test]
    fn a_slot_that_is_taken_up_again_is_noticed() {
        let id = BackupId::draw(&mut Seed::from_number(1).fork("id"));
        let slot = Wall(1_000_000_000);
        let start = |index, ahead_ms| {
            let (slot, node) = (Some(slot), NodeId::new(1, 0));
            let mut start = step(index, BackupOp::Start { id, slot, node, life: 1, lease_ms: 1 });
            start.command.wall = Wall(1_000_000_000 + ahead_ms);
            start
        };
        let commit = |number| step(number + 1, BackupOp::Commit { number, lease_ms: 1 });
        let end = |number, outcome| step(number + 2, BackupOp::End { number, outcome });
        let good = || RunOutcome::Complete { data_bytes: 1 };
        let judge = |steps: [Step; 5]| check(&steps, |_| true, |_| false);
        assert!(judge([start(5, 0), commit(5), end(5, good()), start(8, 9), commit(8)]).is_err());
        let failed = RunOutcome::Failed { why: "the store is down".into() };
        assert_eq!(judge([start(5, 0), commit(5), end(5, failed), start(8, 9), commit(8)]), Ok(()));
        let far = AHEAD_MS + 1;
        let jumped = judge([start(5, far), commit(5), end(5, good()), start(8, 0), commit(8)]);
        assert_eq!(jumped, Ok(()), "the first one's calendar was ahead");
        // A schedule that is set again with the same calendar is no excuse; another calendar's slots mean something else.
        let set = |index, cron: &str, prune| {
            let (cron, timezone) = (cron.into(), "UTC".into());
            step(index, BackupOp::Schedule(Some(Schedule { cron, timezone, prune })))
        };
        let around = |between| {
            let first = [set(4, "0 2 * * *", false), start(5, 0), commit(5), end(5, good())];
            let all = first.into_iter().chain([between, start(9, 9), commit(9)]);
            check(&all.collect::<Vec<_>>(), |_| true, |_| false)
        };
        assert!(around(set(8, "0 2 * * *", true)).is_err());
        assert_eq!(around(set(8, "0 3 * * *", true)), Ok(()));
        let resumed = step(8, BackupOp::Pause(false));
        let anew = [start(5, 0), commit(5), end(5, good()), resumed, start(9, 9), commit(9)];
        assert_eq!(check(&anew, |_| true, |_| false), Ok(()));
    }
}

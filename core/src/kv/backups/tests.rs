//! Schedules and runs by hand: slots, calendars that are wrong, failures, and what is remembered of them.

use super::*;
use crate::kv::{Action, Builder, Command, Outcome};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A midnight.
const START: i64 = 20_000 * DAY_MS;
const NODE: NodeId = NodeId::new(2, 0);

/// A state whose two clocks the test sets.
struct Cluster {
    state: KvState,
    index: u64,
    wall: i64,
    log_time_ms: u64,
}

impl Cluster {
    fn new(cron: &str) -> Self {
        let mut cluster =
            Cluster { state: KvState::new(), index: 0, wall: START, log_time_ms: 1_000 };
        cluster.apply(BackupOp::Schedule(schedule(cron))).unwrap();
        cluster
    }

    fn apply(&mut self, op: BackupOp) -> Result<(), Error> {
        self.index += 1;
        let action = Action::Backup(op);
        let command = Command { log_time_ms: self.log_time_ms, wall: Wall(self.wall), action };
        match self.state.apply(self.index, &command) {
            Outcome::Backup(result) => result,
            other => panic!("answered with {other:?}"),
        }
    }

    fn pass(&mut self, ms: i64) {
        self.wall += ms;
        self.log_time_ms += ms as u64;
    }

    fn due(&self) -> Option<i64> {
        self.state.due_slot(Wall(self.wall)).map(|slot| slot.0)
    }

    fn start(&mut self, slot: Option<i64>) -> Result<u64, Error> {
        let mut bytes = [7; 16];
        bytes[..8].copy_from_slice(&self.index.to_le_bytes());
        (bytes[6], bytes[8]) = (0x40, 0x80);
        let id = BackupId::from_bytes(bytes).unwrap();
        let slot = slot.map(Wall);
        self.apply(BackupOp::Start { id, slot, node: NODE, life: 9, lease_ms: 60_000 })?;
        Ok(self.index)
    }

    fn end(&mut self, number: u64, good: bool) -> Result<(), Error> {
        let outcome = match good {
            true => RunOutcome::Complete { data_bytes: 7 },
            false => RunOutcome::Failed { why: "ä".repeat(1000) },
        };
        self.apply(BackupOp::End { number, outcome })
    }

    fn backups(&self) -> &Backups {
        self.state.backups()
    }
}

fn schedule(cron: &str) -> Option<Schedule> {
    Some(Schedule { cron: cron.into(), timezone: "UTC".into(), prune: false })
}

#[test]
fn a_slot_is_taken_up_once() {
    let mut cluster = Cluster::new("0 * * * *");
    assert_eq!(cluster.due(), None, "the schedule was set at a slot");
    cluster.pass(HOUR_MS + 5);
    let slot = START + HOUR_MS;
    assert_eq!(cluster.due(), Some(slot));
    let number = cluster.start(Some(slot)).unwrap();
    assert!(matches!(cluster.start(None), Err(Error::Refused(_))));
    cluster.end(number, true).unwrap();
    assert_eq!(cluster.due(), None);
    // Another leader, with an entry on its way, for the same slot.
    cluster.pass(MINUTE_MS);
    assert!(matches!(cluster.start(Some(slot)), Err(Error::Refused(_))));
    assert!(matches!(cluster.end(number, true), Err(Error::NotFound(_))));
    assert_eq!(cluster.backups().last, cluster.backups().complete);
}

#[test]
fn missed_slots_are_made_up_for_by_one_run() {
    let mut cluster = Cluster::new("*/30 * * * *");
    cluster.pass(40 * DAY_MS + MINUTE_MS);
    let slot = cluster.due().unwrap();
    assert_eq!(slot, START + 40 * DAY_MS);
    let number = cluster.start(Some(slot)).unwrap();
    cluster.end(number, true).unwrap();
    assert_eq!(cluster.due(), None);
}

#[test]
fn what_was_missed_while_paused_is_not_made_up_for() {
    let mut cluster = Cluster::new("0 * * * *");
    cluster.apply(BackupOp::Pause(true)).unwrap();
    cluster.pass(3 * HOUR_MS);
    assert_eq!((cluster.due(), cluster.backups().upcoming(Wall(cluster.wall), 3).len()), (None, 0));
    assert!(matches!(cluster.start(Some(START + HOUR_MS)), Err(Error::Refused(_))));
    cluster.start(None).expect("asked for is asked for");
    cluster.apply(BackupOp::Pause(false)).unwrap();
    assert_eq!(cluster.due(), None);
    cluster.pass(HOUR_MS);
    assert_eq!(cluster.due(), Some(START + 4 * HOUR_MS));
    let mut none = Cluster::new("0 * * * *");
    none.apply(BackupOp::Schedule(None)).unwrap();
    assert!(matches!(none.apply(BackupOp::Pause(true)), Err(Error::NotFound(_))));
}

#[test]
fn setting_the_same_schedule_again_changes_nothing() {
    let mut cluster = Cluster::new("0 * * * *");
    cluster.pass(HOUR_MS);
    cluster.apply(BackupOp::Schedule(schedule("0 * * * *"))).unwrap();
    assert_eq!(cluster.due(), Some(START + HOUR_MS));
    cluster.apply(BackupOp::Schedule(schedule("0 */2 * * *"))).unwrap();
    assert_eq!(cluster.due(), None);
}

#[test]
fn what_does_not_change_the_calendar_keeps_the_slot_that_wants_its_backup() {
    let pruning = Schedule { prune: true, ..schedule("0 2 * * *").unwrap() };
    let slot = Some(START + 2 * HOUR_MS);
    let mut cluster = Cluster::new("0 2 * * *");
    cluster.pass(2 * HOUR_MS);
    cluster.apply(BackupOp::Schedule(Some(pruning.clone()))).unwrap();
    assert_eq!(cluster.due(), slot, "it was due");
    let number = cluster.start(slot).unwrap();
    cluster.end(number, false).unwrap();
    cluster.pass(HOUR_MS);
    let before = cluster.backups().clone();
    cluster.apply(BackupOp::Schedule(schedule("0 2 * * *"))).unwrap();
    let after = cluster.backups().clone();
    assert_eq!(after, Backups { schedule: schedule("0 2 * * *"), ..before }, "it failed");
    // While it is being made.
    let number = cluster.start(cluster.due()).unwrap();
    cluster.apply(BackupOp::Schedule(Some(pruning.clone()))).unwrap();
    cluster.end(number, false).unwrap();
    assert_eq!((cluster.due(), cluster.backups().failures), (slot, 2));
    // Another zone is another calendar.
    let zone = Schedule { timezone: "Europe/Berlin".into(), ..pruning };
    cluster.apply(BackupOp::Schedule(Some(zone))).unwrap();
    assert_eq!((cluster.due(), cluster.backups().failures), (None, 0));
}

#[test]
fn a_pause_takes_nothing_from_a_slot_that_was_taken_up_before() {
    let slot = Some(START + 2 * HOUR_MS);
    // It ends badly, or well, before the pause, in it or behind it.
    for (is_good, ended) in
        [false, true].into_iter().flat_map(|good| [0, 1, 2].map(|at| (good, at)))
    {
        let mut cluster = Cluster::new("0 2 * * *");
        cluster.pass(2 * HOUR_MS);
        let number = cluster.start(slot).unwrap();
        for at in 0..3 {
            if at == ended {
                cluster.end(number, is_good).unwrap();
            }
            if at < 2 {
                cluster.apply(BackupOp::Pause(at == 0)).unwrap();
            }
            cluster.pass(60 * MINUTE_MS);
        }
        let wanted = slot.filter(|_| !is_good);
        assert_eq!((cluster.due(), cluster.backups().failures), (wanted, u32::from(!is_good)));
        // In one that lasts for days, another slot takes its place.
        cluster.apply(BackupOp::Pause(true)).unwrap();
        cluster.pass(2 * DAY_MS);
        cluster.apply(BackupOp::Pause(false)).unwrap();
        assert_eq!(cluster.due(), wanted.map(|slot| slot + 2 * DAY_MS));
    }
}

#[test]
fn a_pause_outlasts_a_change_of_the_schedule() {
    let mut cluster = Cluster::new("0 * * * *");
    cluster.apply(BackupOp::Pause(true)).unwrap();
    cluster.apply(BackupOp::Schedule(schedule("*/5 * * * *"))).unwrap();
    cluster.pass(HOUR_MS);
    assert_eq!((cluster.backups().paused, cluster.due()), (true, None));
    cluster.apply(BackupOp::Pause(false)).unwrap();
    assert_eq!(cluster.due(), None, "what the pause skipped is not made up for");
    cluster.pass(5 * MINUTE_MS);
    assert_eq!(cluster.due(), Some(START + HOUR_MS + 5 * MINUTE_MS));
    // It ends with the schedule.
    cluster.apply(BackupOp::Pause(true)).unwrap();
    cluster.apply(BackupOp::Schedule(None)).unwrap();
    cluster.apply(BackupOp::Schedule(schedule("0 * * * *"))).unwrap();
    assert!(!cluster.backups().paused);
}

#[test]
fn a_calendar_that_jumps_makes_no_storm_and_no_silence() {
    let mut cluster = Cluster::new("* * * * *");
    // A second of log time between leaders whose calendars lie years apart: one run in 50 seconds at most.
    let mut runs = 0;
    for second in 0..300 {
        cluster.pass(1_000);
        let true_wall = cluster.wall;
        if second % 2 == 0 {
            cluster.wall += 3_650 * DAY_MS;
        }
        if let Some(slot) = cluster.due()
            && let Ok(number) = cluster.start(Some(slot))
        {
            runs += 1;
            cluster.end(number, true).unwrap();
        }
        cluster.wall = true_wall;
    }
    assert!((2..=6).contains(&runs), "{runs} runs in 300 seconds");
    // Set right again, the schedule goes on at once.
    cluster.pass(2 * MINUTE_MS);
    let slot = cluster.due().unwrap();
    assert!(slot <= cluster.wall);
    let number = cluster.start(Some(slot)).unwrap();
    cluster.end(number, true).unwrap();
    assert_eq!(cluster.due(), None);
}

#[test]
fn a_store_that_is_down_for_hours_is_tried_ever_more_seldom() {
    let mut cluster = Cluster::new("0 0 * * *");
    cluster.pass(DAY_MS);
    let slot = cluster.due().unwrap();
    let mut tries = Vec::new();
    for minute in 0..600 {
        if let Some(slot) = cluster.due()
            && let Ok(number) = cluster.start(Some(slot))
        {
            cluster.end(number, false).unwrap();
            tries.push(minute);
        }
        cluster.pass(MINUTE_MS);
    }
    assert_eq!(tries, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363, 423, 483, 543]);
    let RunOutcome::Failed { why } = &cluster.backups().last.as_ref().unwrap().outcome else {
        panic!("it failed");
    };
    assert_eq!(why.len(), WHY_BYTES_MAX);
    cluster.pass(HOUR_MS);
    let number = cluster.start(Some(slot)).unwrap();
    cluster.end(number, true).unwrap();
    assert_eq!((cluster.due(), cluster.backups().failures), (None, 0));
}

#[test]
fn a_node_that_is_not_heard_of_loses_its_run_for_good() {
    let mut cluster = Cluster::new("0 * * * *");
    cluster.pass(HOUR_MS);
    let slot = cluster.due();
    let number = cluster.start(slot).unwrap();
    cluster.pass(59_000);
    assert!(matches!(cluster.apply(BackupOp::Abandon { number }), Err(Error::Conflict(_))));
    cluster.apply(BackupOp::Extend { number, lease_ms: 60_000 }).unwrap();
    cluster.pass(59_000);
    assert!(matches!(cluster.apply(BackupOp::Abandon { number }), Err(Error::Conflict(_))));
    cluster.pass(1_000);
    cluster.apply(BackupOp::Abandon { number }).unwrap();
    let late = [
        BackupOp::Commit { number, lease_ms: 60_000 },
        BackupOp::Extend { number, lease_ms: 60_000 },
        BackupOp::End { number, outcome: RunOutcome::Complete { data_bytes: 1 } },
    ];
    for op in late {
        assert!(matches!(cluster.apply(op), Err(Error::NotFound(_))));
    }
    assert_eq!(cluster.backups().complete, None);
    cluster.pass(HOUR_MS / 2);
    assert_eq!(cluster.due(), slot, "the slot still wants its backup");
    assert!(cluster.start(slot).unwrap() > number);
}

#[test]
fn only_runs_on_schedule_may_find_that_nothing_changed() {
    let mut cluster = Cluster::new("0 * * * *");
    let asked = cluster.start(None).unwrap();
    assert_eq!(cluster.backups().run.as_ref().unwrap().same_as, None);
    cluster.end(asked, true).unwrap();
    let first = cluster.backups().last.clone().unwrap().id;
    cluster.pass(HOUR_MS);
    let slot = cluster.due();
    let number = cluster.start(slot).unwrap();
    assert_eq!(cluster.backups().run.as_ref().unwrap().same_as, Some((first, 7)));
    cluster
        .apply(BackupOp::End { number, outcome: RunOutcome::Unchanged { since: first } })
        .unwrap();
    assert_eq!(cluster.backups().complete.as_ref().unwrap().number, asked);
    cluster.start(None).unwrap();
    assert_eq!(cluster.backups().run.as_ref().unwrap().same_as, None);
}

#[test]
fn it_is_part_of_the_state_and_only_where_there_is_something() {
    let mut cluster = Cluster::new("0 * * * *");
    let hash = cluster.state.hash();
    cluster.start(None).unwrap();
    assert_ne!(cluster.state.hash(), hash);
    let mut builder = Builder::new();
    cluster.state.items().for_each(|item| builder.push(item).unwrap());
    let again = builder.finish().unwrap();
    assert_eq!((again.backups(), again.hash()), (cluster.backups(), cluster.state.hash()));
    assert!(check_backups(&Backups::default()).is_err());
    assert_eq!(KvState::new().items().count(), 1, "a state without a schedule has no such item");
}

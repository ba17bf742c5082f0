//! What every node counts of the runs that ended.

use super::EVERY_MINUTE;
use super::scene::Scene;
use raftkv_core::api::{Request, RunTotals};

#[test]
fn every_node_counts_what_ended_since_it_was_started() {
    let mut scene = Scene::new(3);
    scene.put("a", "1");
    scene.schedule(EVERY_MINUTE);
    let first = scene.until("the first", |backups| backups.last.is_some()).last;
    scene.until("the second", |backups| backups.run.is_none() && backups.last != first);
    scene.ask_leader(Request::BackupSchedule { schedule: None });
    scene.ticks(20);
    let two = RunTotals { complete: 1, unchanged: 1, ..RunTotals::default() };
    for member in 1..=3 {
        assert_eq!(scene.status(member).totals, two, "node {member}");
    }
    // It reads its log again, and counts nothing of that.
    let other = scene.leader() % 3 + 1;
    scene.cluster.crash(other);
    scene.cluster.start(other);
    scene.ticks(20);
    assert_eq!(scene.status(other).backups, scene.backups());
    assert_eq!(scene.status(other).totals, RunTotals::default());
    // One that fails, for everybody.
    scene.down = vec![0];
    scene.run();
    scene.until("it fails", |backups| backups.run.is_none());
    scene.ticks(20);
    for member in 1..=3 {
        let before = if member == other { RunTotals::default() } else { two };
        let totals = RunTotals { failed: 1, ..before };
        assert_eq!(scene.status(member).totals, totals, "node {member}");
    }
}

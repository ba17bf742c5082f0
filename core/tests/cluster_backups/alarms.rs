//! A schedule that makes no more backups must not go unnoticed: within two of its intervals the status of a node, and with it the metrics, says
//! so, whatever the cause. What is taken for an alarm here are the rules of `docs/OPERATIONS.md`, with shorter times.

use super::scene::{Scene, able};
use raftkv_core::api::{BackupStatus, RunOutcome};
use raftkv_core::node::Node;

const INTERVAL_MS: i64 = 60_000;

/// The status raises an alarm without anybody's looking at a log.
fn alarms(status: &BackupStatus) -> bool {
    let last = status.backups.last.as_ref().map(|last| &last.outcome);
    let is_bad = matches!(last, Some(RunOutcome::Failed { .. } | RunOutcome::Abandoned));
    let is_overdue = status.overdue.is_some_and(|slot| status.wall.0 - slot.0 > INTERVAL_MS / 6);
    is_bad || is_overdue || status.lag_ms().is_some_and(|lag_ms| lag_ms > INTERVAL_MS * 3 / 2)
}

/// After a backup on schedule, while this is done before every tick, the leader raises an alarm; it ends when backups are made again.
fn raised_when(mut stops: impl FnMut(&mut Scene), goes_on: impl FnOnce(&mut Scene)) {
    let mut scene = Scene::new(3);
    scene.put("a", "1");
    scene.schedule("* * * * *");
    scene.until("the first", |backups| backups.complete.is_some());
    let leader = scene.leader();
    let before = scene.status(leader);
    assert!(!alarms(&before), "{before:?}");
    scene.put("a", "2");
    loop {
        stops(&mut scene);
        let leader = scene.leader();
        let status = scene.status(leader);
        if alarms(&status) {
            break;
        }
        assert!(status.wall.0 - before.wall.0 <= 2 * INTERVAL_MS, "nobody noticed: {status:?}");
        scene.tick();
    }
    goes_on(&mut scene);
    scene.until("a new one", |backups| {
        backups.complete.as_ref().is_some_and(|complete| complete.revision == 2)
    });
    let leader = scene.leader();
    assert!(!alarms(&scene.status(leader)), "{:?}", scene.status(leader));
}

#[test]
fn a_store_that_fails_raises_an_alarm() {
    raised_when(|scene| scene.down = vec![0], |scene| scene.down.clear());
}

#[test]
fn nodes_that_cannot_reach_the_store_raise_an_alarm() {
    raised_when(|scene| scene.cut_off = scene.cluster.members(), |scene| scene.cut_off.clear());
}

#[test]
fn nodes_that_make_no_backups_any_more_raise_an_alarm() {
    let restart = |scene: &mut Scene, prepare: fn(&mut Node)| {
        for member in scene.cluster.members() {
            scene.cluster.crash(member);
            scene.cluster.hosts.get_mut(&member).unwrap().prepare = prepare;
            scene.cluster.start(member);
        }
    };
    let mut are_able = true;
    let stop = |scene: &mut Scene| {
        if std::mem::take(&mut are_able) {
            restart(scene, |_| {});
        }
    };
    raised_when(stop, |scene| restart(scene, able));
}

#[test]
fn a_lock_that_somebody_else_keeps_raises_an_alarm() {
    let mut lock = None;
    let keep = |scene: &mut Scene| match &lock {
        Some(lock) => scene.renew_in(0, lock),
        None => lock = Some(scene.lock()),
    };
    raised_when(keep, |_| {});
}

//! Backups that a cluster makes itself, end to end in a box: real nodes, a store in memory, and faults at every step.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alarms;
mod choosing;
#[path = "../cluster/mod.rs"]
#[allow(dead_code, reason = "only a part is used")]
mod cluster;
mod copies;
mod heirs;
mod partitions;
mod rules;
#[path = "../backup/sample.rs"]
#[allow(dead_code, reason = "only a part is used")]
mod sample;
mod scene;
#[path = "../backup/store.rs"]
#[allow(dead_code, reason = "faults by number are for the tests of single machines")]
mod store;
mod totals;
mod trial;

use raftkv_core::api::{Backups, Error, Obstacle, Request, Response, RunOutcome};
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::BlobOp;
use raftkv_core::backup::catalog::Standing;
use raftkv_core::backup::lock::Renew;
use raftkv_core::backup::making::status;
use raftkv_core::backup::metadata::Status;
use raftkv_core::config::Config;
use raftkv_core::time::Wall;
use scene::{Scene, tidy};
use std::collections::VecDeque;

const EVERY_MINUTE: &str = "* * * * *";

#[test]
fn a_follower_makes_it_and_writes_go_on() {
    let mut scene = Scene::new(3);
    scene.put("a", "before");
    let req = scene.ask_leader(Request::BackupRun);
    scene.tick();
    let Response::Backups(status) = scene.cluster.answer(req).clone() else {
        panic!("{:?}", scene.cluster.answer(req));
    };
    let run = status.backups.run.unwrap();
    assert_ne!(run.node.member(), scene.leader());
    scene.put("a", "after");
    let backups = scene.until("it ends", |backups| backups.run.is_none());
    let last = backups.last.unwrap();
    assert_eq!((last.number, last.id, last.node), (run.number, run.id, run.node));
    assert!(matches!(last.outcome, RunOutcome::Complete { .. }));
    assert_eq!(scene.complete(), [run.id]);
    let entry = scene.catalog().entries[0].metadata.clone().unwrap();
    assert_eq!((entry.index, entry.revision, entry.node), (run.number, 1, run.node));
}

#[test]
fn a_leader_alone_makes_it_itself_and_who_cannot_says_so() {
    let mut scene = Scene::new(1);
    scene.ask_leader(Request::BackupRun);
    scene.until("it ends", |backups| backups.last.is_some());
    assert_eq!(scene.complete().len(), 1);
    let mut without = Scene::new(3);
    for member in without.cluster.members() {
        without.cluster.crash(member);
        without.cluster.hosts.get_mut(&member).unwrap().prepare = |_| {};
        without.cluster.start(member);
    }
    let req = without.ask_leader(Request::BackupRun);
    without.ticks(20);
    let Response::Error(error) = without.cluster.answer(req) else { panic!("it was not refused") };
    assert!(error.to_string().contains("backup_config"), "{error}");
    // Soon, and not again for a day: one warning is enough, however often it is tried.
    without.schedule("14 22 * * *");
    without.ticks(2_400);
    assert_eq!(without.warnings("a backup is due, but no member can make"), 1);
}

#[test]
fn one_that_is_asked_for_beside_another_is_refused_for_good() {
    let mut scene = Scene::new(3);
    scene.ask_leader(Request::BackupRun);
    let refused = |scene: &mut Scene, why: &str| {
        let req = scene.ask_leader(Request::BackupRun);
        scene.cluster.settle();
        match scene.cluster.answer(req) {
            Response::Error(Error::Refused(what)) => assert!(what.contains(why), "{what}"),
            other => panic!("{other:?}"),
        }
    };
    refused(&mut scene, "is about to begin");
    let run = scene.begin();
    refused(&mut scene, &format!("{}, by node {}", run.id, run.node));
    scene.until("it ends", |backups| backups.run.is_none());
    assert_eq!(scene.complete(), [run.id], "no other follows");
}

#[test]
fn log_time_does_not_jump_when_a_lone_node_ends_its_run_as_soon_as_it_leads() {
    let mut scene = Scene::new(2);
    let here = scene.leader();
    scene.ask_leader(Request::MemberRemove { member: 3 - here });
    scene.ask_leader(Request::BackupRun);
    let run = scene.begin();
    // With each write goes the commit index of those before: after a start all of this is applied at once.
    scene.put("a", "1");
    let before_ms = scene.node(here).state().log_time_ms();
    scene.cluster.crash(here);
    scene.cluster.start(here);
    // By its snapshot it was one of two, so it did not stand for election at once. Now it does, and ends the run in one go.
    (0..1_000).for_each(|_| scene.cluster.advance());
    scene.cluster.pass_tick();
    let ended = scene.node(here).state().backups().last.clone().unwrap();
    assert_eq!(ended.number, run.number);
    let passed_ms = scene.node(here).state().log_time_ms() - before_ms;
    assert!(passed_ms <= Config::default().tick.as_millis(), "log time went on by {passed_ms} ms");
}

#[test]
fn one_run_for_a_slot_and_a_record_where_nothing_changed() {
    let mut scene = Scene::new(3);
    scene.put("a", "1");
    scene.schedule(EVERY_MINUTE);
    let first = scene.until("the first", |backups| backups.last.is_some()).last.unwrap();
    let since = first.id;
    let second = scene.until("the second", |backups| {
        backups.last.as_ref().is_some_and(|last| last.slot > first.slot)
    });
    assert_eq!(second.last.clone().unwrap().outcome, RunOutcome::Unchanged { since });
    assert_eq!(scene.complete(), [since]);
    // Gone from the store, it is no reason to make none, and that is told.
    assert_eq!(scene.warnings("is not in the store any more"), 0);
    scene.stores[0].objects.clear();
    let slot = second.last.unwrap().slot;
    let third = scene
        .until("the third", |backups| backups.last.as_ref().is_some_and(|last| last.slot > slot));
    assert!(matches!(third.last.unwrap().outcome, RunOutcome::Complete { .. }));
    // The maker says so when all of it is over.
    scene.ticks(20);
    assert_eq!(scene.warnings(&format!("backup {since}, the newest that this cluster had")), 1);
    scene.put("a", "2");
    scene.until("the fourth", |backups| {
        backups.complete.as_ref().is_some_and(|complete| complete.revision == 2)
    });
    assert_eq!(scene.complete().len(), 2);
}

#[test]
fn the_leader_may_change_at_any_step() {
    for steps in 0..32 {
        let mut scene = Scene::new(3);
        scene.put("a", "1");
        scene.schedule(EVERY_MINUTE);
        let run = scene.begin();
        for _ in 0..steps {
            if !scene.step(run.node.member()) {
                scene.cluster.pass_tick();
            }
            scene.cluster.settle();
        }
        let old = scene.leader();
        scene.cluster.crash(old);
        scene.cluster.pass_tick();
        let last = scene.until("it ends", |backups| backups.last.is_some()).last.unwrap();
        assert_eq!((last.id, last.slot), (run.id, run.slot), "after {steps} steps");
        assert!(last.is_good(), "after {steps} steps: {last:?}");
        assert_eq!(scene.complete(), [run.id], "after {steps} steps");
    }
}

#[test]
fn the_node_that_makes_it_may_die_at_any_step() {
    for steps in 0..32 {
        let mut scene = Scene::new(3);
        scene.put("a", "1");
        scene.schedule(EVERY_MINUTE);
        let run = scene.begin();
        let maker = run.node.member();
        scene.steps(maker, steps);
        let current = scene.backups();
        let committing = current.run.is_some_and(|run| run.committing);
        scene.cluster.crash(maker);
        if steps % 2 == 0 {
            scene.ticks(3);
            scene.cluster.start(maker);
        }
        let good = |backups: &Backups| backups.last.as_ref().is_some_and(|last| last.is_good());
        let last = scene.until("one is good", good).last.unwrap();
        let complete = scene.complete();
        assert!(complete.contains(&last.id), "after {steps} steps");
        let left = scene.objects_of(run.id);
        // Whether a run that was about to commit is complete is for whoever looks at the store.
        assert!(
            left == 2 || left == 0 || committing,
            "after {steps} steps {left} objects are left"
        );
        if last.id != run.id {
            assert!(last.number > run.number && last.slot >= run.slot, "after {steps} steps");
        }
    }
}

#[test]
fn a_straggler_never_completes_a_run_that_was_given_up() {
    let mut scene = Scene::new(3);
    scene.put("a", "1");
    scene.schedule(EVERY_MINUTE);
    let run = scene.begin();
    let maker = run.node.member();
    for other in scene.cluster.members().into_iter().filter(|other| *other != maker) {
        scene.cluster.cut.extend([(maker, other), (other, maker)]);
    }
    // It uploads everything, unheard, while the others go on without it.
    let good = |backups: &Backups| backups.last.as_ref().is_some_and(|last| last.is_good());
    let last = scene.until("another is made", good).last.unwrap();
    assert_ne!(last.id, run.id);
    let own = |scene: &Scene, name: &str| {
        scene.stores[0].objects.contains_key(&format!("{}/{name}", run.id))
    };
    assert!(scene.warnings(&format!("{} is given up", run.id)) > 0);
    assert!(!own(&scene, "metadata.json"));
    assert!(!own(&scene, "data.db"), "the next run sweeps up behind it");
    scene.cluster.cut.clear();
    scene.ticks(50);
    assert!(!own(&scene, "data.db") && !own(&scene, "metadata.json"), "it cleans up behind itself");
}

#[test]
fn a_store_that_is_down_is_tried_again() {
    let mut scene = Scene::new(3);
    scene.put("a", "1");
    scene.schedule("*/5 * * * *");
    scene.down = vec![0];
    let failed = scene.until("it fails", |backups| backups.failures == 2);
    assert_eq!(failed.last.unwrap().outcome.obstacle(), Some(Obstacle::Store));
    assert_eq!(scene.stores[0].objects.len(), 0);
    assert!(scene.warnings("ended: Failed") > 0);
    scene.down.clear();
    let good = scene.until("it is made", |backups| backups.complete.is_some());
    assert_eq!(good.slot, failed.slot);
    assert_eq!(scene.complete().len(), 1);
}

#[test]
fn a_run_lasts_as_long_as_it_takes() {
    let mut scene = Scene::new(3);
    scene.put("a", "1");
    scene.ask_leader(Request::BackupRun);
    scene.tick_without_store(1);
    let run = scene.backups().run.expect("it began");
    // Ten leases long nothing moves at the store.
    scene.tick_without_store(500);
    assert_eq!(scene.backups().run.expect("it goes on").id, run.id);
    scene.until("it ends", |backups| backups.run.is_none());
    assert_eq!(scene.complete(), [run.id]);
}

#[test]
fn parts_and_uploads_keep_their_names_from_run_to_run() {
    let mut scene = Scene::new(1);
    let mut starts = VecDeque::new();
    for round in 0..3 {
        scene.put("a", &format!("{round}"));
        scene.ask_leader(Request::BackupRun);
        for _ in 0..200 {
            scene.cluster.pass_tick();
            loop {
                let next = scene.cluster.hosts[&1].blob_queue.front();
                starts.extend(next.and_then(|(_, op, action)| {
                    matches!(action, BlobOp::PutStart { .. }).then_some(*op)
                }));
                if !scene.step(1) {
                    break;
                }
                scene.cluster.settle();
            }
        }
    }
    assert_eq!(starts.len(), 3);
    assert!(starts.iter().is_sorted_by(|a, b| a < b), "{starts:?}");
    assert_eq!(scene.complete().len(), 3);
}

#[test]
fn whoever_has_the_store_keeps_it_and_the_run_is_told() {
    let mut scene = Scene::new(3);
    scene.put("a", "1");
    let mut lock = scene.lock();
    scene.run();
    for _ in 0..3_000 {
        if scene.backups().run.is_none() {
            break;
        }
        lock = scene.renew(Renew::new(lock));
        scene.ticks(60);
    }
    let outcome = scene.backups().last.unwrap().outcome;
    assert_eq!(outcome.obstacle(), Some(Obstacle::Refused));
    let RunOutcome::Failed { why } = outcome else { panic!("{outcome:?}") };
    assert!(why.contains("the store's lock is held by a person since"), "{why}");
    assert_eq!(scene.catalog().entries.len(), 0, "it wrote nothing");
    scene.renew(Renew::release(lock));
    scene.run();
    scene.until("it ends", |backups| backups.run.is_none());
    assert_eq!(scene.complete().len(), 1);
    scene.ticks(20);
    assert!(!scene.catalog().is_locked(), "it lets the lock go");
}

#[test]
fn a_lock_that_nobody_renews_is_taken_over() {
    let mut scene = Scene::new(3);
    scene.put("a", "1");
    scene.lock();
    scene.run();
    scene.until("it ends", |backups| backups.run.is_none());
    assert!(scene.backups().last.unwrap().is_good());
    assert_eq!(scene.complete().len(), 1);
}

#[test]
fn older_ones_go_after_one_on_schedule() {
    let mut scene = Scene::prepared(3, tidy);
    scene.put("a", "0");
    scene.schedule(EVERY_MINUTE);
    let ids: Vec<BackupId> = (2..6).map(|round| scene.next(round)).collect();
    let mut complete = scene.complete();
    complete.sort();
    let mut newest = ids[2..].to_vec();
    newest.sort();
    assert_eq!(complete, newest);
    let left = scene.stores[0].objects.keys().filter(|path| !path.starts_with("locks/")).count();
    assert_eq!(left, 4, "{:?}", scene.stores[0].objects.keys());
}

#[test]
fn a_store_whose_clock_is_another_is_not_pruned() {
    let mut scene = Scene::prepared(1, tidy);
    scene.stores[0].clock = Some(Wall(0));
    scene.put("a", "0");
    scene.schedule(EVERY_MINUTE);
    for round in 2..6 {
        scene.next(round);
    }
    assert_eq!(scene.complete().len(), 4);
    assert!(scene.warnings("older backups were not pruned") > 0);
    assert_eq!(scene.warnings("ended: "), 0, "the backups themselves are good");
}

#[test]
fn what_broke_off_is_listed_until_it_is_swept() {
    let mut scene = Scene::prepared(3, tidy);
    scene.put("a", "0");
    scene.schedule(EVERY_MINUTE);
    let run = scene.begin();
    let maker = run.node.member();
    while !scene.cluster.hosts[&maker]
        .blob_queue
        .iter()
        .any(|(_, _, it)| matches!(it, BlobOp::PutStart { .. }))
    {
        if !scene.step(maker) {
            scene.cluster.pass_tick();
        }
        scene.cluster.settle();
    }
    let listed = scene.catalog().entries;
    assert_eq!(listed[0].standing, Standing::NotWhole(Status::InProgress));
    assert!(listed[0].run.as_ref().unwrap().note.contains(&run.node.to_string()));
    scene.cluster.crash(maker);
    scene.next(2);
    let entry = |scene: &mut Scene| scene.catalog().entries.into_iter().find(|it| it.id == run.id);
    let failed = entry(&mut scene).expect("it is listed");
    assert_eq!(failed.standing, Standing::NotWhole(Status::Failed));
    let why = failed.run.unwrap().note;
    assert!(why.contains("not heard of in time"), "{why}");
    // Two days old by the store's clock, which is as this node's.
    let now = scene.backups().last.unwrap().ended;
    scene.stores[0].clock = Some(now);
    let status = format!("{}/status.json", run.id);
    scene.stores[0].written.insert(status, Wall(now.0 - 2 * 24 * 3_600_000));
    scene.next(3);
    assert_eq!(entry(&mut scene), None);
    assert_eq!(scene.complete().len(), 2);
}

#[test]
fn what_is_left_of_broken_off_backups_goes_where_there_is_no_retention() {
    let mut scene = Scene::new(3);
    scene.put("a", "0");
    scene.schedule(EVERY_MINUTE);
    scene.next(2);
    let now = scene.backups().last.unwrap().ended;
    scene.stores[0].clock = Some(now);
    let id: BackupId = "cd11a5da-37bc-41a7-af78-95893ef7789c".parse().unwrap();
    let status = status(id, "the disk was full", Wall(0), true);
    let path = status.place.path();
    scene.stores[0].objects.insert(path.clone(), status.render());
    scene.stores[0].written.insert(path.clone(), Wall(now.0 - 2 * 24 * 3_600_000));

    // A run that does not get the lock touches nothing.
    let mut lock = scene.lock();
    scene.put("a", "3");
    scene.run();
    while scene.backups().run.is_some() {
        lock = scene.renew(Renew::new(lock));
        scene.ticks(60);
    }
    assert!(!scene.backups().last.unwrap().is_good());
    assert!(scene.stores[0].objects.contains_key(&path));
    scene.renew(Renew::release(lock));
    scene.next(4);
    assert!(!scene.stores[0].objects.contains_key(&path), "{:?}", scene.stores[0].objects.keys());
    assert_eq!(scene.complete().len(), 2);
}

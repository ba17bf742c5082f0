//! Copies in further stores: those that a backup must be in before it counts, and those that follow.

use super::scene::{Scene, able, plain, tidy};
use super::store::Store;
use raftkv_core::api::{CopyReport, Ended, Obstacle, Request, RunOutcome};
use raftkv_core::backup::KeyRing;
use raftkv_core::backup::bounds::MAX_PARTS;
use raftkv_core::backup::catalog::Standing;
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::create::{Bounds, Settings};
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::read::Access;
use raftkv_core::node::Node;
use raftkv_core::node::copies::Copies;

/// Two stores besides the primary one; the first of them must have every backup.
fn careful(node: &mut Node) {
    copying(node);
    let settings = Settings {
        compression: Compression::Gzip { level: 1 },
        stores: 2,
        recipients: Vec::new(),
        plain_is_said: false,
        version: "test".into(),
        bounds: Bounds { chunk_bytes: 1 << 16, part_bytes: 1 << 16, ..Bounds::default() },
    };
    node.make_backups(settings, plain());
}

fn copying(node: &mut Node) {
    able(node);
    let names = vec!["second".into(), "third".into()];
    let access = Access { keys: KeyRing::default(), plaintext: Plaintext::Allowed };
    node.copy_backups(Copies { names, access, max_parts: MAX_PARTS });
}

fn tidy_copying(node: &mut Node) {
    copying(node);
    tidy(node);
}

/// Objects but for locks.
fn objects(store: &Store) -> Vec<&String> {
    store.objects.keys().filter(|path| !path.starts_with("locks/")).collect()
}

impl Scene {
    /// What a node says of its copies.
    fn copy_reports(&mut self, member: u32) -> Vec<CopyReport> {
        self.status(member).copies
    }

    /// Nothing in any store is locked, or half there.
    fn assert_at_rest(&mut self) {
        for store in 0..3 {
            let catalog = self.catalog_of(store);
            assert!(!catalog.is_locked(), "store {store}: {:?}", catalog.lock);
            let half = catalog.entries.iter().filter(|entry| !entry.is_complete());
            assert_eq!(half.count(), 0, "store {store}: {:?}", objects(&self.stores[store]));
            assert!(self.stores[store].uploads.is_empty());
        }
    }
}

#[test]
fn every_store_has_every_backup_in_the_end() {
    let mut scene = Scene::prepared(3, copying);
    for round in 1..4 {
        scene.put("a", &format!("{round}"));
        scene.run();
        scene.until("it ends", |backups| backups.run.is_none());
        scene.ticks(20);
    }
    let complete = scene.complete();
    assert_eq!(complete.len(), 3);
    assert_eq!((scene.complete_in(1), scene.complete_in(2)), (complete.clone(), complete));
    scene.assert_at_rest();
}

#[test]
fn a_store_that_was_down_catches_up_by_itself() {
    let mut scene = Scene::prepared(3, copying);
    scene.put("a", "1");
    scene.down = vec![2];
    scene.run();
    scene.until("it ends", |backups| backups.run.is_none());
    scene.ticks(20);
    assert_eq!((scene.complete_in(1).len(), scene.complete_in(2).len()), (1, 0));
    scene.down.clear();
    // No other run comes: the node tries again after its rest.
    scene.ticks(700);
    assert_eq!(scene.complete_in(2).len(), 1);
    scene.assert_at_rest();
}

#[test]
fn a_backup_does_not_count_before_the_stores_that_must_have_it() {
    let mut scene = Scene::prepared(3, careful);
    scene.put("a", "1");
    scene.down = vec![1];
    scene.run();
    let last = scene.until("it ends", |backups| backups.run.is_none()).last.unwrap();
    assert_eq!(last.outcome.obstacle(), Some(Obstacle::Store), "{:?}", last.outcome);
    scene.ticks(20);
    assert!((0..3).all(|store| scene.complete_in(store).is_empty()));
    scene.down = vec![2];
    scene.run();
    let last = scene.until("it ends", |backups| backups.run.is_none()).last.unwrap();
    assert!(last.is_good(), "{:?}", last.outcome);
    assert_eq!((scene.complete().len(), scene.complete_in(1).len()), (1, 1));
    scene.down.clear();
    scene.ticks(700);
    assert_eq!(scene.complete_in(2).len(), 1);
}

#[test]
fn nothing_is_made_while_somebody_has_one_of_the_stores() {
    let mut scene = Scene::prepared(3, careful);
    let lock = scene.lock_in(1);
    scene.run();
    for _ in 0..3 {
        scene.renew_in(1, &lock);
        scene.ticks(60);
    }
    let last = scene.until("it ends", |backups| backups.run.is_none()).last.unwrap();
    assert_eq!(last.outcome.obstacle(), Some(Obstacle::Refused), "{:?}", last.outcome);
    assert!((0..3).all(|store| objects(&scene.stores[store]).is_empty()));
}

#[test]
fn the_maker_may_die_at_any_step_and_every_store_stays_whole() {
    for steps in (0..120).step_by(3) {
        let mut scene = Scene::prepared(3, careful);
        scene.put("a", "1");
        scene.ask_leader(Request::BackupRun);
        let run = scene.begin();
        let maker = run.node.member();
        scene.steps(maker, steps);
        let current = scene.backups();
        let committing = current.run.is_some_and(|run| run.committing);
        scene.cluster.crash(maker);
        scene.ticks(3);
        scene.cluster.start(maker);
        scene.until("it is over", |backups| backups.run.is_none());
        for store in 1..3 {
            scene.complete_in(store);
        }
        let counts = scene.backups().last.is_some_and(|last| last.is_good());
        let in_primary = scene.complete().contains(&run.id);
        assert!(!counts || in_primary, "after {steps} steps");
        assert!(!in_primary || scene.complete_in(1).contains(&run.id), "after {steps} steps");
        // The next run makes up for everything.
        scene.put("a", "2");
        let good = |scene: &mut Scene| {
            scene.run();
            let last = scene.until("it ends", |backups| backups.run.is_none()).last;
            last.is_some_and(|last| last.is_good())
        };
        assert!((0..5).any(|_| good(&mut scene)), "after {steps} steps: no run ends well");
        scene.ticks(800);
        let complete = scene.complete();
        for store in 1..3 {
            let copies = scene.complete_in(store);
            assert!(complete.iter().all(|id| copies.contains(id)), "store {store}, {steps} steps");
            // What a run about to commit has left is left in all its stores alike.
            let entries = scene.catalog_of(store).entries;
            let half = entries.iter().filter(|entry| entry.standing == Standing::Incomplete);
            let half: Vec<_> = half.map(|entry| entry.id).collect();
            assert!(half.is_empty() || committing && half == [run.id], "{store}, {steps} steps");
        }
    }
}

#[test]
fn a_new_run_goes_before_copying_wherever_it_is_made() {
    let mut scene = Scene::prepared(3, careful);
    scene.put("a", "1");
    scene.down = vec![2];
    scene.ask_leader(Request::BackupRun);
    let copier = scene.begin().node.member();
    scene.step_until(copier, "it ends", |scene| scene.backups().run.is_none());
    scene.down.clear();
    // Copying to the second store is under way when the next run begins.
    let locked = |scene: &Scene| scene.stores[1].asked.iter().filter(|it| **it == "list").count();
    let before = locked(&scene);
    scene.step_until(copier, "it copies", |scene| locked(scene) > before);
    scene.put("a", "2");
    scene.run();
    let last = scene.until("it ends", |backups| backups.run.is_none()).last.unwrap();
    assert!(last.is_good(), "{:?}", last.outcome);
    scene.ticks(700);
    assert!((0..3).all(|store| scene.complete_in(store).len() == 2));
    scene.assert_at_rest();
}

#[test]
fn a_long_catch_up_is_broken_off_for_a_new_run() {
    let mut scene = Scene::prepared(1, copying);
    scene.down = vec![1, 2];
    for round in 0..6 {
        scene.put("a", &format!("{round}"));
        scene.run();
        scene.until("it ends", |backups| backups.run.is_none());
    }
    scene.down.clear();
    // The node is told nothing of new stores while it runs.
    scene.cluster.crash(1);
    scene.cluster.hosts.get_mut(&1).unwrap().prepare = careful;
    scene.cluster.start(1);
    scene.put("a", "6");
    scene.ask_leader(Request::BackupRun);
    let first = scene.begin();
    scene.step_until(1, "it ends", |scene| scene.backups().run.is_none());
    scene.step_until(1, "it copies", |scene| scene.complete_in(1).len() >= 2);
    scene.put("a", "7");
    scene.ask_leader(Request::BackupRun);
    let is_new = |last: &Ended| last.id != first.id;
    scene.step_until(1, "the new run ends", |scene| {
        scene.backups().last.as_ref().is_some_and(is_new)
    });
    let last = scene.backups().last.unwrap();
    assert!(matches!(last.outcome, RunOutcome::Complete { .. }), "{:?}", last.outcome);
    assert!(scene.complete_in(1).len() < 8, "older copies wait");
    scene.ticks(100);
    assert_eq!((scene.complete_in(1).len(), scene.complete_in(2).len()), (8, 8));
    scene.assert_at_rest();
}

#[test]
fn older_copies_go_by_the_same_rules() {
    let mut scene = Scene::prepared(1, tidy_copying);
    scene.schedule(super::EVERY_MINUTE);
    for round in 1..6 {
        scene.next(round);
        scene.ticks(20);
    }
    let complete = scene.complete();
    assert_eq!(complete.len(), 2);
    assert_eq!((scene.complete_in(1), scene.complete_in(2)), (complete.clone(), complete));
}

#[test]
fn a_node_that_was_ended_goes_on_with_its_copies_and_says_how_they_are() {
    let mut scene = Scene::prepared(3, copying);
    scene.put("a", "1");
    scene.down = vec![2];
    scene.run();
    let backups = scene.until("it ends", |backups| backups.run.is_none());
    let maker = backups.complete.unwrap().node.member();
    scene.ticks(20);
    let reports = scene.copy_reports(maker);
    let told = |(store, behind): (&str, bool)| {
        reports.iter().any(|report| report.store == store && report.behind == behind)
    };
    assert!([("second", false), ("third", true)].into_iter().all(told), "{reports:?}");
    scene.cluster.crash(maker);
    scene.down.clear();
    scene.ticks(20);
    assert_eq!(scene.complete_in(2).len(), 0, "nobody else has the task");
    scene.cluster.start(maker);
    // The lock that it left behind keeps it waiting.
    scene.ticks(700);
    assert_eq!(scene.complete_in(2).len(), 1);
    let reports = scene.copy_reports(maker);
    assert!(reports.len() == 2 && reports.iter().all(|report| !report.behind), "{reports:?}");
    scene.assert_at_rest();
}

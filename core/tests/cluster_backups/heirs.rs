//! What a store holds already decides what a run comes to: backups of a cluster that was restored from this one, one of the same state, and
//! what is there of the run before.

use super::EVERY_MINUTE;
use super::sample::{access, backup, key, rng, settings, state};
use super::scene::{Scene, able, plain, plain_settings};
use raftkv_core::api::{Backups, Ended, Obstacle, Request, Run, RunOutcome};
use raftkv_core::backup::KeyRing;
use raftkv_core::backup::blob::{ObjectName, StoreIndex};
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::create::Settings;
use raftkv_core::backup::rebuild::RebuildMetadata;
use raftkv_core::backup::rotate::{Rotate, Rotated};
use raftkv_core::node::Node;

fn sealing(node: &mut Node) {
    node.make_backups(settings(Compression::None, &[key(1)]), access(&[key(1)]));
}

fn saying_plain(node: &mut Node) {
    node.make_backups(Settings { plain_is_said: true, ..plain_settings() }, plain());
}

fn sealing_anew(node: &mut Node) {
    node.make_backups(settings(Compression::None, &[key(2)]), access(&[key(2)]));
}

fn sealing_for_another(node: &mut Node) {
    let recipients = [key(2)];
    node.make_backups(settings(Compression::None, &recipients), access(&[key(2), key(1)]));
}

fn sealing_for_two(node: &mut Node) {
    let recipients = [key(2), key(3)];
    node.make_backups(settings(Compression::None, &recipients), access(&[key(2), key(3), key(1)]));
}

fn sealing_after_a_rotation(node: &mut Node) {
    let recipients = [key(2), key(4)];
    node.make_backups(settings(Compression::None, &recipients), access(&[key(2), key(4), key(3)]));
}

impl Scene {
    /// Every node starts anew, with another configuration.
    fn restart(&mut self, prepare: fn(&mut Node)) {
        for member in self.cluster.members() {
            self.cluster.crash(member);
            self.cluster.hosts.get_mut(&member).unwrap().prepare = prepare;
            self.cluster.start(member);
        }
    }

    /// The run of the next slot, when it has ended.
    fn next_slot(&mut self) -> Ended {
        let before = self.backups().last.and_then(|last| last.slot);
        let is_next =
            |backups: &Backups| backups.last.as_ref().is_some_and(|last| last.slot > before);
        self.until("the next slot", is_next).last.unwrap()
    }

    /// Paths of everything but locks and what says of runs that they failed.
    fn paths(&self) -> Vec<String> {
        let paths = self.stores[0].objects.keys().filter(|path| !path.starts_with("locks/"));
        paths.filter(|path| !path.ends_with("status.json")).cloned().collect()
    }

    /// How many backups a list shows as complete, whoever can open them.
    fn complete_entries(&mut self) -> usize {
        self.catalog().entries.iter().filter(|entry| entry.is_complete()).count()
    }
}

#[test]
fn nothing_is_made_where_a_cluster_that_was_restored_has_its_backups() {
    let mut scene = Scene::new(3);
    scene.put("a", "0");
    scene.schedule(EVERY_MINUTE);
    scene.next(2);
    // The sample's cluster is of the next epoch.
    let heir = backup(&mut scene.stores[0], &state(9), 20, settings(Compression::None, &[]));
    let before = scene.paths();
    scene.put("a", "3");
    let failed = scene.until("it fails", |backups| backups.failures == 1);
    let outcome = failed.last.unwrap().outcome;
    assert_eq!(outcome.obstacle(), Some(Obstacle::Refused));
    let RunOutcome::Failed { why } = outcome else { panic!("it did not fail") };
    assert!(why.contains(&heir.to_string()) && why.contains("was restored from this one"), "{why}");
    assert!(why.ends_with("stop its backups"), "all of it is told: {why}");
    scene.ticks(20);
    assert_eq!(scene.paths(), before, "nothing is written, and nothing removed");
    assert!(!scene.catalog().is_locked());
    // Once it is gone, things go on.
    scene.stores[0].objects.retain(|path, _| !path.starts_with(&heir.to_string()));
    scene.next(4);
    assert_eq!(scene.complete().len(), 2);
}

#[test]
fn a_store_that_cannot_be_listed_says_nothing() {
    let mut scene = Scene::new(1);
    scene.put("a", "0");
    scene.ask_leader(Request::BackupRun);
    scene.begin();
    // Everything about the lock is answered, and then nothing.
    let is_list =
        |scene: &mut Scene| scene.stores[0].asked.iter().filter(|it| **it == "list").count() == 2;
    scene.step_until(1, "the lock is held", is_list);
    scene.down = vec![StoreIndex::PRIMARY.0.into()];
    scene.step(1);
    scene.down.clear();
    scene.until("it ends", |backups| backups.run.is_none());
    assert_eq!(scene.complete().len(), 1);
}

#[test]
fn a_backup_that_would_not_be_restored_now_is_no_reason_to_make_none() {
    let mut scene = Scene::new(3);
    scene.put("a", "0");
    scene.schedule(EVERY_MINUTE);
    let plain = scene.next_slot();
    assert!(matches!(plain.outcome, RunOutcome::Complete { .. }));
    assert_eq!(scene.next_slot().outcome, RunOutcome::Unchanged { since: plain.id });

    // Encryption is on now, and a plain backup is refused.
    scene.restart(sealing);
    let sealed = scene.next_slot();
    assert!(matches!(sealed.outcome, RunOutcome::Complete { .. }), "{:?}", sealed.outcome);
    assert_eq!(scene.next_slot().outcome, RunOutcome::Unchanged { since: sealed.id });

    // Another key, and nobody has rotated.
    scene.restart(sealing_anew);
    let anew = scene.next_slot();
    assert!(matches!(anew.outcome, RunOutcome::Complete { .. }), "{:?}", anew.outcome);
    assert_eq!(scene.next_slot().outcome, RunOutcome::Unchanged { since: anew.id });

    // A configuration that has lost its encryption makes none; one that says so does, though what is sealed opens with no key then.
    let before = scene.paths();
    scene.restart(able);
    let RunOutcome::Failed { why } = scene.next_slot().outcome else { panic!("it did not fail") };
    assert!(why.contains(&format!("backup {} in this store is encrypted", anew.id)), "{why}");
    assert_eq!(scene.paths(), before);
    scene.restart(saying_plain);
    assert!(matches!(scene.next_slot().outcome, RunOutcome::Complete { .. }));
    assert_eq!(scene.complete_entries(), 4);
}

#[test]
fn a_node_that_has_lost_its_encryption_holds_up_no_backup() {
    let mut scene = Scene::prepared(3, sealing);
    scene.put("a", "0");
    scene.schedule(EVERY_MINUTE);
    let maker = scene.next_slot().node.member();
    scene.cluster.crash(maker);
    scene.cluster.hosts.get_mut(&maker).unwrap().prepare = able;
    scene.cluster.start(maker);
    scene.put("a", "1");
    assert_eq!(scene.next_slot().outcome.obstacle(), Some(Obstacle::Refused));
    let is_new = |backups: &Backups| backups.complete.as_ref().is_some_and(|it| it.revision == 2);
    let made = scene.until("another makes it", is_new).complete.unwrap();
    assert_ne!(made.node.member(), maker);
    assert_eq!(scene.warnings("ended: Failed"), 1);
}

#[test]
fn a_backup_that_lacks_one_of_the_keys_of_new_ones_is_no_reason_to_make_none() {
    let mut scene = Scene::prepared(3, sealing);
    scene.put("a", "0");
    scene.schedule(EVERY_MINUTE);
    let mut newest = scene.next_slot();
    // A new key, and the old one still opens; then one more.
    for prepare in [sealing_for_another, sealing_for_two] {
        assert_eq!(scene.next_slot().outcome, RunOutcome::Unchanged { since: newest.id });
        scene.restart(prepare);
        newest = scene.next_slot();
        assert!(matches!(newest.outcome, RunOutcome::Complete { .. }), "{:?}", newest.outcome);
    }
    assert_eq!(scene.next_slot().outcome, RunOutcome::Unchanged { since: newest.id });
    // What a rotation has given to a key counts.
    scene.restart(sealing_after_a_rotation);
    let keys = KeyRing::new([key(3), key(4)]);
    let mut rotate = Rotate::new(newest.id, key(3).id(), key(4), keys, rng(1));
    scene.stores[0].drive(&mut rotate);
    assert_eq!(rotate.outcome(), Some(&Ok(Rotated::Changed)));
    assert_eq!(scene.next_slot().outcome, RunOutcome::Unchanged { since: newest.id });
    // And what it has taken from one does not.
    scene.restart(sealing_for_two);
    let last = scene.next_slot();
    assert!(matches!(last.outcome, RunOutcome::Complete { .. }), "{:?}", last.outcome);
}

impl Scene {
    /// A run whose maker dies when nothing but `metadata.json` is missing, unheard by the others.
    fn die_before_the_end(&mut self) -> Run {
        let run = self.begin();
        let maker = run.node.member();
        for other in self.cluster.members().into_iter().filter(|other| *other != maker) {
            self.cluster.cut.extend([(maker, other), (other, maker)]);
        }
        let data = ObjectName::data(run.id).path();
        while !self.stores[0].objects.contains_key(&data) {
            if !self.step(maker) {
                self.cluster.pass_tick();
            }
            self.cluster.settle();
        }
        self.cluster.crash(maker);
        self.cluster.cut.clear();
        run
    }
}

#[test]
fn a_backup_that_was_rebuilt_is_no_leftover_of_the_run_before() {
    let mut scene = Scene::new(3);
    scene.put("a", "1");
    scene.schedule(EVERY_MINUTE);
    let run = scene.die_before_the_end();
    let mut rebuild = RebuildMetadata::new(run.id, plain());
    scene.stores[0].drive(&mut rebuild);
    assert!(matches!(rebuild.outcome(), Some(Ok(_))));
    let made = scene.until("another is made", |backups| backups.complete.is_some());
    assert_eq!(made.last.as_ref().map(|last| last.is_good()), Some(true));
    let mut complete = scene.complete();
    complete.sort();
    let mut both = [run.id, made.complete.unwrap().id];
    both.sort();
    assert_eq!(complete, both);
    let status = ObjectName::status(run.id).path();
    let said = String::from_utf8_lossy(&scene.stores[0].objects[&status]).into_owned();
    assert!(!said.contains("not heard of"), "it did not fail: {said}");
}

#[test]
fn of_a_store_that_cannot_be_listed_nothing_is_removed() {
    let mut scene = Scene::new(3);
    scene.put("a", "1");
    scene.schedule(EVERY_MINUTE);
    let run = scene.die_before_the_end();
    let next = loop {
        match scene.backups().run {
            Some(next) if next.id != run.id => break next,
            _ => scene.cluster.pass_tick(),
        }
    };
    // The lock that the other left goes last.
    let is_locked = |scene: &mut Scene| {
        scene.stores[0].lines.last().is_some_and(|line| line.starts_with("delete locks/"))
    };
    scene.step_until(next.node.member(), "the lock is held", is_locked);
    scene.down = vec![StoreIndex::PRIMARY.0.into()];
    scene.step(next.node.member());
    scene.down.clear();
    scene.until("it ends", |backups| backups.complete.is_some());
    assert_eq!(scene.complete(), [next.id]);
    assert!(scene.stores[0].objects.contains_key(&ObjectName::data(run.id).path()));
}

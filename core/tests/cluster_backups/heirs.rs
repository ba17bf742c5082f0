//! What a store holds already decides what a run comes to: backups of a cluster that was restored from this one, and one of the same state.

use super::EVERY_MINUTE;
use super::sample::{access, backup, key, settings, state};
use super::scene::{Scene, able, plain, plain_settings};
use raftkv_core::api::{Backups, Ended, Obstacle, Request, RunOutcome};
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::create::Settings;
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

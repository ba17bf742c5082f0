//! What becomes of older backups, and by whose rules.

use super::EVERY_MINUTE;
use super::scene::{Scene, tidy};
use raftkv_core::backup::lock::{self, Acquire};
use raftkv_core::backup::making::status;
use raftkv_core::backup::marker::Owner;
use raftkv_core::time::Wall;

#[test]
fn nothing_goes_by_rules_that_nobody_wrote() {
    let mut scene = Scene::new(1);
    scene.put("a", "0");
    // The schedule says that older ones go, but the node has no rules.
    scene.schedule(EVERY_MINUTE);
    let ids: Vec<_> = (2..14).map(|round| scene.next(round)).collect();
    assert_eq!(scene.complete().len(), ids.len());
    let pruned = scene.status(1).pruned.expect("it is said");
    assert_eq!((pruned.after, pruned.failed), (ids[11], true));
    assert!(pruned.what.contains("has no `retention`"), "{}", pruned.what);
    assert_eq!(scene.warnings("has no `retention`"), ids.len());
}

impl Scene {
    /// Somebody takes the lock over from whoever has it, and takes it for dead.
    fn take_over(&mut self) {
        let held = self.catalog().lock;
        let marker = lock::marker(Owner([7; 16]), "a person", Wall(0));
        let mut acquire = Acquire::new(marker, held);
        self.stores[0].drive(&mut acquire);
        assert!(matches!(acquire.outcome(), Some(Ok(_))), "{:?}", acquire.outcome());
    }
}

#[test]
fn whoever_loses_the_lock_while_older_ones_go_begins_nothing_more() {
    for is_lost in [false, true] {
        let mut scene = Scene::prepared(1, tidy);
        scene.put("a", "0");
        scene.schedule(EVERY_MINUTE);
        scene.next(2);
        let kept = scene.next(3);
        // A note of two days ago, by the store's clock, beside a backup that stays: no rules take it away, but the sweep behind them does.
        let now = scene.backups().last.unwrap().ended;
        scene.stores[0].clock = Some(now);
        let status = status(kept, "it is being made", Wall(0), false);
        let path = status.place.path();
        scene.stores[0].objects.insert(path.clone(), status.render());
        scene.stores[0].written.insert(path.clone(), Wall(now.0 - 2 * 24 * 3_600_000));
        scene.put("a", "4");
        let goes = |scene: &mut Scene| {
            scene.stores[0].objects.keys().any(|path| path.ends_with("removal.json"))
        };
        scene.step_until(1, "one goes", goes);
        if is_lost {
            scene.take_over();
            // The next sign of life finds that.
            scene.tick_without_store(60);
        }
        scene.ticks(20);
        assert_eq!(scene.complete().len(), 2, "what was begun goes on to its end");
        assert_eq!(scene.stores[0].objects.contains_key(&path), is_lost);
        assert_eq!(scene.catalog().is_locked(), is_lost, "it is not given back by whoever lost it");
    }
}

//! A maker that is cut off from its cluster, and still reaches the store: at every step, each slot has one backup in the end, and it is whole.

use super::EVERY_MINUTE;
use super::scene::Scene;
use raftkv_core::api::Backups;

#[test]
fn the_maker_may_be_cut_off_at_any_step() {
    let mut made_by_others = 0;
    for steps in 0..32 {
        let mut scene = Scene::new(3);
        scene.put("a", "1");
        scene.schedule(EVERY_MINUTE);
        let run = scene.begin();
        let maker = run.node.member();
        scene.steps(maker, steps);
        // Once it may write its metadata, whether it did is for whoever looks at the store.
        let was_committing = scene.backups().run.is_none_or(|run| run.committing);
        for other in scene.cluster.members().into_iter().filter(|other| *other != maker) {
            scene.cluster.cut.extend([(maker, other), (other, maker)]);
        }
        let good = |backups: &Backups| backups.last.as_ref().is_some_and(|last| last.is_good());
        let last = scene.until("one is good", good).last.unwrap();
        scene.cluster.cut.clear();
        scene.ticks(50);
        let complete = scene.complete();
        assert!(complete.contains(&last.id), "after {steps} steps");
        if last.id != run.id {
            made_by_others += 1;
            assert!(
                was_committing || !complete.contains(&run.id),
                "after {steps} steps: {complete:?}"
            );
        }
        let whole = if complete.contains(&run.id) { 2 } else { 0 };
        assert_eq!(scene.objects_of(run.id), whole, "after {steps} steps");
    }
    assert!(made_by_others > 5, "in most rounds another node makes it: {made_by_others}");
}

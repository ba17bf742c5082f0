//! What becomes of older backups, and by whose rules.

use super::EVERY_MINUTE;
use super::scene::Scene;

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

//! A store that has copies, looked after: what is not begun any more once the node says stop, or somebody else has the store's lock.

use super::sample::*;
use super::store::Store;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::{ObjectName, StoreIndex};
use raftkv_core::backup::bounds::MAX_PARTS;
use raftkv_core::backup::config::Retention;
use raftkv_core::backup::lock::{BEAT_EVERY_MS, marker};
use raftkv_core::backup::machine::Action;
use raftkv_core::backup::marker::Owner;
use raftkv_core::backup::prune::Pruning;
use raftkv_core::backup::retention::BROKEN_OFF_MS;
use raftkv_core::backup::tend::{Order, Tend};
use raftkv_core::time::{Mono, Now, Wall};

const NOW: Wall = Wall(1_764_930_700_000);

/// Two stores that have the same three backups. In the second, a sweep finds what another one has left long ago.
fn stores() -> [Store; 2] {
    let mut first = Store { clock: Some(NOW), ..Store::default() };
    for index in 5..8 {
        backup(&mut first, &state(20), index, settings(GZIP, &[key(1)]));
    }
    let mut second = Store { objects: first.objects.clone(), ..Store::default() };
    second.clock = Some(NOW);
    second.objects.insert(leftover(), Vec::new());
    second.written.insert(leftover(), Wall(NOW.0 - BROKEN_OFF_MS - 1));
    [first, second]
}

fn leftover() -> String {
    ObjectName::status(BackupId::draw(&mut rng(1))).path()
}

/// Looks after the second store, and lets something happen after so many operations. Comes back with how many backups are left there, whether
/// it was swept, and whether there was time for so many operations.
fn tend(happens_after: usize, happens: fn(&mut Tend, &mut Store)) -> ((usize, bool), bool) {
    let mut stores = stores();
    let rules =
        Retention { retention_days: 0, max_backups: 1, min_backups: 1, ..Retention::default() };
    let access = access(&[key(1)]);
    let order = Order {
        stores: vec![StoreIndex(1)],
        marker: marker(Owner([1; 16]), "copies", NOW),
        access: access.clone(),
        max_parts: MAX_PARTS,
        pruning: Some(Pruning { rules, access }),
    };
    let mut tend = Tend::new(order, (1, 1 << 40), Now { mono: Mono(0), wall: NOW });
    let mut done = 0;
    loop {
        if done == happens_after {
            happens(&mut tend, &mut stores[1]);
        }
        let Some(action) = tend.poll_action() else { break };
        let Action::Blob { store, op, action } = action else { panic!("no work is needed") };
        let result = stores[usize::from(store.0)].answer(op, action);
        assert!(tend.take(op, &result));
        done += 1;
    }
    let [_, second] = stores;
    let is_metadata = |path: &&String| path.ends_with("metadata.json");
    let left = second.objects.keys().filter(is_metadata).count();
    let told = std::iter::from_fn(|| tend.take_news()).any(|news| news.what.contains("are gone"));
    assert_eq!(told, left == 1, "what came of pruning is told");
    ((left, !second.objects.contains_key(&leftover())), done >= happens_after)
}

fn ends_with_what_was_begun(happens: fn(&mut Tend, &mut Store)) {
    let mut seen = Vec::new();
    for steps in 0.. {
        let (outcome, was_in_time) = tend(steps, happens);
        seen.push(outcome);
        if !was_in_time {
            break;
        }
    }
    seen.dedup();
    assert_eq!(seen, [(3, false), (1, false), (1, true)]);
}

#[test]
fn who_is_stopped_begins_nothing_more() {
    ends_with_what_was_begun(|tend, _| tend.stop());
}

#[test]
fn who_has_lost_the_lock_begins_nothing_more() {
    ends_with_what_was_begun(|tend, store| {
        let mut lock = marker(Owner([2; 16]), "somebody else", NOW);
        lock.place = ObjectName::lock(9);
        store.objects.insert(lock.place.path(), lock.render());
        tend.tick(Now { mono: Mono(BEAT_EVERY_MS * 1_000_000), wall: NOW });
    });
}

//! Removing backups, beside readers, pins and failures.

use super::sample::*;
use super::store::{Fault, Store};
use raftkv_core::backup::blob::{BlobErrorKind, ObjectName};
use raftkv_core::backup::catalog::{Catalog, ReadCatalog, Standing};
use raftkv_core::backup::fsck::{Finding, Making, Remedy, examine};
use raftkv_core::backup::lock;
use raftkv_core::backup::making::status;
use raftkv_core::backup::mark::{Mark, MarkError};
use raftkv_core::backup::marker::{Marker, Owner};
use raftkv_core::backup::remove::{Fate, Force, Remove};
use raftkv_core::backup::sweep::Sweep;
use raftkv_core::backup::{BackupId, KeyRing};
use raftkv_core::time::Wall;
use std::collections::BTreeSet;

const READER: Owner = Owner([5; 16]);

fn store_with_two() -> (Store, [BackupId; 2]) {
    let mut store = Store::default();
    let ids =
        [10, 20].map(|index| backup(&mut store, &state(20), index, settings(GZIP, &[key(1)])));
    (store, ids)
}

fn remove(store: &mut Store, ids: &[BackupId], force: Force) -> Vec<Fate> {
    let mut machine = Remove::new(ids.iter().copied(), force, Wall(7));
    store.drive(&mut machine);
    machine.outcome().expect("the machine ends").map(|(_, fate)| fate.clone()).collect()
}

fn put(store: &mut Store, place: ObjectName) -> Result<(), MarkError> {
    let mut machine = Mark::put(&Marker::new(place, READER, "a reader", Wall(0)));
    store.drive(&mut machine);
    machine.outcome().expect("the machine ends").clone()
}

fn catalog(store: &mut Store) -> Catalog {
    let mut machine = ReadCatalog::new(KeyRing::new([key(1)]));
    store.drive(&mut machine);
    machine.outcome().unwrap().clone().unwrap()
}

#[test]
fn what_is_removed_leaves_nothing_and_touches_nothing_else() {
    let (mut store, ids) = store_with_two();
    put(&mut store, ObjectName::pin(ids[1])).unwrap();
    let others: Vec<String> = store.objects.keys().cloned().collect();
    assert_eq!(remove(&mut store, &ids[..1], Force::Respect), [Fate::Removed]);
    let left: Vec<String> =
        others.into_iter().filter(|path| !path.starts_with(&ids[0].to_string())).collect();
    assert_eq!(store.objects.keys().cloned().collect::<Vec<_>>(), left);
    // Once more: nothing to do.
    assert_eq!(remove(&mut store, &ids[..1], Force::Respect), [Fate::Removed]);
}

#[test]
fn pins_and_holds_are_respected_unless_forced() {
    let (mut store, mut ids) = store_with_two();
    ids.sort();
    put(&mut store, ObjectName::pin(ids[0])).unwrap();
    put(&mut store, ObjectName::hold(ids[1], READER)).unwrap();
    let before = store.objects.clone();
    let fates = remove(&mut store, &ids, Force::Respect);
    assert_eq!(fates, [Fate::Pinned, Fate::Held(vec![READER])]);
    assert_eq!(store.objects, before);
    let listed = catalog(&mut store);
    let entry = |id| listed.entries.iter().find(|entry| entry.id == id).unwrap();
    assert_eq!(entry(ids[0]).pin.as_deref(), Some("a reader"));
    assert_eq!(entry(ids[1]).holds[0].owner, READER);
    assert_eq!(remove(&mut store, &ids, Force::Override), [Fate::Removed, Fate::Removed]);
    assert!(store.objects.is_empty());
}

#[test]
fn a_hold_that_is_forgotten_counts_again_after_a_sign_of_life() {
    let last = Wall(1_000);
    for (now_written, fate) in [(last, Fate::Removed), (Wall(last.0 + 1), Fate::Held(vec![READER]))]
    {
        let (mut store, ids) = store_with_two();
        let hold = ObjectName::hold(ids[0], READER);
        put(&mut store, hold).unwrap();
        store.written.insert(hold.path(), now_written);
        let mut machine = Remove::new([ids[0]], Force::Respect, Wall(7)).despite([(hold, last)]);
        store.drive(&mut machine);
        let fates: Vec<_> = machine.outcome().unwrap().map(|(_, fate)| fate.clone()).collect();
        assert_eq!(fates, [fate]);
        let is_left = store.objects.keys().any(|path| path.starts_with(&ids[0].to_string()));
        assert_eq!(is_left, fates != [Fate::Removed]);
    }
}

/// Puts a marker between any two steps of a removal: the backup stays if whoever put it was told that it is in time, and goes otherwise. Comes
/// back with what was seen: whether it was in time, and whether the backup can be restored.
fn put_at_every_step(marker: ObjectName, takes_note: bool) -> BTreeSet<(bool, bool)> {
    let mut seen = BTreeSet::new();
    for before in 0..12 {
        let (mut store, ids) = store_with_two();
        assert_eq!(marker.backup, ids[0]);
        let mut removal = Remove::new([ids[0]], Force::Respect, Wall(7));
        for _ in 0..before {
            store.step(&mut removal);
        }
        let note = ObjectName::removal(ids[0]).path();
        if !takes_note {
            store.objects.remove(&note);
        }
        let is_in_time = put(&mut store, marker).is_ok();
        store.drive(&mut removal);
        let has_data = store.objects.contains_key(&ObjectName::data(ids[0]).path());
        assert_eq!(has_data, is_in_time, "{marker} after {before} steps");
        assert_eq!(store.objects.contains_key(&marker.path()), is_in_time, "after {before} steps");
        let is_there = restore(&mut store, ids[0], access(&[key(1)])).is_ok();
        // What was spared goes later, because of the note.
        let is_spared = is_in_time && !is_there;
        assert!(is_spared || !store.objects.contains_key(&note), "after {before} steps");
        seen.insert((is_in_time, is_there));
    }
    seen
}

const GONE: (bool, bool) = (false, false);
const WHOLE: (bool, bool) = (true, true);
/// The metadata may go behind whoever has seen them; the data stay.
const SPARED: (bool, bool) = (true, false);

#[test]
fn a_reader_that_found_the_metadata_keeps_its_data_whenever_it_came() {
    let hold = ObjectName::hold(store_with_two().1[0], READER);
    for takes_note in [true, false] {
        assert_eq!(put_at_every_step(hold, takes_note), BTreeSet::from([GONE, SPARED, WHOLE]));
    }
}

#[test]
fn a_pin_that_was_put_keeps_the_backup_whenever_it_came() {
    let pin = ObjectName::pin(store_with_two().1[0]);
    assert_eq!(put_at_every_step(pin, true), BTreeSet::from([GONE, WHOLE]));
    // Where nothing says that it goes.
    assert_eq!(put_at_every_step(pin, false), BTreeSet::from([GONE, SPARED, WHOLE]));
}

#[test]
fn a_removal_that_broke_off_before_anything_was_gone_keeps_nobody_from_the_backup() {
    let (mut store, ids) = store_with_two();
    let mut removal = Remove::new([ids[0]], Force::Respect, Wall(7));
    let note = ObjectName::removal(ids[0]);
    while !store.objects.contains_key(&note.path()) {
        store.step(&mut removal);
    }
    drop(removal);
    let fate = |store: &mut Store| {
        let mut again = Remove::new([ids[0]], Force::Respect, Wall(9));
        store.drive(&mut again);
        again.outcome().unwrap().next().unwrap().1.clone()
    };
    let hold = ObjectName::hold(ids[0], READER);
    assert_eq!(put(&mut store, hold), Ok(()));
    assert_eq!(fate(&mut store), Fate::Held(vec![READER]));
    store.objects.remove(&hold.path());

    // That it will stay can be promised when nobody removes it, which the lock tells: then the note goes.
    let pin = ObjectName::pin(ids[0]);
    assert_eq!(put(&mut store, pin), Err(MarkError::Leaving { id: ids[0] }));
    assert!(!store.objects.contains_key(&pin.path()));
    store.drive(&mut Mark::remove(note));
    assert_eq!(put(&mut store, pin), Ok(()));
    assert_eq!(fate(&mut store), Fate::Pinned);
    assert!(restore(&mut store, ids[0], access(&[key(1)])).is_ok());
}

#[test]
fn a_removal_that_breaks_off_anywhere_leaves_nothing_that_looks_complete() {
    let mut seen = BTreeSet::new();
    for keep in 1..10 {
        let (mut store, ids) = store_with_two();
        let mut removal = Remove::new([ids[0]], Force::Respect, Wall(7));
        for _ in 0..keep {
            store.step(&mut removal);
        }
        let listed = catalog(&mut store);
        if let Some(entry) = listed.entries.iter().find(|entry| entry.id == ids[0]) {
            let whole = restore(&mut store, ids[0], access(&[key(1)])).is_ok();
            assert_eq!(entry.is_complete(), whole, "after {keep} steps: {:?}", entry.standing);
            let findings = examine(&listed, Making::Excluded);
            if entry.standing == Standing::HalfRemoved {
                let expected = match entry.data_bytes {
                    Some(_) => Finding::HalfRemoved(ids[0]),
                    None => Finding::Leftover(ids[0]),
                };
                assert_eq!(findings, [expected]);
                assert_eq!(findings[0].remedy(), Remedy::Remove);
            } else if entry.is_leaving {
                assert_eq!(findings, [Finding::Unremoved(ids[0])]);
            }
            seen.insert(entry.standing.word());
        }
        // Whoever sweeps the store, with its lock, finishes what had begun.
        if listed.entries.iter().any(|entry| entry.standing == Standing::HalfRemoved) {
            let mut sweep = Sweep::new();
            store.drive(&mut sweep);
            assert!(sweep.outcome().is_some_and(Result::is_ok));
            let left = store.objects.keys().filter(|path| path.starts_with(&ids[0].to_string()));
            assert_eq!(left.count(), 0, "after {keep} steps");
        }
        assert!(restore(&mut store, ids[1], access(&[key(1)])).is_ok());
    }
    assert_eq!(seen, BTreeSet::from(["complete", "half_removed"]));
}

#[test]
fn a_store_that_takes_no_note_lets_backups_go_nevertheless() {
    let (mut store, ids) = store_with_two();
    let kind = BlobErrorKind::Full;
    store.fault = Some(Fault::Fails { at: store.asked.len() + 1, kind });
    assert_eq!(remove(&mut store, &ids[..1], Force::Respect), [Fate::Removed]);
    assert!(!store.objects.keys().any(|path| path.starts_with(&ids[0].to_string())));
}

#[test]
fn what_is_being_made_is_no_fault_while_somebody_has_the_lock() {
    let (mut store, ids) = store_with_two();
    let begun = BackupId::draw(&mut rng(97));
    let mut write = |marker: &Marker| {
        store.objects.insert(marker.place.path(), marker.render());
        catalog(&mut store)
    };
    write(&status(begun, "a maker", Wall(0), false));
    let mut lock = lock::marker(READER, "a maker", Wall(0));
    lock.place = ObjectName::lock(3);
    let locked = write(&lock);
    assert!(locked.is_locked());
    assert_eq!(examine(&locked, Making::Possible), []);
    assert_eq!(examine(&locked, Making::Excluded), [Finding::Abandoned(begun)]);
    let released = write(&Marker { released: true, ..lock });
    assert!(!released.is_locked());
    assert_eq!(examine(&released, Making::Possible), [Finding::Abandoned(begun)]);
    let failed = write(&status(begun, "no room", Wall(0), true));
    let findings = examine(&failed, Making::Possible);
    assert_eq!(findings, [Finding::Failed(begun, "no room".into())]);
    // Whole data are worth a try, whatever became of whoever made them.
    let data = store.objects[&ObjectName::data(ids[0]).path()].clone();
    store.objects.insert(ObjectName::data(begun).path(), data);
    assert_eq!(examine(&catalog(&mut store), Making::Excluded), [Finding::Orphan(begun)]);
    assert_eq!(remove(&mut store, &[begun], Force::Respect), [Fate::Removed]);
    assert_eq!(catalog(&mut store).entries.len(), ids.len());
}

#[test]
fn metadata_that_cannot_be_deleted_keeps_its_data() {
    let (mut store, ids) = store_with_two();
    let asked = store.asked.len();
    let kind = BlobErrorKind::Denied;
    // The store is listed, told, and listed again before.
    store.fault = Some(Fault::Fails { at: asked + 3, kind });
    let before = store.objects.clone();
    let fates = remove(&mut store, &ids[..1], Force::Respect);
    assert!(matches!(&fates[..], [Fate::Failed(_)]), "{fates:?}");
    assert_eq!(store.objects, before, "nothing says any more that it is to go");
    assert!(restore(&mut store, ids[0], access(&[key(1)])).is_ok());
}

#[test]
fn a_pin_needs_a_complete_backup() {
    let (mut store, ids) = store_with_two();
    store.objects.remove(&ObjectName::metadata(ids[0]).path());
    assert_eq!(put(&mut store, ObjectName::pin(ids[0])), Err(MarkError::Gone { id: ids[0] }));
    assert!(!store.objects.contains_key(&ObjectName::pin(ids[0]).path()));
    put(&mut store, ObjectName::pin(ids[1])).unwrap();
    let mut unpin = Mark::remove(ObjectName::pin(ids[1]));
    store.drive(&mut unpin);
    assert_eq!(unpin.outcome(), Some(&Ok(())));
    assert!(!store.objects.contains_key(&ObjectName::pin(ids[1]).path()));
}

#[test]
fn a_damaged_pin_or_hold_counts_as_one() {
    let (mut store, ids) = store_with_two();
    for place in [ObjectName::pin(ids[0]), ObjectName::hold(ids[0], READER)] {
        put(&mut store, place).unwrap();
        store.objects.get_mut(&place.path()).unwrap()[30] ^= 1;
    }
    let listed = catalog(&mut store);
    let entry = listed.entries.iter().find(|entry| entry.id == ids[0]).unwrap();
    assert!(entry.pin.as_ref().unwrap().contains("marker"), "{:?}", entry.pin);
    assert_eq!(entry.holds[0].beats, None);
    assert!(entry.is_complete());
}

#[test]
fn what_is_wrong_in_a_store_is_found() {
    let (mut store, ids) = store_with_two();
    let [whole, orphan] = ids;
    store.objects.remove(&ObjectName::metadata(orphan).path());
    let other = BackupId::draw(&mut rng(99));
    let leftover = Marker::new(ObjectName::pin(other), READER, "", Wall(0));
    store.objects.insert(leftover.place.path(), leftover.render());
    let partial = BackupId::draw(&mut rng(98));
    let partial_path = format!("{}.partial", ObjectName::data(partial).path());
    store.objects.insert(partial_path, b"half".to_vec());
    // Beside a backup that is there, it must not take that along.
    let beside = format!("{}.partial", ObjectName::metadata(whole).path());
    store.objects.insert(beside.clone(), b"half".to_vec());
    store.objects.insert("notes.txt".into(), b"hello".to_vec());
    put(&mut store, ObjectName::hold(whole, READER)).unwrap();
    let findings = examine(&catalog(&mut store), Making::Excluded);
    for expected in [
        Finding::Orphan(orphan),
        Finding::Leftover(other),
        Finding::Partial(partial),
        Finding::Stranger("notes.txt".into()),
        Finding::Stranger(beside),
        Finding::Hold(whole, READER),
    ] {
        assert!(findings.contains(&expected), "{expected:?} is not in {findings:?}");
    }
    assert_eq!(findings.len(), 6);
}

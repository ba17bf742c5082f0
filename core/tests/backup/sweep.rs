//! What is left of backups that broke off: what goes, and everything that stays.

use super::store::{Fault, Store};
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::{BlobErrorKind, ObjectName};
use raftkv_core::backup::marker::Owner;
use raftkv_core::backup::sweep::Sweep;
use raftkv_core::rng::Seed;
use raftkv_core::time::Wall;

const NOW: Wall = Wall(1_773_230_400_000);
const HOUR_MS: i64 = 3_600_000;

fn id(number: u64) -> BackupId {
    BackupId::draw(&mut Seed::from_number(number).fork("sweep"))
}

/// Puts an object into the store, written so many hours ago.
fn put(store: &mut Store, path: String, hours_ago: i64) {
    store.written.insert(path.clone(), Wall(NOW.0 - hours_ago * HOUR_MS));
    store.objects.insert(path, b"bytes".to_vec());
}

/// A store that tells times, whose lock was written just now.
fn locked() -> Store {
    let mut store = Store::default();
    put(&mut store, ObjectName::lock(6).path(), 900);
    put(&mut store, ObjectName::lock(7).path(), 0);
    store
}

fn sweep(store: &mut Store) -> Result<usize, BlobErrorKind> {
    let mut machine = Sweep::new();
    store.drive(&mut machine);
    machine.outcome().expect("it ends").clone().map_err(|error| error.kind)
}

#[test]
fn a_lone_status_goes_after_a_day() {
    let mut store = locked();
    for number in 0..20 {
        put(&mut store, ObjectName::status(id(number)).path(), 25 + number as i64);
    }
    put(&mut store, ObjectName::status(id(20)).path(), 24);
    assert_eq!(sweep(&mut store), Ok(20));
    let left: Vec<&String> = store.objects.keys().filter(|path| path.contains("status")).collect();
    assert_eq!(left, [&ObjectName::status(id(20)).path()]);
}

#[test]
fn whatever_has_more_than_a_status_stays() {
    let mut store = locked();
    let owner = Owner([7; 16]);
    let beside = [
        ObjectName::data(id(1)).path(),
        ObjectName::keys(id(2)).path(),
        ObjectName::pin(id(3)).path(),
        ObjectName::hold(id(4), owner).path(),
        format!("{}/data.db.tmp", id(5)),
    ];
    for (path, number) in beside.into_iter().zip(1..) {
        put(&mut store, path, 1_000);
        put(&mut store, ObjectName::status(id(number)).path(), 1_000);
    }
    put(&mut store, ObjectName::data(id(7)).path(), 1_000);
    let before = store.objects.clone();
    assert_eq!(sweep(&mut store), Ok(0));
    assert_eq!(store.objects, before);
}

#[test]
fn what_uploads_left_goes_after_a_day() {
    let mut store = locked();
    let partial = |number| format!("{}.partial", ObjectName::data(id(number)));
    // With what its maker said, or without; too young, or beside one that is.
    for (number, upload_hours, status_hours) in
        [(1, 25, Some(25)), (2, 25, None), (3, 23, Some(25)), (4, 25, Some(23)), (5, 23, None)]
    {
        put(&mut store, partial(number), upload_hours);
        if let Some(hours) = status_hours {
            put(&mut store, ObjectName::status(id(number)).path(), hours);
        }
    }
    assert_eq!(sweep(&mut store), Ok(3));
    let left: Vec<&String> = store.objects.keys().filter(|path| path.contains("data")).collect();
    let mut kept = [partial(3), partial(4), partial(5)];
    kept.sort();
    assert_eq!(left, kept.iter().collect::<Vec<_>>());
}

#[test]
fn removals_are_finished_unless_something_uses_the_backup() {
    let owner = Owner([7; 16]);
    let hold = |number| ObjectName::hold(id(number), owner).path();
    let pin = |number| ObjectName::pin(id(number)).path();
    let mut store = locked();
    for number in 1..=5 {
        for object in [ObjectName::data, ObjectName::keys, ObjectName::removal] {
            put(&mut store, object(id(number)).path(), 0);
        }
    }
    put(&mut store, hold(2), 23);
    put(&mut store, hold(3), 25);
    put(&mut store, pin(4), 900);
    // A pin keeps data; where they are gone it keeps nothing.
    put(&mut store, pin(6), 900);
    put(&mut store, ObjectName::removal(id(6)).path(), 0);
    // It is whole: for a day it may yet be about to go.
    put(&mut store, ObjectName::metadata(id(5)).path(), 0);
    assert_eq!(sweep(&mut store), Ok(3 + 4 + 3));
    let is_left = |store: &Store, number| {
        let folder = id(number).to_string();
        store.objects.keys().any(|path| path.starts_with(&folder))
    };
    let left = [1, 2, 3, 4, 5, 6].map(|number| is_left(&store, number));
    assert_eq!(left, [false, true, false, true, true, false]);
    put(&mut store, ObjectName::removal(id(5)).path(), 25);
    put(&mut store, ObjectName::status(id(5)).path(), 25);
    assert_eq!(sweep(&mut store), Ok(2));
    assert!(store.objects.contains_key(&ObjectName::data(id(5)).path()));
}

#[test]
fn what_says_that_a_removal_broke_off_stays_while_something_is_left() {
    let mut store = locked();
    put(&mut store, ObjectName::data(id(1)).path(), 0);
    put(&mut store, ObjectName::removal(id(1)).path(), 0);
    store.fault = Some(Fault::Fails { at: 1, kind: BlobErrorKind::Denied });
    assert_eq!(sweep(&mut store), Ok(0));
    assert!(store.objects.contains_key(&ObjectName::removal(id(1)).path()));
    store.fault = None;
    assert_eq!(sweep(&mut store), Ok(2));
}

#[test]
fn without_a_clock_of_the_store_nothing_goes() {
    let status = ObjectName::status(id(1)).path();
    let mut unlocked = Store::default();
    put(&mut unlocked, status.clone(), 1_000);
    assert_eq!(sweep(&mut unlocked), Ok(0));
    for untimed in [ObjectName::lock(7).path(), status.clone()] {
        let mut store = locked();
        put(&mut store, status.clone(), 1_000);
        store.written.remove(&untimed);
        assert_eq!(sweep(&mut store), Ok(0), "{untimed} tells no time");
    }
}

#[test]
fn what_cannot_be_removed_is_left_to_the_next_time() {
    let mut store = locked();
    for number in 0..3 {
        put(&mut store, ObjectName::status(id(number)).path(), 48);
    }
    store.fault = Some(Fault::Fails { at: 2, kind: BlobErrorKind::Denied });
    assert_eq!(sweep(&mut store), Ok(2));
    store.fault = Some(Fault::Fails { at: store.asked.len(), kind: BlobErrorKind::Transient });
    assert_eq!(sweep(&mut store), Err(BlobErrorKind::Transient));
    assert_eq!(sweep(&mut store), Ok(1));
}

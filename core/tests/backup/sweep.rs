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
        ObjectName::metadata(id(2)).path(),
        ObjectName::keys(id(3)).path(),
        ObjectName::pin(id(4)).path(),
        ObjectName::hold(id(5), owner).path(),
        format!("{}/data.db.partial", id(6)),
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

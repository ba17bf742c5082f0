//! The store's lock: one at a time, told who it is, taken over when abandoned.

use super::store::{Fault, Store};
use raftkv_core::backup::blob::{BlobErrorKind, ObjectName};
use raftkv_core::backup::lock::{
    ABANDONED_AFTER_MS, Acquire, Held, Liveness, Lock, LockError, Renew, Watch, marker,
};
use raftkv_core::backup::marker::Owner;
use raftkv_core::time::Wall;

fn acquire(store: &mut Store, who: u8, abandoned: Option<Held>) -> Result<Lock, LockError> {
    let mut machine = begin(who, abandoned);
    store.drive(&mut machine);
    machine.outcome().expect("the machine ends").clone()
}

fn begin(who: u8, abandoned: Option<Held>) -> Acquire {
    Acquire::new(marker(Owner([who; 16]), &format!("backup {who}"), Wall(0)), abandoned)
}

fn renew(store: &mut Store, lock: &Lock) -> Result<Lock, LockError> {
    let mut machine = Renew::new(lock.clone());
    store.drive(&mut machine);
    machine.outcome().expect("the machine ends").clone()
}

fn release(store: &mut Store, lock: Lock) {
    let mut machine = Renew::release(lock);
    store.drive(&mut machine);
    assert!(machine.outcome().expect("the machine ends").is_ok());
}

fn held(result: Result<Lock, LockError>) -> Held {
    match result {
        Err(LockError::Held(held)) => held,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_at_a_time_and_the_second_is_told_who() {
    let mut store = Store::default();
    let mut lock = acquire(&mut store, 1, None).unwrap();
    let refused = acquire(&mut store, 2, None).unwrap_err().to_string();
    assert!(refused.contains("backup 1 since 1970-01-01T00:00:00.000Z"), "{refused}");
    for _ in 0..3 {
        lock = renew(&mut store, &lock).unwrap();
    }
    release(&mut store, lock);
    let second = acquire(&mut store, 2, None).unwrap();
    assert_eq!(store.objects.keys().collect::<Vec<_>>(), [&ObjectName::lock(2).path()]);
    held(acquire(&mut store, 3, None));
    release(&mut store, second);
    assert!(acquire(&mut store, 3, None).is_ok());
}

#[test]
fn a_lock_is_abandoned_only_after_the_watcher_itself_saw_no_sign_of_life() {
    let mut store = Store::default();
    let lock = acquire(&mut store, 1, None).unwrap();
    let first = held(acquire(&mut store, 2, None));
    let mut watch = Watch::default();
    let mut see = |held: &Held, now_ms| watch.see(held.place(), held.beats(), now_ms);
    assert_eq!(see(&first, 1000), Liveness::Unknown);
    assert_eq!(see(&first, 1000 + ABANDONED_AFTER_MS - 1), Liveness::Unknown);
    renew(&mut store, &lock).unwrap();
    let alive = held(acquire(&mut store, 2, None));
    assert_eq!(see(&alive, 1000 + ABANDONED_AFTER_MS), Liveness::Alive);
    assert_eq!(see(&alive, 1000 + 2 * ABANDONED_AFTER_MS), Liveness::Abandoned);
    // What was watched is not what is there any more.
    held(acquire(&mut store, 2, Some(first)));
    let taken = acquire(&mut store, 2, Some(alive.clone())).unwrap();
    assert_eq!(renew(&mut store, &lock), Err(LockError::Lost));
    let mut late = Renew::release(lock);
    store.drive(&mut late);
    assert_eq!(late.outcome(), Some(&Err(LockError::Lost)), "it cannot release another's lock");
    assert!(renew(&mut store, &taken).is_ok());
    held(acquire(&mut store, 3, Some(alive)));
}

#[test]
fn of_two_at_once_one_gets_it() {
    // Both look before either writes.
    let mut store = Store::default();
    let (mut one, mut other) = (begin(1, None), begin(2, None));
    for _ in 0..8 {
        store.step(&mut one);
        store.step(&mut other);
    }
    let won = [one.outcome().unwrap().is_ok(), other.outcome().unwrap().is_ok()];
    assert_eq!(won, [true, false]);
    assert!(other.outcome().unwrap().clone().unwrap_err().to_string().contains("backup 1"));
}

#[test]
fn one_that_looked_long_ago_does_not_get_a_number_of_before() {
    let mut store = Store::default();
    let mut late = begin(9, None);
    store.step(&mut late);
    for who in 1..4 {
        let lock = acquire(&mut store, who, None).unwrap();
        if who < 3 {
            release(&mut store, lock);
        }
    }
    store.drive(&mut late);
    let refused = late.outcome().unwrap().clone().unwrap_err().to_string();
    assert!(refused.contains("held by backup 3 since"), "{refused}");
    assert_eq!(store.objects.keys().collect::<Vec<_>>(), [&ObjectName::lock(3).path()]);
}

#[test]
fn an_unreadable_lock_is_in_force_until_it_was_watched() {
    let mut store = Store::default();
    store.objects.insert(ObjectName::lock(4).path(), b"{}".to_vec());
    let found = held(acquire(&mut store, 1, None));
    assert_eq!((found.number, found.beats()), (4, None));
    let mut watch = Watch::default();
    watch.see(found.place(), None, 0);
    assert_eq!(watch.see(found.place(), None, ABANDONED_AFTER_MS), Liveness::Abandoned);
    assert!(acquire(&mut store, 1, Some(found)).is_ok());
}

#[test]
fn every_failure_of_the_store_leaves_no_lock_that_nobody_knows_of() {
    for at in 0..4 {
        for fault in [Fault::Fails { at, kind: BlobErrorKind::Denied }, Fault::AnswerLost { at }] {
            let mut store = Store { fault: Some(fault), ..Store::default() };
            let first = acquire(&mut store, 1, None);
            store.fault = None;
            match first {
                Ok(lock) => assert!(renew(&mut store, &lock).is_ok(), "{fault:?}"),
                Err(LockError::Store(_)) => {
                    // It may be there, but then it says whose it is, and gives no sign of life.
                    if let Err(error) = acquire(&mut store, 2, None) {
                        assert!(error.to_string().contains("backup 1"), "{fault:?}: {error}");
                    }
                }
                Err(other) => panic!("{fault:?}: {other}"),
            }
        }
    }
}

//! A store that lacks something catches up with another one.

use super::copies::*;
use super::sample::*;
use super::store::{Fault, Store};
use raftkv_core::backup::blob::{BlobErrorKind, ObjectName, StoreIndex};
use raftkv_core::backup::bounds::MAX_PARTS;
use raftkv_core::backup::catch_up::{CatchUp, CatchUpError};
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::copy::Route;
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::machine::{Action, ActionResult, Machine as _};
use raftkv_core::backup::read::Access;
use raftkv_core::backup::rotate::Rotate;
use raftkv_core::backup::{BackupId, KeyRing};
use std::collections::{BTreeSet, VecDeque};

#[test]
fn later_slots_that_rot_in_a_copy_are_mended() {
    let mut stores = pair();
    let id = backup(&mut stores[0], &state(50), 5, settings(GZIP, &[key(1)]));
    let keys = ObjectName::keys(id).path();
    // The primary store has none of them, too: it missed a rotation.
    for in_primary in [true, false] {
        stores[1].objects = stores[0].objects.clone();
        let mut rotate = Rotate::new(id, key(1).id(), key(5), KeyRing::new([key(1)]), rng(3));
        stores[1].drive(&mut rotate);
        if in_primary {
            stores[0].objects.insert(keys.clone(), stores[1].objects[&keys].clone());
        }
        stores[1].objects.get_mut(&keys).unwrap()[20] ^= 1;
        let done = catch_up_with(&mut stores, TO_SECOND, access(&[key(1), key(5)])).unwrap();
        assert_eq!(done.copies.len(), 1, "{done}");
        assert_eq!(stores[1].objects, stores[0].objects);
        let again = catch_up_with(&mut stores, TO_SECOND, access(&[key(1), key(5)])).unwrap();
        assert_eq!((again.copies.len(), again.already), (0, 1), "{again}");
        stores[0].objects.remove(&keys);
    }
}

#[test]
fn catching_up_copies_what_is_missing_and_mends_what_is_damaged() {
    let mut stores = pair();
    let ids: Vec<_> = (5..10)
        .map(|index| backup(&mut stores[0], &state(50), index, settings(GZIP, &[key(1)])))
        .collect();
    let object = |at: usize, name: &str| format!("{}/{name}", ids[at]);
    // In the second store: one is whole, one cut off, one forged, half of one, nothing of one.
    stores[1].objects = stores[0].objects.clone();
    stores[1].objects.get_mut(&object(1, "data.db")).unwrap().pop();
    let forged = stores[1].objects.get_mut(&object(2, "metadata.json")).unwrap();
    *forged =
        String::from_utf8(forged.clone()).unwrap().replace("\"keys\": ", "\"keys\": 1").into();
    stores[1].objects.remove(&object(3, "metadata.json"));
    stores[1].objects.remove(&object(4, "metadata.json"));
    stores[1].objects.remove(&object(4, "data.db"));
    // Nor is a broken one of the first store's taken over.
    stores[0].objects.insert(format!("{}/data.db", BackupId::draw(&mut rng(77))), vec![1; 100]);
    let done = catch_up(&mut stores, TO_SECOND).unwrap();
    let copied: Vec<_> = done.copies.iter().map(|(id, copied)| (*id, copied.is_ok())).collect();
    assert_eq!(copied, [(ids[4], true), (ids[3], true), (ids[1], true)], "{done}");
    assert_eq!((done.already, &done.forged[..], done.is_whole()), (1, &ids[2..3], false));
    for at in [0, 1, 3, 4] {
        assert!(restores(&mut stores[1], ids[at]));
    }
    assert_eq!(stores[1].objects.len(), 10);
    let again = catch_up(&mut stores, TO_SECOND).unwrap();
    assert!(again.copies.is_empty(), "{again}");
}

#[test]
fn what_is_not_encrypted_stays_where_it_is_when_it_would_have_to_be() {
    let mut stores = pair();
    let mut make = |index, keys: &[_]| {
        backup(&mut stores[0], &state(50), index, settings(Compression::None, keys))
    };
    let (ours, plain, locked) = (make(5, &[key(1)]), make(6, &[]), make(7, &[key(8)]));
    let done = catch_up(&mut stores, TO_SECOND).unwrap();
    let copied: Vec<_> = done.copies.iter().map(|(id, copied)| (*id, copied.is_ok())).collect();
    assert_eq!(copied, [(locked, true), (ours, true)], "{done}");
    assert_eq!((&done.plain[..], done.is_whole()), (&[plain][..], true), "it is not missed");
    assert!(done.to_string().contains(&format!("{plain}: not encrypted")), "{done}");
    let canary = &b"of a user, as it might be"[..];
    let mut bytes = stores[1].objects.values();
    assert!(!bytes.any(|it| it.windows(canary.len()).any(|window| window == canary)));

    let lenient = Access { plaintext: Plaintext::Allowed, ..access(&[key(1)]) };
    let done = catch_up_with(&mut stores, TO_SECOND, lenient).unwrap();
    assert_eq!((done.copies.len(), done.already, done.plain.len()), (1, 2, 0), "{done}");
    let done = catch_up(&mut stores, TO_SECOND).unwrap();
    assert_eq!((done.already, done.plain.len()), (3, 0), "what is there is there: {done}");

    // A plain backup in an encrypted one's place is none of ours.
    stores[1] = Store::default();
    backup(&mut stores[1], &state(50), 5, settings(GZIP, &[]));
    let done = catch_up(&mut stores, TO_SECOND).unwrap();
    assert_eq!((&done.forged[..], done.is_whole()), (&[ours][..], false), "{done}");
}

#[test]
fn copying_can_be_stopped_at_any_moment() {
    let mut stores = pair();
    for index in 5..9 {
        backup(&mut stores[0], &state(20), index, settings(GZIP, &[]));
    }
    for answers in 0..200 {
        stores[1] = Store::default();
        let mut machine = CatchUp::new(TO_SECOND, access(&[]), MAX_PARTS);
        let mut under_way = VecDeque::new();
        let mut is_stopped = false;
        for turn in 0.. {
            // Stopped behind an answer, before anybody has asked what is to be done next.
            if turn == answers && !machine.is_ended() {
                machine.stop();
                is_stopped = true;
            }
            under_way.extend(std::iter::from_fn(|| machine.poll_action()));
            let Some(Action::Blob { store, op, action }) = under_way.pop_front() else { break };
            let result = stores[usize::from(store.0)].answer(op, action);
            machine.handle(ActionResult::Blob { op, result });
        }
        let done = machine.outcome().expect("it ends").unwrap();
        assert_eq!(done.is_whole(), !is_stopped, "after {answers} answers: {done}");
        assert!(stores[1].uploads.is_empty());
        if !is_stopped {
            return;
        }
    }
    panic!("four small backups do not take 200 answers");
}

#[test]
fn one_that_cannot_be_copied_does_not_hold_up_the_others() {
    let mut stores = pair();
    let ids: Vec<_> = (5..8)
        .map(|index| backup(&mut stores[0], &state(50), index, settings(GZIP, &[key(1)])))
        .collect();
    let damaged = stores[0].objects.get_mut(&format!("{}/data.db", ids[1])).unwrap();
    let end = damaged.len() - 20;
    damaged[end] ^= 1;
    let done = catch_up(&mut stores, TO_SECOND).unwrap();
    let failed: BTreeSet<_> = done.failures().map(|(id, _)| id).collect();
    assert_eq!((failed, done.copies.len()), (BTreeSet::from([ids[1]]), 3));
    assert!(restores(&mut stores[1], ids[0]) && restores(&mut stores[1], ids[2]));
    stores[0].fault = Some(Fault::Fails { at: stores[0].asked.len(), kind: BlobErrorKind::Denied });
    assert!(matches!(catch_up(&mut stores, TO_SECOND), Err(CatchUpError::From(_))));
}

#[test]
fn what_the_target_does_not_give_is_neither_replaced_nor_counted_on() {
    let mut stores = pair();
    let id = backup(&mut stores[0], &state(50), 5, settings(GZIP, &[key(1)]));
    catch_up(&mut stores, TO_SECOND).unwrap();
    // Listed, but not read: the second operation of a catalog is the first that reads.
    let at = stores[1].asked.len() + 1;
    stores[1].fault = Some(Fault::Fails { at, kind: BlobErrorKind::Transient });
    let done = catch_up(&mut stores, TO_SECOND).unwrap();
    assert_eq!(
        (&done.unreadable[..], done.copies.len(), done.already),
        (&[id][..], 0, 0),
        "{done}"
    );
    assert!(!done.is_whole());
    assert!(catch_up(&mut stores, TO_SECOND).unwrap().is_whole());
}

#[test]
fn a_lost_primary_store_is_filled_from_a_copy() {
    let mut stores = pair();
    let id = backup(&mut stores[0], &state(50), 5, settings(GZIP, &[key(1)]));
    catch_up(&mut stores, TO_SECOND).unwrap();
    stores[0] = Store::default();
    let back = Route { from: StoreIndex(1), to: StoreIndex(0) };
    assert!(catch_up(&mut stores, back).unwrap().is_whole());
    assert!(restores(&mut stores[0], id));
}

//! Backups in several stores: whole in all of them before they count, copied from one to the other, and found wherever they are.

use super::sample::*;
use super::store::{Fault, Store, drive};
use raftkv_core::backup::blob::{BlobError, BlobErrorKind, BlobOp, ObjectName, Role, StoreIndex};
use raftkv_core::backup::bounds::MAX_PARTS;
use raftkv_core::backup::catalog::{Catalog, Judged, ReadCatalog, Standing};
use raftkv_core::backup::catch_up::{CatchUp, CatchUpError, CaughtUp};
use raftkv_core::backup::choose::{Doubt, choose};
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::copy::{Copied, CopyBackup, CopyError, Present, Route};
use raftkv_core::backup::create::{Create, Failure, Outcome, Settings};
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::machine::{Action, ActionResult, Machine as _};
use raftkv_core::backup::read::{Access, ReadError};
use raftkv_core::backup::recall::{Next, Recall};
use raftkv_core::backup::replicas::Replicas;
use raftkv_core::backup::rotate::Rotate;
use raftkv_core::backup::select::Selector;
use raftkv_core::backup::verify::Level;
use raftkv_core::backup::{BackupId, KeyRing};
use raftkv_core::time::Wall;
use std::collections::{BTreeSet, VecDeque};
use std::ops::BitXorAssign;

const TO_SECOND: Route = Route { from: StoreIndex(0), to: StoreIndex(1) };
const KINDS: [BlobErrorKind; 3] =
    [BlobErrorKind::Denied, BlobErrorKind::Transient, BlobErrorKind::Full];

fn pair() -> [Store; 2] {
    Default::default()
}

/// Both have the same three backups, the oldest first.
fn pair_with_three() -> ([Store; 2], Vec<BackupId>) {
    let mut stores = pair();
    let make = |index| backup(&mut stores[0], &state(50), index, settings(GZIP, &[key(1)]));
    let ids = (5..8).map(make).collect();
    stores[1].objects = stores[0].objects.clone();
    (stores, ids)
}

/// A backup that has to be in two stores.
fn create(stores: &mut [Store; 2]) -> (BackupId, Result<(), Failure>) {
    let state = state(300);
    let (header, chunks) = stream(&state, 9);
    let settings = Settings { stores: 2, ..settings(GZIP, &[key(1)]) };
    let mut create = Create::new(source(&header, &state), settings, Wall(0), &mut rng(9)).unwrap();
    drive(stores, &mut create);
    for piece in chunks.iter().flat_map(|chunk| chunk.chunks(3000)) {
        if create.outcome().is_some() {
            break;
        }
        assert!(create.wants_input());
        create.push(piece);
        drive(stores, &mut create);
    }
    create.finish();
    drive(stores, &mut create);
    let outcome = match create.outcome().expect("the machine ends") {
        Outcome::Complete(_) => Ok(()),
        Outcome::Failed(failure) => Err(failure.clone()),
    };
    (create.id(), outcome)
}

fn copy(stores: &mut [Store; 2], id: BackupId) -> Result<Copied, CopyError> {
    let judged = judged(&stores[0], id);
    copy_judged(stores, id, judged)
}

/// Copies what was judged by these objects.
fn copy_judged(stores: &mut [Store; 2], id: BackupId, judged: Judged) -> Result<Copied, CopyError> {
    copy_in_parts(stores, id, judged, MAX_PARTS)
}

/// As [`copy_judged`], to a store that takes so many parts.
fn copy_in_parts(
    stores: &mut [Store; 2],
    id: BackupId,
    judged: Judged,
    max_parts: u32,
) -> Result<Copied, CopyError> {
    let mut machine = CopyBackup::new(id, judged, TO_SECOND, Present::Keep, max_parts);
    drive(stores, &mut machine);
    machine.outcome().expect("the machine ends").clone()
}

fn judged(store: &Store, id: BackupId) -> Judged {
    let object = |role| store.objects.get(&ObjectName { backup: id, role }.to_string());
    let roles = [Role::Metadata, Role::Keys];
    Judged::by(roles.into_iter().filter_map(|role| Some((role, &object(role)?[..]))))
}

fn catch_up(stores: &mut [Store; 2], route: Route) -> Result<CaughtUp, CatchUpError> {
    catch_up_with(stores, route, access(&[key(1)]))
}

fn catch_up_with(
    stores: &mut [Store; 2],
    route: Route,
    access: Access,
) -> Result<CaughtUp, CatchUpError> {
    let mut machine = CatchUp::new(route, access, MAX_PARTS);
    drive(stores, &mut machine);
    machine.outcome().expect("the machine ends").cloned().map_err(Clone::clone)
}

fn catalog(store: &mut Store) -> Catalog {
    let mut machine = ReadCatalog::new(KeyRing::new([key(1)]));
    store.drive(&mut machine);
    machine.outcome().expect("the machine ends").clone().unwrap()
}

fn is_empty(store: &Store) -> bool {
    store.objects.is_empty() && store.uploads.is_empty()
}

fn restores(store: &mut Store, id: BackupId) -> bool {
    verify(store, id, Level::Restore, access(&[key(1)])).result.is_ok()
}

#[test]
fn a_backup_that_counts_is_whole_in_all_its_stores() {
    let mut stores = pair();
    let (id, made) = create(&mut stores);
    made.unwrap();
    assert_eq!(stores[0].objects, stores[1].objects);
    assert!(stores.iter_mut().all(|store| restores(store, id)));
}

#[test]
fn a_failure_at_any_step_in_any_store_leaves_nothing_anywhere() {
    let mut whole = pair();
    create(&mut whole).1.unwrap();
    for (store, at) in
        [0, 1].iter().flat_map(|s| (0..whole[*s].asked.len()).map(move |at| (*s, at)))
    {
        for kind in KINDS {
            let mut stores = pair();
            stores[store].fault = Some(Fault::Fails { at, kind });
            let failure = create(&mut stores).1.unwrap_err();
            assert!(!failure.left_behind, "store {store}, operation {at}");
            assert!(stores.iter().all(is_empty), "store {store}, operation {at}: {failure}");
        }
        let mut stores = pair();
        stores[store].fault = Some(Fault::AnswerLost { at });
        let (id, made) = create(&mut stores);
        let is_whole = stores.iter_mut().map(|store| restores(store, id)).collect::<Vec<_>>();
        assert_eq!(is_whole[0], made.is_ok(), "the primary store has it exactly if it counts");
        assert!(
            !is_whole[0] || is_whole[1],
            "complete in the primary store, it is complete in all"
        );
    }
}

#[test]
fn data_stays_where_metadata_could_not_be_taken_back() {
    let mut whole = pair();
    create(&mut whole).1.unwrap();
    let commit = whole[0].asked.len() - 1;
    let mut stores = pair();
    stores[0].fault = Some(Fault::Fails { at: commit, kind: BlobErrorKind::Denied });
    // What comes in the second store after its own commit is taking that back.
    let at = whole[1].asked.len();
    stores[1].fault = Some(Fault::Fails { at, kind: BlobErrorKind::Denied });
    let (id, made) = create(&mut stores);
    assert!(made.unwrap_err().left_behind);
    assert!(is_empty(&stores[0]));
    assert!(restores(&mut stores[1], id), "metadata without data would be worse");
}

#[test]
fn the_primary_stores_metadata_is_the_last_of_all() {
    let mut whole = pair();
    create(&mut whole).1.unwrap();
    let last = whole[0].asked.len() - 1;
    let mut stores = pair();
    stores[0].fault = Some(Fault::Fails { at: last, kind: BlobErrorKind::Unknown });
    let (id, made) = create(&mut stores);
    assert!(made.unwrap_err().left_behind);
    assert!(restores(&mut stores[1], id) && !restores(&mut stores[0], id));
}

#[test]
fn a_copy_is_the_same_whatever_fails_on_the_way() {
    let mut whole = pair();
    let id = backup(&mut whole[0], &state(300), 9, settings(GZIP, &[key(1)]));
    whole[0].objects.insert(format!("{id}/keys.bin"), b"later slots".to_vec());
    whole[0].objects.insert(format!("{id}/pin.json"), b"a pin".to_vec());
    let before = whole[0].objects.clone();
    assert!(matches!(copy(&mut whole, id), Ok(Copied::Done { .. })));
    assert_eq!((&whole[0].objects, &whole[1].objects), (&before, &before));
    assert_eq!(copy(&mut whole, id), Ok(Copied::Already));
    let made = whole[1].objects.remove(&format!("{id}/data.db")).unwrap();
    assert!(matches!(copy(&mut whole, id), Ok(Copied::Done { .. })), "without data it is none");
    assert_eq!(whole[1].objects[&format!("{id}/data.db")], made);
    whole[1] = Store::default();
    copy(&mut whole, id).unwrap();
    assert_eq!(copy(&mut whole, id), Ok(Copied::Already));
    // The backup itself was made in the first store before.
    let made = whole[0].asked.iter().rposition(|name| *name == "put").unwrap() + 1;
    let reads = (whole[0].asked.len() - made) / 3;
    assert!(reads > 3, "{reads}");
    for (store, at) in
        (0..whole[1].asked.len()).map(|at| (1, at)).chain((0..reads).map(|at| (0, at)))
    {
        for fault in KINDS
            .map(|kind| Fault::Fails { at, kind })
            .into_iter()
            .chain([Fault::AnswerLost { at }])
        {
            let mut stores = pair();
            stores[0].objects = before.clone();
            stores[store].fault = Some(fault);
            let copied = copy(&mut stores, id);
            let is_there = stores[1].objects.contains_key(&format!("{id}/metadata.json"));
            match &copied {
                Ok(_) => assert_eq!(stores[1].objects, before, "{store}, {fault:?}"),
                Err(_) => assert!(stores[1].uploads.is_empty(), "{store}, {fault:?}"),
            }
            assert!(!is_there || stores[1].objects == before, "{store}, {fault:?}");
            stores.iter_mut().for_each(|store| store.fault = None);
            assert!(copy(&mut stores, id).is_ok());
            assert_eq!((&stores[0].objects, &stores[1].objects), (&before, &before));
        }
    }
}

#[test]
fn many_parts_are_copied_in_their_order_and_within_bounds() {
    let mut stores = pair();
    let settings = settings(Compression::None, &[]);
    let id = backup(&mut stores[0], &state(200_000), 9, settings);
    copy(&mut stores, id).unwrap();
    assert_eq!(stores[0].objects, stores[1].objects);
    let parts: Vec<&str> =
        stores[1].lines.iter().filter_map(|line| line.strip_prefix("part ")).collect();
    let data = format!("{id}/data.db");
    assert!(parts.len() >= 3 && parts[0] == format!("{data} +{}", 5 << 20), "{parts:?}");

    // Where fewer fit they are longer, and where none that memory holds is long enough, nothing is begun.
    stores[1] = Store::default();
    let judged = judged(&stores[0], id);
    copy_in_parts(&mut stores, id, judged.clone(), 2).unwrap();
    assert_eq!(stores[0].objects, stores[1].objects);
    assert_eq!(stores[1].lines.iter().filter(|line| line.starts_with("part ")).count(), 2);
    stores[1] = Store::default();
    let data_bytes = stores[0].objects[&data].len() as u64;
    let too_long = Err(CopyError::TooLong { data_bytes, most: 10 << 20 });
    assert_eq!(copy_in_parts(&mut stores, id, judged, 1), too_long);
    assert!(is_empty(&stores[1]) && !stores[1].asked.contains(&"start"));
}

#[test]
fn what_is_damaged_is_never_copied() {
    let mut first = Store::default();
    let id = backup(&mut first, &state(300), 9, settings(GZIP, &[key(1)]));
    let data = format!("{id}/data.db");
    let damage: [fn(&mut Vec<u8>); 3] =
        [|bytes| bytes[2000] ^= 1, |bytes| bytes.truncate(bytes.len() - 1), |bytes| bytes.clear()];
    for damage in damage {
        let mut stores = pair();
        stores[0].objects = first.objects.clone();
        damage(stores[0].objects.get_mut(&data).unwrap());
        let error = copy(&mut stores, id).unwrap_err();
        assert!(matches!(error, CopyError::Damaged(_)), "{error}");
        assert!(is_empty(&stores[1]));
    }
    let mut stores = pair();
    stores[0].objects = first.objects.clone();
    stores[0].objects.remove(&data);
    assert_eq!(copy(&mut stores, id), Err(CopyError::Gone));
    let other = backup(&mut stores[0], &state(10), 10, settings(GZIP, &[key(1)]));
    let metadata = stores[0].objects[&format!("{other}/metadata.json")].clone();
    stores[0].objects.insert(format!("{id}/metadata.json"), metadata);
    assert!(matches!(copy(&mut stores, id), Err(CopyError::Damaged(_))));
    assert!(is_empty(&stores[1]));
    // What is there already, and another, is not replaced.
    stores[0].objects.extend(first.objects.clone());
    stores[1].objects.insert(format!("{id}/metadata.json"), b"another".to_vec());
    assert_eq!(copy(&mut stores, id), Err(CopyError::Displaced));
}

#[test]
fn what_has_changed_since_it_was_judged_is_not_copied() {
    let mut first = Store::default();
    let id = backup(&mut first, &state(300), 9, settings(GZIP, &[key(1)]));
    let was = catalog(&mut first).entries[0].judged.clone();
    assert_eq!(was, judged(&first, id));
    // Still a document that can be read, and that says something else.
    let rotten = |store: &mut Store| {
        let metadata = store.objects.get_mut(&format!("{id}/metadata.json")).unwrap();
        let at = metadata.windows(11).position(|it| it == b"\"revision\":").unwrap() + 11;
        metadata[at..].iter_mut().find(|byte| byte.is_ascii_digit()).unwrap().bitxor_assign(1);
    };
    let mut stores = pair();
    stores[0].objects = first.objects.clone();
    rotten(&mut stores[0]);
    let changed = |role| Err(CopyError::Changed(ObjectName { backup: id, role }));
    assert_eq!(copy_judged(&mut stores, id, was.clone()), changed(Role::Metadata));
    assert!(is_empty(&stores[1]));
    stores[0].objects = first.objects.clone();
    stores[0].objects.insert(format!("{id}/keys.bin"), b"later slots".to_vec());
    assert_eq!(copy_judged(&mut stores, id, was.clone()), changed(Role::Keys));
    assert!(is_empty(&stores[1]));
    stores[0].objects = first.objects;
    assert!(copy_judged(&mut stores, id, was).is_ok());
}

/// Keys may be rotated, pins set, backups removed, while the data is on its way for hours.
#[test]
fn what_changes_while_the_data_is_copied_is_not_completed() {
    let mut whole = Store::default();
    let id = backup(&mut whole, &state(300), 9, settings(GZIP, &[key(1)]));
    let copy_while = |change: &dyn Fn(&mut Store)| {
        let mut stores = pair();
        stores[0].objects = whole.objects.clone();
        let was = judged(&stores[0], id);
        let mut machine = CopyBackup::new(id, was, TO_SECOND, Present::Keep, MAX_PARTS);
        while let Some(action) = machine.poll_action() {
            let Action::Blob { store, op, action } = action else { panic!("it computes nothing") };
            let is_end = matches!(action, BlobOp::PutFinish { .. });
            let result = stores[usize::from(store.0)].answer(op, action);
            machine.handle(ActionResult::Blob { op, result });
            if is_end {
                change(&mut stores[0]);
            }
        }
        let is_complete = stores[1].objects.contains_key(&format!("{id}/metadata.json"));
        (machine.outcome().expect("the machine ends").clone(), is_complete)
    };
    assert!(matches!(copy_while(&|_| {}), (Ok(Copied::Done { .. }), true)));
    for role in [Role::Metadata, Role::Keys, Role::Pin] {
        let object = ObjectName { backup: id, role };
        let put = |store: &mut Store| drop(store.objects.insert(object.path(), b"new".to_vec()));
        assert_eq!(copy_while(&put), (Err(CopyError::Changed(object)), false));
    }
    let remove =
        |store: &mut Store| store.objects.retain(|name, _| !name.ends_with("metadata.json"));
    assert_eq!(copy_while(&remove), (Err(CopyError::Gone), false));
}

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

#[test]
fn several_stores_are_seen_as_one() {
    let (mut stores, ids) = pair_with_three();
    stores[0].objects.get_mut(&format!("{}/data.db", ids[2])).unwrap().pop();
    stores[1].objects.remove(&format!("{}/metadata.json", ids[0]));
    let (first, second) = (StoreIndex(0), StoreIndex(1));
    let both = Replicas::new(stores.iter_mut().map(|store| Ok(catalog(store))).collect());
    let merged = both.merged().unwrap();
    assert!(merged.entries.iter().all(|entry| entry.is_complete()));
    assert_eq!(merged.entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), ids);
    assert_eq!(both.places(ids[0]), [first]);
    assert_eq!(both.places(ids[1]), [first, second]);
    assert_eq!(both.places(ids[2]), [second], "damaged in the first");
    let down = BlobError { kind: BlobErrorKind::Transient, message: "down".into() };
    let one = Replicas::new(vec![Err(down.clone()), Ok(catalog(&mut stores[1]))]);
    assert_eq!(one.silent().map(|(store, _)| store).collect::<Vec<_>>(), [first]);
    assert_eq!(one.merged().unwrap().entries.len(), 3);
    assert_eq!(
        one.places(ids[0]),
        [second],
        "nowhere complete, it is looked at where something is"
    );
    assert_eq!(Replicas::new(vec![Err(down.clone())]).merged(), Err(down));
}

#[test]
fn what_a_silent_store_may_have_is_a_doubt_unless_the_backup_has_a_name() {
    let (mut stores, ids) = pair_with_three();
    stores[0].objects.retain(|name, _| !name.starts_with(&ids[2].to_string()));
    let catalogs = stores.each_mut().map(|store| Ok(catalog(store)));
    let down = BlobError { kind: BlobErrorKind::Transient, message: "down".into() };
    let picked = |catalogs: &[Result<Catalog, BlobError>], selector: &Selector| {
        let replicas = Replicas::new(catalogs.to_vec());
        let merged = replicas.merged().unwrap();
        let choice = choose(&replicas, &merged, selector, Plaintext::Refused).unwrap();
        let doubts = choice.doubts.iter().map(|doubt| match doubt {
            Doubt::Unusable(entry) | Doubt::OtherCluster(entry) => Err(entry.id),
            Doubt::Silent(store, error) => Ok((*store, error.kind)),
        });
        (choice.entry.id, doubts.collect::<Vec<_>>())
    };
    let by_id = Selector::Prefix(ids[1].to_string());
    let at = Selector::At(Wall(i64::MAX));
    let unheard = Ok((StoreIndex(1), BlobErrorKind::Transient));
    for selector in [&Selector::Latest, &at] {
        assert_eq!(picked(&catalogs, selector), (ids[2], vec![]), "{selector:?}");
        let one = [catalogs[0].clone(), Err(down.clone())];
        assert_eq!(picked(&one, selector), (ids[1], vec![unheard]), "{selector:?}");
        assert_eq!(picked(&one, &by_id), (ids[1], vec![]), "{selector:?}");
    }
    // A newer one that is known, and unusable, comes before what is only possible.
    stores[0].objects.get_mut(&format!("{}/data.db", ids[1])).unwrap().pop();
    let first = catalog(&mut stores[0]);
    let begun = |id| {
        let entry = first.entries.iter().find(|entry| entry.id == id).unwrap();
        Selector::At(entry.metadata.as_ref().unwrap().timestamp)
    };
    let (before, then) = (begun(ids[0]), begun(ids[1]));
    let one = [Ok(first.clone()), Err(down)];
    assert_eq!(picked(&one, &Selector::Latest), (ids[0], vec![Err(ids[1]), unheard]));
    assert_eq!(picked(&one, &then), (ids[0], vec![Err(ids[1]), unheard]));
    assert_eq!(picked(&one, &before), (ids[0], vec![unheard]));
}

#[test]
fn another_copy_is_tried_first_and_an_older_backup_only_for_one_that_no_store_has_whole() {
    let (mut stores, ids) = pair_with_three();
    stores[1].objects.remove(&format!("{}/metadata.json", ids[1]));
    let (first, second) = (StoreIndex(0), StoreIndex(1));
    let replicas = Replicas::new(stores.iter_mut().map(|store| Ok(catalog(store))).collect());
    let merged = replicas.merged().unwrap();
    let recall = |or_older| {
        Recall::new(replicas.clone(), merged.clone(), ids[2], or_older, Plaintext::Refused)
    };
    let damaged = ReadError::State { id: ids[2], what: "the test says so".into() };
    let down = ReadError::Store {
        object: ObjectName::data(ids[2]),
        error: BlobError { kind: BlobErrorKind::Transient, message: "down".into() },
    };

    let mut all = recall(true);
    assert_eq!(all.place(), Some((ids[2], first)));
    assert_eq!(all.failed(damaged.clone()), Next::Copy(second));
    assert_eq!(all.place(), Some((ids[2], second)));
    assert_eq!(all.failed(damaged.clone()), Next::Older(first));
    assert_eq!(all.place(), Some((ids[1], first)));
    assert_eq!(all.failed(damaged.clone()), Next::Older(first));
    assert_eq!(all.failed(damaged.clone()), Next::Copy(second));
    let end = Next::Nothing { error: damaged.clone(), older: None };
    assert_eq!(all.failed(damaged.clone()), end);
    assert_eq!(all.place(), None);

    let mut unasked = recall(false);
    assert_eq!(unasked.failed(damaged.clone()), Next::Copy(second));
    let end = Next::Nothing { error: damaged.clone(), older: Some(ids[1]) };
    assert_eq!(unasked.failed(damaged.clone()), end);

    // As long as one store may yet give it, no older one takes its place, and that store's failure is what is told.
    for failures in [[&damaged, &down], [&down, &damaged]] {
        let mut hopeful = recall(true);
        assert_eq!(hopeful.failed(failures[0].clone()), Next::Copy(second));
        let end = Next::Nothing { error: down.clone(), older: None };
        assert_eq!(hopeful.failed(failures[1].clone()), end);
    }

    // Nor as long as one could not tell whether it has it.
    let mut torn = merged.clone();
    torn.entries[2].standing = Standing::Unreadable("down".into());
    let replicas = Replicas::new(vec![Ok(torn), Ok(merged.clone())]);
    let mut unsure = Recall::new(replicas, merged, ids[2], true, Plaintext::Refused);
    assert_eq!(unsure.place(), Some((ids[2], second)));
    assert_eq!(unsure.failed(damaged), Next::Copy(first));
    let end = Next::Nothing { error: down.clone(), older: None };
    assert_eq!(unsure.failed(down), end);
}

//! Backups in several stores: whole in all of them before they count, and copied from one to the other.

use super::sample::*;
use super::store::{Fault, Store, drive};
use raftkv_core::backup::blob::{BlobErrorKind, BlobOp, ObjectName, Role, StoreIndex};
use raftkv_core::backup::bounds::MAX_PARTS;
use raftkv_core::backup::catalog::{Catalog, Judged, ReadCatalog};
use raftkv_core::backup::catch_up::{CatchUp, CatchUpError, CaughtUp};
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::copy::{Copied, CopyBackup, CopyError, Present, Route};
use raftkv_core::backup::create::{Create, Failure, Outcome, Settings};
use raftkv_core::backup::machine::{Action, ActionResult, Machine as _};
use raftkv_core::backup::read::Access;
use raftkv_core::backup::verify::Level;
use raftkv_core::backup::{BackupId, KeyRing};
use raftkv_core::time::Wall;
use std::ops::BitXorAssign;

pub const TO_SECOND: Route = Route { from: StoreIndex(0), to: StoreIndex(1) };
const KINDS: [BlobErrorKind; 3] =
    [BlobErrorKind::Denied, BlobErrorKind::Transient, BlobErrorKind::Full];

pub fn pair() -> [Store; 2] {
    Default::default()
}

/// Both have the same three backups, the oldest first.
pub fn pair_with_three() -> ([Store; 2], Vec<BackupId>) {
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

pub fn copy(stores: &mut [Store; 2], id: BackupId) -> Result<Copied, CopyError> {
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

pub fn catch_up(stores: &mut [Store; 2], route: Route) -> Result<CaughtUp, CatchUpError> {
    catch_up_with(stores, route, access(&[key(1)]))
}

pub fn catch_up_with(
    stores: &mut [Store; 2],
    route: Route,
    access: Access,
) -> Result<CaughtUp, CatchUpError> {
    let mut machine = CatchUp::new(route, access, MAX_PARTS);
    drive(stores, &mut machine);
    machine.outcome().expect("the machine ends").cloned().map_err(Clone::clone)
}

pub fn catalog(store: &mut Store) -> Catalog {
    let mut machine = ReadCatalog::new(KeyRing::new([key(1)]));
    store.drive(&mut machine);
    machine.outcome().expect("the machine ends").clone().unwrap()
}

pub fn is_empty(store: &Store) -> bool {
    store.objects.is_empty() && store.uploads.is_empty()
}

pub fn restores(store: &mut Store, id: BackupId) -> bool {
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

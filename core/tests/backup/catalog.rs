//! Lists: what is complete, in which order, and what a forger cannot achieve.

use super::sample::*;
use super::store::Store;
use raftkv_core::backup::blob::{BlobError, BlobErrorKind, ObjectName};
use raftkv_core::backup::catalog::{Catalog, Proof, ReadCatalog, Standing};
use raftkv_core::backup::choose::{Doubt, choose};
use raftkv_core::backup::epochs;
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::marker::{Marker, Owner};
use raftkv_core::backup::replicas::Replicas;
use raftkv_core::backup::select::{SelectError, Selector};
use raftkv_core::backup::{BackupId, Key, KeyRing};
use raftkv_core::ids::{ClusterId, Epoch};
use raftkv_core::time::Wall;

fn list(store: &mut Store, keys: &[Key]) -> Catalog {
    let mut machine = ReadCatalog::new(KeyRing::new(keys.iter().cloned()));
    store.drive(&mut machine);
    machine.outcome().unwrap().clone().unwrap()
}

/// Backups at these indexes, made in this order.
fn store_with(indexes: &[u64], keys: &[Key]) -> (Store, Vec<BackupId>) {
    let mut store = Store::default();
    let state = state(20);
    let ids = indexes
        .iter()
        .map(|index| backup(&mut store, &state, *index, settings(GZIP, keys)))
        .collect();
    (store, ids)
}

fn standing(catalog: &Catalog, id: BackupId) -> &Standing {
    &catalog.entries.iter().find(|entry| entry.id == id).unwrap().standing
}

#[test]
fn an_empty_store_has_no_backups() {
    let catalog = list(&mut Store::default(), &[]);
    assert_eq!(catalog, Catalog::default());
    assert_eq!(
        catalog.select(&Selector::Latest, Plaintext::Allowed),
        Err(SelectError::NoneComplete { others: 0 })
    );
}

#[test]
fn order_is_by_index_and_the_latest_is_the_highest() {
    let (mut store, ids) = store_with(&[30, 10, 20], &[key(1)]);
    store.objects.insert("notes.txt".into(), b"hello".to_vec());
    let catalog = list(&mut store, &[key(1)]);
    let order: Vec<_> = catalog.entries.iter().map(|entry| entry.id).collect();
    assert_eq!(order, [ids[1], ids[2], ids[0]]);
    assert!(catalog.entries.iter().all(|e| e.standing == Standing::Complete(Proof::Authentic)));
    assert_eq!(
        catalog.select(&Selector::Latest, Plaintext::Allowed).map(|entry| entry.id),
        Ok(ids[0])
    );
    assert_eq!(catalog.strangers, ["notes.txt"]);
}

#[test]
fn backups_are_picked_by_unique_prefix() {
    let (mut store, ids) = store_with(&[10, 20], &[]);
    let catalog = list(&mut store, &[]);
    let pick = |prefix: &str| {
        catalog.select(&Selector::parse(prefix).unwrap(), Plaintext::Allowed).map(|entry| entry.id)
    };
    assert_eq!(pick(&ids[0].to_string()), Ok(ids[0]));
    assert_eq!(pick(&ids[1].to_string()[..8]), Ok(ids[1]));
    assert!(matches!(pick(""), Err(SelectError::Ambiguous { count: 2, .. })));
    assert!(matches!(pick("zzz"), Err(SelectError::Unknown { .. })));
}

#[test]
fn backups_are_picked_by_time_and_the_next_older_one_is_known() {
    let (mut store, ids) = store_with(&[10, 20, 30], &[key(1)]);
    store.objects.remove(&format!("{}/data.db", ids[1]));
    let catalog = list(&mut store, &[key(1)]);
    let begun = catalog.entries[0].metadata.as_ref().unwrap().timestamp;
    let at =
        |wall| catalog.select(&Selector::At(Wall(wall)), Plaintext::Allowed).map(|entry| entry.id);
    // The sample's clock counts a millisecond per log index.
    assert_eq!(at(begun.0), Ok(ids[0]), "the very moment counts");
    assert_eq!(at(begun.0 + 19), Ok(ids[0]), "neither the damaged one nor one from later");
    assert_eq!(at(begun.0 + 20), Ok(ids[2]));
    let none = SelectError::NoneBefore { at: Wall(begun.0 - 1), oldest: ids[0], begun };
    assert_eq!(at(begun.0 - 1), Err(none));
    assert_eq!(
        catalog.next_older(ids[2], Plaintext::Refused).map(|entry| entry.id),
        Some(ids[0]),
        "not the damaged one"
    );
    assert_eq!(catalog.next_older(ids[0], Plaintext::Refused), None);
}

#[test]
fn a_backup_that_does_not_tell_its_age_may_be_the_newest() {
    let (mut store, ids) = store_with(&[10, 20, 30, 40], &[key(1)]);
    let passed_over = |store: &mut Store, picked: BackupId| -> Vec<BackupId> {
        let catalog = list(store, &[key(1)]);
        catalog.unusable_newer_than(picked, Plaintext::Refused).map(|entry| entry.id).collect()
    };
    assert_eq!(passed_over(&mut store, ids[0]), [], "newer ones are whole");
    store.objects.remove(&format!("{}/data.db", ids[1]));
    assert_eq!(passed_over(&mut store, ids[3]), [], "it is known to be older");
    store.objects.get_mut(&format!("{}/metadata.json", ids[2])).unwrap().pop();
    assert_eq!(passed_over(&mut store, ids[3]), [], "the front of its data says that it is older");
    assert_eq!(passed_over(&mut store, ids[0]), [ids[2], ids[1]]);
    store.objects.get_mut(&format!("{}/data.db", ids[2])).unwrap()[20] ^= 1;
    assert_eq!(passed_over(&mut store, ids[3]), [ids[2]], "nothing says so any more");
    assert_eq!(passed_over(&mut store, ids[0]), [ids[1], ids[2]]);
}

#[test]
fn what_is_known_to_be_later_is_not_meant_by_a_time() {
    let (mut store, ids) = store_with(&[10, 20, 30], &[key(1)]);
    store.objects.remove(&format!("{}/metadata.json", ids[2]));
    let catalog = list(&mut store, &[key(1)]);
    let begun = |place: usize| catalog.entries[place].metadata.as_ref().unwrap().timestamp;
    let replicas = Replicas::new(vec![Ok(catalog.clone())]);
    let doubts = |at: Wall| {
        let choice = choose(&replicas, &catalog, &Selector::At(at), Plaintext::Refused).unwrap();
        (choice.entry.id, choice.doubts.len())
    };
    assert_eq!(doubts(begun(0)), (ids[0], 0), "it came after the second one");
    assert_eq!(doubts(begun(1)), (ids[1], 1), "it may have come before this time");
}

#[test]
fn a_backup_that_has_lost_its_metadata_is_not_passed_over() {
    let (mut store, ids) = store_with(&[10, 20, 30], &[key(1)]);
    let passed_over = |store: &mut Store| -> Vec<BackupId> {
        let catalog = list(store, &[key(1)]);
        let picked = catalog.select(&Selector::Latest, Plaintext::Refused).unwrap().id;
        assert_eq!(picked, ids[1]);
        catalog.unusable_newer_than(picked, Plaintext::Refused).map(|entry| entry.id).collect()
    };
    store.objects.remove(&format!("{}/metadata.json", ids[2]));
    assert_eq!(passed_over(&mut store), [ids[2]]);
    // Nothing is lost where it says of itself that it was never complete, or was to go.
    for mark in [ObjectName::status(ids[2]), ObjectName::removal(ids[2])] {
        let marker = Marker::new(mark, Owner([1; 16]), "", Wall(0));
        store.objects.insert(mark.path(), marker.render());
        assert_eq!(passed_over(&mut store), [], "{mark}");
        store.objects.remove(&mark.path());
    }
}

#[test]
fn what_somebody_without_a_key_could_have_written_does_not_pass_for_the_newest() {
    let (mut store, ids) = store_with(&[10], &[key(1)]);
    let (plain, strange) = (store_with(&[20], &[]), store_with(&[30], &[key(2)]));
    store.objects.extend(plain.0.objects);
    store.objects.extend(strange.0.objects);
    let catalog = list(&mut store, &[key(1)]);
    let latest = |plaintext| {
        let picked = catalog.select(&Selector::Latest, plaintext).unwrap().id;
        let newer = catalog.unusable_newer_than(picked, plaintext);
        (picked, newer.map(|entry| entry.id).collect::<Vec<_>>())
    };
    let (plain, strange) = (plain.1[0], strange.1[0]);
    assert_eq!(latest(Plaintext::Refused), (ids[0], vec![strange, plain]));
    assert_eq!(latest(Plaintext::Allowed), (plain, vec![strange]));
    assert_eq!(catalog.next_older(strange, Plaintext::Refused).map(|it| it.id), Some(ids[0]));
    assert_eq!(catalog.next_older(strange, Plaintext::Allowed).map(|it| it.id), Some(plain));
    // Where there is nothing else, reading it tells why it cannot be used.
    let others = list(&mut store, &[key(3)]);
    assert_eq!(others.select(&Selector::Latest, Plaintext::Refused).unwrap().id, strange);
}

#[test]
fn a_new_cluster_begins_above_every_epoch_that_anything_in_the_stores_tells_of() {
    let (mut store, ids) = store_with(&[10, 20, 30, 40], &[key(1)]);
    // Of two there are the data alone and the metadata alone.
    store.objects.remove(&format!("{}/data.db", ids[2]));
    store.objects.remove(&format!("{}/metadata.json", ids[3]));
    let catalog = list(&mut store, &[key(1)]);
    let highest = |epochs: [u64; 4], others: &[Result<Catalog, BlobError>]| {
        let mut catalog = catalog.clone();
        for (id, epoch) in ids.iter().zip(epochs) {
            let entry = catalog.entries.iter_mut().find(|entry| entry.id == *id).unwrap();
            match &mut entry.metadata {
                Some(metadata) => metadata.epoch = Epoch(epoch),
                None => entry.front.as_mut().expect("the data tell").0 = Epoch(epoch),
            }
        }
        let catalogs = [&[Ok(catalog)], others].concat();
        let replicas = Replicas::new(catalogs);
        let merged = replicas.merged().unwrap_or_default();
        epochs::highest(&replicas, &merged, Plaintext::Refused).0
    };
    assert_eq!(highest([3, 7, 5, 6], &[]), 7, "however old it is");
    assert_eq!(highest([3, 7, 8, 6], &[]), 8);
    assert_eq!(highest([3, 7, 8, 9], &[]), 9);
    assert_eq!(highest([3, 7, 8, 9_000], &[]), 8, "that is too far to be believed");
    let silent = BlobError { kind: BlobErrorKind::Transient, message: "down".into() };
    assert_eq!(highest([3, 7, 8, 9], &[Err(silent)]), 9 + epochs::PASSED_OVER);
    let nothing = Replicas::new(vec![Ok(Catalog::default())]);
    assert_eq!(epochs::highest(&nothing, &Catalog::default(), Plaintext::Allowed), Epoch(0));
}

#[test]
fn clusters_that_cannot_be_ordered_are_not_taken_for_each_other() {
    let (mut store, ids) = store_with(&[10, 20, 30], &[key(1)]);
    let mut catalog = list(&mut store, &[key(1)]);
    catalog.entries[1].metadata.as_mut().unwrap().cluster = ClusterId(*b"another cluster!");
    let replicas = Replicas::new(vec![Ok(catalog.clone())]);
    let doubts = |catalog: &Catalog, selector| {
        let choice = choose(&replicas, catalog, &selector, Plaintext::Refused).unwrap();
        assert_eq!(choice.entry.id, ids[2]);
        choice.doubts.len()
    };
    let other = Doubt::OtherCluster(&catalog.entries[1]);
    let choice = choose(&replicas, &catalog, &Selector::Latest, Plaintext::Refused).unwrap();
    assert_eq!((choice.entry.id, choice.doubts), (ids[2], vec![other]));
    assert_eq!(doubts(&catalog, Selector::At(Wall(i64::MAX))), 1);
    assert_eq!(doubts(&catalog, Selector::Prefix(ids[2].to_string())), 0);
    assert_eq!(catalog.next_older(ids[2], Plaintext::Refused).unwrap().id, ids[0]);
    // One that was restored comes after all of those before it.
    catalog.entries[2].metadata.as_mut().unwrap().epoch = Epoch(2);
    assert_eq!(doubts(&catalog, Selector::Latest), 0);
}

#[test]
fn a_part_of_a_backup_in_one_store_hides_nothing_that_is_wrong_with_it_in_another() {
    let (mut first, ids) = store_with(&[10, 20], &[key(1)]);
    let mut second = Store { objects: first.objects.clone(), ..Store::default() };
    first.objects.remove(&format!("{}/metadata.json", ids[1]));
    second.objects.get_mut(&format!("{}/metadata.json", ids[1])).unwrap().pop();
    let catalogs = [&mut first, &mut second].map(|store| Ok(list(store, &[key(1)])));
    let merged = Replicas::new(catalogs.into()).merged().unwrap();
    assert_eq!(
        merged.select(&Selector::Latest, Plaintext::Allowed).map(|entry| entry.id),
        Ok(ids[0])
    );
    let passed_over: Vec<_> =
        merged.unusable_newer_than(ids[0], Plaintext::Refused).map(|entry| entry.id).collect();
    assert_eq!(passed_over, [ids[1]]);
}

#[test]
fn what_cannot_be_proved_is_said() {
    let (mut store, ids) = store_with(&[10], &[key(1)]);
    let (plain, plain_ids) = store_with(&[20], &[]);
    store.objects.extend(plain.objects);
    let catalog = list(&mut store, &[key(2)]);
    let missing = Standing::Complete(Proof::KeyMissing(vec![key(1).id()]));
    assert_eq!(standing(&catalog, ids[0]), &missing);
    assert_eq!(standing(&catalog, plain_ids[0]), &Standing::Complete(Proof::Plain));
}

#[test]
fn nothing_broken_or_forged_is_complete() {
    let indexes = [10, 20, 30, 40, 50, 60, 70];
    let (mut store, ids) = store_with(&indexes, &[key(1)]);
    let data = |id: BackupId| format!("{id}/data.db");
    let metadata = |id: BackupId| format!("{id}/metadata.json");
    store.objects.remove(&metadata(ids[1]));
    store.objects.remove(&data(ids[2]));
    let whole = store.objects[&data(ids[3])].len();
    store.objects.get_mut(&data(ids[3])).unwrap().pop();
    let text = String::from_utf8(store.objects[&metadata(ids[4])].clone()).unwrap();
    let forged = text.replace("\"raft_index\": 50", "\"raft_index\": 99999");
    store.objects.insert(metadata(ids[4]), forged.into_bytes());
    let copied = store.objects[&metadata(ids[0])].clone();
    store.objects.insert(metadata(ids[5]), copied);
    store.objects.get_mut(&data(ids[6])).unwrap()[20] ^= 1;

    let catalog = list(&mut store, &[key(1)]);
    assert_eq!(standing(&catalog, ids[0]), &Standing::Complete(Proof::Authentic));
    assert_eq!(standing(&catalog, ids[1]), &Standing::Incomplete);
    let missing = |what: &str| Standing::DataMissing(what.into());
    assert_eq!(standing(&catalog, ids[2]), &missing("data.db is missing"));
    let shorter = format!("data.db has {} bytes, and metadata.json says {whole}", whole - 1);
    assert_eq!(standing(&catalog, ids[3]), &missing(&shorter));
    assert!(matches!(standing(&catalog, ids[4]), Standing::Forged(_)));
    assert!(matches!(standing(&catalog, ids[5]), Standing::Forged(_)));
    assert!(matches!(standing(&catalog, ids[6]), Standing::Damaged(_)));
    let latest = catalog.select(&Selector::Latest, Plaintext::Allowed).unwrap();
    assert_eq!(latest.id, ids[0], "a forged index does not make a backup the latest");
}

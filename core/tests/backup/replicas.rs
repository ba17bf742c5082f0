//! Several stores seen as one: what is picked, and where it is read.

use super::copies::*;
use raftkv_core::backup::blob::{BlobError, BlobErrorKind, ObjectName, StoreIndex};
use raftkv_core::backup::catalog::{Catalog, Standing};
use raftkv_core::backup::choose::{Doubt, choose};
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::read::ReadError;
use raftkv_core::backup::recall::{Next, Recall};
use raftkv_core::backup::replicas::Replicas;
use raftkv_core::backup::select::Selector;
use raftkv_core::time::Wall;

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

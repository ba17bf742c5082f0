//! Reading backups back: round trips, keys, levels of verification, and the start of a new cluster.

use super::sample::*;
use super::store::{Fault, Store};
use raftkv_core::api::{Backups, DeleteRequest, KeyRange, Schedule, WriteOp};
use raftkv_core::backup::KeyRing;
use raftkv_core::backup::blob::BlobErrorKind;
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::format::{FormatError, Plaintext};
use raftkv_core::backup::metadata::Checksum;
use raftkv_core::backup::read::{Access, ReadError, ReadTrouble};
use raftkv_core::backup::restore::{EPOCH_MAX, EpochsExhausted, GAP, rebase};
use raftkv_core::backup::verify::Level;
use raftkv_core::ids::{ClusterId, Epoch};

use raftkv_core::kv::{Action, BackupOp, Builder, Command, Item};
use raftkv_core::time::Wall;
use sha2::{Digest, Sha256};

fn compressions() -> Vec<Compression> {
    let mut all = vec![Compression::None, Compression::Gzip { level: 1 }, GZIP];
    if cfg!(feature = "zstd") {
        all.push(Compression::Zstd { level: 3 });
    }
    all
}

#[test]
fn every_way_of_making_a_backup_comes_back_to_the_same_state() {
    for keys in [0, 1, 150, 2000] {
        let state = state(keys);
        for compression in compressions() {
            for recipients in [vec![], vec![key(1)], vec![key(1), key(2)]] {
                let mut store = Store { reversed: keys % 2 == 0, ..Store::default() };
                let id = backup(&mut store, &state, 42, settings(compression, &recipients));
                let restored = restore(&mut store, id, access(&recipients)).unwrap();
                assert_eq!(restored.state.hash(), state.hash());
                assert!(restored.state.items().eq(state.items()));
                assert_eq!(
                    (restored.header.meta.index, restored.metadata.keys),
                    (42, state.keys())
                );
                let data = &store.objects[&format!("{id}/data.db")];
                let digest = Checksum(Sha256::digest(data).into());
                assert_eq!(restored.metadata.checksum, digest, "the SHA-256 of data.db");
            }
        }
    }
}

#[test]
fn any_recipient_opens_and_a_stranger_is_told_which_key_is_missing() {
    let state = state(50);
    let mut store = Store::default();
    let id = backup(&mut store, &state, 42, settings(GZIP, &[key(1), key(2)]));
    for holder in [1, 2] {
        assert!(restore(&mut store, id, access(&[key(holder), key(9)])).is_ok());
    }
    let error = restore(&mut store, id, access(&[key(3)])).unwrap_err();
    assert_eq!(error.trouble(), ReadTrouble::Key);
    let ReadError::Header { error: FormatError::KeyMissing { wanted, at_hand }, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(wanted, [key(1).id(), key(2).id()]);
    assert_eq!(at_hand, [key(3).id()]);
}

#[test]
fn plain_backups_are_refused_where_encryption_is_configured() {
    let state = state(50);
    let mut store = Store::default();
    let id = backup(&mut store, &state, 42, settings(GZIP, &[]));
    let strict = Access { keys: KeyRing::new([key(1)]), plaintext: Plaintext::Refused };
    let error = restore(&mut store, id, strict.clone()).unwrap_err();
    assert_eq!(error.trouble(), ReadTrouble::Refused);
    assert!(restore(&mut store, id, Access { plaintext: Plaintext::Allowed, ..strict }).is_ok());
}

#[test]
fn each_level_finds_what_it_promises() {
    let state = state(500);
    let mut store = Store::default();
    let id = backup(&mut store, &state, 42, settings(Compression::None, &[key(1)]));
    let data = format!("{id}/data.db");
    let found_from = |store: &mut Store| {
        Level::ALL
            .into_iter()
            .find(|level| verify(store, id, *level, access(&[key(1)])).result.is_err())
    };
    assert_eq!(found_from(&mut store), None);

    let whole = store.objects[&data].clone();
    store.objects.get_mut(&data).unwrap().push(0);
    assert_eq!(found_from(&mut store), Some(Level::Exists));
    store.objects.insert(data.clone(), whole.clone());
    store.objects.get_mut(&data).unwrap()[6000] ^= 1;
    assert_eq!(found_from(&mut store), Some(Level::Checksum));
    store.objects.insert(data.clone(), whole);

    // Without the key, everything that needs none can still be checked.
    for level in [Level::Exists, Level::Checksum] {
        assert!(verify(&mut store, id, level, access(&[key(2)])).result.is_ok());
    }
    assert!(verify(&mut store, id, Level::Decrypt, access(&[key(2)])).result.is_err());

    store.objects.remove(&format!("{id}/metadata.json"));
    let report = verify(&mut store, id, Level::Exists, access(&[key(1)]));
    assert_eq!(report.result, Err(ReadError::NotComplete { id }));
}

#[test]
fn a_store_that_fails_at_any_read_yields_nothing() {
    let state = state(300);
    let mut store = Store::default();
    let id = backup(&mut store, &state, 42, settings(Compression::None, &[key(1)]));
    store.asked.clear();
    assert!(restore(&mut store, id, access(&[key(1)])).is_ok());
    let reads = store.asked.len();
    assert!(reads > 5, "{reads} reads are too few to show anything");
    for at in 0..reads {
        store.asked.clear();
        store.fault = Some(Fault::Fails { at, kind: BlobErrorKind::Transient });
        let error = restore(&mut store, id, access(&[key(1)])).unwrap_err();
        assert_eq!(error.trouble(), ReadTrouble::Store, "read {at}: {error}");
    }
    store.fault = None;
    store.objects.remove(&format!("{id}/data.db"));
    let error = restore(&mut store, id, access(&[key(1)])).unwrap_err();
    assert_eq!(error.trouble(), ReadTrouble::Verification, "its metadata are there: {error}");
}

#[test]
fn a_restored_cluster_is_a_new_one_far_ahead_of_the_old() {
    let state = state(200);
    let mut store = Store::default();
    let id = backup(&mut store, &state, 42, settings(GZIP, &[key(1)]));
    let restored = restore(&mut store, id, access(&[key(1)])).unwrap();
    let cluster = ClusterId(*b"another cluster!");
    let rebased = rebase(&restored, cluster, Epoch(0)).unwrap();
    assert_eq!((rebased.cluster, rebased.epoch), (cluster, Epoch(2)));
    assert_eq!(rebased.base.state.revision(), 2 * GAP);
    assert_eq!(rebased.base.state.compacted(), 2 * GAP);
    assert_eq!((rebased.base.index, restored.header.meta.index), (2 * GAP, 42));
    let later = rebase(&restored, cluster, Epoch(5)).unwrap();
    assert_eq!((later.epoch, later.base.index), (Epoch(6), 6 * GAP));
    assert_eq!(later.base.state.revision(), 6 * GAP);
    assert_eq!(rebased.base.state.keys(), state.keys());
    assert_eq!(rebased.base.state.members().count(), 0);
    let log_time_ms = state.log_time_ms();
    for item in rebased.base.state.items() {
        match item {
            Item::Backups(_)
            | Item::Session { .. }
            | Item::Member(_)
            | Item::Incarnation { .. } => {
                panic!("{item:?} belongs to the old cluster")
            }
            Item::Lease { ttl_ms, deadline_ms, .. } => {
                assert_eq!(deadline_ms, log_time_ms + ttl_ms)
            }
            Item::Key { versions, .. } => assert_eq!(versions.len(), 1),
            Item::Meta(_) => {}
        }
    }
    assert!(rebased.base.state.items().any(|item| matches!(item, Item::Lease { .. })));
}

/// A cluster that comes back goes on making backups, from where it was; what was made of the old one is none of its own.
#[test]
fn the_schedule_comes_back_and_the_record_of_runs_does_not() {
    let mut state = state(20);
    let wall = Wall(1_764_930_700_000);
    let mut apply = |index, op| {
        state.apply(index, &Command { log_time_ms: index, wall, action: Action::Backup(op) });
    };
    let schedule = Schedule { cron: "0 2 * * *".into(), timezone: "UTC".into(), prune: true };
    apply(90, BackupOp::Schedule(Some(schedule.clone())));
    apply(91, BackupOp::Pause(true));
    let before = state.backups().clone();
    assert!(before.paused && before.slot > Wall::default(), "{before:?}");
    let mut store = Store::default();
    let id = backup(&mut store, &state, 91, settings(GZIP, &[key(1)]));
    let restored = restore(&mut store, id, access(&[key(1)])).unwrap();
    assert_eq!(restored.state.hash(), state.hash());
    assert_eq!(*restored.state.backups(), before);
    let rebased = rebase(&restored, ClusterId(*b"another cluster!"), Epoch(0)).unwrap();
    let Backups { slot, paused, .. } = before;
    let expected = Backups { schedule: Some(schedule), slot, paused, ..Backups::default() };
    assert_eq!(*rebased.base.state.backups(), expected);
}

#[test]
fn an_epoch_that_leaves_no_room_is_refused() {
    let mut store = Store::default();
    let id = backup(&mut store, &state(20), 42, settings(GZIP, &[key(1)]));
    let mut restored = restore(&mut store, id, access(&[key(1)])).unwrap();
    let cluster = ClusterId(*b"another cluster!");
    let last = rebase(&restored, cluster, Epoch(EPOCH_MAX.0 - 1)).unwrap();
    assert_eq!(last.epoch, EPOCH_MAX);
    assert!(last.base.index <= i64::MAX as u64 - GAP);
    for lost in [EPOCH_MAX, Epoch(u64::MAX)] {
        assert_eq!(rebase(&restored, cluster, lost).err(), Some(EpochsExhausted), "{lost:?}");
    }
    restored.header.meta.index = i64::MAX as u64;
    assert_eq!(rebase(&restored, cluster, Epoch(0)).err(), Some(EpochsExhausted));
}

#[test]
fn what_a_restored_cluster_starts_from_is_what_its_items_make() {
    let mut state = state(200);
    let range = KeyRange::prefix("app/users/0001");
    let op = WriteOp::Delete(DeleteRequest { range, return_previous: false });
    let action = Action::Write { session: None, op };
    state.apply(300, &Command { log_time_ms: 300, wall: state.wall(), action });
    let mut store = Store::default();
    let id = backup(&mut store, &state, 42, settings(GZIP, &[key(1)]));
    let restored = restore(&mut store, id, access(&[key(1)])).unwrap();
    assert!(
        state.items().any(|item| matches!(item, Item::Key { versions, .. } if versions.len() > 1)),
        "there is no history to forget"
    );
    let rebased = rebase(&restored, ClusterId(*b"another cluster!"), Epoch(0)).unwrap();
    let rebased = rebased.base.state;
    let mut builder = Builder::new();
    rebased.items().for_each(|item| builder.push(item).unwrap());
    let rebuilt = builder.finish().unwrap();
    assert_eq!((rebuilt.hash(), rebuilt.bytes()), (rebased.hash(), rebased.bytes()));
    assert!(rebuilt.items().eq(rebased.items()));
    assert_eq!(rebased.keys(), state.keys());
}

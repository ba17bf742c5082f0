//! Changing keys without touching data, and rebuilding metadata from it.

use super::sample::*;
use super::store::{Fault, Store};
use raftkv_core::backup::blob::{BlobErrorKind, ObjectName};
use raftkv_core::backup::catalog::{Proof, ReadCatalog, Standing};
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::format::FormatError;
use raftkv_core::backup::read::{ReadError, ReadTrouble};
use raftkv_core::backup::rebuild::RebuildMetadata;
use raftkv_core::backup::rotate::{Rotate, Rotated};
use raftkv_core::backup::slots::KeysError;
use raftkv_core::backup::verify::Level;
use raftkv_core::backup::{BackupId, Key, KeyRing, Metadata};

fn rotate(store: &mut Store, id: BackupId, old: &Key, new: &Key) -> Result<Rotated, ReadError> {
    let keys = KeyRing::new([old.clone(), new.clone()]);
    let mut machine = Rotate::new(id, old.id(), new.clone(), keys, rng(3));
    store.drive(&mut machine);
    machine.outcome().expect("the machine ends").clone()
}

fn rebuild(store: &mut Store, id: BackupId, keys: &[Key]) -> Result<Metadata, ReadError> {
    let mut machine = RebuildMetadata::new(id, access(keys));
    store.drive(&mut machine);
    machine.outcome().expect("the machine ends").clone()
}

fn sealed() -> (Store, BackupId) {
    let mut store = Store::default();
    let id = backup(&mut store, &state(200), 7, settings(GZIP, &[key(1), key(2)]));
    (store, id)
}

#[test]
fn a_rotation_gives_the_new_key_access_and_leaves_data_alone() {
    let (mut store, id) = sealed();
    let before = store.objects.clone();
    assert!(restore(&mut store, id, access(&[key(5)])).is_err());
    assert_eq!(rotate(&mut store, id, &key(1), &key(5)), Ok(Rotated::Changed));
    for (path, bytes) in &before {
        assert_eq!(&store.objects[path], bytes, "{path}");
    }
    for keys in [[key(5)], [key(2)]] {
        assert!(restore(&mut store, id, access(&keys)).is_ok(), "{keys:?}");
    }
    let mut list = ReadCatalog::new(KeyRing::new([key(2), key(5), key(6)]));
    store.drive(&mut list);
    let entry = list.outcome().unwrap().as_ref().unwrap().entries[0].clone();
    assert_eq!(entry.key_ids, [key(2).id(), key(5).id()]);
    let mut opened_by = vec![key(2).id(), key(5).id()];
    opened_by.sort();
    assert_eq!(entry.opened_by, opened_by);
    assert_eq!(entry.standing, Standing::Complete(Proof::Authentic));
    let mut list = ReadCatalog::new(KeyRing::new([key(6)]));
    store.drive(&mut list);
    let entry = list.outcome().unwrap().as_ref().unwrap().entries[0].clone();
    let missing = Proof::KeyMissing(vec![key(2).id(), key(5).id()]);
    assert_eq!(entry.standing, Standing::Complete(missing));
}

#[test]
fn a_rotation_can_be_repeated_and_goes_on_where_it_broke_off() {
    let (mut store, id) = sealed();
    let operations = {
        let (mut probe, id) = sealed();
        let before = probe.asked.len();
        rotate(&mut probe, id, &key(1), &key(5)).unwrap();
        probe.asked.len() - before
    };
    assert_eq!(operations, 4);
    for place in 0..operations {
        for kind in [Some(BlobErrorKind::Transient), None] {
            let at = store.asked.len() + place;
            store.fault = Some(match kind {
                Some(kind) => Fault::Fails { at, kind },
                None => Fault::AnswerLost { at },
            });
            let _ = rotate(&mut store, id, &key(1), &key(5));
            store.fault = None;
            assert!(restore(&mut store, id, access(&[key(2)])).is_ok(), "{place} {kind:?}");
        }
    }
    assert!(matches!(
        rotate(&mut store, id, &key(1), &key(5)),
        Ok(Rotated::Changed | Rotated::Already)
    ));
    assert_eq!(rotate(&mut store, id, &key(1), &key(5)), Ok(Rotated::Already));
    assert_eq!(rotate(&mut store, id, &key(8), &key(9)), Ok(Rotated::NotConcerned));
    assert_eq!(rotate(&mut store, id, &key(5), &key(6)), Ok(Rotated::Changed));
    assert!(restore(&mut store, id, access(&[key(6)])).is_ok());
    let plain = backup(&mut store, &state(20), 8, settings(GZIP, &[]));
    assert_eq!(rotate(&mut store, plain, &key(1), &key(5)), Ok(Rotated::Plain));
}

#[test]
fn an_answer_that_was_lost_with_the_write_is_trouble_of_the_store_and_not_of_a_key() {
    for rotated_before in [false, true] {
        let (mut store, id) = sealed();
        let mut old = key(1);
        if rotated_before {
            rotate(&mut store, id, &old, &key(5)).unwrap();
            old = key(5);
        }
        let at = store.asked.len() + 2;
        store.fault = Some(Fault::Fails { at, kind: BlobErrorKind::Unknown });
        let error = rotate(&mut store, id, &old, &key(6)).unwrap_err();
        assert_eq!(error.trouble(), ReadTrouble::Store, "{error}");
        assert!(!error.to_string().contains("no such"), "{error}");
        store.fault = None;
        assert_eq!(rotate(&mut store, id, &old, &key(6)), Ok(Rotated::Changed));
    }
}

#[test]
fn a_key_that_is_not_at_hand_cannot_be_rotated_away() {
    let (mut store, id) = sealed();
    let keys = KeyRing::new([key(8)]);
    let mut machine = Rotate::new(id, key(1).id(), key(8), keys, rng(3));
    store.drive(&mut machine);
    let error = machine.outcome().unwrap().clone().unwrap_err();
    assert_eq!(error.trouble(), ReadTrouble::Key, "{error}");
    assert!(!store.objects.contains_key(&ObjectName::keys(id).path()));
}

#[test]
fn every_bit_of_later_slots_counts() {
    let (mut store, id) = sealed();
    rotate(&mut store, id, &key(1), &key(5)).unwrap();
    let path = ObjectName::keys(id).path();
    let whole = store.objects[&path].clone();
    for bit in 0..whole.len() * 8 {
        let mut altered = whole.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        store.objects.insert(path.clone(), altered.clone());
        let error = restore(&mut store, id, access(&[key(2), key(5)])).unwrap_err();
        assert!(matches!(error, ReadError::Header { .. }), "bit {bit}: {error}");
        assert_eq!(error.trouble(), ReadTrouble::Verification, "bit {bit}: {error}");
        // The same for one who can mend the checksum.
        let crc_at = altered.len() - 4;
        if bit / 8 < crc_at {
            let crc = crc32c::crc32c(&altered[..crc_at]).to_le_bytes();
            altered[crc_at..].copy_from_slice(&crc);
            store.objects.insert(path.clone(), altered);
            let error = restore(&mut store, id, access(&[key(5)])).unwrap_err();
            assert_ne!(error.trouble(), ReadTrouble::Store, "bit {bit}, mended: {error}");
        }
    }
    for len in 0..whole.len() {
        store.objects.insert(path.clone(), whole[..len].to_vec());
        assert!(restore(&mut store, id, access(&[key(5)])).is_err(), "cut at {len}");
    }
}

#[test]
fn later_slots_of_another_backup_open_nothing() {
    let (mut store, id) = sealed();
    let other = backup(&mut store, &state(200), 8, settings(GZIP, &[key(1)]));
    for id in [id, other] {
        rotate(&mut store, id, &key(1), &key(5)).unwrap();
    }
    let foreign = store.objects[&ObjectName::keys(other).path()].clone();
    store.objects.insert(ObjectName::keys(id).path(), foreign);
    let error = restore(&mut store, id, access(&[key(5)])).unwrap_err();
    let keys = FormatError::Keys(KeysError::OtherBackup);
    assert_eq!(error, ReadError::Header { id, error: keys });
    let mut list = ReadCatalog::new(KeyRing::new([key(5)]));
    store.drive(&mut list);
    let entries = &list.outcome().unwrap().as_ref().unwrap().entries;
    let entry = entries.iter().find(|entry| entry.id == id).unwrap();
    assert!(matches!(entry.standing, Standing::Forged(_)), "{:?}", entry.standing);
}

#[test]
fn lost_metadata_is_rebuilt_to_the_byte() {
    for keys in [vec![], vec![key(1), key(2)]] {
        for compression in [Compression::None, GZIP] {
            let mut store = Store::default();
            let id = backup(&mut store, &state(200), 7, settings(compression, &keys));
            if !keys.is_empty() {
                rotate(&mut store, id, &key(1), &key(5)).unwrap();
            }
            let path = ObjectName::metadata(id).path();
            let lost = store.objects.remove(&path).unwrap();
            let metadata = rebuild(&mut store, id, &keys).unwrap();
            assert_eq!(String::from_utf8(store.objects[&path].clone()), String::from_utf8(lost));
            assert_eq!(metadata.index, 7);
            assert!(restore(&mut store, id, access(&keys)).is_ok());
            let again = rebuild(&mut store, id, &keys).unwrap_err();
            assert_eq!(again.trouble(), ReadTrouble::Store, "what is there is never replaced");
        }
    }
}

#[test]
fn metadata_is_rebuilt_from_whole_and_genuine_data_only() {
    let (mut store, id) = sealed();
    let keys = [key(1)];
    store.objects.remove(&ObjectName::metadata(id).path());
    let data = store.objects[&ObjectName::data(id).path()].clone();
    let mut with = |altered: Vec<u8>| {
        store.objects.insert(ObjectName::data(id).path(), altered);
        let error = rebuild(&mut store, id, &keys).unwrap_err();
        assert!(!store.objects.contains_key(&ObjectName::metadata(id).path()));
        error
    };
    for at in (0..data.len()).step_by(61) {
        let mut altered = data.clone();
        altered[at] ^= 4;
        let error = with(altered);
        assert_eq!(error.trouble(), ReadTrouble::Verification, "byte {at}: {error}");
        assert_eq!(with(data[..at].to_vec()).trouble(), ReadTrouble::Verification, "cut at {at}");
    }
    with([&data[..], b"more"].concat());
    let (mut store, id) = sealed();
    store.objects.remove(&ObjectName::metadata(id).path());
    assert_eq!(rebuild(&mut store, id, &[key(9)]).unwrap_err().trouble(), ReadTrouble::Key);
    let plain = backup(&mut store, &state(20), 9, settings(GZIP, &[]));
    store.objects.remove(&ObjectName::metadata(plain).path());
    let refused = rebuild(&mut store, plain, &keys).unwrap_err();
    assert_eq!(refused.trouble(), ReadTrouble::Refused);
}

#[test]
fn rotated_backups_can_be_verified_at_every_level() {
    let (mut store, id) = sealed();
    rotate(&mut store, id, &key(1), &key(5)).unwrap();
    for level in Level::ALL {
        let report = verify(&mut store, id, level, access(&[key(5)]));
        assert!(report.result.is_ok(), "{level}: {report:?}");
    }
}

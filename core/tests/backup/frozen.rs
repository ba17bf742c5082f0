//! Backups of every format as files: they must restore for ever. `RAFTKV_WRITE_FROZEN=1` writes those of the newest format that are
//! not there yet.

#![allow(clippy::disallowed_methods, reason = "frozen backups are files")]

use super::sample::*;
use super::store::Store;
use raftkv_core::backup::blob::ObjectName;
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::format::FORMAT_VERSION;
use raftkv_core::backup::read::ReadTrouble;
use raftkv_core::backup::rebuild::RebuildMetadata;
use raftkv_core::backup::rotate::{Rotate, Rotated};
use raftkv_core::backup::verify::Level;
use raftkv_core::backup::{BackupId, Key, KeyRing};
use std::path::{Path, PathBuf};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen").join(name)
}

fn check(name: &str, compression: Compression, keys: &[Key]) {
    let directory = directory(name);
    let mut store = Store::default();
    if std::env::var_os("RAFTKV_WRITE_FROZEN").is_some() && !directory.exists() {
        write(&directory, compression, keys);
    }
    let mut ids = Vec::new();
    for backup in std::fs::read_dir(&directory).unwrap() {
        let backup = backup.unwrap();
        let id: BackupId = backup.file_name().to_str().unwrap().parse().unwrap();
        for object in std::fs::read_dir(backup.path()).unwrap() {
            let object = object.unwrap();
            let name = object.file_name().into_string().unwrap();
            let bytes = std::fs::read(object.path()).unwrap();
            store.objects.insert(format!("{id}/{name}"), bytes);
        }
        ids.push(id);
    }
    assert_eq!(ids.len(), 1, "one frozen backup in {}", directory.display());
    let restored = restore(&mut store, ids[0], access(keys)).unwrap();
    assert!(restored.state.items().eq(state(12).items()), "{name}");
    assert_eq!(restored.metadata.key_ids, keys.iter().map(Key::id).collect::<Vec<_>>());
    if !keys.is_empty() {
        check_wrong_keys(name, &mut store, ids[0]);
    }
    let has_later_slots = store.objects.contains_key(&ObjectName::keys(ids[0]).path());
    if has_later_slots {
        assert!(restore(&mut store, ids[0], access(&[key(3)])).is_ok(), "{name}");
    }
    // Metadata follows from the data; format 1 does not hold all of it.
    let path = ObjectName::metadata(ids[0]).path();
    let written = store.objects.remove(&path).unwrap();
    let mut rebuild = RebuildMetadata::new(ids[0], access(keys));
    store.drive(&mut rebuild);
    let metadata = rebuild.outcome().unwrap().clone().unwrap();
    assert_eq!(metadata.plain_checksum, restored.metadata.plain_checksum);
    assert_eq!(store.objects[&path] == written, !name.starts_with("backup-1"), "{name}");
}

/// A wrong key, or none, is no damage: whoever reads that throws a good backup away.
fn check_wrong_keys(name: &str, store: &mut Store, id: BackupId) {
    for wrong in [vec![key(9)], vec![key(8), key(9)], vec![]] {
        let error = restore(store, id, access(&wrong)).unwrap_err();
        assert_eq!(error.trouble(), ReadTrouble::Key, "{name}: {error}");
        for level in [Level::Decrypt, Level::Restore] {
            let error = verify(store, id, level, access(&wrong)).result.unwrap_err();
            assert_eq!(error.trouble(), ReadTrouble::Key, "{name}, {level}: {error}");
        }
        assert_eq!(verify(store, id, Level::Checksum, access(&wrong)).result.err(), None, "{name}");
    }
}

fn write(directory: &Path, compression: Compression, keys: &[Key]) {
    let mut store = Store::default();
    let id = backup(&mut store, &state(12), 42, settings(compression, keys));
    if !keys.is_empty() {
        let ring = KeyRing::new(keys.iter().cloned());
        let mut rotate = Rotate::new(id, keys[0].id(), key(3), ring, rng(5));
        store.drive(&mut rotate);
        assert_eq!(rotate.outcome(), Some(&Ok(Rotated::Changed)));
    }
    for (path, bytes) in &store.objects {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn frozen_backups_restore() {
    assert_eq!(FORMAT_VERSION, 2, "a new format needs frozen backups of its own");
    check("backup-1-plain", GZIP, &[]);
    check("backup-1-encrypted", GZIP, &[key(1), key(2)]);
    check("backup-2-plain", GZIP, &[]);
    check("backup-2-encrypted", GZIP, &[key(1), key(2)]);
}

#[cfg(feature = "zstd")]
#[test]
fn frozen_backups_with_zstd_restore() {
    check("backup-2-zstd", Compression::Zstd { level: 3 }, &[key(1)]);
}

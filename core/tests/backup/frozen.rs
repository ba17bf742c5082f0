//! Backups of format 1 as files: they must restore for ever. `RAFTKV_WRITE_FROZEN=1` writes them anew, for a new format only.

#![allow(clippy::disallowed_methods, reason = "frozen backups are files")]

use super::sample::*;
use super::store::Store;
use raftkv_core::backup::format::FORMAT_VERSION;
use raftkv_core::backup::{BackupId, Key};
use std::path::{Path, PathBuf};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen").join(name)
}

fn check(name: &str, keys: &[Key]) {
    let directory = directory(name);
    let mut store = Store::default();
    if std::env::var_os("RAFTKV_WRITE_FROZEN").is_some() {
        backup(&mut store, &state(12), 42, settings(GZIP, keys));
        for (path, bytes) in &store.objects {
            let path = directory.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    let mut ids = Vec::new();
    for backup in std::fs::read_dir(&directory).unwrap() {
        let backup = backup.unwrap();
        let id: BackupId = backup.file_name().to_str().unwrap().parse().unwrap();
        for object in ["data.db", "metadata.json"] {
            let bytes = std::fs::read(backup.path().join(object)).unwrap();
            store.objects.insert(format!("{id}/{object}"), bytes);
        }
        ids.push(id);
    }
    assert_eq!(ids.len(), 1, "one frozen backup in {}", directory.display());
    let restored = restore(&mut store, ids[0], access(keys)).unwrap();
    assert!(restored.state.items().eq(state(12).items()), "{name}");
    assert_eq!(restored.metadata.key_ids, keys.iter().map(Key::id).collect::<Vec<_>>());
}

#[test]
fn frozen_backups_restore() {
    assert_eq!(FORMAT_VERSION, 1, "a new format needs frozen backups of its own");
    check("backup-1-plain", &[]);
    check("backup-1-encrypted", &[key(1), key(2)]);
}

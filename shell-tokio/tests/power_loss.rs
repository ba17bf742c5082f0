//! The file system that loses what a power cut may lose, under the production disk code: what was promised stays, what was not is gone.
//!
//! A power cut is the end of one such file system and the beginning of another on the same directory.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod volatile;

use bytes::Bytes;
use raftkv_core::ids::OpId;
use raftkv_core::io::{DiskDone, DiskErrorKind, DiskOp, FileName, Input};
use raftkv_node::disk::file_system::DataFile;
use raftkv_node::disk::{Directory, FileSystem, Files, Lanes};
use raftkv_node::leaf::Disk as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use volatile::Volatile;

struct Machine {
    root: TempDir,
    disk: Volatile,
}

impl Machine {
    fn new() -> Machine {
        Machine { root: tempfile::tempdir().unwrap(), disk: Volatile::new(0, 0) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn lose_power(&mut self) {
        self.disk = Volatile::new(0, 0);
    }

    /// A file with stable contents, length and name.
    fn stable(&self, name: &str, bytes: &[u8]) -> Box<dyn DataFile> {
        let file = self.disk.create(&self.path(name)).unwrap();
        file.write_at(bytes, 0).unwrap();
        file.sync_all().unwrap();
        self.disk.sync_directory(self.root.path()).unwrap();
        file
    }

    fn names(&self) -> Vec<String> {
        let files = self.disk.list(self.root.path()).unwrap();
        let mut names: Vec<String> = files.into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    }

    fn read(&self, name: &str) -> String {
        let file = self.disk.open(&self.path(name)).unwrap();
        let mut bytes = vec![0; file.len_bytes().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        String::from_utf8(bytes).unwrap()
    }
}

#[test]
fn bytes_survive_only_if_they_were_synced() {
    let mut machine = Machine::new();
    let file = machine.stable("a", b"one two");
    file.write_at(b"ONE", 0).unwrap();
    file.sync_data().unwrap();
    file.write_at(b"TWO and more", 4).unwrap();
    assert_eq!(machine.read("a"), "ONE TWO and more", "the process sees what it wrote");
    machine.lose_power();
    assert_eq!(machine.read("a"), "ONE two");
}

#[test]
fn a_length_survives_only_if_it_was_synced() {
    let mut machine = Machine::new();
    let file = machine.stable("a", b"1");
    file.reserve(3).unwrap();
    machine.lose_power();
    assert_eq!(machine.read("a"), "1");
    let file = machine.disk.open(&machine.path("a")).unwrap();
    file.reserve(3).unwrap();
    file.sync_all().unwrap();
    machine.lose_power();
    assert_eq!(machine.read("a"), "1\0\0");
}

#[test]
fn emptying_a_file_is_not_stable_before_its_sync() {
    let mut machine = Machine::new();
    machine.stable("a", b"long and old");
    machine.disk.create(&machine.path("a")).unwrap().write_at(b"new", 0).unwrap();
    machine.lose_power();
    assert_eq!(machine.read("a"), "long and old");
    machine.stable("a", b"new");
    machine.lose_power();
    assert_eq!(machine.read("a"), "new");
}

#[test]
fn a_new_name_survives_only_if_its_directory_was_synced() {
    let mut machine = Machine::new();
    let file = machine.disk.create(&machine.path("a")).unwrap();
    file.write_at(b"x", 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(machine.names(), ["a"]);
    machine.lose_power();
    assert_eq!(machine.names(), [""; 0]);
    let file = machine.disk.create(&machine.path("a")).unwrap();
    file.write_at(b"x", 0).unwrap();
    machine.disk.sync_directory(machine.root.path()).unwrap();
    machine.lose_power();
    assert_eq!(machine.read("a"), "", "its bytes were not synced");
}

#[test]
fn a_rename_survives_only_if_its_directory_was_synced() {
    let mut machine = Machine::new();
    machine.stable("old", b"old");
    machine.stable("new", b"new");
    machine.disk.rename(&machine.path("new"), &machine.path("old")).unwrap();
    assert_eq!((machine.names(), machine.read("old")), (vec!["old".into()], "new".into()));
    machine.lose_power();
    assert_eq!((machine.read("old"), machine.read("new")), ("old".into(), "new".into()));
    machine.disk.rename(&machine.path("new"), &machine.path("old")).unwrap();
    machine.disk.sync_directory(machine.root.path()).unwrap();
    machine.lose_power();
    assert_eq!((machine.names(), machine.read("old")), (vec!["old".into()], "new".into()));
}

#[test]
fn a_removal_survives_only_if_its_directory_was_synced() {
    let mut machine = Machine::new();
    machine.stable("a", b"x");
    machine.disk.remove(&machine.path("a")).unwrap();
    assert_eq!(
        machine.disk.open(&machine.path("a")).unwrap_err().kind(),
        std::io::ErrorKind::NotFound
    );
    machine.lose_power();
    assert_eq!(machine.read("a"), "x");
    machine.disk.remove(&machine.path("a")).unwrap();
    machine.disk.sync_directory(machine.root.path()).unwrap();
    machine.lose_power();
    assert_eq!(machine.names(), [""; 0]);
}

#[test]
fn some_sectors_may_become_stable_early_and_others_not() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a");
    let disk = Volatile::new(50, 7);
    let file = disk.create(&path).unwrap();
    file.reserve(100 * 512).unwrap();
    file.sync_all().unwrap();
    disk.sync_directory(root.path()).unwrap();
    file.write_at(&[b'x'; 100 * 512], 0).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let sectors = bytes.chunks(512);
    assert!(sectors.clone().all(|sector| sector.iter().all(|byte| *byte == sector[0])));
    let early = sectors.filter(|sector| sector[0] == b'x').count();
    assert!((20..80).contains(&early), "{early} of 100 sectors became stable early");
}

fn listing(root: &Path) -> Vec<(FileName, u64)> {
    Directory::open(root).unwrap().listing().unwrap()
}

fn create(file: FileName, bytes: &'static [u8]) -> DiskOp {
    DiskOp::Create { file, reserve_bytes: 0, bytes: bytes.into() }
}

/// Whatever the disk leaf calls done is done for good, and what it was not asked to sync is not.
#[test]
fn single_operations_keep_their_contract() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open_on(root.path(), Arc::new(Volatile::new(0, 0))).unwrap();
    let mut files = Files::new(&directory);
    let (temp, snapshot) = (FileName::SnapshotTemp(4), FileName::Snapshot(4));
    let write = |offset, sync| DiskOp::Write { file: temp, offset, bytes: "abc".into(), sync };
    for op in [create(FileName::Wal(1), b"log"), create(temp, b""), write(0, true), write(3, false)]
    {
        assert_eq!(files.execute(&op), Ok(DiskDone::Done));
    }
    assert_eq!(directory.listing().unwrap(), [(FileName::Wal(1), 3), (temp, 6)]);
    assert_eq!(listing_of_a_copy(root.path()), [(FileName::Wal(1), 3), (temp, 3)]);
    files.execute(&DiskOp::Publish { from: temp, to: snapshot }).unwrap();
    files.execute(&DiskOp::Remove { file: FileName::Wal(1) }).unwrap();
    let read = DiskOp::Read { file: FileName::Wal(1), offset: 0, len_bytes: 1 };
    assert_eq!(files.execute(&read).unwrap_err().kind, DiskErrorKind::Missing);
    drop((files, directory));
    assert_eq!(listing(root.path()), [(snapshot, 6)]);
}

/// What the real directory holds, while another process has its lock.
fn listing_of_a_copy(root: &Path) -> Vec<(FileName, u64)> {
    let copy = tempfile::tempdir().unwrap();
    for part in ["", "wal", "snapshots"] {
        std::fs::create_dir_all(copy.path().join(part)).unwrap();
        for entry in std::fs::read_dir(root.join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, copy.path().join(part).join(path.file_name().unwrap()))
                    .unwrap();
            }
        }
    }
    listing(copy.path())
}

#[test]
fn the_lanes_keep_their_contract() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open_on(root.path(), Arc::new(Volatile::new(0, 0))).unwrap();
    let (inbox, mut done) = tokio::sync::mpsc::channel(16);
    let mut lanes = Lanes::start(&directory, &inbox).unwrap();
    let file = FileName::Wal(1);
    let write = |offset: u64, sync| DiskOp::Write {
        file,
        offset,
        bytes: Bytes::from_static(b"record"),
        sync,
    };
    let ops = [create(file, b""), write(0, false), write(6, true), write(12, false)];
    // Each by itself: together they would share one sync.
    for (number, op) in (0..).zip(ops) {
        lanes.submit(OpId(number), op);
        lanes.flush();
        match done.blocking_recv() {
            Some(Input::Disk { op, result: Ok(DiskDone::Done) }) => assert_eq!(op, OpId(number)),
            other => panic!("{other:?}"),
        }
    }
    drop((lanes, directory));
    assert_eq!(listing(root.path()), [(file, 12)]);
}

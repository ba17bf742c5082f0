//! Single operations on the core's files.
//!
//! Invariants: a file whose sync failed once is never written or synced again, because the kernel may have thrown its dirty pages
//! away and would report the next sync as good (Rebello et al., "Can Applications Recover from fsync Failures?", 2020);
//! files are 0600; creating, renaming and removing sync the directory before they are called done.

use super::directory::Directory;
use super::file_system::{DataFile, FileSystem};
use bytes::Bytes;
use raftkv_core::io::{DiskDone, DiskError, DiskErrorKind, DiskOp, FileName};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of one lane, with those that are open.
#[derive(Debug)]
pub struct Files {
    root: PathBuf,
    file_system: Arc<dyn FileSystem>,
    open: BTreeMap<FileName, Box<dyn DataFile>>,
    poisoned: BTreeSet<FileName>,
}

/// The kernel keeps few enough handles; the oldest names are closed first.
const OPEN_FILES_MAX: usize = 16;

impl Files {
    /// The files of a directory. Lanes do not share files, so each has its own.
    pub fn new(directory: &Directory) -> Self {
        Files {
            root: directory.root().into(),
            file_system: directory.file_system().clone(),
            open: BTreeMap::new(),
            poisoned: BTreeSet::new(),
        }
    }

    /// Carries out one operation to its end.
    pub fn execute(&mut self, op: &DiskOp) -> Result<DiskDone, DiskError> {
        match op {
            DiskOp::Create { file, reserve_bytes, bytes } => {
                self.create(*file, *reserve_bytes, bytes)?;
            }
            DiskOp::Write { file, offset, bytes, sync } => {
                self.write(*file, *offset, bytes)?;
                if *sync {
                    self.sync(*file)?;
                }
            }
            DiskOp::Publish { from, to } => self.publish(*from, *to)?,
            DiskOp::Read { file, offset, len_bytes } => {
                return self.read(*file, *offset, *len_bytes).map(DiskDone::Bytes);
            }
            DiskOp::Sync { file } => self.make_safe(*file)?,
            DiskOp::Remove { file } => self.remove(*file)?,
        }
        Ok(DiskDone::Done)
    }

    /// Writes without syncing.
    pub fn write(&mut self, file: FileName, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.with_file(file, |open| open.write_at(bytes, offset))
    }

    /// Brings everything written to a file to stable storage.
    pub fn sync(&mut self, file: FileName) -> Result<(), DiskError> {
        let synced = self.with_file(file, |open| open.sync_data());
        if synced.is_err() {
            self.poisoned.insert(file);
        }
        synced
    }

    fn create(
        &mut self,
        file: FileName,
        reserve_bytes: u64,
        bytes: &[u8],
    ) -> Result<(), DiskError> {
        self.open.remove(&file);
        self.poisoned.remove(&file);
        let path = self.path(file);
        let create = || {
            let open = self.file_system.create(&path)?;
            if reserve_bytes > bytes.len() as u64 {
                open.reserve(reserve_bytes)?;
            }
            open.write_at(bytes, 0)?;
            open.sync_all()?;
            self.sync_parent(&path)?;
            Ok(open)
        };
        let open = create().map_err(|error| disk_error(&path, &error))?;
        self.keep_open(file, open);
        Ok(())
    }

    fn publish(&mut self, from: FileName, to: FileName) -> Result<(), DiskError> {
        self.make_safe(from)?;
        self.open.remove(&from);
        self.open.remove(&to);
        self.poisoned.remove(&to);
        let (from, to) = (self.path(from), self.path(to));
        self.file_system
            .rename(&from, &to)
            .and_then(|()| self.sync_parent(&to))
            .map_err(|error| disk_error(&from, &error))
    }

    /// Contents, length and name.
    fn make_safe(&mut self, file: FileName) -> Result<(), DiskError> {
        if let Err(error) = self.with_file(file, |open| open.sync_all()) {
            self.poisoned.insert(file);
            return Err(error);
        }
        let path = self.path(file);
        self.sync_parent(&path).map_err(|error| disk_error(&path, &error))
    }

    fn remove(&mut self, file: FileName) -> Result<(), DiskError> {
        self.open.remove(&file);
        let path = self.path(file);
        match self.file_system.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.sync_parent(&path),
        }
        .map_err(|error| disk_error(&path, &error))
    }

    fn read(&mut self, file: FileName, offset: u64, len_bytes: u64) -> Result<Bytes, DiskError> {
        self.with_file(file, |open| {
            let left = open.len_bytes()?.saturating_sub(offset).min(len_bytes);
            let mut bytes = vec![0; usize::try_from(left).map_err(io::Error::other)?];
            open.read_at(&mut bytes, offset)?;
            Ok(bytes.into())
        })
    }

    fn with_file<T>(
        &mut self,
        file: FileName,
        work: impl FnOnce(&dyn DataFile) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        let path = self.path(file);
        if self.poisoned.contains(&file) {
            let error = io::Error::other("an earlier sync of it failed; it must not be used again");
            return Err(disk_error(&path, &error));
        }
        if !self.open.contains_key(&file) {
            let open = self.file_system.open(&path).map_err(|error| disk_error(&path, &error))?;
            self.keep_open(file, open);
        }
        work(self.open[&file].as_ref()).map_err(|error| disk_error(&path, &error))
    }

    fn keep_open(&mut self, file: FileName, open: Box<dyn DataFile>) {
        if self.open.len() >= OPEN_FILES_MAX {
            self.open.pop_first();
        }
        self.open.insert(file, open);
    }

    fn path(&self, file: FileName) -> PathBuf {
        self.root.join(file.path())
    }

    fn sync_parent(&self, path: &Path) -> io::Result<()> {
        self.file_system.sync_directory(path.parent().expect("files lie below the data directory"))
    }
}

/// A failure in the core's terms, with the file's path.
pub(super) fn disk_error(path: &Path, error: &io::Error) -> DiskError {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            DiskErrorKind::Full
        }
        io::ErrorKind::NotFound => DiskErrorKind::Missing,
        _ => DiskErrorKind::Failed,
    };
    DiskError { kind, message: format!("{}: {error}", path.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn fresh() -> (tempfile::TempDir, Files) {
        let temp = tempfile::tempdir().unwrap();
        let files = Files::new(&Directory::open(temp.path()).unwrap());
        (temp, files)
    }

    fn create(file: FileName, reserve_bytes: u64, bytes: &'static [u8]) -> DiskOp {
        DiskOp::Create { file, reserve_bytes, bytes: bytes.into() }
    }

    fn read(files: &mut Files, file: FileName, offset: u64, len_bytes: u64) -> Bytes {
        match files.execute(&DiskOp::Read { file, offset, len_bytes }) {
            Ok(DiskDone::Bytes(bytes)) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reserved_space_reads_as_zeroes() {
        let (temp, mut files) = fresh();
        let file = FileName::Wal(1);
        files.execute(&create(file, 4096, b"head")).unwrap();
        files.write(file, 10, b"tail").unwrap();
        assert_eq!(read(&mut files, file, 0, 16), &b"head\0\0\0\0\0\0tail\0\0"[..]);
        assert_eq!(read(&mut files, file, 4090, 100).len(), 6, "reads end with the file");
        assert!(read(&mut files, file, 9999, 1).is_empty());
        let mode = fs::metadata(temp.path().join(file.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        files.execute(&create(file, 0, b"new")).unwrap();
        assert_eq!(read(&mut files, file, 0, 100), "new");
    }

    #[test]
    fn publishing_replaces_and_removing_forgives() {
        let (temp, mut files) = fresh();
        let (from, to) = (FileName::SnapshotTemp(1), FileName::Snapshot(1));
        files.execute(&create(to, 0, b"old")).unwrap();
        files.execute(&create(from, 0, b"new")).unwrap();
        files.execute(&DiskOp::Publish { from, to }).unwrap();
        assert_eq!(read(&mut files, to, 0, 100), "new");
        assert!(!temp.path().join(from.path()).exists());
        for _ in 0..2 {
            files.execute(&DiskOp::Remove { file: to }).unwrap();
        }
        let error = files.execute(&DiskOp::Read { file: to, offset: 0, len_bytes: 1 }).unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::Missing);
        assert!(error.message.contains("snapshot-000000001.snap"), "{error}");
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let (temp, mut files) = fresh();
        let file = FileName::Wal(1);
        symlink("/dev/full", temp.path().join(file.path())).unwrap();
        assert_eq!(files.write(file, 0, b"x").unwrap_err().kind, DiskErrorKind::Full);
    }

    #[test]
    fn a_failed_sync_is_never_retried() {
        let (temp, mut files) = fresh();
        let file = FileName::Wal(1);
        // Syncing a device that cannot be synced fails with EINVAL.
        symlink("/dev/null", temp.path().join(file.path())).unwrap();
        files.write(file, 0, b"x").unwrap();
        assert_eq!(files.sync(file).unwrap_err().kind, DiskErrorKind::Failed);
        let error = files.write(file, 0, b"x").unwrap_err();
        assert!(error.message.contains("earlier sync"), "{error}");
    }
}

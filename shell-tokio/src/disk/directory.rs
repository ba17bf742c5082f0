//! Who may use a data directory: one process at a time, and only its owner.
//!
//! Invariants: the directory is 0700; an exclusive lock is held as long as [`Directory`] lives; a directory with foreign files
//! in it is never taken over.

use super::directory_lock::{LOCK, lock, lock_to_read};
use super::file_system::{FileSystem, ReadFiles, SystemFiles};
use super::files::disk_error;
use raftkv_core::io::{DiskError, FileName};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open, locked data directory.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    file_system: Arc<dyn FileSystem>,
    /// None where nobody can have one.
    _lock: Option<File>,
}

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process has it.
    #[error(
        "the data directory {root} is in use by process {owner}: stop it first, or choose another --data-dir"
    )]
    Locked {
        /// Which directory.
        root: PathBuf,
        /// The process that has it.
        owner: String,
    },
    /// It holds files that are not ours.
    #[error(
        "{root} is not a data directory of RaftKV (it holds {found:?}): choose an empty or new one"
    )]
    Foreign {
        /// Which directory.
        root: PathBuf,
        /// A file in it.
        found: String,
    },
    /// This user may not, or something else stands in its place.
    #[error(
        "the data directory {root} cannot be made or written: {error}; give it to the user that runs the node, or choose another --data-dir"
    )]
    Denied {
        /// Which directory.
        root: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The disk failed.
    #[error("the data directory {root} cannot be used: {error}")]
    Io {
        /// Which directory.
        root: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl DirectoryError {
    /// Tells apart what the operator set up wrongly and what the disk did.
    pub(super) fn from_io(root: &Path, error: io::Error) -> Self {
        let root = root.into();
        match error.kind() {
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::AlreadyExists => DirectoryError::Denied { root, error },
            _ => DirectoryError::Io { root, error },
        }
    }
}

/// What a restore leaves in the directory that it makes: see [`Directory::forget_restore`].
pub const RESTORED: &str = "restored.json";
const SUBDIRECTORIES: [&str; 2] = ["wal", "snapshots"];
/// Where a node that was told nothing keeps backups: see [`crate::backup::BackupConfig::embedded`].
const BACKUPS: &str = "backups";
/// Names that may stand in a data directory. A file system's own directory is no harm.
const KNOWN: [&str; 8] =
    ["identity", "identity.tmp", RESTORED, LOCK, "wal", "snapshots", BACKUPS, "lost+found"];
/// What a damaged directory's contents are moved to, with a number after it.
const DAMAGED: &str = "damaged-";

impl Directory {
    /// Opens and locks a data directory, and makes it where there is none.
    pub fn open(root: &Path) -> Result<Directory, DirectoryError> {
        Directory::open_on(root, Arc::new(SystemFiles))
    }

    /// Opens the data directory of a stopped node to read it, and locks it. Nothing else than the lock is written, and not even that where the
    /// file system is read-only: a volume's snapshot, or a disk that the kernel does not trust any more.
    pub fn open_to_read(root: &Path) -> Result<Directory, DirectoryError> {
        let failed = |error| DirectoryError::from_io(root, error);
        if let Some(found) = foreign_file(root).map_err(failed)? {
            return Err(DirectoryError::Foreign { root: root.into(), found });
        }
        let lock = lock_to_read(root, &mut |options| options.open(root.join(LOCK)))?;
        Ok(Directory { root: root.into(), file_system: Arc::new(ReadFiles), _lock: lock })
    }

    /// As [`Directory::open`], with the core's files on a file system of the caller's. Lock and directories are the operating system's
    /// all the same.
    pub fn open_on(
        root: &Path,
        file_system: Arc<dyn FileSystem>,
    ) -> Result<Directory, DirectoryError> {
        Directory::open_synced_by(root, file_system, &mut sync_directory)
    }

    fn open_synced_by(
        root: &Path,
        file_system: Arc<dyn FileSystem>,
        sync: &mut SyncDirectory<'_>,
    ) -> Result<Directory, DirectoryError> {
        let failed = |error| DirectoryError::from_io(root, error);
        make_synced_by(root, sync).map_err(failed)?;
        if let Some(found) = foreign_file(root).map_err(failed)? {
            return Err(DirectoryError::Foreign { root: root.into(), found });
        }
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let lock = lock(root)?;
        for name in SUBDIRECTORIES {
            make_private(&root.join(name)).map_err(failed)?;
        }
        sync(root).map_err(failed)?;
        sync(parent(root)).map_err(failed)?;
        Ok(Directory { root: root.into(), file_system, _lock: Some(lock) })
    }

    /// The directory's path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What its files lie on.
    pub fn file_system(&self) -> &Arc<dyn FileSystem> {
        &self.file_system
    }

    /// Names and lengths of the files that are the core's, in order.
    pub fn listing(&self) -> Result<Vec<(FileName, u64)>, DiskError> {
        let mut files = Vec::new();
        for part in ["", "wal/", "snapshots/"] {
            let dir = self.root.join(part);
            let listed = self.file_system.list(&dir).map_err(|error| disk_error(&dir, &error))?;
            files.extend(listed.into_iter().filter_map(|(name, len_bytes)| {
                let file = FileName::from_path(&format!("{part}{name}"))?;
                Some((file, len_bytes))
            }));
        }
        files.sort();
        Ok(files)
    }

    /// Whether no node ever lived here.
    pub fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.listing()?.is_empty())
    }

    /// A node starts here: from now on the directory is no longer what a restore made, and the restore's record goes. If this
    /// process is killed before that is durable, opening the directory again makes it so.
    pub fn forget_restore(&self) -> Result<(), DiskError> {
        let record = self.root.join(RESTORED);
        match self.file_system.remove(&record) {
            Ok(()) => self.file_system.sync_directory(&self.root),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
        .map_err(|error| disk_error(&record, &error))
    }

    /// Whether a node's files were ever set aside here.
    pub fn has_set_aside(&self) -> Result<bool, DiskError> {
        let failed = |error| disk_error(&self.root, &error);
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            if entry.map_err(failed)?.file_name().to_string_lossy().starts_with(DAMAGED) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves everything the core wrote to a new directory within this one, and returns that. The lock stays.
    pub fn set_aside(&self) -> io::Result<PathBuf> {
        let target = (1..u32::MAX)
            .map(|number| self.root.join(format!("{DAMAGED}{number}")))
            .find(|path| !path.exists())
            .ok_or_else(|| io::Error::other("too many damaged directories"))?;
        make_private(&target)?;
        // The identity goes last: without it the rest would look like a directory where nothing ever was.
        for name in ["identity.tmp", "snapshots", "wal", "identity"] {
            match self.file_system.rename(&self.root.join(name), &target.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        for name in SUBDIRECTORIES {
            make_private(&self.root.join(name))?;
        }
        self.file_system.sync_directory(&target)?;
        self.file_system.sync_directory(&self.root)?;
        Ok(target)
    }
}

/// Makes a directory's entries durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    SystemFiles.sync_directory(path)
}

/// Makes a directory and all above it, each for its owner alone and its entry durable.
pub fn make_directories(path: &Path) -> io::Result<()> {
    make_synced_by(path, &mut sync_directory)
}

/// Makes a directory's entries durable.
type SyncDirectory<'a> = dyn FnMut(&Path) -> io::Result<()> + 'a;

fn make_synced_by(path: &Path, sync: &mut SyncDirectory<'_>) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent(path);
    make_synced_by(parent, sync)?;
    make_private(path)?;
    sync(parent)
}

fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Makes a directory, unless it is there.
fn make_private(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

fn foreign_file(root: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !KNOWN.contains(&name.as_str()) && !name.starts_with(DAMAGED) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_and_the_other_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("data");
        let first = Directory::open(&root).unwrap();
        match Directory::open(&root) {
            Err(DirectoryError::Locked { owner, .. }) => {
                assert_eq!(owner, std::process::id().to_string());
            }
            other => panic!("{other:?}"),
        }
        drop(first);
        Directory::open(&root).unwrap();
        assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn all_directories_that_had_to_be_made_are_durable() {
        let temp = tempfile::tempdir().unwrap();
        let (above, root) = (temp.path().join("a"), temp.path().join("a/b/data"));
        let mut synced = Vec::new();
        let mut sync = |path: &Path| {
            synced.push(path.to_owned());
            Ok(())
        };
        Directory::open_synced_by(&root, Arc::new(SystemFiles), &mut sync).unwrap();
        for path in [temp.path(), &above, &above.join("b"), &root] {
            assert!(synced.iter().any(|synced| synced == path), "{}", path.display());
        }
        assert_eq!(fs::metadata(above).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn foreign_directories_are_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("thesis.tex"), "precious").unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let result = Directory::open(temp.path());
        assert!(matches!(result, Err(DirectoryError::Foreign { .. })), "{result:?}");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
        assert_eq!(fs::metadata(temp.path()).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn only_the_cores_files_are_listed() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::open(temp.path()).unwrap();
        assert!(directory.is_empty().unwrap());
        fs::write(temp.path().join("wal/0000000000000002.wal"), "abc").unwrap();
        fs::write(temp.path().join("wal/note.txt"), "abc").unwrap();
        fs::write(temp.path().join("identity"), "i").unwrap();
        assert_eq!(directory.listing().unwrap(), [(FileName::Identity, 1), (FileName::Wal(2), 3)]);
    }

    #[test]
    fn the_record_of_a_restore_goes_when_a_node_starts() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(RESTORED), "{}").unwrap();
        let directory = Directory::open(temp.path()).unwrap();
        assert!(temp.path().join(RESTORED).exists(), "opening is not starting");
        for _ in 0..2 {
            directory.forget_restore().unwrap();
            assert!(!temp.path().join(RESTORED).exists());
        }
    }

    #[test]
    fn what_is_set_aside_is_kept() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::open(temp.path()).unwrap();
        fs::write(temp.path().join("identity"), "who").unwrap();
        let aside = directory.set_aside().unwrap();
        assert!(directory.is_empty().unwrap() && directory.has_set_aside().unwrap());
        assert_eq!(fs::read(aside.join("identity")).unwrap(), b"who");
        assert_ne!(directory.set_aside().unwrap(), aside);
        drop(directory);
        Directory::open(temp.path()).unwrap();
    }
}

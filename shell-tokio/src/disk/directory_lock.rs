//! The lock of a data directory: a file that one process has locked, and that names it.

use super::directory::DirectoryError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Its name.
pub(super) const LOCK: &str = "lock";

/// Locks a directory for whoever lives in it, and says who that is.
pub(super) fn lock(root: &Path) -> Result<File, DirectoryError> {
    let failed = |error| DirectoryError::from_io(root, error);
    let file = to_write().open(root.join(LOCK)).map_err(failed)?;
    let mut file = take(root, file, FlockOperation::NonBlockingLockExclusive)?;
    sign(&mut file).map_err(failed)?;
    Ok(file)
}

/// As [`lock`], for a directory that may lie on a read-only file system. Where there is no lock in such a one, nobody can take it.
pub(super) fn lock_to_read(
    root: &Path,
    open: &mut dyn FnMut(&OpenOptions) -> io::Result<File>,
) -> Result<Option<File>, DirectoryError> {
    let failed = |error| DirectoryError::from_io(root, error);
    match open(&to_write()) {
        Ok(file) => {
            let mut file = take(root, file, FlockOperation::NonBlockingLockExclusive)?;
            // The name is only a courtesy, and the disk may be full.
            let _ = sign(&mut file);
            return Ok(Some(file));
        }
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
        Err(error) => return Err(failed(error)),
    }
    match open(OpenOptions::new().read(true)) {
        // Some file systems want a file open for writing before they give it to one alone.
        Ok(file) => take(root, file, FlockOperation::NonBlockingLockShared).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn to_write() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

fn take(root: &Path, file: File, how: FlockOperation) -> Result<File, DirectoryError> {
    match flock(&file, how) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut owner = String::new();
            // The name is only a courtesy: whatever can be read of it will do.
            let _ = file.take(64).read_to_string(&mut owner);
            Err(DirectoryError::Locked { root: root.into(), owner: owner.trim().into() })
        }
        Err(error) => Err(DirectoryError::from_io(root, error.into())),
    }
}

/// Says who has it.
fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn who_only_reads_needs_no_file_system_that_can_be_written() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        let mut opened = Vec::new();
        let mut read_only = |options: &OpenOptions| {
            opened.push(format!("{options:?}").contains("write: true"));
            match opened.last() {
                Some(true) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
                _ => options.open(root.join(LOCK)),
            }
        };
        assert!(lock_to_read(root, &mut read_only).unwrap().is_none());
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
        let node = lock(root).unwrap();
        let refused = lock_to_read(root, &mut read_only);
        assert!(matches!(refused, Err(DirectoryError::Locked { .. })), "{refused:?}");
        drop(node);
        let reader = lock_to_read(root, &mut read_only).unwrap();
        assert!(matches!(lock(root), Err(DirectoryError::Locked { .. })));
        drop(reader);
        assert_eq!(opened, [true, false].repeat(3));
        let mut denied = |_: &OpenOptions| Err(io::ErrorKind::PermissionDenied.into());
        assert!(
            lock_to_read(root, &mut denied).is_err(),
            "that is for whoever runs it to put right"
        );
    }
}

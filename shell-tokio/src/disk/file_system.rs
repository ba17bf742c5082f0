//! What the data directory needs of a file system, so that tests can put one beneath that loses what a power cut may lose.
//!
//! The contract is POSIX's, no more: bytes are stable once their file is synced, names once their directory is, and neither brings
//! the other.

use rustix::fs::{FallocateFlags, fallocate};
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Names and the files behind them.
pub trait FileSystem: Debug + Send + Sync {
    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DataFile>>;
    /// Creates a file for its owner alone, or empties one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DataFile>>;
    /// Gives a file or directory another name, replacing a file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names and lengths in bytes of the files in a directory, in any order.
    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>>;
    /// Makes a directory's names stable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
}

/// An open file.
pub trait DataFile: Debug + Send {
    /// Its length in bytes.
    fn len_bytes(&self) -> io::Result<u64>;
    /// Fills the buffer from `offset`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all bytes at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file this long, with space behind it that reads as zeroes. Never shortens it.
    fn reserve(&self, len_bytes: u64) -> io::Result<()>;
    /// Makes its bytes stable, and its length where reading them needs it.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes all of it stable.
    fn sync_all(&self) -> io::Result<()>;
}

/// The operating system's.
#[derive(Clone, Copy, Debug)]
pub struct SystemFiles;

impl FileSystem for SystemFiles {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DataFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DataFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Ok(Box::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = fs::metadata(entry.path())?;
            if metadata.is_file() {
                files.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
            }
        }
        Ok(files)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }
}

/// The operating system's, to be read only. A directory that is not there has no files.
#[derive(Clone, Copy, Debug)]
pub struct ReadFiles;

impl FileSystem for ReadFiles {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DataFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn create(&self, _path: &Path) -> io::Result<Box<dyn DataFile>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        match SystemFiles.list(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed,
        }
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

impl DataFile for File {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn reserve(&self, len_bytes: u64) -> io::Result<()> {
        match fallocate(self, FallocateFlags::empty(), 0, len_bytes) {
            // Some file systems cannot; then the length alone must do.
            Err(rustix::io::Errno::OPNOTSUPP) => self.set_len(len_bytes),
            result => Ok(result?),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        File::sync_all(self)
    }
}

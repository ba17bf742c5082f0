//! The data directory on a real file system.
//!
//! [`directory`] owns it (lock, permissions, listing), [`files`] carries out single operations on a [`file_system`], [`lane`] runs
//! them in order on a thread of their own and shares fdatasyncs between them.

pub mod directory;
pub mod file_system;
pub mod files;
pub mod lane;

pub use directory::{Directory, DirectoryError};
pub use file_system::{FileSystem, SystemFiles};
pub use files::Files;
pub use lane::Lanes;

use bytes::Bytes;
use raftkv_core::boot::{Boot, BootError, BootStep, Image};
use raftkv_core::io::{DiskDone, DiskOp, FileName};

/// Reads and checks a data directory, and makes durable what a killed process left in the air.
pub fn boot(directory: &Directory) -> Result<Box<Image>, BootError> {
    read_through(Boot::new, directory)
}

/// Reads and checks the data directory of a stopped node, and changes nothing in it.
pub fn look(directory: &Directory) -> Result<Box<Image>, BootError> {
    read_through(Boot::read_only, directory)
}

fn read_through(
    begin: impl FnOnce(Vec<(FileName, u64)>) -> Boot,
    directory: &Directory,
) -> Result<Box<Image>, BootError> {
    let listing = directory
        .listing()
        .map_err(|error| BootError::Unreadable { file: "the data directory".into(), error })?;
    let mut files = Files::new(directory);
    let mut boot = begin(listing);
    loop {
        let op = match boot.poll() {
            BootStep::Read { file, offset, len_bytes } => DiskOp::Read { file, offset, len_bytes },
            BootStep::Do(op) => op,
            BootStep::Ready(image) => return Ok(image),
            BootStep::Refused(error) => return Err(error),
        };
        boot.handle(files.execute(&op).map(|done| match done {
            DiskDone::Bytes(bytes) => bytes,
            DiskDone::Done => Bytes::new(),
        }));
    }
}

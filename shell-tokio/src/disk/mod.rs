//! The data directory on a real file system.
//!
//! [`directory`] owns it (lock, permissions, listing), [`files`] carries out single operations on a [`file_system`], [`lane`] runs
//! them in order on a thread of their own and shares fdatasyncs between them.

pub mod directory;
mod directory_lock;
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
use raftkv_core::snapshot::{Sum, Summed};
use std::sync::mpsc;
use std::thread::{self, Scope};

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
    thread::scope(|scope| {
        let sums = SumThread::start(scope);
        loop {
            sums.made().for_each(|sum| boot.take_sum(sum));
            let op = match boot.poll() {
                BootStep::Read { file, offset, len_bytes } => {
                    DiskOp::Read { file, offset, len_bytes }
                }
                BootStep::Do(op) => op,
                BootStep::Sum(sum) => {
                    sums.make(sum);
                    continue;
                }
                BootStep::AwaitSum => {
                    boot.take_sum(sums.next());
                    continue;
                }
                BootStep::Ready(image) => return Ok(image),
                BootStep::Refused(error) => return Err(error),
            };
            boot.handle(files.execute(&op).map(|done| match done {
                DiskDone::Bytes(bytes) => bytes,
                DiskDone::Done => Bytes::new(),
            }));
        }
    })
}

/// A thread that makes sums while the files are read on. It ends when this is dropped.
struct SumThread {
    asked: mpsc::Sender<Sum>,
    made: mpsc::Receiver<Summed>,
}

impl SumThread {
    fn start<'scope>(scope: &'scope Scope<'scope, '_>) -> Self {
        let (asked, sums) = mpsc::channel::<Sum>();
        let (sender, made) = mpsc::channel();
        scope.spawn(move || sums.into_iter().try_for_each(|sum| sender.send(sum.make())));
        SumThread { asked, made }
    }

    fn make(&self, sum: Sum) {
        self.asked.send(sum).expect(ALIVE);
    }

    /// Sums that were made meanwhile.
    fn made(&self) -> impl Iterator<Item = Summed> {
        self.made.try_iter()
    }

    /// Waits for the next sum.
    fn next(&self) -> Summed {
        self.made.recv().expect(ALIVE)
    }
}

const ALIVE: &str = "the thread that makes sums ends after this one";

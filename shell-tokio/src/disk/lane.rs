//! Lanes: a thread for each, working off operations in order, one fdatasync for all that queued meanwhile.
//!
//! Invariant: a write is reported done only after an fdatasync of its file that began after the write ended. Group commit
//! needs no timer: while one sync runs, the next batch gathers.

use super::directory::Directory;
use super::files::Files;
use crate::leaf::{Disk, Inbox};
use bytes::Bytes;
use raftkv_core::ids::OpId;
use raftkv_core::io::{DiskDone, DiskError, DiskOp, FileName, Input, Lane};
use std::sync::mpsc;
use std::thread::JoinHandle;

type Jobs = Vec<(OpId, DiskOp)>;

/// Both lanes. Dropping them waits for what is under way.
#[derive(Debug)]
pub struct Lanes {
    log: Worker,
    bulk: Worker,
}

#[derive(Debug)]
struct Worker {
    gathered: Jobs,
    jobs: Option<mpsc::Sender<Jobs>>,
    thread: Option<JoinHandle<()>>,
}

impl Lanes {
    /// Starts the threads. Completions go to `inbox`.
    pub fn start(directory: &Directory, inbox: &Inbox) -> std::io::Result<Lanes> {
        Ok(Lanes {
            log: Worker::start(Lane::Log, Files::new(directory), inbox.clone())?,
            bulk: Worker::start(Lane::Bulk, Files::new(directory), inbox.clone())?,
        })
    }
}

impl Disk for Lanes {
    fn submit(&mut self, op: OpId, action: DiskOp) {
        let worker = match action.lane() {
            Lane::Log => &mut self.log,
            Lane::Bulk => &mut self.bulk,
        };
        worker.gathered.push((op, action));
    }

    fn flush(&mut self) {
        self.log.flush();
        self.bulk.flush();
    }
}

impl Worker {
    fn start(lane: Lane, mut files: Files, inbox: Inbox) -> std::io::Result<Worker> {
        let name = match lane {
            Lane::Log => "raftkv-log",
            Lane::Bulk => "raftkv-bulk",
        };
        let (jobs, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || run(lane, &queue, &mut files, &inbox))?;
        Ok(Worker { gathered: Vec::new(), jobs: Some(jobs), thread: Some(thread) })
    }

    fn flush(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let jobs = std::mem::take(&mut self.gathered);
        let sender = self.jobs.as_ref().expect("the sender lives until the drop");
        sender.send(jobs).expect("a lane's thread lives as long as its sender");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

fn run(lane: Lane, queue: &mpsc::Receiver<Jobs>, files: &mut Files, inbox: &Inbox) {
    let mut buffer = Vec::new();
    // The log must not go on behind a gap: after the first failure everything fails.
    let mut broken: Option<DiskError> = None;
    while let Ok(mut jobs) = queue.recv() {
        jobs.extend(queue.try_iter().flatten());
        let mut jobs = jobs.into_iter().peekable();
        while let Some((op, action)) = jobs.next() {
            let is_read = matches!(action, DiskOp::Read { .. });
            let (ops, result) = match (&broken, action) {
                (Some(error), _) => (vec![op], Err(error.clone())),
                (None, DiskOp::Write { file, offset, bytes, sync }) => {
                    let writes = vec![(offset, bytes)];
                    let mut group = Group { file, sync, ops: vec![op], writes };
                    let joins = |(_, next): &(OpId, DiskOp)| {
                        matches!(next, DiskOp::Write { .. }) && next.file() == file
                    };
                    while let Some((op, action)) = jobs.next_if(joins) {
                        group.add(op, action);
                    }
                    let result = group.execute(files, &mut buffer).map(|()| DiskDone::Done);
                    (group.ops, result)
                }
                (None, action) => (vec![op], files.execute(&action)),
            };
            if let (Lane::Log, false, Err(error)) = (lane, is_read, &result) {
                broken.get_or_insert_with(|| error.clone());
            }
            if !ops.into_iter().all(|op| report(inbox, op, result.clone())) {
                return;
            }
        }
    }
}

/// False when nobody listens any more.
fn report(inbox: &Inbox, op: OpId, result: Result<DiskDone, DiskError>) -> bool {
    inbox.blocking_send(Input::Disk { op, result }).is_ok()
}

/// Consecutive writes to one file.
struct Group {
    file: FileName,
    sync: bool,
    ops: Vec<OpId>,
    writes: Vec<(u64, Bytes)>,
}

/// Writes are gathered into one call up to this size.
const GATHERED_BYTES_MAX: usize = 4 << 20;

impl Group {
    fn add(&mut self, op: OpId, action: DiskOp) {
        if let DiskOp::Write { offset, bytes, sync, .. } = action {
            self.ops.push(op);
            self.writes.push((offset, bytes));
            self.sync |= sync;
        }
    }

    /// All writes, neighbours in one call, then one sync if any asked for it.
    fn execute(&self, files: &mut Files, buffer: &mut Vec<u8>) -> Result<(), DiskError> {
        let mut writes = self.writes.iter().peekable();
        while let Some((offset, bytes)) = writes.next() {
            buffer.clear();
            let mut end = offset + bytes.len() as u64;
            while let Some((_, next)) = writes.next_if(|(offset, next)| {
                *offset == end && buffer.len() + bytes.len() + next.len() <= GATHERED_BYTES_MAX
            }) {
                if buffer.is_empty() {
                    buffer.extend_from_slice(bytes);
                }
                buffer.extend_from_slice(next);
                end += next.len() as u64;
            }
            let all = if buffer.is_empty() { bytes.as_ref() } else { buffer.as_slice() };
            files.write(self.file, *offset, all)?;
        }
        if self.sync { files.sync(self.file) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::io::DiskErrorKind;

    fn write(file: FileName, offset: u64, bytes: impl Into<Bytes>) -> DiskOp {
        DiskOp::Write { file, offset, bytes: bytes.into(), sync: true }
    }

    fn completions(
        inbox: &mut tokio::sync::mpsc::Receiver<Input>,
        count: usize,
    ) -> Vec<(u64, Result<DiskDone, DiskErrorKind>)> {
        (0..count)
            .map(|_| match inbox.blocking_recv() {
                Some(Input::Disk { op, result }) => (op.0, result.map_err(|error| error.kind)),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn operations_end_in_order_with_their_bytes_on_disk() {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::open(temp.path()).unwrap();
        let (sender, mut inbox) = tokio::sync::mpsc::channel(1024);
        let mut lanes = Lanes::start(&directory, &sender).unwrap();
        let file = FileName::Wal(1);
        lanes.submit(OpId(0), DiskOp::Create { file, reserve_bytes: 1 << 20, bytes: Bytes::new() });
        let mut expected = Vec::new();
        for number in 1..=500 {
            let record = format!("record {number};");
            lanes.submit(OpId(number), write(file, expected.len() as u64, record.clone()));
            expected.extend_from_slice(record.as_bytes());
            // Some turns are longer than others.
            if number % 7 == 0 {
                lanes.flush();
            }
        }
        let len_bytes = expected.len() as u64;
        lanes.submit(OpId(501), DiskOp::Read { file, offset: 0, len_bytes });
        lanes.flush();
        let done = completions(&mut inbox, 502);
        assert!(done.iter().map(|(op, _)| *op).eq(0..=501));
        assert!(done[..501].iter().all(|(_, result)| *result == Ok(DiskDone::Done)));
        assert_eq!(done[501].1, Ok(DiskDone::Bytes(expected.into())));
    }

    /// Two writes to a file that is missing, then the creation of another and a write to it.
    fn completions_behind_a_failure(
        file: fn(u64) -> FileName,
    ) -> Vec<(u64, Result<DiskDone, DiskErrorKind>)> {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory::open(temp.path()).unwrap();
        let (sender, mut inbox) = tokio::sync::mpsc::channel(16);
        let mut lanes = Lanes::start(&directory, &sender).unwrap();
        let create = DiskOp::Create { file: file(2), reserve_bytes: 0, bytes: Bytes::new() };
        lanes.submit(OpId(1), write(file(1), 0, "a"));
        lanes.submit(OpId(2), write(file(1), 1, "b"));
        lanes.submit(OpId(3), create);
        lanes.submit(OpId(4), write(file(2), 0, "c"));
        lanes.flush();
        completions(&mut inbox, 4)
    }

    #[test]
    fn a_failure_reaches_every_write_of_its_group_and_no_other() {
        let missing = Err(DiskErrorKind::Missing);
        let done = Ok(DiskDone::Done);
        assert_eq!(
            completions_behind_a_failure(FileName::SnapshotTemp),
            [(1, missing.clone()), (2, missing), (3, done.clone()), (4, done)]
        );
    }

    #[test]
    fn nothing_of_the_log_succeeds_behind_a_failure() {
        let all = completions_behind_a_failure(FileName::Wal);
        assert_eq!(all.iter().map(|(op, _)| *op).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(all.iter().all(|(_, result)| *result == Err(DiskErrorKind::Missing)));
    }
}

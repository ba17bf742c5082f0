//! One node's data directory on a drive, as bad as its options say.
//!
//! # Contract
//! What never happens without [`Disk::rot`], [`Disk::undo_write`], [`Disk::misdirect`], [`Disk::lose_everything`], [`Disk::lose_file`] or
//! [`Disk::restore`]: bytes that a completed
//! `Create`, synced `Write` or `Publish` brought to stable storage change or vanish; a name that such an operation made vanishes; a name that a completed
//! `Remove` took away comes back; a sector (512 bytes) holds anything but its old or its new bytes.
//!
//! What may happen at a power cut: of all writes that no sync has covered, any subset survives, down to single sectors. An
//! operation that was under way has happened, has not, or has in part: a created file may be missing (also after it was seen, by a process that started
//! after a kill, as long as no sync has covered it), empty, or hold some of its bytes; a published file may have its old name, its new one, or both (its content is synced before its name changes); a removed one may be there.
//! Operations that had not begun leave no trace. A killed process loses only what had not begun: what it wrote stays readable,
//! and stays unsynced. Once an operation of the log's lane has failed, every later one of it fails, too. A failed sync leaves the file in doubt: the next crash, of whatever kind, counts as a power cut.
//!
//! A full drive refuses what makes a file or makes one grow, and now and then a new name.
//!
//! Operations of a lane are done in order, one batch at a time: writes that queue up behind each other share one sync.

mod file;
mod lane;

use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use bytes::Bytes;
use file::File;
use lane::{Job, LaneQueue};
use raftkv_core::ids::OpId;
use raftkv_core::io::{DiskDone, DiskError, DiskErrorKind, DiskOp, FileName, Lane};
use raftkv_core::planted::{self, Bug};
use raftkv_core::rng::Rng;
use raftkv_core::time::Span;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

pub use file::SECTOR_BYTES;

/// Which unsynced writes survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrashPolicy {
    /// None.
    DropAll,
    /// All.
    KeepAll,
    /// Those before some moment; the one at that moment in part.
    Prefix,
    /// Any of them, each whole.
    Subset,
    /// Any of their sectors.
    Sectors,
    /// The first so many bytes, in the order they were written to each file.
    Bytes(usize),
}

impl CrashPolicy {
    /// The policies a swarm draws from.
    pub const DRAWN: [CrashPolicy; 5] = [
        CrashPolicy::DropAll,
        CrashPolicy::KeepAll,
        CrashPolicy::Prefix,
        CrashPolicy::Subset,
        CrashPolicy::Sectors,
    ];
}

/// How a node's process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed; the machine runs on.
    Process,
    /// The machine loses power.
    Power(CrashPolicy),
}

/// How bad the drive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFaults {
    /// Mean time of a write without sync, or of a read.
    pub access_mean: Span,
    /// Mean time of a sync.
    pub sync_mean: Span,
    /// Operations that take up to ten seconds.
    pub hang: Ppm,
    /// Reads that fail.
    pub read_error: Ppm,
    /// Writes that fail, in part done.
    pub write_error: Ppm,
    /// Syncs that fail.
    pub sync_error: Ppm,
}

impl DiskFaults {
    /// A good drive.
    pub const fn none() -> Self {
        DiskFaults {
            access_mean: Span(20_000),
            sync_mean: Span(200_000),
            hang: Ppm::NEVER,
            read_error: Ppm::NEVER,
            write_error: Ppm::NEVER,
            sync_error: Ppm::NEVER,
        }
    }
}

/// How often each fault fired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Times that something was begun: an operation, or writes that share a sync.
    pub begun: u64,
    /// Operations done.
    pub done: u64,
    /// Syncs done; neighbours share one.
    pub syncs: u64,
    /// Operations that hung.
    pub hung: u64,
    /// Failed reads.
    pub read_errors: u64,
    /// Failed writes.
    pub write_errors: u64,
    /// Failed syncs.
    pub sync_errors: u64,
    /// Refused for want of space.
    pub full: u64,
    /// Power cuts with something unsynced or under way.
    pub torn: u64,
    /// Bits flipped.
    pub rotten: u64,
}

/// A completion.
pub type Completion = (OpId, Result<DiskDone, DiskError>);

/// A copy of everything on stable storage.
#[derive(Clone, Debug, Default)]
pub struct DiskImage(BTreeMap<FileName, File>);

/// The drive.
#[derive(Debug)]
pub struct Disk {
    rng: Rng,
    faults: DiskFaults,
    files: BTreeMap<FileName, File>,
    log: LaneQueue,
    bulk: LaneQueue,
    done: VecDeque<Completion>,
    is_full: bool,
    in_doubt: bool,
    log_has_failed: bool,
    counts: DiskCounts,
}

impl Disk {
    /// An empty drive.
    pub fn new(faults: DiskFaults, rng: Rng) -> Self {
        Disk {
            rng,
            faults,
            files: BTreeMap::new(),
            log: LaneQueue::default(),
            bulk: LaneQueue::default(),
            done: VecDeque::new(),
            is_full: false,
            in_doubt: false,
            log_has_failed: false,
            counts: DiskCounts::default(),
        }
    }

    /// Hands an operation in.
    pub fn submit(&mut self, now: SimTime, op: OpId, action: DiskOp) {
        match action.lane() {
            Lane::Log => self.log.waiting.push_back(Job { op, action }),
            Lane::Bulk => self.bulk.waiting.push_back(Job { op, action }),
        }
        self.advance(now);
    }

    /// The next operation that has ended by `now`.
    pub fn poll(&mut self, now: SimTime) -> Option<Completion> {
        self.advance(now);
        self.done.pop_front()
    }

    /// When the next operation ends.
    pub fn next_wake(&self) -> SimTime {
        if self.done.is_empty() { self.log.ends.min(self.bulk.ends) } else { SimTime(0) }
    }

    /// Names and lengths of all files, as the running system sees them.
    pub fn listing(&self) -> Vec<(FileName, u64)> {
        self.files.iter().map(|(name, file)| (*name, file.seen().len() as u64)).collect()
    }

    /// A file's bytes as the running system sees them.
    pub fn contents(&self, name: FileName) -> Option<&[u8]> {
        self.files.get(&name).map(File::seen)
    }

    /// Does an operation at once and wholly, as when a data directory is made ready before the simulation.
    pub fn provision(&mut self, action: &DiskOp) {
        self.apply(action);
        self.files.values_mut().for_each(File::sync);
    }

    /// The process ends. Operations under way and waiting get no completion. Says whether anything unsynced was at stake.
    pub fn crash(&mut self, crash: Crash) -> bool {
        let under_way: Vec<Job> =
            [&mut self.log, &mut self.bulk].into_iter().flat_map(LaneQueue::abandon).collect();
        self.done.clear();
        let policy = match crash {
            Crash::Process if !self.in_doubt => None,
            Crash::Process => Some(CrashPolicy::Sectors),
            Crash::Power(policy) => Some(policy),
        };
        let at_stake = !under_way.is_empty() || self.files.values().any(|file| !file.is_synced());
        for job in under_way {
            // What comes behind a failure in the log's lane is never begun.
            if !(self.log_has_failed && job.action.lane() == Lane::Log) {
                self.interrupt(job.action);
            }
        }
        self.log_has_failed = false;
        if let Some(policy) = policy {
            let rng = &mut self.rng;
            self.files.retain(|_, file| file.is_named() || rng.happens(Ppm::percent(50)));
            self.files.values_mut().for_each(|file| file.crash(policy, &mut self.rng));
            self.in_doubt = false;
            self.counts.torn += u64::from(at_stake);
        }
        at_stake
    }

    /// From now on (or no longer) there is no space for new files or growing ones.
    pub fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    /// Flips a bit of a file, within these bytes of it. Says where.
    pub fn rot(&mut self, name: FileName, range: Range<usize>) -> Option<usize> {
        let file = self.files.get_mut(&name)?;
        let at = file.flip_bit(range.start, range.end, &mut self.rng)?;
        self.counts.rotten += 1;
        Some(at)
    }

    /// Makes these bytes what they were before they were written: the drive said that it had written them, and had not.
    pub fn undo_write(&mut self, name: FileName, range: Range<usize>) -> Option<()> {
        self.files.get_mut(&name)?.overwrite(range.start, &vec![0; range.len()])
    }

    /// Makes a write one that went to another place: these bytes stand at `to`, and are missing where they should be.
    pub fn misdirect(
        &mut self,
        (name, range): (FileName, Range<usize>),
        (to, offset): (FileName, usize),
    ) -> Option<()> {
        let bytes = self.files.get(&name)?.seen().get(range.clone())?.to_vec();
        self.files.get_mut(&to)?.overwrite(offset, &bytes)?;
        self.undo_write(name, range)
    }

    /// Cuts a file off after `length` bytes, as a copy that was interrupted would.
    pub fn truncate(&mut self, name: FileName, length: usize) {
        if let Some(file) = self.files.get_mut(&name) {
            file.truncate(length);
        }
    }

    /// A file is gone.
    pub fn lose_file(&mut self, name: FileName) {
        self.files.remove(&name);
    }

    /// The drive is replaced by an empty one.
    pub fn lose_everything(&mut self) {
        self.files.clear();
        self.is_full = false;
        self.in_doubt = false;
    }

    /// A copy of what is on the drive, for [`Disk::restore`]. To be taken while nothing is under way.
    pub fn image(&self) -> DiskImage {
        DiskImage(self.files.clone())
    }

    /// The drive goes back to an older state, as when a virtual machine is rolled back.
    pub fn restore(&mut self, image: DiskImage) {
        self.files = image.0;
    }

    /// The drive is good from now on.
    pub fn heal(&mut self) {
        self.faults = DiskFaults::none();
        self.is_full = false;
    }

    /// How often each fault fired.
    pub fn counts(&self) -> DiskCounts {
        self.counts
    }

    fn advance(&mut self, now: SimTime) {
        loop {
            self.log.start(now, &self.faults, &mut self.rng, &mut self.counts);
            self.bulk.start(now, &self.faults, &mut self.rng, &mut self.counts);
            let log_is_next = self.log.ends <= self.bulk.ends;
            let lane = if log_is_next { &mut self.log } else { &mut self.bulk };
            if lane.ends > now {
                return;
            }
            let batch = lane.finish();
            self.finish(batch);
        }
    }

    /// Carries out a batch: one operation, or writes that share a sync.
    fn finish(&mut self, batch: Vec<Job>) {
        let has_sync =
            batch.iter().any(|job| matches!(job.action, DiskOp::Write { sync: true, .. }));
        let sync_fails = has_sync && self.rng.happens(self.faults.sync_error);
        self.counts.syncs += u64::from(has_sync && !sync_fails);
        for job in batch {
            self.counts.done += 1;
            let is_log = job.action.lane() == Lane::Log;
            if is_log && self.log_has_failed {
                let error = failure(job.action.file(), "an earlier operation of the log failed");
                self.done.push_back((job.op, Err(error)));
                continue;
            }
            let mut result = self.attempt(&job.action);
            if let (DiskOp::Write { file, sync: true, .. }, Ok(_)) = (&job.action, &result) {
                if sync_fails {
                    self.counts.sync_errors += 1;
                    self.in_doubt = true;
                    result = Err(failure(*file, "input/output error in sync"));
                } else if let Some(file) = self.files.get_mut(file) {
                    file.sync();
                }
            }
            let is_read = matches!(job.action, DiskOp::Read { .. });
            self.log_has_failed |= is_log && !is_read && result.is_err();
            self.done.push_back((job.op, result));
        }
    }

    fn attempt(&mut self, action: &DiskOp) -> Result<DiskDone, DiskError> {
        let name = action.file();
        match action {
            DiskOp::Read { .. } => {
                if self.rng.happens(self.faults.read_error) {
                    self.counts.read_errors += 1;
                    return Err(failure(name, "input/output error in read"));
                }
            }
            DiskOp::Create { .. } | DiskOp::Write { .. } => {
                if self.is_full && self.would_grow(action) {
                    self.counts.full += 1;
                    let message = format!("{}: no space left on device", name.path());
                    return Err(DiskError { kind: DiskErrorKind::Full, message });
                }
                if self.rng.happens(self.faults.write_error) {
                    self.counts.write_errors += 1;
                    self.interrupt(action.clone());
                    return Err(failure(name, "input/output error in write"));
                }
            }
            DiskOp::Sync { file } => {
                if self.rng.happens(self.faults.sync_error) {
                    self.counts.sync_errors += 1;
                    self.in_doubt = true;
                    return Err(failure(*file, "input/output error in sync"));
                }
            }
            DiskOp::Publish { .. } if self.is_full && self.rng.happens(Ppm::percent(30)) => {
                self.counts.full += 1;
                let message = format!("{}: no space left for the name", name.path());
                return Err(DiskError { kind: DiskErrorKind::Full, message });
            }
            DiskOp::Publish { .. } | DiskOp::Remove { .. } => {}
        }
        self.apply(action)
            .ok_or_else(|| DiskError { kind: DiskErrorKind::Missing, message: name.path() })
    }

    /// Does the operation; `None` when its file is missing.
    fn apply(&mut self, action: &DiskOp) -> Option<DiskDone> {
        match action {
            DiskOp::Create { file, reserve_bytes, bytes } => {
                let mut content = vec![0; bytes.len().max(*reserve_bytes as usize)];
                content[..bytes.len()].copy_from_slice(bytes);
                let unnamed = planted::is(Bug::DirectoryNotSynced);
                let file_of = if unnamed { File::unnamed } else { File::durable };
                self.files.insert(*file, file_of(content));
            }
            DiskOp::Write { file, offset, bytes, .. } => {
                self.files.get_mut(file)?.write(*offset, bytes);
            }
            DiskOp::Publish { from, to } => {
                let mut file = self.files.remove(from)?;
                if !planted::is(Bug::PublishedBeforeSync) {
                    file.sync();
                }
                if planted::is(Bug::DirectoryNotSynced) {
                    file.forget_name();
                }
                self.files.insert(*to, file);
            }
            DiskOp::Sync { file } => self.files.get_mut(file)?.sync(),
            DiskOp::Read { file, offset, len_bytes } => {
                let content = self.files.get(file)?.seen();
                let start = content.len().min(*offset as usize);
                let end = content.len().min(start.saturating_add(*len_bytes as usize));
                return Some(DiskDone::Bytes(Bytes::copy_from_slice(&content[start..end])));
            }
            DiskOp::Remove { file } => {
                self.files.remove(file);
            }
        }
        Some(DiskDone::Done)
    }

    /// An operation was under way when everything stopped: it happened, or not, or in part.
    fn interrupt(&mut self, action: DiskOp) {
        match &action {
            DiskOp::Read { .. } => {}
            DiskOp::Create { file, reserve_bytes, bytes } => match self.rng.below(4) {
                0 => {}
                1 => {
                    self.files.insert(*file, File::unnamed(Vec::new()));
                }
                2 => {
                    let mut created = File::unnamed(vec![0; *reserve_bytes as usize]);
                    created.write(0, bytes);
                    self.files.insert(*file, created);
                }
                _ => {
                    self.apply(&action);
                }
            },
            DiskOp::Publish { from, to } => match self.rng.below(4) {
                0 => {}
                1 => {
                    if let Some(file) = self.files.get_mut(from) {
                        file.sync();
                    }
                }
                2 => {
                    if let Some(mut file) = self.files.get(from).cloned() {
                        file.sync();
                        self.files.insert(*from, file.clone());
                        self.files.insert(*to, file);
                    }
                }
                _ => {
                    self.apply(&action);
                }
            },
            DiskOp::Write { .. } | DiskOp::Sync { .. } | DiskOp::Remove { .. } => {
                if self.rng.happens(Ppm::percent(50)) {
                    self.apply(&action);
                }
            }
        }
    }

    fn would_grow(&self, action: &DiskOp) -> bool {
        match action {
            DiskOp::Write { file, offset, bytes, .. } => self
                .files
                .get(file)
                .is_some_and(|file| *offset as usize + bytes.len() > file.seen().len()),
            DiskOp::Create { .. } => true,
            _ => false,
        }
    }
}

fn failure(file: FileName, what: &str) -> DiskError {
    DiskError { kind: DiskErrorKind::Failed, message: format!("{}: {what}", file.path()) }
}

#[cfg(test)]
mod tests;

//! Decides what to read of a data directory, checks it, and puts it together. The order is in [`super`].

use super::identity::{self, Standing};
use super::{BootError, BootStep, Image, genesis, joined, merge};
use crate::api::{MemberInfo, SnapshotInfo};
use crate::ids::Identity;
use crate::io::{DiskError, DiskOp, FileName};
use crate::kv::KvState;
use crate::planted::{self, Bug};
use crate::snapshot::{self, Decoder, Header, Loader, Summed, retention};
use crate::wal::{Recovery, WalRecord};
use bytes::Bytes;
use std::collections::VecDeque;

/// Bytes of a snapshot read at once: few enough to stay in the processor's cache while they are checked and decoded.
const READ_BYTES: u64 = 512 << 10;
/// Sums over a snapshot that are out at once: enough to keep another thread busy.
const SUMS_OUT_MAX: usize = 8;
/// Enough of a snapshot for its header, and all of any identity.
const HEADER_READ_BYTES: u64 = 2 << 20;

/// Decides what to read, and checks it.
#[derive(Debug)]
pub struct Boot {
    files: Vec<(FileName, u64)>,
    writes: bool,
    stage: Stage,
    /// Indexes of snapshots not looked at yet, newest last.
    candidates: Vec<u64>,
    /// Segments not read yet, newest first.
    segments: Vec<u64>,
    found: Found,
    /// To be done before all is ready.
    actions: VecDeque<DiskOp>,
    outcome: Option<Result<Box<Image>, BootError>>,
}

/// What was read so far.
#[derive(Debug, Default)]
struct Found {
    identity: Option<Identity>,
    /// While joining.
    peers: Option<Vec<MemberInfo>>,
    snapshot: Option<(Header, KvState)>,
    snapshots: Vec<SnapshotInfo>,
    recovery: Option<Recovery>,
    warnings: Vec<String>,
}

#[derive(Debug)]
enum Stage {
    Start,
    Identity,
    /// Loading a snapshot; the next read is at this offset.
    Snapshot {
        index: u64,
        offset: u64,
        loader: Box<Loader>,
        /// Nothing more is read: because it came to its end, or because it cannot be used.
        read: Option<Result<(), String>>,
    },
    /// Reading the header of a snapshot older than the one in use.
    Older {
        index: u64,
    },
    Segment {
        number: u64,
    },
    Acting,
    Ended,
}

impl Boot {
    /// Starts from the names and lengths of the files in the directory.
    pub fn new(listing: Vec<(FileName, u64)>) -> Self {
        let mut files = listing;
        files.sort_unstable();
        let candidates = files.iter().filter_map(|(file, _)| match file {
            FileName::Snapshot(index) => Some(*index),
            _ => None,
        });
        let segments = files.iter().rev().filter_map(|(file, _)| match file {
            FileName::Wal(number) => Some(*number),
            _ => None,
        });
        Boot {
            writes: true,
            stage: Stage::Start,
            candidates: candidates.collect(),
            segments: segments.collect(),
            found: Found::default(),
            actions: VecDeque::new(),
            outcome: None,
            files,
        }
    }

    /// As [`Boot::new`], but changes nothing in the directory: for looking at a stopped node's data.
    pub fn read_only(listing: Vec<(FileName, u64)>) -> Self {
        Boot { writes: false, ..Boot::new(listing) }
    }

    /// What to do next.
    pub fn poll(&mut self) -> BootStep {
        if matches!(self.stage, Stage::Start) {
            self.begin();
        }
        if let Some(step) = self.next_sum() {
            return step;
        }
        match &self.stage {
            Stage::Identity => self.read(FileName::Identity, 0, HEADER_READ_BYTES),
            Stage::Snapshot { index, offset, .. } => {
                self.read(FileName::Snapshot(*index), *offset, READ_BYTES)
            }
            Stage::Older { index } => self.read(FileName::Snapshot(*index), 0, HEADER_READ_BYTES),
            Stage::Segment { number } => {
                let file = FileName::Wal(*number);
                self.read(file, 0, self.length(file))
            }
            Stage::Start | Stage::Acting | Stage::Ended => match self.actions.front() {
                Some(action) => BootStep::Do(action.clone()),
                None => self.end(),
            },
        }
    }

    /// The outcome of the read or action that was asked for.
    pub fn handle(&mut self, result: Result<Bytes, DiskError>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        let done = match (stage, result) {
            (Stage::Identity, Ok(bytes)) => self.take_identity(&bytes),
            (Stage::Snapshot { index, offset, loader, .. }, result) => {
                self.take_snapshot(index, offset, loader, result);
                Ok(())
            }
            (Stage::Older { index }, result) => {
                self.take_older(index, result);
                self.next_older()
            }
            (Stage::Segment { number }, Ok(bytes)) => self.take_segment(number, &bytes),
            (Stage::Acting, Ok(_)) => {
                self.actions.pop_front();
                self.stage = Stage::Acting;
                Ok(())
            }
            (Stage::Identity, Err(error)) => Err(unreadable(FileName::Identity, error)),
            (Stage::Segment { number }, Err(error)) => {
                Err(unreadable(FileName::Wal(number), error))
            }
            (Stage::Acting, Err(error)) => {
                let file = self.actions.front().map_or(FileName::Identity, DiskOp::file);
                Err(unreadable(file, error))
            }
            (Stage::Start | Stage::Ended, _) => Ok(()),
        };
        if let Err(error) = done {
            self.refuse(error);
        }
    }

    /// A sum that [`BootStep::Sum`] asked for.
    pub fn take_sum(&mut self, sum: Summed) {
        if let Stage::Snapshot { loader, .. } = &mut self.stage {
            loader.take_sum(sum);
        }
    }

    fn begin(&mut self) {
        let names: Vec<FileName> = self.files.iter().map(|(file, _)| *file).collect();
        if names.contains(&FileName::Identity) {
            self.stage = Stage::Identity;
        } else if names.is_empty() {
            self.refuse(BootError::Empty);
        } else if genesis::is_unfinished(&names) {
            self.refuse(BootError::Empty);
            if self.writes {
                // The temporary identity goes last: while it is there, the rest is known to be unfinished.
                let (marker, rest): (Vec<_>, Vec<_>) =
                    names.into_iter().partition(|file| *file == FileName::IdentityTemp);
                let all = rest.into_iter().chain(marker);
                self.actions.extend(all.map(|file| DiskOp::Remove { file }));
                self.stage = Stage::Acting;
            }
        } else {
            let what = "it is missing, though the directory holds a node's data";
            self.refuse(damaged(FileName::Identity, 0, what.into()));
        }
    }

    fn take_identity(&mut self, bytes: &[u8]) -> Result<(), BootError> {
        let (identity, standing) =
            identity::decode(bytes).map_err(|what| damaged(FileName::Identity, 0, what))?;
        self.found.identity = Some(identity);
        self.found.peers = match standing {
            Standing::Joining(peers) => Some(peers),
            Standing::Member => None,
        };
        self.found.recovery = Some(Recovery::new(identity));
        self.next_snapshot()
    }

    /// Goes on with the newest snapshot not tried yet.
    fn next_snapshot(&mut self) -> Result<(), BootError> {
        match self.candidates.pop() {
            Some(index) => {
                let loader = Box::new(Loader::summed_elsewhere());
                self.stage = Stage::Snapshot { index, offset: 0, loader, read: None };
                Ok(())
            }
            None if self.found.peers.is_some() => self.next_segment(),
            None => {
                let what = "this member has no whole snapshot: files are missing or damaged".into();
                let what = with_warnings(what, &self.found.warnings);
                Err(damaged(FileName::Identity, 0, what))
            }
        }
    }

    /// What is to be done about the sums over a snapshot that is being read, before more of it is read. A snapshot is left only when all
    /// of its sums are back.
    fn next_sum(&mut self) -> Option<BootStep> {
        let Stage::Snapshot { loader, read, .. } = &mut self.stage else { return None };
        if let Some(sum) = loader.poll_sum() {
            return Some(BootStep::Sum(sum));
        }
        let most = if read.is_none() { SUMS_OUT_MAX } else { 0 };
        if loader.sums_out() > most || loader.is_backlogged() {
            return Some(BootStep::AwaitSum);
        }
        if read.is_some()
            && let Stage::Snapshot { index, offset, loader, read: Some(read) } =
                std::mem::replace(&mut self.stage, Stage::Ended)
        {
            if let Err(error) = self.leave_snapshot(index, offset, loader, read) {
                self.refuse(error);
            }
            return Some(self.poll());
        }
        None
    }

    fn take_snapshot(
        &mut self,
        index: u64,
        offset: u64,
        mut loader: Box<Loader>,
        result: Result<Bytes, DiskError>,
    ) {
        let pushed = result.map_err(|error| error.to_string()).and_then(|bytes| {
            loader.push(&bytes).map_err(|error| error.to_string())?;
            Ok(bytes.len() as u64)
        });
        let next_offset = offset + pushed.as_ref().unwrap_or(&0);
        let read = match pushed {
            Ok(bytes) if bytes > 0 && next_offset < self.length(FileName::Snapshot(index)) => None,
            Ok(_) => Some(Ok(())),
            Err(what) => Some(Err(what)),
        };
        self.stage = Stage::Snapshot { index, offset: next_offset, loader, read };
    }

    /// Nothing more of a snapshot is read, and all sums are back.
    fn leave_snapshot(
        &mut self,
        index: u64,
        offset: u64,
        loader: Box<Loader>,
        read: Result<(), String>,
    ) -> Result<(), BootError> {
        let file = FileName::Snapshot(index);
        let loaded = read.and_then(|()| loader.finish().map_err(|error| error.to_string()));
        match loaded {
            Ok((header, mut state)) => {
                self.check_origin(file, &header)?;
                state.index_changes();
                self.found.snapshots.push(snapshot::info(&header, offset));
                self.found.snapshot = Some((header, state));
                self.next_older()
            }
            Err(what) => self.pass_over(file, what),
        }
    }

    /// A damaged snapshot is no reason to stop while an older one and the log make up for it.
    fn pass_over(&mut self, file: FileName, what: String) -> Result<(), BootError> {
        self.found.warnings.push(format!("{} cannot be used: {what}", file.path()));
        self.next_snapshot()
    }

    fn check_origin(&self, file: FileName, header: &Header) -> Result<(), BootError> {
        let ours = self.found.identity.is_some_and(|identity| header.belongs_to(&identity));
        if !ours {
            let (cluster, epoch) = (header.cluster, header.epoch.0);
            let what = format!("it is of cluster {cluster}, epoch {epoch}: not this node's");
            return Err(damaged(file, 0, what));
        }
        if file != FileName::Snapshot(header.meta.index) {
            let what = format!("it is snapshot {} under another name", header.meta.index);
            return Err(damaged(file, 0, what));
        }
        Ok(())
    }

    fn next_older(&mut self) -> Result<(), BootError> {
        match self.candidates.pop() {
            Some(index) => {
                self.stage = Stage::Older { index };
                Ok(())
            }
            None => self.next_segment(),
        }
    }

    /// Only what operators are shown: the file is checked in full when it is needed.
    fn take_older(&mut self, index: u64, result: Result<Bytes, DiskError>) {
        let file = FileName::Snapshot(index);
        let mut decoder = Decoder::new();
        let read = match result {
            Ok(bytes) => decoder.push(&bytes).map(drop).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match (decoder.header(), read) {
            (Some(header), _) if header.meta.index == index => {
                self.found.snapshots.push(snapshot::info(header, self.length(file)));
            }
            (_, read) => {
                let what = read.err().unwrap_or_else(|| "its header is not its own".into());
                self.found.warnings.push(format!("{} cannot be used: {what}", file.path()));
            }
        }
    }

    fn next_segment(&mut self) -> Result<(), BootError> {
        match self.segments.pop() {
            Some(number) => {
                self.stage = Stage::Segment { number };
                Ok(())
            }
            None => self.put_together(),
        }
    }

    fn take_segment(&mut self, number: u64, bytes: &[u8]) -> Result<(), BootError> {
        if let Some(recovery) = &mut self.found.recovery {
            recovery.push(number, bytes).map_err(wal_damaged)?;
        }
        self.next_segment()
    }

    fn put_together(&mut self) -> Result<(), BootError> {
        let Found { identity, peers, snapshot, mut snapshots, recovery, mut warnings } =
            std::mem::take(&mut self.found);
        let (Some(identity), Some(recovery)) = (identity, recovery) else {
            return Err(BootError::Empty);
        };
        let recovered = recovery.finish().map_err(wal_damaged)?;
        if let Some(torn) = recovered.torn {
            warnings.push(format!("the log's last write was cut short: {torn}"));
        }
        let meta = snapshot.as_ref().map(|(header, _)| &header.meta);
        let segment = FileName::Wal(recovered.writer.first_segment());
        let merged =
            merge::merge(meta, recovered.hard_state, recovered.first_index, recovered.entries)
                .map_err(|what| damaged(segment, 0, with_warnings(what, &warnings)))?;
        let mut wal = recovered.writer;
        self.actions.extend(self.settle(&recovered.void, meta.map(|meta| meta.index)));
        if merged.restart {
            let hard_state = Some(merged.hard_state);
            let record = WalRecord { hard_state, snapshot: meta.cloned(), entries: Vec::new() };
            self.actions.extend(wal.append(&record));
            wal.handle_durable(wal.sequence());
        }
        if peers.is_some() && snapshot.is_some() {
            self.actions.extend(joined(identity));
        }
        if !self.writes {
            self.actions.clear();
        }
        self.stage = Stage::Acting;
        snapshots.reverse();
        let names = self.files.iter().map(|(file, _)| *file);
        let joining = snapshot.is_none();
        let (header, state) = snapshot.unzip();
        self.outcome = Some(Ok(Box::new(Image {
            identity,
            joining,
            peers: peers.unwrap_or_default(),
            hard_state: merged.hard_state,
            snapshot: header.map(|header| header.meta).unwrap_or_default(),
            state: state.unwrap_or_default(),
            snapshots,
            entries: merged.entries.into(),
            wal,
            leftovers: retention::leftovers(names).collect(),
            warnings,
        })));
        Ok(())
    }

    /// What makes everything that was read durable, and removes segments that hold nothing.
    fn settle(&self, void: &[FileName], snapshot: Option<u64>) -> Vec<DiskOp> {
        let names = || self.files.iter().map(|(file, _)| *file);
        let in_use = names().filter(|file| match file {
            FileName::Identity => true,
            FileName::Wal(_) => !void.contains(file),
            FileName::Snapshot(index) => Some(*index) == snapshot,
            FileName::IdentityTemp | FileName::SnapshotTemp(_) => false,
        });
        let in_use = in_use.filter(|_| !planted::is(Bug::RecoveredNotSynced));
        let mut actions: Vec<DiskOp> = in_use.map(|file| DiskOp::Sync { file }).collect();
        // The newest first, so that a stop in between never leaves a gap.
        actions.extend(void.iter().rev().map(|file| DiskOp::Remove { file: *file }));
        actions
    }

    fn end(&mut self) -> BootStep {
        self.stage = Stage::Ended;
        match self.outcome.take() {
            Some(Ok(image)) => BootStep::Ready(image),
            Some(Err(error)) => BootStep::Refused(error),
            None => unreachable!("the outcome is handed out once"),
        }
    }

    fn refuse(&mut self, error: BootError) {
        self.actions.clear();
        self.outcome = Some(Err(error));
        self.stage = Stage::Ended;
    }

    fn read(&self, file: FileName, offset: u64, len_bytes: u64) -> BootStep {
        BootStep::Read { file, offset, len_bytes }
    }

    fn length(&self, file: FileName) -> u64 {
        self.files.iter().find(|(name, _)| *name == file).map_or(0, |(_, length)| *length)
    }
}

fn damaged(file: FileName, offset: u64, what: String) -> BootError {
    BootError::Damaged { file: file.path(), offset, what }
}

/// A refusal that names what was passed over on the way to it.
fn with_warnings(what: String, warnings: &[String]) -> String {
    std::iter::once(what).chain(warnings.iter().cloned()).collect::<Vec<_>>().join("; ")
}

fn unreadable(file: FileName, error: DiskError) -> BootError {
    BootError::Unreadable { file: file.path(), error }
}

fn wal_damaged(damage: crate::wal::WalDamage) -> BootError {
    damaged(FileName::Wal(damage.segment), damage.offset, damage.cause.to_string())
}

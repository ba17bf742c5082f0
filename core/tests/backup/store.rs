//! An object store in memory, and the one loop that drives every machine.

use bytes::Bytes;
use raftkv_core::backup::blob::{
    BlobDone, BlobError, BlobErrorKind, BlobOp, Listing, Role, UNFINISHED,
};
use raftkv_core::backup::machine::{Action, ActionResult, Machine, Work};
use raftkv_core::ids::OpId;
use raftkv_core::time::Wall;
use std::collections::{BTreeMap, VecDeque};

/// What the store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation with this number, counted from 0, fails and is not done.
    Fails { at: usize, kind: BlobErrorKind },
    /// The operation with this number is done, but its answer is lost.
    AnswerLost { at: usize },
}

#[derive(Default)]
pub struct Store {
    pub objects: BTreeMap<String, Vec<u8>>,
    pub uploads: BTreeMap<OpId, (String, Vec<u8>)>,
    pub fault: Option<Fault>,
    /// When objects were written, by the store's clock: as it is, but for these.
    pub clock: Option<Wall>,
    pub written: BTreeMap<String, Wall>,
    /// Every operation that was asked for, by name.
    pub asked: Vec<&'static str>,
    /// The same, each with its object and how it ended.
    pub lines: Vec<String>,
    /// Run work and answers last in, first out, as threads might.
    pub reversed: bool,
    /// Most bytes of parts and windows under way at once.
    pub peak_bytes: usize,
}

/// Drives a machine that works in several stores until it has nothing more to do. Of reads under way, the last asked for ends first.
pub fn drive(stores: &mut [Store], machine: &mut impl Machine) {
    let mut under_way = VecDeque::new();
    loop {
        while let Some(action) = machine.poll_action() {
            under_way.push_back(action);
        }
        let is_read =
            |action: &Action| matches!(action, Action::Blob { action: BlobOp::Get { .. }, .. });
        let next = under_way.iter().rposition(is_read).unwrap_or(0);
        let Some(action) = under_way.remove(next) else { return };
        machine.handle(match action {
            Action::Work(work) => ActionResult::Work(work.run()),
            Action::Blob { store, op, action } => {
                let result = stores[usize::from(store.0)].answer(op, action);
                ActionResult::Blob { op, result }
            }
        });
    }
}

impl Store {
    /// Drives a machine until it has nothing more to do.
    pub fn drive(&mut self, machine: &mut impl Machine) {
        let mut under_way = VecDeque::new();
        loop {
            while let Some(action) = machine.poll_action() {
                under_way.push_back(action);
            }
            let bytes = under_way.iter().map(bytes_of).sum();
            self.peak_bytes = self.peak_bytes.max(bytes);
            let place = if self.reversed { under_way.len().saturating_sub(1) } else { 0 };
            // Parts of one upload stay in order: only work overtakes.
            let next = match under_way.get(place) {
                Some(Action::Work(_)) => under_way.remove(place),
                _ => under_way.pop_front(),
            };
            let Some(action) = next else { return };
            let result = match action {
                Action::Work(work) => ActionResult::Work(work.run()),
                Action::Blob { op, action, .. } => {
                    ActionResult::Blob { op, result: self.answer(op, action) }
                }
            };
            machine.handle(result);
        }
    }

    /// Carries out the machine's next operation in the store, and no more: for machines that take turns.
    pub fn step(&mut self, machine: &mut impl Machine) {
        let Some(Action::Blob { op, action, .. }) = machine.poll_action() else { return };
        let result = self.answer(op, action);
        machine.handle(ActionResult::Blob { op, result });
    }

    /// What becomes of one operation.
    pub fn answer(&mut self, op: OpId, action: BlobOp) -> Result<BlobDone, BlobError> {
        let number = self.asked.len();
        self.asked.push(name(&action));
        let line = self.line(&action);
        let result = self.answer_to(number, op, action);
        let ended =
            result.as_ref().map_or_else(|error| format!(": {:?}", error.kind), |_| String::new());
        self.lines.push(format!("{line}{ended}"));
        result
    }

    fn line(&self, action: &BlobOp) -> String {
        let object = match action {
            BlobOp::Put { object, .. }
            | BlobOp::PutStart { object, .. }
            | BlobOp::Get { object, .. }
            | BlobOp::Head { object }
            | BlobOp::Delete { object } => object.path(),
            BlobOp::PutPart { upload, bytes, .. } => {
                let path = self.uploads.get(upload).map_or("", |(path, _)| path);
                format!("{path} +{}", bytes.len())
            }
            BlobOp::PutFinish { upload } | BlobOp::PutAbort { upload } => {
                self.uploads.get(upload).map_or(String::new(), |(path, _)| path.clone())
            }
            BlobOp::List => String::new(),
        };
        format!("{} {object}", name(action))
    }

    fn answer_to(
        &mut self,
        number: usize,
        op: OpId,
        action: BlobOp,
    ) -> Result<BlobDone, BlobError> {
        let failed = |kind| BlobError { kind, message: "by the test's wish".into() };
        match self.fault {
            Some(Fault::Fails { at, kind }) if at == number => Err(failed(kind)),
            Some(Fault::AnswerLost { at }) if at == number => {
                let _ = self.run(op, action);
                Err(failed(BlobErrorKind::Unknown))
            }
            _ => self.run(op, action),
        }
    }

    fn run(&mut self, op: OpId, action: BlobOp) -> Result<BlobDone, BlobError> {
        let error = |kind, path: &str| BlobError { kind, message: path.into() };
        match action {
            BlobOp::Put { object, bytes, if_absent } => {
                let path = object.path();
                if if_absent && self.objects.contains_key(&path) {
                    return Err(error(BlobErrorKind::Exists, &path));
                }
                self.objects.insert(path, bytes.to_vec());
            }
            BlobOp::PutStart { object, .. } => {
                self.uploads.insert(op, (object.path(), Vec::new()));
            }
            BlobOp::PutPart { upload, bytes, .. } => {
                self.uploads.get_mut(&upload).unwrap().1.extend_from_slice(&bytes);
            }
            BlobOp::PutFinish { upload } => {
                let (path, bytes) = self.uploads.remove(&upload).unwrap();
                self.objects.insert(path, bytes);
            }
            BlobOp::PutAbort { upload } => drop(self.uploads.remove(&upload)),
            BlobOp::Get { object, offset, len_bytes } => {
                let path = object.path();
                let found = self.objects.get(&path);
                let bytes = found.ok_or_else(|| error(BlobErrorKind::NotFound, &path))?;
                let start = bytes.len().min(offset as usize);
                let end = bytes.len().min((offset + len_bytes) as usize);
                return Ok(BlobDone::Bytes(Bytes::copy_from_slice(&bytes[start..end])));
            }
            BlobOp::Head { object } => {
                let path = object.path();
                let found = self.objects.get(&path);
                let bytes = found.ok_or_else(|| error(BlobErrorKind::NotFound, &path))?;
                return Ok(BlobDone::Length(bytes.len() as u64));
            }
            BlobOp::List => {
                let found = self.objects.iter().map(|(path, bytes)| {
                    let written = self.written.get(path).copied().or(self.clock);
                    (path.clone(), bytes.len() as u64, written)
                });
                return Ok(BlobDone::Listing(Listing::of(found)));
            }
            BlobOp::Delete { object } => {
                let path = object.path();
                self.uploads.retain(|_, (name, _)| *name != path);
                self.objects.remove(&format!("{path}{UNFINISHED}"));
                self.objects.remove(&path);
            }
        }
        Ok(BlobDone::Done)
    }
}

fn name(action: &BlobOp) -> &'static str {
    match action {
        BlobOp::Put { .. } => "put",
        BlobOp::PutStart { .. } => "start",
        BlobOp::PutPart { .. } => "part",
        BlobOp::PutFinish { .. } => "finish",
        BlobOp::PutAbort { .. } => "abort",
        BlobOp::Get { .. } => "get",
        BlobOp::Head { .. } => "head",
        BlobOp::List => "list",
        BlobOp::Delete { .. } => "delete",
    }
}

fn bytes_of(action: &Action) -> usize {
    match action {
        Action::Blob { action: BlobOp::PutPart { bytes, .. }, .. } => bytes.len(),
        Action::Blob { action: BlobOp::Get { object, len_bytes, .. }, .. }
            if object.role == Role::Data =>
        {
            *len_bytes as usize
        }
        Action::Work(Work::Seal { plain, .. }) => plain.len(),
        Action::Work(Work::Open { frame, .. }) => frame.sealed.len(),
        Action::Blob { .. } | Action::Work(Work::Sum(_)) => 0,
    }
}

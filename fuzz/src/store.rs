//! An object store in memory, and the loop that drives a backup's machine with it.

use bytes::Bytes;
use raftkv_core::backup::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp};
use raftkv_core::backup::machine::{Action, ActionResult, Machine};
use std::collections::{BTreeMap, VecDeque};

/// Objects by their paths, and the one upload that a machine makes.
#[derive(Debug, Default)]
pub struct Store {
    pub objects: BTreeMap<String, Bytes>,
    upload: (String, Vec<u8>),
}

/// In which order what is under way ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    FirstIn,
    LastIn,
}

impl Store {
    /// Drives a machine until it wants nothing more.
    pub fn drive(&mut self, machine: &mut impl Machine, order: Order) {
        let mut under_way = VecDeque::new();
        loop {
            while let Some(action) = machine.poll_action() {
                under_way.push_back(action);
            }
            let next = match order {
                Order::FirstIn => under_way.pop_front(),
                Order::LastIn => under_way.pop_back(),
            };
            machine.handle(match next {
                None => return,
                Some(Action::Work(work)) => ActionResult::Work(work.run()),
                Some(Action::Blob { op, action, .. }) => {
                    ActionResult::Blob { op, result: self.answer(action) }
                }
            });
        }
    }

    fn answer(&mut self, action: BlobOp) -> Result<BlobDone, BlobError> {
        match action {
            BlobOp::PutStart { object, .. } => self.upload = (object.path(), Vec::new()),
            BlobOp::PutPart { bytes, .. } => self.upload.1.extend_from_slice(&bytes),
            BlobOp::PutFinish { .. } => {
                let (path, bytes) = std::mem::take(&mut self.upload);
                self.objects.insert(path, bytes.into());
            }
            BlobOp::Put { object, bytes, .. } => drop(self.objects.insert(object.path(), bytes)),
            BlobOp::Head { object } => {
                return Ok(BlobDone::Length(self.object(&object.path())?.len() as u64));
            }
            BlobOp::Get { object, offset, len_bytes } => {
                let bytes = self.object(&object.path())?;
                let at = |offset: u64| bytes.len().min(offset as usize);
                return Ok(BlobDone::Bytes(bytes.slice(at(offset)..at(offset + len_bytes))));
            }
            BlobOp::PutAbort { .. } | BlobOp::List | BlobOp::Delete { .. } => {
                panic!("no machine that is fuzzed does this")
            }
        }
        Ok(BlobDone::Done)
    }

    fn object(&self, path: &str) -> Result<&Bytes, BlobError> {
        let kind = BlobErrorKind::NotFound;
        self.objects.get(path).ok_or_else(|| BlobError { kind, message: path.into() })
    }
}

//! Lets machines that each number their operations from 1, and know of one store only, work side by side: every one has a range of numbers
//! and a store of its own.

use super::blob::{BlobDone, BlobError, BlobOp, StoreIndex};
use super::machine::{Action, ActionResult, Machine};
use crate::ids::OpId;

/// A machine whose operations are numbered from `base + 1`.
#[derive(Debug)]
pub(super) struct Numbered<M> {
    machine: M,
    store: Option<StoreIndex>,
    base: u64,
    given: u64,
}

impl<M: Machine> Numbered<M> {
    pub(super) fn new(machine: M, base: u64) -> Self {
        Numbered { machine, store: None, base, given: 0 }
    }

    /// A machine that works in this store, whichever it asks for.
    pub(super) fn in_store(machine: M, store: StoreIndex, base: u64) -> Self {
        Numbered { store: Some(store), ..Numbered::new(machine, base) }
    }

    pub(super) fn get(&self) -> &M {
        &self.machine
    }

    pub(super) fn get_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// The highest number given out: where the next machine's range may begin.
    pub(super) fn end(&self) -> u64 {
        self.base + self.given
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        let mut action = self.machine.poll_action()?;
        if let Action::Blob { store, op, action } = &mut action {
            self.given = self.given.max(op.0);
            op.0 += self.base;
            *store = self.store.unwrap_or(*store);
            if let BlobOp::PutPart { upload, .. }
            | BlobOp::PutFinish { upload }
            | BlobOp::PutAbort { upload } = action
            {
                upload.0 += self.base;
            }
        }
        Some(action)
    }

    /// Takes the result of an operation, if it is one of this machine's; says whether it was.
    pub(super) fn take(&mut self, op: OpId, result: &Result<BlobDone, BlobError>) -> bool {
        let is_ours = op.0 > self.base && op.0 <= self.end();
        if is_ours {
            let (op, result) = (OpId(op.0 - self.base), result.clone());
            self.machine.handle(ActionResult::Blob { op, result });
        }
        is_ours
    }
}

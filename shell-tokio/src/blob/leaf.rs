//! The backup stores of a node that makes backups for its cluster: operations as tasks, work on the runtime's pool of threads.

use super::{Storage as _, Stores};
use crate::leaf::{Blob, Inbox};
use raftkv_core::backup::blob::{BlobError, BlobErrorKind, BlobOp, StoreIndex};
use raftkv_core::backup::machine::Work;
use raftkv_core::ids::OpId;
use raftkv_core::io::Input;

/// A node's stores, if it has any.
pub struct Uploads {
    stores: Option<Stores>,
    inbox: Inbox,
}

impl Uploads {
    /// Results go to `inbox`.
    pub fn new(stores: Option<Stores>, inbox: &Inbox) -> Self {
        Uploads { stores, inbox: inbox.clone() }
    }
}

impl Blob for Uploads {
    fn submit(&mut self, store: StoreIndex, op: OpId, action: BlobOp) {
        let pending = self.stores.as_mut().map(|stores| stores.submit_in(store, op, action));
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            let result = match pending {
                Some(pending) => pending.await,
                None => Err(BlobError {
                    kind: BlobErrorKind::Failed,
                    message: "this node has no backup store".into(),
                }),
            };
            // A node that has stopped needs no result.
            let _ = inbox.send(Input::Blob { op, result }).await;
        });
    }

    fn work(&mut self, op: OpId, work: Work) {
        let inbox = self.inbox.clone();
        tokio::task::spawn_blocking(move || {
            let done = work.run();
            let _ = inbox.blocking_send(Input::Work { op, done });
        });
    }
}

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uploads").field("stores", &self.stores).finish_non_exhaustive()
    }
}

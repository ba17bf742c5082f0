//! Puts a pin or a hold beside a backup, renews it, and takes it away.
//!
//! The marker is written first, and then it is looked whether the backup is being removed, or its metadata are gone: whoever removes a backup
//! works the other way round ([`super::remove`]), so one of the two notices the other.
//!
//! What says that a backup is being removed may be left over from a removal that broke off. A hold stands then, if the metadata is still there: a
//! removal that is under way after all sees it in its last look, and spares the data. A pin promises more, and is refused: whoever has the
//! store's lock can tell, and take the note away. Invariant: a marker that came too late is taken away again.

use super::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp, ObjectName, Role};
use super::id::BackupId;
use super::machine::{Action, ActionResult, Machine, Outbox};
use super::marker::Marker;

/// Why a marker is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// The backup is not complete, or is being removed.
    #[error("backup {id} is not complete, or is being removed")]
    Gone {
        /// Which.
        id: BackupId,
    },
    /// The backup is whole, and something says that it is being removed.
    #[error("backup {id} is being removed, or that broke off")]
    Leaving {
        /// Which.
        id: BackupId,
    },
    /// The store failed.
    #[error("{object}: {error}")]
    Store {
        /// Which object.
        object: ObjectName,
        /// How.
        error: BlobError,
    },
}

/// The machine.
#[derive(Debug)]
pub struct Mark {
    object: ObjectName,
    outbox: Outbox<Purpose>,
    is_leaving: bool,
    outcome: Option<Result<(), MarkError>>,
}

#[derive(Clone, Copy, Debug)]
enum Purpose {
    Put,
    LookForRemoval,
    Look,
    Only,
    CleanUp,
}

impl Mark {
    /// Puts a marker beside a complete backup.
    pub fn put(marker: &Marker) -> Self {
        Mark::begin(marker.place, Purpose::Put, write(marker))
    }

    /// Says that whoever put the marker is still there.
    pub fn renew(marker: &mut Marker) -> Self {
        marker.beats = marker.beats.saturating_add(1);
        Mark::write(marker)
    }

    /// Writes a marker, whatever else is there.
    pub fn write(marker: &Marker) -> Self {
        Mark::begin(marker.place, Purpose::Only, write(marker))
    }

    /// Takes a marker away.
    pub fn remove(object: ObjectName) -> Self {
        Mark::begin(object, Purpose::Only, BlobOp::Delete { object })
    }

    fn begin(object: ObjectName, purpose: Purpose, action: BlobOp) -> Self {
        let mut outbox = Outbox::new();
        outbox.blob(purpose, action);
        Mark { object, outbox, is_leaving: false, outcome: None }
    }

    /// Whether it is done, once it has ended.
    pub fn outcome(&self) -> Option<&Result<(), MarkError>> {
        self.outcome.as_ref().filter(|_| self.outbox.is_idle())
    }

    fn done(&mut self, purpose: Purpose, result: Result<BlobDone, BlobError>) {
        let backup = self.object.backup;
        match (purpose, result) {
            (Purpose::Put, Ok(_)) => {
                let object = ObjectName::removal(backup);
                self.outbox.blob(Purpose::LookForRemoval, BlobOp::Head { object });
            }
            // Who may not list is told so of everything that is not there; the metadata tell the rest.
            (
                Purpose::LookForRemoval,
                found @ (Ok(_)
                | Err(BlobError {
                    kind: BlobErrorKind::NotFound | BlobErrorKind::Denied,
                    ..
                })),
            ) => {
                self.is_leaving = found.is_ok();
                let object = ObjectName::metadata(backup);
                self.outbox.blob(Purpose::Look, BlobOp::Head { object });
            }
            (Purpose::Look, Err(error)) if error.kind == BlobErrorKind::NotFound => {
                self.too_late(MarkError::Gone { id: backup });
            }
            (Purpose::Look, Ok(_)) if self.is_leaving && self.object.role == Role::Pin => {
                self.too_late(MarkError::Leaving { id: backup });
            }
            (Purpose::CleanUp, _) => {}
            (_, Ok(_)) => self.outcome = Some(Ok(())),
            (purpose, Err(error)) => {
                let object = self.object;
                // Nobody would renew it, or take it away.
                if matches!(purpose, Purpose::LookForRemoval | Purpose::Look) {
                    self.outbox.blob(Purpose::CleanUp, BlobOp::Delete { object });
                }
                self.outcome = Some(Err(MarkError::Store { object, error }));
            }
        }
    }

    fn too_late(&mut self, why: MarkError) {
        let object = self.object;
        self.outbox.blob(Purpose::CleanUp, BlobOp::Delete { object });
        self.outcome = Some(Err(why));
    }
}

fn write(marker: &Marker) -> BlobOp {
    BlobOp::Put { object: marker.place, bytes: marker.render().into(), if_absent: false }
}

impl Machine for Mark {
    fn poll_action(&mut self) -> Option<Action> {
        self.outbox.poll()
    }

    fn handle(&mut self, result: ActionResult) {
        let ActionResult::Blob { op, result } = result else { return };
        if let Some(purpose) = self.outbox.blob_done(op) {
            self.done(purpose, result);
        }
    }

    fn is_ended(&self) -> bool {
        self.outcome().is_some()
    }
}

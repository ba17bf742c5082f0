//! What the operator's jobs find out, with what it has to be judged by.

use crate::time::SimTime;
use bytes::Bytes;
use raftkv_core::backup::blob::{BlobError, StoreIndex};
use raftkv_core::backup::catalog::Catalog;
use raftkv_core::backup::create::Outcome;
use raftkv_core::backup::mark::MarkError;
use raftkv_core::backup::read::{Access, ReadError};
use raftkv_core::backup::restore::Restored;
use raftkv_core::backup::rotate::Rotated;
use raftkv_core::backup::verify::Report;
use raftkv_core::backup::{BackupId, Key, KeyId, Metadata};

/// With what a job works.
#[derive(Clone, Debug)]
pub(super) struct Means {
    /// The store in which it reads.
    pub(super) store: StoreIndex,
    /// Its keys.
    pub(super) access: Access,
    /// When it began.
    pub(super) began: SimTime,
    /// How often each store had refused something before the job began.
    pub(super) refusals_before: Vec<u64>,
    /// The backup was marked as in use before its metadata were read.
    pub(super) held: bool,
    /// Stores that did not answer and were passed over.
    pub(super) silent: Vec<StoreIndex>,
}

/// Something that was found out.
#[derive(Debug)]
pub(super) enum Found {
    /// These random bytes are about to be written into the store of keys.
    Planted(Bytes),
    /// What came of a backup.
    Taken(Outcome),
    /// No node gave a view.
    NoView,
    /// The operator's process died during a job.
    Died,
    /// What is in a store.
    Listed(StoreIndex, Catalog),
    /// A store cannot be listed.
    Unlisted(StoreIndex, BlobError),
    /// A backup is marked as in use.
    Held(BackupId),
    /// It could not be.
    NotHeld { id: BackupId, error: MarkError },
    /// A day has passed since the mark of a process that died was written.
    Forgotten(BackupId),
    /// A mark was taken away, or stays.
    Released,
    /// A backup was checked.
    Verified { report: Box<Report>, means: Means },
    /// A backup was restored in memory, or was not.
    Restored { id: BackupId, result: Result<Box<Restored>, ReadError>, means: Means },
    /// A backup's keys were changed, or were not.
    Rotated { id: BackupId, old: KeyId, new: Key, result: Result<Rotated, ReadError>, means: Means },
    /// A backup's metadata was rebuilt, or was not.
    Rebuilt { id: BackupId, result: Result<Metadata, ReadError>, means: Means },
    /// There is nothing more to mend in a store, or its lock was not to be had.
    Left(StoreIndex),
    /// The pin of a backup is about to be written or deleted.
    Pinning { store: StoreIndex, id: BackupId },
    /// That has ended.
    Pinned { store: StoreIndex, id: BackupId, is_pin: bool, result: Result<(), MarkError> },
    /// The process died over it.
    PinUnknown { store: StoreIndex, id: BackupId },
    /// So many keys of a backup were put back, and so many were there.
    Undone { put_back: u64, spared: u64 },
    /// A cluster can start from this; newer backups did not restore.
    Recovered { restored: Box<Restored>, skipped: Vec<(BackupId, ReadError)>, means: Means },
    /// No backup restores.
    Lost { skipped: Vec<(BackupId, ReadError)> },
}

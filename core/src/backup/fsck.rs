//! What is wrong in a store, and what can be done about it.
//!
//! Judged by a catalog. Whoever read it while holding the store's lock knows that no backup is being made; for anyone else, what is unfinished
//! while somebody has the lock may be just that. What a restore or a verification uses shows in its hold. Invariants: something damaged or
//! forged is reported and never touched: it may be the only trace of what happened; data without metadata is never called useless before
//! it was read.

use super::blob::UNFINISHED;
use super::catalog::{Catalog, Entry, Standing};
use super::id::BackupId;
use super::marker::Owner;
use super::metadata::Status;
use std::fmt;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Whole data without metadata: it broke off at the very end, or lost its metadata.
    Orphan(BackupId),
    /// It was being removed, and that broke off after its metadata were gone.
    HalfRemoved(BackupId),
    /// It was to be removed, and nothing of it is gone.
    Unremoved(BackupId),
    /// Small objects of a backup that is not there any more.
    Leftover(BackupId),
    /// What an upload left behind that broke off, and nothing else of that backup.
    Partial(BackupId),
    /// A backup that says of itself that it is being made, while nobody makes one.
    Abandoned(BackupId),
    /// A backup that says of itself that it failed: why.
    Failed(BackupId, String),
    /// Something keeps a backup in use. Whether it is still there, watching tells.
    Hold(BackupId, Owner),
    /// It cannot be used: why.
    Broken(BackupId, String),
    /// It belongs to no backup.
    Stranger(String),
}

/// What can be done about a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Rebuild the metadata, or remove the data.
    RebuildOrRemove,
    /// Take away what says that it is to go: it is whole.
    Keep,
    /// Remove it.
    Remove,
    /// Watch it, and remove it when there is no sign of life.
    Watch,
    /// Nothing, without knowing more.
    None,
}

/// Whether a backup may be being made just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Making {
    /// No: whoever asks holds the store's lock.
    Excluded,
    /// If somebody has the lock.
    Possible,
}

/// Everything that is not as it should be.
pub fn examine(catalog: &Catalog, making: Making) -> Vec<Finding> {
    let is_busy = making == Making::Possible && catalog.is_locked();
    let mut findings = all(catalog);
    findings.retain(|finding| !is_busy || !finding.is_unfinished());
    findings
}

fn all(catalog: &Catalog) -> Vec<Finding> {
    let mut findings: Vec<Finding> = catalog.entries.iter().filter_map(judge).collect();
    let holds = catalog
        .entries
        .iter()
        .flat_map(|entry| entry.holds.iter().map(|hold| Finding::Hold(entry.id, hold.owner)));
    findings.extend(holds);
    let is_listed = |id| catalog.entries.iter().any(|entry| entry.id == id);
    findings.extend(catalog.uploads.iter().map(|object| {
        // Beside other objects of a backup it does no harm, and removing it would remove them.
        match !object.is_lock() && !is_listed(object.backup) {
            true => Finding::Partial(object.backup),
            false => Finding::Stranger(format!("{object}{UNFINISHED}")),
        }
    }));
    findings.extend(catalog.strangers.iter().cloned().map(Finding::Stranger));
    findings
}

fn judge(entry: &Entry) -> Option<Finding> {
    let has_data = entry.data_bytes.is_some();
    match &entry.standing {
        Standing::Complete(_) if entry.is_leaving => Some(Finding::Unremoved(entry.id)),
        Standing::Complete(_) => None,
        // A reader came before its metadata went.
        Standing::HalfRemoved if !entry.holds.is_empty() => None,
        Standing::HalfRemoved if !has_data => Some(Finding::Leftover(entry.id)),
        Standing::HalfRemoved => Some(Finding::HalfRemoved(entry.id)),
        Standing::Incomplete if !has_data && !entry.holds.is_empty() => None,
        Standing::Incomplete if !has_data => Some(Finding::Leftover(entry.id)),
        Standing::Incomplete => Some(Finding::Orphan(entry.id)),
        // Data appear when they are whole: it broke off at the very end.
        Standing::NotWhole(_) if has_data => Some(Finding::Orphan(entry.id)),
        Standing::NotWhole(Status::Failed) => Some(Finding::Failed(entry.id, failure(entry))),
        Standing::NotWhole(_) => Some(Finding::Abandoned(entry.id)),
        standing => Some(Finding::Broken(entry.id, standing.to_string())),
    }
}

fn failure(entry: &Entry) -> String {
    let told = entry.run.as_ref().map(|run| run.note.clone());
    told.or_else(|| entry.metadata.as_ref().map(|it| it.error.clone())).unwrap_or_default()
}

impl Finding {
    /// Whether it is what a backup looks like that is being made, or removed.
    fn is_unfinished(&self) -> bool {
        matches!(
            self,
            Finding::Orphan(_)
                | Finding::HalfRemoved(_)
                | Finding::Unremoved(_)
                | Finding::Leftover(_)
                | Finding::Partial(_)
                | Finding::Abandoned(_)
        )
    }

    /// What can be done about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Finding::Orphan(_) => Remedy::RebuildOrRemove,
            Finding::Unremoved(_) => Remedy::Keep,
            Finding::HalfRemoved(_)
            | Finding::Leftover(_)
            | Finding::Partial(_)
            | Finding::Abandoned(_)
            | Finding::Failed(..) => Remedy::Remove,
            Finding::Hold(..) => Remedy::Watch,
            Finding::Broken(..) | Finding::Stranger(_) => Remedy::None,
        }
    }

    /// Which backup it is about.
    pub fn backup(&self) -> Option<BackupId> {
        match self {
            Finding::Orphan(id)
            | Finding::HalfRemoved(id)
            | Finding::Unremoved(id)
            | Finding::Leftover(id)
            | Finding::Partial(id)
            | Finding::Abandoned(id)
            | Finding::Failed(id, _)
            | Finding::Hold(id, _)
            | Finding::Broken(id, _) => Some(*id),
            Finding::Stranger(_) => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Orphan(_) => f.write_str("data.db without metadata.json"),
            Finding::HalfRemoved(_) => {
                f.write_str("what is left of a backup that was being removed")
            }
            Finding::Unremoved(_) => f.write_str("it was to be removed, and is whole"),
            Finding::Leftover(_) => f.write_str("small objects without data.db and metadata.json"),
            Finding::Partial(_) => f.write_str("what an upload left behind that broke off"),
            Finding::Abandoned(_) => f.write_str("a backup that was never finished"),
            Finding::Failed(_, why) => write!(f, "a backup that failed: {why}"),
            Finding::Hold(_, owner) => write!(f, "in use by {owner}"),
            Finding::Broken(_, what) => f.write_str(what),
            Finding::Stranger(path) => write!(f, "{path} belongs to no backup"),
        }
    }
}

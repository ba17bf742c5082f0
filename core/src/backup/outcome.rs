//! How making a backup ends: complete, or failed during a step, for a cause, with or without something left behind.

use super::blob::BlobError;
use super::metadata::Metadata;
use crate::api::Obstacle;
use std::fmt;

/// How the backup ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is complete: this is its metadata.
    Complete(Box<Metadata>),
    /// It is not.
    Failed(Failure),
}

/// Why a backup failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("backup {} failed while {step}: {cause}{}", .metadata.id, if *.left_behind { "; its data may remain in the store, and is not listed as complete unless it is" } else { "" })]
pub struct Failure {
    /// What is known of it, with status `failed` and the cause as error.
    pub metadata: Box<Metadata>,
    /// During which step.
    pub step: Step,
    /// What went wrong.
    pub cause: Cause,
    /// Whether objects of it may remain in the store.
    pub left_behind: bool,
}

/// What made a backup fail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The object store.
    #[error(transparent)]
    Store(#[from] BlobError),
    /// The snapshot stream broke off, is damaged, or holds another state than announced.
    #[error("{0}")]
    Source(String),
    /// It cannot be written in this format.
    #[error("{0}")]
    Limit(String),
    /// Something else holds the place of its metadata.
    #[error("another metadata.json is in its place")]
    Displaced,
    /// The store did not say whether the metadata was written.
    #[error("it is not known whether metadata.json was written ({0})")]
    Unknown(BlobError),
}

/// The steps of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Beginning the upload of `data.db`.
    Opening,
    /// Reading the state, sealing and uploading chunks.
    Streaming,
    /// Making `data.db` visible.
    Finishing,
    /// Writing `metadata.json`.
    Committing,
}

impl Failure {
    /// What was in the way.
    pub fn obstacle(&self) -> Obstacle {
        match &self.cause {
            Cause::Store(_) | Cause::Displaced | Cause::Unknown(_) => Obstacle::Store,
            Cause::Source(_) | Cause::Limit(_) => Obstacle::Other,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Opening => "beginning the upload",
            Step::Streaming => "reading the state and uploading it",
            Step::Finishing => "finishing data.db",
            Step::Committing => "writing metadata.json",
        })
    }
}

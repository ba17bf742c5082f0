//! Object stores reached over a network: S3 and what speaks it, Google Cloud Storage, Azure Blob Storage, through opendal.
//!
//! Invariants: an object appears only when it is whole, and with `if_absent` only where nothing is, as far as the store can be told so
//! (Google cannot for uploads in parts: there it is looked up at the beginning); an error names the object, what the store said and
//! what can be done, never a credential. Retrying is the [transport](super::http)'s part, uploads are [`super::upload`]'s.

use super::http::Refusal;
use super::unfinished::{Begun, Unfinished};
use super::upload::{Upload, Uploads};
use super::{BlobStore, Pending};
use futures_util::TryStreamExt as _;
use opendal::{EntryMode, Error, ErrorKind, Operator};
use raftkv_core::backup::blob::{
    BlobDone, BlobError, BlobErrorKind, BlobOp, Listing, ObjectName, Role, UNFINISHED,
};
use raftkv_core::ids::OpId;
use raftkv_core::time::Wall;
use std::error::Error as _;
use std::sync::Arc;

/// A store reached over a network.
pub(super) struct RemoteStore {
    place: Place,
    uploads: Uploads,
}

/// A store's client, and what it is called.
#[derive(Clone)]
pub(super) struct Place {
    /// Rooted at the prefix.
    pub operator: Operator,
    /// Where that is, as a URL without credentials.
    pub name: Arc<str>,
    /// What the store does its own way.
    pub ways: Ways,
    /// Its calls for uploads that have not ended, where it has such. Azure forgets theirs after a week.
    pub unfinished: Option<Arc<Unfinished>>,
}

/// What stores do each their own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ways {
    /// An upload in parts can be told to replace nothing.
    pub conditional_parts: bool,
}

/// A store with more objects than this below its prefix is not one of ours.
const LISTED_MAX: usize = 1_000_000;

impl RemoteStore {
    pub(super) fn new(place: Place) -> Self {
        RemoteStore { place, uploads: Uploads::default() }
    }
}

impl BlobStore for RemoteStore {
    fn submit(&mut self, op: OpId, action: BlobOp) -> Pending {
        let place = self.place.clone();
        match action {
            BlobOp::Put { object, bytes, if_absent } => Box::pin(async move {
                let path = object.path();
                let put = place.operator.write_with(&path, bytes).if_not_exists(if_absent).await;
                put.map(|_| BlobDone::Done).map_err(|error| place.error(&path, error))
            }),
            BlobOp::PutStart { object, if_absent } => {
                let (upload, started) = Upload::start(place, object, if_absent);
                self.uploads.insert(op, upload);
                started
            }
            BlobOp::PutPart { upload, bytes, .. } => self.uploads.part(upload, bytes),
            BlobOp::PutFinish { upload } => self.uploads.finish(upload),
            BlobOp::PutAbort { upload } => self.uploads.abort(upload),
            BlobOp::Get { object, offset, len_bytes } => {
                Box::pin(async move { place.get(object, offset, len_bytes).await })
            }
            BlobOp::Head { object } => Box::pin(async move {
                let path = object.path();
                let metadata = place.operator.stat(&path).await;
                let metadata = metadata.map_err(|error| place.error(&path, error))?;
                Ok(BlobDone::Length(metadata.content_length()))
            }),
            BlobOp::List => Box::pin(async move { place.list().await }),
            BlobOp::Delete { object } => Box::pin(async move {
                let path = object.path();
                match place.operator.delete(&path).await {
                    // Also when an earlier try of ours removed it, and nobody heard of that.
                    Err(error) if refusal(&error).and_then(|r| r.status) == Some(404) => {}
                    Err(error) => return Err(place.error(&path, error)),
                    Ok(()) => {}
                }
                // Nothing else is uploaded in parts.
                if object.role == Role::Data {
                    place.forget_uploads(&path).await?;
                }
                Ok(BlobDone::Done)
            }),
        }
    }
}

impl Place {
    async fn get(
        &self,
        object: ObjectName,
        offset: u64,
        len_bytes: u64,
    ) -> Result<BlobDone, BlobError> {
        let path = object.path();
        let failed = |error| self.error(&path, error);
        // The client takes an answer that is shorter than the range for a broken one, so the range must not reach past the end.
        let length = self.operator.stat(&path).await.map_err(failed)?.content_length();
        let end = offset.saturating_add(len_bytes).min(length);
        if offset >= end {
            return Ok(BlobDone::Bytes(bytes::Bytes::new()));
        }
        let read = self.operator.read_with(&path).range(offset..end).await.map_err(failed)?;
        Ok(BlobDone::Bytes(read.to_bytes()))
    }

    async fn list(&self) -> Result<BlobDone, BlobError> {
        let failed = |error| self.error("", error);
        let mut lister = self.operator.lister_with("").recursive(true).await.map_err(failed)?;
        let mut found = Vec::new();
        while let Some(entry) = lister.try_next().await.map_err(failed)? {
            if entry.metadata().mode() == EntryMode::DIR {
                continue;
            }
            if found.len() == LISTED_MAX {
                let message =
                    format!("{}: more than {LISTED_MAX} objects are below this prefix", self.name);
                return Err(BlobError { kind: BlobErrorKind::Failed, message });
            }
            let metadata = entry.metadata();
            let written = metadata.last_modified().map(|at| Wall(at.into_inner().as_millisecond()));
            found.push((entry.path().to_owned(), metadata.content_length(), written));
        }
        for Begun { path, at, .. } in self.uploads().await? {
            found.push((format!("{path}{UNFINISHED}"), 0, at));
        }
        Ok(BlobDone::Listing(Listing::of(found)))
    }

    /// Uploads that have not ended.
    async fn uploads(&self) -> Result<Vec<Begun>, BlobError> {
        let Some(unfinished) = &self.unfinished else { return Ok(Vec::new()) };
        self.if_able(unfinished.list("").await, "").map(Option::unwrap_or_default)
    }

    /// Gives up all uploads of an object.
    pub(super) async fn forget_uploads(&self, path: &str) -> Result<(), BlobError> {
        let Some(unfinished) = &self.unfinished else { return Ok(()) };
        self.if_able(unfinished.give_up(path).await, path).map(Option::unwrap_or_default)
    }

    /// Who may write need not be allowed to see uploads, and not every store that speaks S3 has these calls: then its own rules for what
    /// broke off have to do.
    fn if_able<T>(&self, asked: Result<T, Refusal>, path: &str) -> Result<Option<T>, BlobError> {
        match asked {
            Ok(answer) => Ok(Some(answer)),
            Err(refusal) => match refusal.kind {
                BlobErrorKind::Transient | BlobErrorKind::Unknown => {
                    Err(self.refused(path, &refusal))
                }
                _ => {
                    tracing::debug!(store = %self.name, %refusal, "unfinished uploads cannot be seen");
                    Ok(None)
                }
            },
        }
    }

    /// What an error of the client's comes to.
    pub(super) fn error(&self, path: &str, error: Error) -> BlobError {
        match (refusal(&error), cause::<reqsign_core::Error>(&error)) {
            (Some(refusal), _) => self.refused(path, refusal),
            // Its own words may hold a secret.
            (None, Some(unsigned)) => {
                let what = format!("the request could not be signed: {}", unsigned.kind());
                self.said(path, unsigned_kind(unsigned), &what, "")
            }
            (None, None) => self.said(path, plain_kind(error.kind()), error.message(), ""),
        }
    }

    fn refused(&self, path: &str, refusal: &Refusal) -> BlobError {
        let code = refusal.code.as_deref().unwrap_or_default();
        self.said(path, refusal.kind, &refusal.to_string(), code)
    }

    fn said(&self, path: &str, kind: BlobErrorKind, what: &str, code: &str) -> BlobError {
        let advice = match (kind, code) {
            (BlobErrorKind::Denied, "RequestTimeTooSkewed") => "; this machine's clock is wrong",
            (BlobErrorKind::Denied, _) => "; check the credentials and what they permit here",
            (BlobErrorKind::NotFound, "NoSuchBucket" | "ContainerNotFound") => {
                "; create it, or correct its name"
            }
            (BlobErrorKind::NotFound, _) if path.is_empty() => {
                "; there may be no such bucket or container"
            }
            (BlobErrorKind::Full, _) => "; raise the quota, or delete backups",
            (BlobErrorKind::Transient, _) => "; try again later",
            (BlobErrorKind::Failed, _) if what.contains("answered with 30") => {
                "; it is elsewhere: check region and endpoint"
            }
            _ => "",
        };
        BlobError { kind, message: format!("{}{path}: {what}{advice}", self.name) }
    }
}

/// What the transport said, if it is the transport that failed.
fn refusal(error: &Error) -> Option<&Refusal> {
    cause(error)
}

fn cause<E: std::error::Error + 'static>(error: &Error) -> Option<&E> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref::<E>() {
            return Some(found);
        }
        source = cause.source();
    }
    None
}

/// Errors of the signer's: above all, that no source gives credentials.
fn unsigned_kind(error: &reqsign_core::Error) -> BlobErrorKind {
    use reqsign_core::ErrorKind;
    match error.kind() {
        _ if error.is_retryable() => BlobErrorKind::Transient,
        ErrorKind::CredentialInvalid | ErrorKind::PermissionDenied | ErrorKind::ConfigInvalid => {
            BlobErrorKind::Denied
        }
        _ => BlobErrorKind::Failed,
    }
}

/// Errors that arise without an answer of the store's.
fn plain_kind(kind: ErrorKind) -> BlobErrorKind {
    match kind {
        ErrorKind::NotFound => BlobErrorKind::NotFound,
        ErrorKind::PermissionDenied | ErrorKind::ConfigInvalid => BlobErrorKind::Denied,
        ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists => BlobErrorKind::Exists,
        _ => BlobErrorKind::Failed,
    }
}

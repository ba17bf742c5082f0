//! A directory as an object store.
//!
//! Invariants: an object appears under its name only when it is whole and on stable storage, its directory entry included; until then it is
//! a [`Partial`], so that whoever else writes the same object writes another file, and of several that may replace nothing one succeeds.
//! Directories are 0700, files 0600.

use super::{BlobStore, Pending};
use crate::disk::directory::{make_directories, sync_directory};
use crate::partial::{self, Partial, Replace, Unpublished};
use bytes::Bytes;
use raftkv_core::backup::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp, Listing, ObjectName};
use raftkv_core::ids::OpId;
use raftkv_core::time::Wall;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Objects as files below a directory: `{uuid}/data.db` and `{uuid}/metadata.json`.
#[derive(Debug)]
pub struct LocalStore {
    root: Arc<PathBuf>,
    uploads: BTreeMap<OpId, Upload>,
}

#[derive(Debug)]
struct Upload {
    object: ObjectName,
    if_absent: bool,
    length: u64,
    file: Arc<OnceLock<Partial>>,
}

/// A directory may go with the last object in it, just before another one is begun there. More often than this that is no chance.
const TRIES: u32 = 4;

impl LocalStore {
    /// A store in `root`, which is made when the first object is written.
    pub fn new(root: PathBuf) -> Self {
        LocalStore { root: Arc::new(root), uploads: BTreeMap::new() }
    }
}

impl BlobStore for LocalStore {
    fn submit(&mut self, op: OpId, action: BlobOp) -> Pending {
        let root = self.root.clone();
        match action {
            BlobOp::Put { object, bytes, if_absent } => {
                run(move || put(&root, object, &bytes, if_absent))
            }
            BlobOp::PutStart { object, if_absent } => {
                let file = Arc::new(OnceLock::new());
                self.uploads
                    .insert(op, Upload { object, if_absent, length: 0, file: file.clone() });
                run(move || {
                    start(&root, object, if_absent).map(|opened| {
                        file.get_or_init(|| opened);
                        BlobDone::Done
                    })
                })
            }
            BlobOp::PutPart { upload, bytes, .. } => {
                // Where a part goes is decided here, in the order of the calls; the writes may overtake each other.
                let Some(upload) = self.uploads.get_mut(&upload) else { return no_upload(upload) };
                let (object, offset, file) = (upload.object, upload.length, upload.file.clone());
                upload.length += bytes.len() as u64;
                run(move || {
                    let path = path(&root, object);
                    let file = file.get().ok_or_else(|| not_begun(&path))?;
                    write_part(file, &path, offset, &bytes)
                })
            }
            BlobOp::PutFinish { upload } => {
                let Some(upload) = self.uploads.remove(&upload) else { return no_upload(upload) };
                let Upload { object, if_absent, length, file } = upload;
                run(move || {
                    let path = path(&root, object);
                    let file = file.get().ok_or_else(|| not_begun(&path))?;
                    finish(file, &path, if_absent, length)
                })
            }
            BlobOp::PutAbort { upload } => {
                let upload = self.uploads.remove(&upload);
                run(move || upload.map_or(Ok(BlobDone::Done), |upload| abort(&root, &upload)))
            }
            BlobOp::Get { object, offset, len_bytes } => {
                run(move || get(&root, object, offset, len_bytes))
            }
            BlobOp::Head { object } => run(move || head(&root, object)),
            BlobOp::List => run(move || list(&root)),
            BlobOp::Delete { object } => run(move || delete(&root, object)),
        }
    }
}

fn run(action: impl FnOnce() -> Result<BlobDone, BlobError> + Send + 'static) -> Pending {
    let task = tokio::task::spawn_blocking(action);
    Box::pin(async move {
        match task.await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    })
}

fn no_upload(upload: OpId) -> Pending {
    let message = format!("there is no upload {}", upload.0);
    Box::pin(async move { Err(BlobError { kind: BlobErrorKind::Failed, message }) })
}

fn put(
    root: &Path,
    object: ObjectName,
    bytes: &Bytes,
    if_absent: bool,
) -> Result<BlobDone, BlobError> {
    let path = path(root, object);
    let file = start(root, object, if_absent)?;
    write_part(&file, &path, 0, bytes)?;
    finish(&file, &path, if_absent, bytes.len() as u64)
}

fn start(root: &Path, object: ObjectName, if_absent: bool) -> Result<Partial, BlobError> {
    let path = path(root, object);
    let dir = path.parent().expect("objects lie in the directory of their backup");
    for _ in 1..TRIES {
        match begin(dir, &path, if_absent) {
            Err(error) if error.kind == BlobErrorKind::NotFound => {}
            begun => return begun,
        }
    }
    begin(dir, &path, if_absent)
}

fn begin(dir: &Path, path: &Path, if_absent: bool) -> Result<Partial, BlobError> {
    make_directories(dir).map_err(|error| failed(dir, &error))?;
    if if_absent && path.exists() {
        return Err(exists(path));
    }
    Partial::begin(path).map_err(|error| failed(path, &error))
}

fn write_part(
    file: &Partial,
    path: &Path,
    offset: u64,
    bytes: &[u8],
) -> Result<BlobDone, BlobError> {
    let written = file.write_at(offset, bytes);
    written.map(|()| BlobDone::Done).map_err(|error| failed(path, &error))
}

fn finish(
    file: &Partial,
    path: &Path,
    if_absent: bool,
    length: u64,
) -> Result<BlobDone, BlobError> {
    let replace = if if_absent { Replace::No } else { Replace::Yes };
    let published = file.publish(length, replace).map(|()| BlobDone::Done);
    published.map_err(|error| match error {
        Unpublished::Exists => exists(path),
        Unpublished::Failed(error) => failed(path, &error),
        Unpublished::Unknown(error) => unknown(path, &error),
        Unpublished::Removed | Unpublished::Unfit | Unpublished::Length { .. } => {
            let message = format!("{}: {error}", path.display());
            BlobError { kind: BlobErrorKind::Failed, message }
        }
    })
}

fn abort(root: &Path, upload: &Upload) -> Result<BlobDone, BlobError> {
    let path = path(root, upload.object);
    if let Some(file) = upload.file.get() {
        file.discard().map_err(|error| failed(&path, &error))?;
    }
    forget_directory(&path);
    Ok(BlobDone::Done)
}

fn get(
    root: &Path,
    object: ObjectName,
    offset: u64,
    len_bytes: u64,
) -> Result<BlobDone, BlobError> {
    let path = path(root, object);
    let file = File::open(&path).map_err(|error| failed(&path, &error))?;
    let there = file.metadata().map_err(|error| failed(&path, &error))?.len();
    let length = len_bytes.min(there.saturating_sub(offset));
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, offset).map_err(|error| failed(&path, &error))?;
    Ok(BlobDone::Bytes(bytes.into()))
}

fn head(root: &Path, object: ObjectName) -> Result<BlobDone, BlobError> {
    let path = path(root, object);
    let metadata = fs::metadata(&path).map_err(|error| failed(&path, &error))?;
    Ok(BlobDone::Length(metadata.len()))
}

fn list(root: &Path) -> Result<BlobDone, BlobError> {
    let entries = read_directory(root).map_err(|error| failed(root, &error))?;
    list_entries(entries, read_directory).map(|found| BlobDone::Listing(Listing::of(found)))
}

/// An object in a listing: its path, its length, and when it was written.
type Listed = (String, u64, Option<Wall>);

/// What there is, in the directories of backups and beside them. A directory goes with the last object in it: one that is gone by now is empty.
/// One that cannot be read hides no other one: what it most probably has is listed, and reading that tells what is wrong.
fn list_entries(
    entries: Vec<fs::DirEntry>,
    read: impl Fn(&Path) -> io::Result<Vec<fs::DirEntry>>,
) -> Result<Vec<Listed>, BlobError> {
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.file_type() {
            Ok(kind) if !kind.is_dir() => {
                let (len_bytes, written) = look(&entry).map_err(|error| failed(&path, &error))?;
                found.push((name, len_bytes, written));
                continue;
            }
            _ => {}
        }
        match read(&path).and_then(|inner| list_inner(&name, &inner)) {
            Ok(inner) => found.extend(inner),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a directory in a store of backups cannot be read");
                let most_probable = name.parse().map(|id| ObjectName::metadata(id).path());
                found.push((most_probable.unwrap_or(name), 0, None));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn list_inner(name: &str, entries: &[fs::DirEntry]) -> io::Result<Vec<Listed>> {
    let list = |entry: &fs::DirEntry| {
        let inner_name = entry.file_name().to_string_lossy().into_owned();
        let (len_bytes, written) = look(entry)?;
        Ok((format!("{name}/{}", partial::listed(&inner_name)), len_bytes, written))
    };
    entries.iter().map(list).collect()
}

fn read_directory(path: &Path) -> io::Result<Vec<fs::DirEntry>> {
    fs::read_dir(path).and_then(Iterator::collect)
}

/// Its length, and when it was written. An entry may be gone by now; then it counts as empty.
fn look(entry: &fs::DirEntry) -> io::Result<(u64, Option<Wall>)> {
    match entry.metadata() {
        Ok(metadata) => {
            let written = Wall(metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000);
            Ok((metadata.len(), Some(written)))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok((0, None)),
        Err(error) => Err(error),
    }
}

fn delete(root: &Path, object: ObjectName) -> Result<BlobDone, BlobError> {
    let path = path(root, object);
    partial::remove(&path).map_err(|error| failed(&path, &error))?;
    // What is under way to the object goes with it, also what was left by an upload that broke off.
    partial::remove_all(&path).map_err(|error| failed(&path, &error))?;
    let dir = path.parent().expect("objects lie in the directory of their backup");
    match sync_directory(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(unknown(dir, &error)),
        _ => forget_directory(&path),
    }
    Ok(BlobDone::Done)
}

/// Removes the directory of a backup if nothing is left in it.
fn forget_directory(object: &Path) {
    if let Some(dir) = object.parent() {
        // It may hold the other object; then it stays, as it should.
        let _ = fs::remove_dir(dir);
    }
}

fn path(root: &Path, object: ObjectName) -> PathBuf {
    root.join(object.path())
}

fn not_begun(path: &Path) -> BlobError {
    let message = format!("{}: its upload was not begun", path.display());
    BlobError { kind: BlobErrorKind::Failed, message }
}

fn exists(path: &Path) -> BlobError {
    BlobError {
        kind: BlobErrorKind::Exists,
        message: format!("{} is there already", path.display()),
    }
}

fn failed(path: &Path, error: &io::Error) -> BlobError {
    let kind = match error.kind() {
        ErrorKind::NotFound => BlobErrorKind::NotFound,
        ErrorKind::AlreadyExists => BlobErrorKind::Exists,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => BlobErrorKind::Denied,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => BlobErrorKind::Full,
        _ => BlobErrorKind::Failed,
    };
    BlobError { kind, message: format!("{}: {error}", path.display()) }
}

/// The name may be there or not after a crash.
fn unknown(path: &Path, error: &io::Error) -> BlobError {
    let message = format!("{}: {error}", path.display());
    BlobError { kind: BlobErrorKind::Unknown, message }
}

#[cfg(test)]
mod tests;

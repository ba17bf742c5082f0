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
    list_entries(entries).map(|found| BlobDone::Listing(Listing::of(found)))
}

/// What there is, in the directories of backups and beside them. A directory goes with the last object in it: one that is gone by now is empty.
fn list_entries(entries: Vec<fs::DirEntry>) -> Result<Vec<(String, u64, Option<Wall>)>, BlobError> {
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let inner = match entry.file_type() {
            Ok(kind) if !kind.is_dir() => {
                let (len_bytes, written) = look(&entry)?;
                found.push((name, len_bytes, written));
                continue;
            }
            kind => kind.and_then(|_| read_directory(&path)),
        };
        let inner = match inner {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            inner => inner.map_err(|error| failed(&path, &error))?,
        };
        for inner in inner {
            let inner_name = inner.file_name().to_string_lossy().into_owned();
            let (len_bytes, written) = look(&inner)?;
            found.push((format!("{name}/{}", partial::listed(&inner_name)), len_bytes, written));
        }
    }
    found.sort();
    Ok(found)
}

fn read_directory(path: &Path) -> io::Result<Vec<fs::DirEntry>> {
    fs::read_dir(path).and_then(Iterator::collect)
}

/// Its length, and when it was written. An entry may be gone by now; then it counts as empty.
fn look(entry: &fs::DirEntry) -> Result<(u64, Option<Wall>), BlobError> {
    match entry.metadata() {
        Ok(metadata) => {
            let written = Wall(metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000);
            Ok((metadata.len(), Some(written)))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok((0, None)),
        Err(error) => Err(failed(&entry.path(), &error)),
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
mod tests {
    use super::*;
    use raftkv_core::backup::BackupId;
    use raftkv_core::rng::Seed;
    use std::os::unix::fs::PermissionsExt as _;

    struct Fixture {
        dir: tempfile::TempDir,
        store: LocalStore,
        next: u64,
        id: BackupId,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = LocalStore::new(dir.path().join("deep/store"));
            let id = BackupId::draw(&mut Seed::from_number(1).fork("test"));
            Fixture { dir, store, next: 0, id }
        }

        async fn perform(&mut self, action: BlobOp) -> Result<BlobDone, BlobErrorKind> {
            self.next += 1;
            self.store.submit(OpId(self.next), action).await.map_err(|error| error.kind)
        }

        async fn upload(&mut self, parts: &[&'static [u8]]) -> OpId {
            let object = ObjectName::data(self.id);
            self.perform(BlobOp::PutStart { object, if_absent: true }).await.unwrap();
            let upload = OpId(self.next);
            // All under way at once: their order is that of the calls.
            let mut pending = Vec::new();
            for (part, number) in parts.iter().zip(1..) {
                let bytes = Bytes::from_static(part);
                let part = BlobOp::PutPart { upload, number, bytes };
                self.next += 1;
                pending.push(self.store.submit(OpId(self.next), part));
            }
            for part in pending.into_iter().rev() {
                part.await.unwrap();
            }
            upload
        }

        async fn names(&mut self) -> (Vec<String>, Vec<String>) {
            let Ok(BlobDone::Listing(listing)) = self.perform(BlobOp::List).await else {
                panic!("a store can be listed")
            };
            let objects = listing.objects.iter().map(|(name, _)| name.path()).collect();
            let uploads = listing.uploads.iter().map(|(name, _)| name.path()).collect();
            assert_eq!(listing.strangers, Vec::<String>::new());
            (objects, uploads)
        }
    }

    #[tokio::test]
    async fn uploads_appear_whole_or_not_at_all() {
        let mut fixture = Fixture::new();
        let object = ObjectName::data(fixture.id);
        let upload = fixture.upload(&[b"one", b"two", b"3"]).await;
        assert_eq!(fixture.names().await, (vec![], vec![object.path()]));
        fixture.perform(BlobOp::PutFinish { upload }).await.unwrap();
        assert_eq!(fixture.names().await, (vec![object.path()], vec![]));
        let get = BlobOp::Get { object, offset: 2, len_bytes: 100 };
        assert_eq!(fixture.perform(get).await, Ok(BlobDone::Bytes("etwo3".into())));
        assert_eq!(fixture.perform(BlobOp::Head { object }).await, Ok(BlobDone::Length(7)));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let root = fixture.dir.path().join("deep/store");
        assert_eq!(mode(&root), 0o700);
        assert_eq!(mode(&root.join(object.path())), 0o600);
    }

    #[tokio::test]
    async fn of_two_uploads_of_one_object_each_has_a_file_of_its_own() {
        let mut fixture = Fixture::new();
        let object = ObjectName::data(fixture.id);
        let first = fixture.upload(&[b"one", b"two"]).await;
        // As by another process: it knows nothing of the first.
        let second = fixture.upload(&[b"one"]).await;
        let part = BlobOp::PutPart { upload: first, number: 3, bytes: "3".into() };
        fixture.perform(part).await.unwrap();
        fixture.perform(BlobOp::PutFinish { upload: second }).await.unwrap();
        let finished = fixture.perform(BlobOp::PutFinish { upload: first }).await;
        assert_eq!(finished, Err(BlobErrorKind::Exists));
        let get = BlobOp::Get { object, offset: 0, len_bytes: 100 };
        assert_eq!(fixture.perform(get).await, Ok(BlobDone::Bytes("one".into())));
        assert_eq!(fixture.names().await, (vec![object.path()], vec![]));
    }

    /// As two processes take a lock at once: whoever is told that it is done has written what is there.
    #[test]
    fn of_two_stores_that_put_an_object_where_nothing_may_be_one_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        for number in 1..200 {
            let object = ObjectName::lock(number);
            let put_as = |who: &'static str| put(&root, object, &who.into(), true);
            let (one, other) = std::thread::scope(|scope| {
                let other = scope.spawn(|| put_as("other"));
                (put_as("one"), other.join().unwrap())
            });
            let winner = match (one, other) {
                (Ok(_), Err(error)) if error.kind == BlobErrorKind::Exists => "one",
                (Err(error), Ok(_)) if error.kind == BlobErrorKind::Exists => "other",
                outcome => panic!("{number}: {outcome:?}"),
            };
            assert_eq!(fs::read(path(&root, object)).unwrap(), winner.as_bytes());
            assert_eq!(fs::read_dir(root.join("locks")).unwrap().count(), 1);
            // The directory goes with it, and is made again by both.
            delete(&root, object).unwrap();
        }
    }

    #[test]
    fn a_directory_that_goes_with_its_last_object_is_made_again_for_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let id = BackupId::draw(&mut Seed::from_number(1).fork("test"));
        let come_and_go = |object| {
            for _ in 0..300 {
                put(dir.path(), object, &"x".into(), true).unwrap();
                delete(dir.path(), object).unwrap();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| come_and_go(ObjectName::status(id)));
            come_and_go(ObjectName::pin(id));
        });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_upload_that_a_killed_process_left_is_listed_and_goes_with_its_object() {
        let dir = tempfile::tempdir().unwrap();
        let object = ObjectName::data(BackupId::draw(&mut Seed::from_number(1).fork("test")));
        let path = path(dir.path(), object);
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(format!("{}.00000000deadbeef.partial", path.display()), "half").unwrap();
        let Ok(BlobDone::Listing(listing)) = list(dir.path()) else { panic!("it can be listed") };
        assert_eq!(listing.uploads.iter().map(|(it, _)| *it).collect::<Vec<_>>(), [object]);
        delete(dir.path(), object).unwrap();
        assert!(!path.parent().unwrap().exists());
    }

    #[tokio::test]
    async fn aborted_uploads_leave_nothing() {
        let mut fixture = Fixture::new();
        let upload = fixture.upload(&[b"one"]).await;
        fixture.perform(BlobOp::PutAbort { upload }).await.unwrap();
        assert_eq!(fixture.names().await, (vec![], vec![]));
        fixture.perform(BlobOp::PutAbort { upload }).await.unwrap();
        let finished = fixture.perform(BlobOp::PutFinish { upload }).await;
        assert_eq!(finished, Err(BlobErrorKind::Failed));
    }

    #[tokio::test]
    async fn nothing_is_replaced_unless_asked() {
        let mut fixture = Fixture::new();
        let object = ObjectName::metadata(fixture.id);
        let put =
            |bytes: &'static str, if_absent| BlobOp::Put { object, bytes: bytes.into(), if_absent };
        fixture.perform(put("one", true)).await.unwrap();
        assert_eq!(fixture.perform(put("two", true)).await, Err(BlobErrorKind::Exists));
        fixture.perform(put("three", false)).await.unwrap();
        let get = BlobOp::Get { object, offset: 0, len_bytes: 100 };
        assert_eq!(fixture.perform(get).await, Ok(BlobDone::Bytes("three".into())));
    }

    #[tokio::test]
    async fn deleting_twice_is_deleting_once() {
        let mut fixture = Fixture::new();
        let object = ObjectName::metadata(fixture.id);
        let put = BlobOp::Put { object, bytes: "x".into(), if_absent: true };
        fixture.perform(put).await.unwrap();
        for _ in 0..2 {
            fixture.perform(BlobOp::Delete { object }).await.unwrap();
        }
        assert_eq!(fixture.names().await, (vec![], vec![]));
        let head = fixture.perform(BlobOp::Head { object }).await;
        assert_eq!(head, Err(BlobErrorKind::NotFound));
    }

    #[test]
    fn a_directory_that_goes_while_the_store_is_listed_is_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let draw = |seed| BackupId::draw(&mut Seed::from_number(seed).fork("test"));
        let (stays, goes) = (ObjectName::status(draw(1)), ObjectName::status(draw(2)));
        for object in [stays, goes] {
            put(dir.path(), object, &"x".into(), true).unwrap();
        }
        let entries = read_directory(dir.path()).unwrap();
        delete(dir.path(), goes).unwrap();
        let found = list_entries(entries).unwrap();
        assert_eq!(found.iter().map(|(path, ..)| path).collect::<Vec<_>>(), [&stays.path()]);
    }

    #[tokio::test]
    async fn a_store_that_is_not_there_is_not_an_empty_one() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.perform(BlobOp::List).await, Err(BlobErrorKind::NotFound));
    }
}

//! The store in a directory: what it writes, what it lists, and what it makes of failures.

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
    let found = list_entries(entries, read_directory).unwrap();
    assert_eq!(found.iter().map(|(path, ..)| path).collect::<Vec<_>>(), [&stays.path()]);
}

#[test]
fn a_directory_that_cannot_be_read_hides_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Seed::from_number(1).fork("test");
    let [good, bad] = [(); 2].map(|()| ObjectName::data(BackupId::draw(&mut rng)));
    for object in [good, bad] {
        put(dir.path(), object, &"x".into(), true).unwrap();
    }
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    let read = |path: &Path| match path.ends_with(good.backup.to_string()) {
        true => read_directory(path),
        false => Err(ErrorKind::PermissionDenied.into()),
    };
    let found = list_entries(read_directory(dir.path()).unwrap(), read).unwrap();
    let mut paths: Vec<_> = found.into_iter().map(|(path, ..)| path).collect();
    paths.sort();
    let metadata = ObjectName::metadata(bad.backup).path();
    let mut expected = [good.path(), metadata, "lost+found".to_owned()];
    expected.sort();
    assert_eq!(paths, expected);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_not_an_empty_one() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.perform(BlobOp::List).await, Err(BlobErrorKind::NotFound));
}

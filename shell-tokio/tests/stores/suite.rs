//! What every store must do, whatever it is: the same calls and the same answers.

use bytes::Bytes;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp, Listing, ObjectName};
use raftkv_core::backup::provider::Provider;
use raftkv_core::backup::retry::Policy;
use raftkv_core::ids::OpId;
use raftkv_core::rng::Seed;
use raftkv_node::blob::{BlobStore, open_provider};
use std::time::SystemTime;

/// What stores demand of every part but the last.
pub const PART_BYTES: usize = 5 << 20;

/// Quick, so that a test is.
pub const POLICY: Policy =
    Policy { tries: 4, first_pause_ms: 1, longest_pause_ms: 5, whole_ms: 60_000, try_ms: 30_000 };

/// A store that is called one operation after the other.
pub struct Calls {
    store: Box<dyn BlobStore>,
    next: u64,
}

pub type Outcome = Result<BlobDone, BlobErrorKind>;

impl Calls {
    pub fn new(provider: &Provider, prefix: &str) -> Calls {
        Calls { store: open_provider(provider, prefix, POLICY).unwrap(), next: 0 }
    }

    /// Calls and waits; the whole error.
    pub async fn try_call(&mut self, action: BlobOp) -> Result<BlobDone, BlobError> {
        self.next += 1;
        self.store.submit(OpId(self.next), action).await
    }

    /// Calls and waits; the error's kind.
    pub async fn call(&mut self, action: BlobOp) -> Outcome {
        self.try_call(action).await.map_err(|error| error.kind)
    }

    pub async fn put(
        &mut self,
        object: ObjectName,
        bytes: &'static str,
        if_absent: bool,
    ) -> Outcome {
        self.call(BlobOp::Put { object, bytes: bytes.into(), if_absent }).await
    }

    pub async fn get(
        &mut self,
        object: ObjectName,
        offset: u64,
        len_bytes: u64,
    ) -> Result<Bytes, BlobErrorKind> {
        match self.call(BlobOp::Get { object, offset, len_bytes }).await? {
            BlobDone::Bytes(bytes) => Ok(bytes),
            other => panic!("{other:?}"),
        }
    }

    pub async fn list(&mut self) -> Listing {
        match self.try_call(BlobOp::List).await.unwrap() {
            BlobDone::Listing(listing) => listing,
            other => panic!("{other:?}"),
        }
    }

    pub async fn start(&mut self, object: ObjectName) -> OpId {
        self.call(BlobOp::PutStart { object, if_absent: true }).await.unwrap();
        OpId(self.next)
    }

    /// All parts are under way at once; the answers come as they come.
    pub async fn parts(&mut self, upload: OpId, parts: &[Bytes]) -> Vec<Outcome> {
        let mut pending = Vec::new();
        for (bytes, number) in parts.iter().zip(1..) {
            self.next += 1;
            let part = BlobOp::PutPart { upload, number, bytes: bytes.clone() };
            pending.push(tokio::spawn(self.store.submit(OpId(self.next), part)));
        }
        let mut outcomes = Vec::new();
        for part in pending.into_iter().rev() {
            outcomes.push(part.await.unwrap().map_err(|error| error.kind));
        }
        outcomes
    }

    /// A whole upload.
    pub async fn upload(&mut self, object: ObjectName, parts: &[Bytes]) -> Outcome {
        let upload = self.start(object).await;
        for outcome in self.parts(upload, parts).await {
            outcome?;
        }
        self.call(BlobOp::PutFinish { upload }).await
    }
}

/// Ids, different ones for each number.
pub fn id(number: u64) -> BackupId {
    BackupId::draw(&mut Seed::from_number(number).fork("suite"))
}

/// Parts of different content: full ones, and a short last one.
pub fn parts(full: usize) -> Vec<Bytes> {
    let part = |number: usize, len| Bytes::from(vec![b'a' + number as u8; len]);
    (0..full).map(|number| part(number, PART_BYTES)).chain([part(full, 1000)]).collect()
}

/// Everything a store must do.
pub async fn conforms(provider: &Provider) {
    small_objects(&mut Calls::new(provider, "small/")).await;
    ranges(&mut Calls::new(provider, "ranges/")).await;
    uploads(provider).await;
    second_writers(provider).await;
    given_up(&mut Calls::new(provider, "given/up/")).await;
}

async fn small_objects(calls: &mut Calls) {
    let object = ObjectName::metadata(id(1));
    assert_eq!(calls.get(object, 0, 10).await, Err(BlobErrorKind::NotFound));
    assert_eq!(calls.call(BlobOp::Head { object }).await, Err(BlobErrorKind::NotFound));
    assert_eq!(calls.put(object, "one", true).await, Ok(BlobDone::Done));
    assert_eq!(calls.put(object, "two", true).await, Err(BlobErrorKind::Exists));
    assert_eq!(calls.get(object, 0, 10).await, Ok("one".into()));
    assert_eq!(calls.put(object, "three", false).await, Ok(BlobDone::Done));
    assert_eq!(calls.get(object, 0, 10).await, Ok("three".into()));
    assert_eq!(calls.call(BlobOp::Head { object }).await, Ok(BlobDone::Length(5)));
    let listing = calls.list().await;
    assert_eq!(listing.objects, [(object, 5)]);
    // Retention, holds and what broke off go by the store's clock.
    let (written, now) = (listing.written[&object], SystemTime::now());
    let now_ms = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    assert!((written.0 - now_ms).abs() < 3_600_000, "{written:?} is not now, {now_ms} ms");
    for _ in 0..2 {
        assert_eq!(calls.call(BlobOp::Delete { object }).await, Ok(BlobDone::Done));
    }
    assert_eq!(calls.call(BlobOp::Head { object }).await, Err(BlobErrorKind::NotFound));
}

async fn ranges(calls: &mut Calls) {
    let object = ObjectName::metadata(id(2));
    calls.put(object, "0123456789", true).await.unwrap();
    for (offset, len_bytes, there) in [
        (0, 10, "0123456789"),
        (3, 4, "3456"),
        (8, 100, "89"),
        (10, 5, ""),
        (99, 5, ""),
        (4, 0, ""),
    ] {
        assert_eq!(
            calls.get(object, offset, len_bytes).await,
            Ok(there.into()),
            "{offset}+{len_bytes}"
        );
    }
    // What reads like a failure of the store's is an object's content all the same.
    let like_an_error = "<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>";
    calls.put(object, like_an_error, false).await.unwrap();
    assert_eq!(calls.get(object, 0, 100).await, Ok(like_an_error.into()));
}

async fn uploads(provider: &Provider) {
    let calls = &mut Calls::new(provider, "uploads/");
    let empty = ObjectName::data(id(3));
    calls.upload(empty, &[]).await.unwrap();
    assert_eq!(calls.call(BlobOp::Head { object: empty }).await, Ok(BlobDone::Length(0)));
    assert_eq!(calls.get(empty, 0, 10).await, Ok(Bytes::new()));
    for (number, full) in [(4, 0), (5, 1), (6, 6)] {
        let (object, parts) = (ObjectName::data(id(number)), parts(full));
        let whole = parts.concat();
        let upload = calls.start(object).await;
        let outcomes = calls.parts(upload, &parts).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(
            calls.call(BlobOp::Head { object }).await,
            Err(BlobErrorKind::NotFound),
            "visible too early"
        );
        assert_eq!(calls.call(BlobOp::PutFinish { upload }).await, Ok(BlobDone::Done));
        let there = calls.get(object, 0, whole.len() as u64 + 1).await.unwrap();
        assert!(there == whole, "{} of {} bytes, or others", there.len(), whole.len());
        let across = PART_BYTES.min(whole.len()) as u64 - 2;
        assert_eq!(
            calls.get(object, across, 4).await.unwrap(),
            whole[across as usize..][..4.min(whole.len() - across as usize)]
        );
    }
}

/// Nothing is ever replaced or mixed: who comes second is told.
async fn second_writers(provider: &Provider) {
    let object = ObjectName::data(id(7));
    let (mut first, mut second) =
        (Calls::new(provider, "second/"), Calls::new(provider, "second/"));
    first.upload(object, &parts(1)).await.unwrap();
    let begun = second.call(BlobOp::PutStart { object, if_absent: true }).await;
    assert_eq!(begun, Err(BlobErrorKind::Exists));
    let there = first.get(object, 0, 10).await.unwrap();
    assert_eq!(there, "aaaaaaaaaa");
}

/// Where the store can be told so, even uploads that began when nothing was there are fenced when they end.
pub async fn fences_uploads(provider: &Provider) {
    let object = ObjectName::data(id(8));
    let (mut first, mut second) =
        (Calls::new(provider, "fences/"), Calls::new(provider, "fences/"));
    let (early, late) = (first.start(object).await, second.start(object).await);
    let other: Vec<Bytes> =
        parts(1).iter().map(|part| Bytes::from(vec![b'z'; part.len()])).collect();
    second.parts(late, &other).await;
    second.call(BlobOp::PutFinish { upload: late }).await.unwrap();
    first.parts(early, &parts(1)).await;
    let finished = first.call(BlobOp::PutFinish { upload: early }).await;
    assert!(finished.is_err(), "a second writer replaced the first");
    first.call(BlobOp::PutAbort { upload: early }).await.unwrap();
    assert_eq!(first.get(object, 0, 3).await.unwrap(), "zzz");
}

async fn given_up(calls: &mut Calls) {
    let object = ObjectName::data(id(9));
    let upload = calls.start(object).await;
    calls.parts(upload, &parts(2)).await;
    for _ in 0..2 {
        assert_eq!(calls.call(BlobOp::PutAbort { upload }).await, Ok(BlobDone::Done));
    }
    assert_eq!(calls.call(BlobOp::PutFinish { upload }).await, Err(BlobErrorKind::Failed));
    assert_eq!(calls.list().await, Listing::default());
}

/// What a process that was killed had begun to upload is found, and goes with its object, or when the same object is begun anew.
pub async fn forgets_uploads(provider: &Provider) {
    let prefix = "broken/off/";
    let [whole, other, again] = [20, 21, 22].map(|number| ObjectName::data(id(number)));
    let mut calls = Calls::new(provider, prefix);
    // Whose futures and tasks nobody drives any more: as if its process had been killed.
    let mut killed = Vec::new();
    for object in [whole, other, other, again] {
        let mut calls = Calls::new(provider, prefix);
        let upload = calls.call(BlobOp::PutStart { object, if_absent: false }).await;
        upload.unwrap();
        let upload = OpId(1);
        // Begun with the store when it has more than one part.
        calls.parts(upload, &parts(2)).await;
        killed.push(calls);
    }
    let begun = |listing: &Listing| -> Vec<ObjectName> {
        listing.uploads.iter().map(|(object, _)| *object).collect()
    };
    // The second one of the same object has taken the place of the first.
    let mut all = vec![whole, other, again];
    all.sort_unstable();
    let listing = calls.list().await;
    assert_eq!(begun(&listing), all);
    assert!(listing.uploads.iter().all(|(_, at)| at.is_some()), "{:?}", listing.uploads);
    assert_eq!((listing.objects, listing.strangers), (vec![], vec![]));
    calls.call(BlobOp::Delete { object: other }).await.unwrap();
    calls.upload(again, &parts(2)).await.unwrap();
    assert_eq!(begun(&calls.list().await), [whole]);
    calls.call(BlobOp::Delete { object: whole }).await.unwrap();
    assert_eq!(begun(&calls.list().await), []);
    let finished = killed[1].call(BlobOp::PutFinish { upload: OpId(1) }).await;
    assert!(finished.is_err(), "what was given up was finished");
}

/// More objects than a page of the store's listing holds.
pub async fn lists_pages(provider: &Provider, objects: u64) {
    let mut calls = Calls::new(provider, "pages/");
    let mut names: Vec<_> =
        (0..objects).map(|number| (ObjectName::metadata(id(1000 + number)), 1)).collect();
    for (object, _) in &names {
        calls.put(*object, "x", false).await.unwrap();
    }
    names.sort_unstable();
    assert_eq!(calls.list().await.objects, names);
}

/// Wrong credentials, and a bucket that is not there: the error says so, and what to do.
pub async fn refuses(wrong_key: &Provider, no_bucket: &Provider) {
    let object = ObjectName::metadata(id(10));
    for action in [
        BlobOp::List,
        BlobOp::Get { object, offset: 0, len_bytes: 1 },
        BlobOp::Put { object, bytes: "x".into(), if_absent: true },
    ] {
        let error = Calls::new(wrong_key, "").try_call(action.clone()).await.unwrap_err();
        assert_eq!(error.kind, BlobErrorKind::Denied, "{action:?}: {error}");
        assert!(error.message.contains("check the credentials"), "{error}");
        // Writing is left out: the server for S3 makes the bucket then, which no service does.
        if matches!(action, BlobOp::Put { .. }) {
            continue;
        }
        let error = Calls::new(no_bucket, "").try_call(action.clone()).await.unwrap_err();
        assert_eq!(error.kind, BlobErrorKind::NotFound, "{action:?}: {error}");
        assert!(error.message.contains("nowhere"), "{error}");
    }
}

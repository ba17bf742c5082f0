//! What every store must survive: a server that fails now and then, and connections that break.

use super::proxy::{Fault, Proxy};
use super::suite::{Calls, PART_BYTES, id, parts};
use raftkv_core::backup::blob::{BlobDone, BlobErrorKind, BlobOp, ObjectName};
use raftkv_core::backup::provider::Provider;

/// First lines of the protocol's requests, as far as a test must tell them apart.
#[derive(Clone, Copy)]
pub struct Requests {
    /// Asks for an object's length.
    pub look: &'static str,
    /// Puts a small object.
    pub put: &'static str,
    /// Uploads a part.
    pub part: &'static str,
    /// Ends an upload.
    pub complete: &'static str,
}

const UNAVAILABLE: Fault = Fault::Status(503, "");

/// All of it, with a store that is reached through this proxy.
pub async fn survives(provider: &Provider, proxy: &Proxy, requests: Requests) {
    transient(provider, proxy, requests).await;
    broken_uploads(provider, proxy, requests).await;
    lost_answers(provider, proxy, requests).await;
    lasting(provider, proxy, requests).await;
    proxy.reset();
}

async fn transient(provider: &Provider, proxy: &Proxy, requests: Requests) {
    let mut calls = Calls::new(provider, "transient/");
    let object = ObjectName::metadata(id(20));
    for fault in
        [UNAVAILABLE, Fault::Status(500, ""), Fault::Status(429, "retry-after: 0\r\n"), Fault::Cut]
    {
        proxy.reset();
        proxy.plan(requests.put, fault, 2);
        assert_eq!(calls.put(object, "content", false).await, Ok(BlobDone::Done), "{fault:?}");
        assert!(proxy.is_done(), "{fault:?} never happened");
    }
    for fault in [UNAVAILABLE, Fault::LoseAnswer, Fault::CutAnswer] {
        proxy.reset();
        proxy.plan("GET ", fault, 2);
        assert_eq!(calls.get(object, 0, 100).await, Ok("content".into()), "{fault:?}");
        proxy.plan("GET ", fault, 1);
        assert_eq!(calls.list().await.objects, [(object, 7)], "{fault:?}");
        assert!(proxy.is_done(), "{fault:?} never happened");
    }
    proxy.reset();
    proxy.plan("DELETE ", Fault::LoseAnswer, 1);
    assert_eq!(calls.call(BlobOp::Delete { object }).await, Ok(BlobDone::Done));
}

async fn broken_uploads(provider: &Provider, proxy: &Proxy, requests: Requests) {
    let mut calls = Calls::new(provider, "broken/");
    let (object, parts) = (ObjectName::data(id(21)), parts(3));
    proxy.reset();
    proxy.plan(requests.part, Fault::Cut, 1);
    proxy.plan(requests.part, UNAVAILABLE, 1);
    proxy.plan(requests.part, Fault::LoseAnswer, 1);
    proxy.plan(requests.complete, UNAVAILABLE, 1);
    assert_eq!(calls.upload(object, &parts).await, Ok(BlobDone::Done));
    assert!(proxy.is_done(), "not everything that was planned happened");
    let whole = parts.concat();
    assert!(calls.get(object, 0, 1 << 30).await.unwrap() == whole);

    // A part that fails for good fails the upload, and giving it up leaves nothing.
    let object = ObjectName::data(id(22));
    proxy.reset();
    let upload = calls.start(object).await;
    proxy.plan(requests.part, UNAVAILABLE, u32::MAX);
    let outcomes = calls.parts(upload, &parts).await;
    let finished = calls.call(BlobOp::PutFinish { upload }).await;
    assert!(finished.is_err(), "{outcomes:?}");
    proxy.reset();
    assert_eq!(calls.call(BlobOp::PutAbort { upload }).await, Ok(BlobDone::Done));
    assert_eq!(calls.call(BlobOp::Head { object }).await, Err(BlobErrorKind::NotFound));
}

/// When the answer to a conditional write is lost, the next try meets its own effect: that is doubt, not somebody else's object.
async fn lost_answers(provider: &Provider, proxy: &Proxy, requests: Requests) {
    let mut calls = Calls::new(provider, "lost/");
    let object = ObjectName::metadata(id(23));
    proxy.reset();
    proxy.plan(requests.put, Fault::LoseAnswer, 1);
    let outcome = calls.put(object, "mine", true).await;
    // A protocol with sessions can tell its own first try.
    assert!(matches!(outcome, Ok(_) | Err(BlobErrorKind::Unknown)), "{outcome:?}");
    assert_eq!(calls.get(object, 0, 100).await, Ok("mine".into()));
    let object = ObjectName::data(id(24));
    proxy.reset();
    proxy.plan(requests.complete, Fault::LoseAnswer, 1);
    let outcome = calls.upload(object, &parts(1)).await;
    assert!(matches!(outcome, Ok(_) | Err(BlobErrorKind::Unknown)), "{outcome:?}");
    let length = PART_BYTES as u64 + 1000;
    assert_eq!(calls.call(BlobOp::Head { object }).await, Ok(BlobDone::Length(length)));
}

async fn lasting(provider: &Provider, proxy: &Proxy, requests: Requests) {
    let mut calls = Calls::new(provider, "lasting/");
    let object = ObjectName::metadata(id(25));
    let get = BlobOp::Get { object, offset: 0, len_bytes: 1 };
    for (fault, kind, tries) in [
        (UNAVAILABLE, BlobErrorKind::Transient, 4),
        (Fault::Status(503, "retry-after: 99999\r\n"), BlobErrorKind::Transient, 1),
        (Fault::Status(403, ""), BlobErrorKind::Denied, 1),
        (Fault::Status(507, ""), BlobErrorKind::Full, 1),
        (Fault::Status(418, ""), BlobErrorKind::Failed, 1),
        (Fault::Status(301, ""), BlobErrorKind::Failed, 1),
    ] {
        proxy.reset();
        proxy.plan(requests.look, fault, u32::MAX);
        assert_eq!(calls.call(get.clone()).await, Err(kind), "{fault:?}");
        assert_eq!(proxy.count(requests.look), tries, "{fault:?}");
    }
    proxy.reset();
    proxy.plan("PUT ", UNAVAILABLE, u32::MAX);
    proxy.plan("POST ", UNAVAILABLE, u32::MAX);
    assert_eq!(calls.put(object, "x", true).await, Err(BlobErrorKind::Unknown));
}

//! S3, against a server in this process that keeps objects as files.

use super::answers::{serve as serve_answers, serve_untrusted};
use super::faults::{Requests, survives};
use super::proxy::{Fault, Proxy};
use super::suite::{Calls, id, parts};
use super::{backup, suite};
use raftkv_core::backup::blob::{BlobDone, BlobErrorKind, BlobOp, ObjectName};
use raftkv_core::backup::provider::Provider;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

pub use super::s3_server::{ACCESS, SECRET, serve};

const REQUESTS: Requests =
    Requests { look: "HEAD ", put: "PUT /", part: "partNumber=", complete: "?uploadId=" };

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    let provider = provider(serve(dir.path()).await, "bucket", SECRET);
    suite::conforms(&provider).await;
    suite::fences_uploads(&provider).await;
    suite::lists_pages(&provider, 1_005).await;
    assert_eq!(leftovers(dir.path()), Vec::<String>::new(), "parts of uploads that were given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_broke_off_are_found_and_go() {
    let dir = tempfile::tempdir().unwrap();
    suite::forgets_uploads(&provider(serve(dir.path()).await, "bucket", SECRET)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_and_survives() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path()).await;
    suite::refuses(&provider(server, "bucket", "wrong"), &provider(server, "nowhere", SECRET))
        .await;
    let proxy = Proxy::start(server).await;
    let proxied = provider(proxy.address, "bucket", SECRET);
    survives(&proxied, &proxy, REQUESTS).await;
    proxy.plan(REQUESTS.complete, Fault::FailLate, 1);
    let mut calls = Calls::new(&proxied, "late/");
    assert_eq!(calls.upload(ObjectName::data(id(26)), &parts(1)).await, Ok(BlobDone::Done));
    assert!(proxy.is_done(), "the failure never happened");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_show_who_it_is_is_asked_once() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let server = serve_untrusted(move || counted.fetch_add(1, Relaxed));
    let provider = provider_at(&format!("https://{server}"), "bucket", SECRET);
    let head = BlobOp::Head { object: ObjectName::metadata(id(27)) };
    let error = Calls::new(&provider, "").try_call(head).await.unwrap_err();
    assert_eq!(error.kind, BlobErrorKind::Failed, "{error}");
    assert!(error.message.contains("certificate"), "{error}");
    assert_eq!(calls.load(Relaxed), 1);
}

/// S3 answers with 400 to credentials that have run out.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_have_run_out_are_said_to_be_the_trouble() {
    let expired = "<Error><Code>ExpiredToken</Code></Error>";
    let server = serve_answers(move |_, _| (400, expired.into()));
    let object = ObjectName::metadata(id(28));
    let put = BlobOp::Put { object, bytes: "x".into(), if_absent: false };
    let error = Calls::new(&provider(server, "bucket", SECRET), "").try_call(put).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, BlobErrorKind::Denied, "{error}");
    assert!(error.message.contains("check the credentials"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_go_around() {
    let dir = tempfile::tempdir().unwrap();
    let provider = provider(serve(dir.path()).await, "bucket", SECRET);
    backup::goes_around(&provider).await;
    assert_eq!(leftovers(dir.path()), Vec::<String>::new());
}

pub fn provider(server: SocketAddr, bucket: &str, secret: &str) -> Provider {
    provider_at(&format!("http://{server}"), bucket, secret)
}

fn provider_at(endpoint: &str, bucket: &str, secret: &str) -> Provider {
    serde_json::from_value(json!({
        "type": "minio",
        "s3_bucket": bucket,
        "s3_path": "deep/path",
        "s3_endpoint": endpoint,
        "s3_access_key": ACCESS,
        "s3_secret_key": secret,
    }))
    .unwrap()
}

/// The server keeps parts beside the buckets.
fn leftovers(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).filter(|name| name.contains("upload")).collect()
}

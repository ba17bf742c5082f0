//! S3, against a server in this process that keeps objects as files.

use super::faults::{Requests, survives};
use super::proxy::{Fault, Proxy};
use super::suite::{Calls, id, parts};
use super::{backup, suite};
use raftkv_core::backup::blob::{BlobDone, ObjectName};
use raftkv_core::backup::provider::Provider;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;

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
async fn backups_go_around() {
    let dir = tempfile::tempdir().unwrap();
    let provider = provider(serve(dir.path()).await, "bucket", SECRET);
    backup::goes_around(&provider).await;
    assert_eq!(leftovers(dir.path()), Vec::<String>::new());
}

pub fn provider(server: SocketAddr, bucket: &str, secret: &str) -> Provider {
    serde_json::from_value(json!({
        "type": "minio",
        "s3_bucket": bucket,
        "s3_path": "deep/path",
        "s3_endpoint": format!("http://{server}"),
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

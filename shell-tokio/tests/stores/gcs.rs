//! Google Cloud Storage, against a strict server of the calls that are used, and with credentials exchanged as a workload's are.

use super::faults::{Requests, survives};
use super::gcs_server::{self, SUBJECT};
use super::proxy::{Fault, Proxy};
use super::suite::{Calls, POLICY, id};
use super::{backup, suite};
use raftkv_core::backup::blob::{BlobDone, BlobErrorKind, ObjectName};
use raftkv_core::backup::provider::Provider;
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const REQUESTS: Requests =
    Requests { look: "GET ", put: "POST /upload/", part: "partNumber=", complete: "?uploadId=" };

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    let server = gcs_server::serve().await;
    let provider = provider(server.address, server.address, dir.path(), "bucket", SUBJECT);
    suite::conforms(&provider).await;
    suite::lists_pages(&provider, 1_005).await;
    suite::forgets_uploads(&provider).await;
    assert_eq!(server.unfinished_uploads(), 0, "parts of uploads that were given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_and_survives() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let address = gcs_server::serve().await.address;
    suite::refuses(
        &provider(address, address, other.path(), "bucket", "unpermitted"),
        &provider(address, address, dir.path(), "nowhere", SUBJECT),
    )
    .await;
    let proxy = Proxy::start(address).await;
    let proxied = provider(proxy.address, address, dir.path(), "bucket", SUBJECT);
    survives(&proxied, &proxy, REQUESTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_go_around() {
    let dir = tempfile::tempdir().unwrap();
    let address = gcs_server::serve().await.address;
    backup::goes_around(&provider(address, address, dir.path(), "bucket", SUBJECT)).await;
}

/// Credentials are fetched in the middle of a backup, too: one answer that is none must not end it.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let address = gcs_server::serve().await.address;
    let tokens = Proxy::start(address).await;
    let provider = provider(address, tokens.address, dir.path(), "bucket", SUBJECT);
    let object = ObjectName::metadata(id(40));
    let put = async || Calls::new(&provider, "tokens/").put(object, "x", false).await;
    for fault in [
        Fault::Status(503, ""),
        Fault::Status(500, ""),
        Fault::Status(429, "retry-after: 0\r\n"),
        Fault::Cut,
        Fault::LoseAnswer,
        Fault::CutAnswer,
    ] {
        tokens.plan("/token", fault, 1);
        assert_eq!(put().await, Ok(BlobDone::Done), "{fault:?}");
        assert_eq!(tokens.count("/token"), 2, "{fault:?}");
        tokens.reset();
    }
    for (fault, tries) in [(Fault::Status(503, ""), POLICY.tries), (Fault::Status(400, ""), 1)] {
        tokens.plan("/token", fault, u32::MAX);
        assert_eq!(put().await, Err(BlobErrorKind::Denied), "{fault:?}");
        assert_eq!(tokens.count("/token"), tries as usize, "{fault:?}");
        tokens.reset();
    }
}

/// The credentials are a workload's.
pub fn provider(
    endpoint: SocketAddr,
    tokens: SocketAddr,
    dir: &Path,
    bucket: &str,
    subject: &str,
) -> Provider {
    let credentials = workload(tokens, dir, subject);
    serde_json::from_value(json!({
        "type": "gcs",
        "gcs_bucket": bucket,
        "gcs_credentials_file": credentials.display().to_string(),
        "gcs_endpoint": format!("http://{endpoint}"),
    }))
    .unwrap()
}

/// A file for workload identity: a token, which is in another file, is exchanged for one of the store's.
pub fn workload(tokens: SocketAddr, dir: &Path, subject: &str) -> PathBuf {
    let (token, credentials) = (dir.join("token"), dir.join("credentials.json"));
    std::fs::write(&token, subject).unwrap();
    let file = json!({
        "type": "external_account",
        "audience": "test",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("http://{tokens}/token"),
        "credential_source": { "file": token.display().to_string(), "format": { "type": "text" } },
    });
    std::fs::write(&credentials, file.to_string()).unwrap();
    credentials
}

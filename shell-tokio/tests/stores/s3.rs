//! S3, against a server in this process that keeps objects as files.

use super::faults::{Requests, survives};
use super::proxy::Proxy;
use super::{backup, suite};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use raftkv_core::backup::provider::Provider;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpListener;

pub const ACCESS: &str = "AKIATESTTESTTEST";
pub const SECRET: &str = "hunter2hunter2hunter2";

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
async fn refuses_and_survives() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path()).await;
    suite::refuses(&provider(server, "bucket", "wrong"), &provider(server, "nowhere", SECRET))
        .await;
    let proxy = Proxy::start(server).await;
    survives(&provider(proxy.address, "bucket", SECRET), &proxy, REQUESTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_go_around() {
    let dir = tempfile::tempdir().unwrap();
    let provider = provider(serve(dir.path()).await, "bucket", SECRET);
    backup::goes_around(&provider).await;
    assert_eq!(leftovers(dir.path()), Vec::<String>::new());
}

/// Starts a server with one bucket, `bucket`, in this directory.
pub async fn serve(dir: &Path) -> SocketAddr {
    std::fs::create_dir(dir.join("bucket")).unwrap();
    let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir).unwrap());
    service.set_auth(SimpleAuth::from_single(ACCESS, SECRET));
    let service = service.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    address
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

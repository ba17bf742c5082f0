//! A server that speaks S3 and keeps objects as files, in this process. It tells of uploads that have not ended, which the files alone do not.

mod files;

use files::Files;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpListener;

pub const ACCESS: &str = "AKIATESTTESTTEST";
pub const SECRET: &str = "hunter2hunter2hunter2";

/// Starts a server with one bucket, `bucket`, in this directory.
pub async fn serve(dir: &Path) -> SocketAddr {
    std::fs::create_dir(dir.join("bucket")).unwrap();
    let mut service = S3ServiceBuilder::new(Files::new(s3s_fs::FileSystem::new(dir).unwrap()));
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

//! Azure Blob Storage, against the emulator Azurite, which `scripts/with-azurite.sh` starts: without it nothing is tested here.

use super::faults::{Requests, survives};
use super::proxy::Proxy;
use super::{backup, suite};
use raftkv_core::backup::provider::Provider;
use serde_json::json;
use std::net::SocketAddr;

const ACCOUNT: &str = "devstoreaccount1";
/// The emulator's own, the same everywhere.
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const WRONG_KEY: &str = "d3Jvbmd3cm9uZ3dyb25nd3Jvbmc=";
const REQUESTS: Requests = Requests {
    look: "HEAD ",
    put: "x-ms-blob-type: BlockBlob",
    part: "comp=block&",
    complete: "comp=blocklist",
};

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let Some(server) = server() else { return };
    let provider = provider(server, "conforms", "bucket", KEY);
    suite::conforms(&provider).await;
    suite::fences_uploads(&provider).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_and_survives() {
    let Some(server) = server() else { return };
    suite::refuses(
        &provider(server, "refuses", "bucket", WRONG_KEY),
        &provider(server, "refuses", "nowhere", KEY),
    )
    .await;
    let proxy = Proxy::start(server).await;
    survives(&provider(proxy.address, "survives", "bucket", KEY), &proxy, REQUESTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_go_around() {
    let Some(server) = server() else { return };
    backup::goes_around(&provider(server, "backups", "bucket", KEY)).await;
}

fn server() -> Option<SocketAddr> {
    let server = std::env::var("RAFTKV_TEST_AZURITE").ok();
    if server.is_none() {
        eprintln!(
            "skipped: run this with scripts/with-azurite.sh, which installs and starts Azurite"
        );
    }
    server.map(|address| address.parse().unwrap())
}

fn provider(server: SocketAddr, path: &str, container: &str, key: &str) -> Provider {
    serde_json::from_value(json!({
        "type": "azure",
        "azure_container": container,
        "azure_path": path,
        "azure_account": ACCOUNT,
        "azure_key": key,
        "azure_endpoint": format!("http://{server}/{ACCOUNT}"),
    }))
    .unwrap()
}

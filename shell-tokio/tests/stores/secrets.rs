//! Credentials show nowhere: not in errors, not in what the client logs on the way.

use super::gcs::provider as gcs;
use super::gcs_server::{self, SUBJECT, TOKEN};
use super::proxy::{Fault, Proxy};
use super::s3;
use super::suite::{Calls, id, parts};
use log::{LevelFilter, Log, Metadata, Record};
use raftkv_core::backup::blob::{BlobOp, ObjectName};
use raftkv_core::backup::provider::Provider;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::{Mutex, Once};

/// Everything that any crate logs.
pub struct Secrets(Mutex<String>);

static LOGGED: Secrets = Secrets(Mutex::new(String::new()));

/// Everything that is logged from now on.
pub fn listen() -> &'static Secrets {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        log::set_logger(&LOGGED).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
    &LOGGED
}

impl Secrets {
    /// Neither in what was told nor in what was logged.
    pub fn show_none(&self, told: &str, secrets: &[&str]) {
        let logged = self.0.lock().unwrap().clone();
        assert!(logged.contains("opendal"), "nothing of the client's was logged");
        for secret in secrets {
            assert!(!told.contains(secret), "{told}");
            let line = logged.lines().find(|line| line.contains(secret));
            assert_eq!(line, None);
        }
    }
}

impl Log for Secrets {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // The server is in this process too, and says what it was sent.
        if record.target().starts_with("s3s") {
            return;
        }
        let mut text = self.0.lock().unwrap();
        text.push_str(&format!("{} {}\n", record.target(), record.args()));
    }

    fn flush(&self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_of_amazons_is_logged_or_told() {
    let secrets = listen();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(s3::serve(dir.path()).await).await;
    let provider = s3::provider(proxy.address, "bucket", s3::SECRET);
    let told = use_badly(&provider, &proxy, true).await;
    secrets.show_none(&told, &[s3::SECRET, s3::ACCESS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_of_googles_is_logged_or_told() {
    let secrets = listen();
    let dir = tempfile::tempdir().unwrap();
    let server = gcs_server::serve().await.address;
    let (proxy, tokens) = (Proxy::start(server).await, Proxy::start(server).await);
    let provider = gcs(proxy.address, tokens.address, dir.path(), "bucket", SUBJECT);
    let mut told = use_badly(&provider, &proxy, true).await;
    // Nor when the token is not given.
    told += &use_badly(&provider, &tokens, false).await;
    secrets.show_none(&told, &[SUBJECT, TOKEN]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_of_azures_is_logged_or_told() {
    let secrets = listen();
    let key = "aHVudGVyN2h1bnRlcjdodW50ZXI3";
    // Nothing gets through to a server.
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], 1))).await;
    let provider: Provider = serde_json::from_value(json!({
        "type": "azure",
        "azure_container": "container",
        "azure_account": "account",
        "azure_key": key,
        "azure_endpoint": format!("http://{}/account", proxy.address),
    }))
    .unwrap();
    let told = use_badly(&provider, &proxy, false).await;
    secrets.show_none(&told, &[key]);
}

/// Uses a store while this proxy, in front of it or of what gives credentials for it, lets nothing through: all that is told of that.
async fn use_badly(provider: &Provider, proxy: &Proxy, works_first: bool) -> String {
    let mut told = format!("{provider:?} {provider}");
    if works_first {
        let mut calls = Calls::new(provider, "");
        calls.upload(ObjectName::data(id(30)), &parts(2)).await.unwrap();
    }
    for fault in
        [Fault::Status(403, ""), Fault::Status(500, ""), Fault::Status(400, ""), Fault::Cut]
    {
        proxy.plan(" /", fault, u32::MAX);
        let object = ObjectName::metadata(id(31));
        let put = BlobOp::Put { object, bytes: "x".into(), if_absent: true };
        for action in [BlobOp::List, put] {
            let refused = Calls::new(provider, "").try_call(action).await.unwrap_err();
            told += &format!("{refused:?}");
        }
        proxy.reset();
    }
    told
}

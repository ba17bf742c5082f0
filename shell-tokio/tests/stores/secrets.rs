//! Credentials show nowhere: not in errors, not in what the client logs on the way.

use super::proxy::{Fault, Proxy};
use super::s3;
use super::suite::{Calls, id, parts};
use log::{LevelFilter, Log, Metadata, Record};
use raftkv_core::backup::blob::{BlobOp, ObjectName};
use std::sync::Mutex;

/// Everything that any crate logs.
struct Everything(Mutex<String>);

static EVERYTHING: Everything = Everything(Mutex::new(String::new()));

impl Log for Everything {
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
async fn no_secret_is_logged_or_told() {
    log::set_logger(&EVERYTHING).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(s3::serve(dir.path()).await).await;
    let provider = s3::provider(proxy.address, "bucket", s3::SECRET);
    let mut calls = Calls::new(&provider, "");
    let mut told = format!("{provider:?} {provider}");
    calls.upload(ObjectName::data(id(30)), &parts(2)).await.unwrap();
    for fault in
        [Fault::Status(403, ""), Fault::Status(500, ""), Fault::Status(400, ""), Fault::Cut]
    {
        proxy.plan(" /", fault, u32::MAX);
        for action in [
            BlobOp::List,
            BlobOp::Put {
                object: ObjectName::metadata(id(31)),
                bytes: "x".into(),
                if_absent: true,
            },
        ] {
            told += &format!("{:?}", calls.try_call(action).await.unwrap_err());
        }
        proxy.reset();
    }
    let logged = EVERYTHING.0.lock().unwrap().clone();
    assert!(logged.contains("opendal"), "nothing of the client's was logged");
    for secret in [s3::SECRET, s3::ACCESS] {
        assert!(!told.contains(secret), "{told}");
        let line = logged.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}

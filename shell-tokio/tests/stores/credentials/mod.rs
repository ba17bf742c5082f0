//! Credentials that come from the environment, each case in a process of its own: what the variables say holds for a whole process. The
//! services that give credentials are on loopback, also where a client would ask a machine or a service of the cloud's by its own name.

mod aws;
mod azure;
mod google;

use super::answers::serve_as;
use super::secrets::{Secrets, listen};
use super::suite::{Calls, id, parts};
use super::{gcs_server, s3};
use raftkv_core::backup::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp, Listing, ObjectName};
use raftkv_core::backup::provider::Provider;
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// Nothing but what a test says is there, and none of the machine's own sources.
const NOWHERE: [(&str, &str); 4] = [
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AZURE_IMDS_ENDPOINT", "http://127.0.0.1:1/"),
    ("GCE_METADATA_HOST", "127.0.0.1:1"),
    ("HOME", "/nowhere"),
];
/// The store that a process is to use, and what it must not show, a line each.
const PROVIDER: &str = "RAFTKV_TEST_PROVIDER";
const HIDDEN: &str = "RAFTKV_TEST_HIDDEN";
/// What is under this prefix, a store refuses.
const REFUSED: &str = "refused";

const SUBJECT: &str = "subject.hunter3";
const ACCESS: &str = "access.hunter4";

#[test]
fn none_at_all_is_said_and_what_to_do() {
    alone("credentials::without_any", &[]);
}

/// Uses a store with credentials from this environment, though not where it refuses, and shows none of the secrets.
fn puts(provider: &Value, hidden: &[&str], variables: &[(&str, &str)]) {
    with(provider, hidden, variables, "credentials::put");
}

/// Has no credentials from this environment, since whoever gives them refuses, and shows none of the secrets.
fn is_refused(provider: &Value, hidden: &[&str], variables: &[(&str, &str)]) {
    with(provider, hidden, variables, "credentials::without_permission");
}

fn with(provider: &Value, hidden: &[&str], variables: &[(&str, &str)], test: &str) {
    let (provider, hidden) = (provider.to_string(), hidden.join("\n"));
    let ours = [(PROVIDER, provider.as_str()), (HIDDEN, hidden.as_str())];
    alone(test, &[&ours[..], variables].concat());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "other tests run it, with an environment"]
async fn put() {
    let secrets = listen();
    let provider = named_provider();
    let object = ObjectName::metadata(id(51));
    let mut calls = Calls::new(&provider, "");
    assert_eq!(calls.put(object, "x", false).await, Ok(BlobDone::Done));
    // Azure lists none.
    if !matches!(provider, Provider::Azure(_)) {
        unfinished_uploads(&mut calls).await;
    }
    let put = BlobOp::Put { object, bytes: "x".into(), if_absent: false };
    let mut calls = Calls::new(&provider, &format!("{REFUSED}/"));
    let refused = calls.try_call(put).await.unwrap_err();
    assert_eq!(refused.kind, BlobErrorKind::Denied, "{refused}");
    show_none_of_the_hidden(secrets, &refused);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "other tests run it, with an environment"]
async fn without_permission() {
    let secrets = listen();
    let provider = named_provider();
    let put =
        BlobOp::Put { object: ObjectName::metadata(id(53)), bytes: "x".into(), if_absent: false };
    let error = Calls::new(&provider, "").try_call(put).await.unwrap_err();
    is_unsigned(&error);
    show_none_of_the_hidden(secrets, &error);
}

fn named_provider() -> Provider {
    serde_json::from_str(&std::env::var(PROVIDER).unwrap()).unwrap()
}

fn show_none_of_the_hidden(secrets: &Secrets, told: &BlobError) {
    let hidden = std::env::var(HIDDEN).unwrap();
    secrets.show_none(&format!("{told:?}"), &hidden.lines().collect::<Vec<_>>());
}

fn is_unsigned(error: &BlobError) {
    assert_eq!(error.kind, BlobErrorKind::Denied, "{error}");
    assert!(error.message.contains("could not be signed: invalid credentials"), "{error}");
    assert!(error.message.contains("check the credentials"), "{error}");
}

/// The requests for these are not the client's, and signed apart.
async fn unfinished_uploads(calls: &mut Calls) {
    let object = ObjectName::data(id(52));
    let upload = calls.start(object).await;
    for part in calls.parts(upload, &parts(2)).await {
        part.unwrap();
    }
    let begun = |listing: Listing| -> Vec<ObjectName> {
        listing.uploads.iter().map(|(object, _)| *object).collect()
    };
    assert_eq!(begun(calls.list().await), [object]);
    assert_eq!(calls.call(BlobOp::Delete { object }).await, Ok(BlobDone::Done));
    assert_eq!(begun(calls.list().await), []);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "other tests run it, with an environment"]
async fn without_any() {
    let dir = tempfile::tempdir().unwrap();
    let gcs = gcs_server::serve().await.address;
    let providers = [
        aws::provider(s3::serve(dir.path()).await),
        json!({
            "type": "gcs",
            "gcs_bucket": "bucket",
            "gcs_credentials_file": "/nowhere/credentials.json",
            "gcs_endpoint": format!("http://{gcs}"),
        }),
        azure::provider("nobody"),
    ];
    let object = ObjectName::metadata(id(50));
    let begun = Instant::now();
    for provider in providers {
        let provider: Provider = serde_json::from_value(provider).unwrap();
        let put = BlobOp::Put { object, bytes: "x".into(), if_absent: true };
        for action in [BlobOp::List, BlobOp::Head { object }, put] {
            let error = Calls::new(&provider, "").try_call(action).await.unwrap_err();
            is_unsigned(&error);
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

/// Runs an ignored test in a process that has this environment, and no other. What is empty is not there.
fn alone(test: &str, variables: &[(&str, &str)]) {
    let mut run = Command::new(std::env::current_exe().unwrap());
    run.args(["--exact", test, "--ignored", "--nocapture"]).env_clear();
    for (name, value) in NOWHERE.iter().chain(variables) {
        match value.is_empty() {
            true => run.env_remove(name),
            false => run.env(name, value),
        };
    }
    let run = run.output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    let complained = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("1 passed"), "{said}{complained}");
}

/// A service that has no time when it is asked first.
fn busy_at_first(
    answers: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static,
) -> impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static {
    let was_asked = AtomicBool::new(false);
    move |head, body| match was_asked.swap(true, Relaxed) {
        true => answers(head, body),
        false => (503, String::new()),
    }
}

/// A host that is reached with HTTPS, and by a process with these variables only.
struct Host {
    proxy: String,
    trusted: NamedTempFile,
}

impl Host {
    fn serve(
        name: &'static str,
        answers: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static,
    ) -> Host {
        let (address, certificate) = serve_as(name, answers);
        let mut trusted = NamedTempFile::new().unwrap();
        trusted.write_all(certificate.as_bytes()).unwrap();
        Host { proxy: format!("http://{address}"), trusted }
    }

    fn variables(&self) -> [(&str, &str); 2] {
        let trusted = self.trusted.path().to_str().unwrap();
        [("HTTPS_PROXY", &self.proxy), ("SSL_CERT_FILE", trusted)]
    }
}

/// With these, a process reaches every host but the stores through this server, which so stands for the machine's own addresses.
fn by_way_of(server: &str) -> [(&str, &str); 2] {
    [("HTTP_PROXY", server), ("NO_PROXY", "127.0.0.1")]
}

//! Credentials that come from the environment, each case in a process of its own: what the variables say holds for a whole process.

use super::suite::{Calls, id};
use super::{gcs_server, s3};
use raftkv_core::backup::blob::{BlobErrorKind, BlobOp, ObjectName};
use raftkv_core::backup::provider::Provider;
use serde_json::json;
use std::process::Command;
use std::time::{Duration, Instant};

/// Nothing but what a test says is there, and none of the machine's own sources.
const NOWHERE: [(&str, &str); 3] = [
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AZURE_IMDS_ENDPOINT", "http://127.0.0.1:1/"),
    ("HOME", "/nowhere"),
];

#[test]
fn none_at_all_is_said_and_what_to_do() {
    alone("credentials::without_any", &[]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another test, with an environment"]
async fn without_any() {
    let dir = tempfile::tempdir().unwrap();
    let s3 = s3::serve(dir.path()).await;
    let gcs = gcs_server::serve().await.address;
    let providers = [
        json!({ "type": "minio", "s3_bucket": "bucket", "s3_endpoint": format!("http://{s3}") }),
        json!({
            "type": "gcs",
            "gcs_bucket": "bucket",
            "gcs_credentials_file": "/nowhere/credentials.json",
            "gcs_endpoint": format!("http://{gcs}"),
        }),
        json!({
            "type": "azure",
            "azure_container": "container",
            "azure_account": "account",
            "azure_endpoint": "http://127.0.0.1:1/account",
        }),
    ];
    let object = ObjectName::metadata(id(50));
    let begun = Instant::now();
    for provider in providers {
        let provider: Provider = serde_json::from_value(provider).unwrap();
        let put = BlobOp::Put { object, bytes: "x".into(), if_absent: true };
        for action in [BlobOp::List, BlobOp::Head { object }, put] {
            let error = Calls::new(&provider, "").try_call(action.clone()).await.unwrap_err();
            assert_eq!(error.kind, BlobErrorKind::Denied, "{action:?}: {error}");
            assert!(error.message.contains("could not be signed: invalid credentials"), "{error}");
            assert!(error.message.contains("check the credentials"), "{error}");
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

/// Runs an ignored test in a process that has this environment, and no other.
fn alone(test: &str, variables: &[(&str, &str)]) {
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env_clear()
        .envs(NOWHERE)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    let complained = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("1 passed"), "{said}{complained}");
}

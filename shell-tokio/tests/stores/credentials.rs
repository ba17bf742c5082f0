//! Credentials that come from the environment, each case in a process of its own: what the variables say holds for a whole process. The
//! services that give credentials are on loopback.

use super::answers::{serve, serve_as};
use super::proxy::{Fault, Proxy};
use super::secrets::listen;
use super::suite::{Calls, id};
use super::{gcs_server, s3};
use raftkv_core::backup::blob::{BlobDone, BlobErrorKind, BlobOp, ObjectName};
use raftkv_core::backup::provider::Provider;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Nothing but what a test says is there, and none of the machine's own sources.
const NOWHERE: [(&str, &str); 3] = [
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AZURE_IMDS_ENDPOINT", "http://127.0.0.1:1/"),
    ("HOME", "/nowhere"),
];
/// The store that a process is to use, and what it must not show, a line each.
const PROVIDER: &str = "RAFTKV_TEST_PROVIDER";
const HIDDEN: &str = "RAFTKV_TEST_HIDDEN";
/// What is under this prefix, a store refuses.
const REFUSED: &str = "refused/";

const SUBJECT: &str = "subject.hunter3";
const ACCESS: &str = "access.hunter4";

#[test]
fn none_at_all_is_said_and_what_to_do() {
    alone("credentials::without_any", &[]);
}

#[test]
fn a_token_of_azures_is_had_for_a_federated_one_and_for_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, SUBJECT).unwrap();
    let asked = AtomicU32::new(0);
    let tokens = serve(move |head, body| {
        let grants = format!("client_assertion={SUBJECT}&");
        let is_known = body.contains(&grants) || body.contains("client_secret=subject.hunter3&");
        match head.starts_with("POST /tenant/oauth2/v2.0/token ") && is_known {
            true if asked.fetch_add(1, Relaxed).is_multiple_of(2) => (503, String::new()),
            true => (200, json!({ "access_token": ACCESS, "expires_in": 3600 }).to_string()),
            false => (401, String::new()),
        }
    });
    let provider = azure(&format!("authorization: Bearer {ACCESS}"));
    for source in
        [("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()), ("AZURE_CLIENT_SECRET", SUBJECT)]
    {
        let authority = format!("http://{tokens}/");
        let variables = [
            ("AZURE_AUTHORITY_HOST", authority.as_str()),
            ("AZURE_TENANT_ID", "tenant"),
            ("AZURE_CLIENT_ID", "client"),
            source,
        ];
        puts(&provider, &[SUBJECT, ACCESS], &variables);
    }
}

#[test]
fn an_account_of_azures_is_used_with_its_key_and_with_a_signature() {
    let key = "aHVudGVyNWh1bnRlcjVodW50ZXI1";
    let account = azure("authorization: SharedKey account:");
    let named = [("AZURE_STORAGE_ACCOUNT_NAME", "account"), ("AZURE_STORAGE_ACCOUNT_KEY", key)];
    puts(&account, &[key], &named);
    let signature = "hunter6hunter6hunter6";
    let token = format!("sv=2022-11-02&sp=rcwdl&sig={signature}");
    let shared = azure(&format!("sig={signature}"));
    puts(&shared, &[signature], &[("AZURE_STORAGE_SAS_TOKEN", &token)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_of_amazons_is_had_for_a_web_identity_and_in_a_container() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(s3::serve(dir.path()).await).await;
    proxy.plan(REFUSED, Fault::Status(403, ""), u32::MAX);
    let provider = amazon(proxy.address);
    let asked = AtomicU32::new(0);
    let (sts, certificate) = serve_as("sts.amazonaws.com", move |_, body| {
        let grants = format!("WebIdentityToken={SUBJECT}&");
        match body.contains("Action=AssumeRoleWithWebIdentity&") && body.contains(&grants) {
            true if asked.fetch_add(1, Relaxed) == 0 => (503, String::new()),
            true => (200, assumed()),
            false => (403, String::new()),
        }
    });
    let (file, trusted) = (dir.path().join("token"), dir.path().join("trusted.pem"));
    std::fs::write(&file, SUBJECT).unwrap();
    std::fs::write(&trusted, certificate).unwrap();
    let way = format!("http://{sts}");
    let identity = [
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/backup"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
        ("HTTPS_PROXY", &way),
        ("SSL_CERT_FILE", trusted.to_str().unwrap()),
    ];
    let role = serve(|_, _| {
        let role = json!({
            "AccessKeyId": s3::ACCESS,
            "SecretAccessKey": s3::SECRET,
            "Token": ACCESS,
            "Expiration": "2999-01-01T00:00:00Z",
        });
        (200, role.to_string())
    });
    let container = format!("http://{role}/role");
    let hidden = [SUBJECT, ACCESS, s3::ACCESS, s3::SECRET];
    tokio::task::block_in_place(|| {
        puts(&provider, &hidden, &identity);
        puts(&provider, &hidden, &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container)]);
    });
}

/// Puts an object with credentials from this environment into a store that refuses another one, and shows none of the secrets.
fn puts(provider: &Value, hidden: &[&str], variables: &[(&str, &str)]) {
    let (provider, hidden) = (provider.to_string(), hidden.join("\n"));
    let ours = [(PROVIDER, provider.as_str()), (HIDDEN, hidden.as_str())];
    alone("credentials::put", &[&ours[..], variables].concat());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "other tests run it, with an environment"]
async fn put() {
    let secrets = listen();
    let provider: Provider = serde_json::from_str(&std::env::var(PROVIDER).unwrap()).unwrap();
    let object = ObjectName::metadata(id(51));
    let done = Calls::new(&provider, "").put(object, "x", false).await;
    assert_eq!(done, Ok(BlobDone::Done));
    let put = BlobOp::Put { object, bytes: "x".into(), if_absent: false };
    let refused = Calls::new(&provider, REFUSED).try_call(put).await.unwrap_err();
    assert_eq!(refused.kind, BlobErrorKind::Denied, "{refused}");
    let hidden = std::env::var(HIDDEN).unwrap();
    secrets.show_none(&format!("{refused:?}"), &hidden.lines().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "other tests run it, with an environment"]
async fn without_any() {
    let dir = tempfile::tempdir().unwrap();
    let gcs = gcs_server::serve().await.address;
    let providers = [
        amazon(s3::serve(dir.path()).await),
        json!({
            "type": "gcs",
            "gcs_bucket": "bucket",
            "gcs_credentials_file": "/nowhere/credentials.json",
            "gcs_endpoint": format!("http://{gcs}"),
        }),
        azure("nobody"),
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
    let said = String::from_utf8_lossy(&run.stdout);
    let complained = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("1 passed"), "{said}{complained}");
}

fn amazon(server: SocketAddr) -> Value {
    json!({ "type": "minio", "s3_bucket": "bucket", "s3_endpoint": format!("http://{server}") })
}

/// A store that takes what is put by whoever has this in the head of the request.
fn azure(permission: &str) -> Value {
    let permission = permission.to_owned();
    let server = serve(move |head, _| {
        let is_permitted = head.contains(&permission) && !head.contains(REFUSED);
        (if is_permitted { 201 } else { 403 }, String::new())
    });
    json!({
        "type": "azure",
        "azure_container": "container",
        "azure_account": "account",
        "azure_endpoint": format!("http://{server}/account"),
    })
}

/// What Amazon's token service gives for an identity.
fn assumed() -> String {
    let (id, secret) = (s3::ACCESS, s3::SECRET);
    format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{id}</AccessKeyId>\
         <SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{ACCESS}</SessionToken>\
         <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
}

//! Credentials for S3: keys in variables and files, roles for a workload, a container and a machine.

use super::{ACCESS, Host, REFUSED, SUBJECT, busy_at_first, by_way_of, is_refused, puts};
use crate::answers::serve;
use crate::proxy::{Fault, Proxy};
use crate::s3;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use tokio::task::block_in_place;

/// Where roles are had.
const STS: &str = "sts.amazonaws.com";
/// What a request holds that belongs to a session: its token, and that as one of the headers that are signed.
const IN_SESSION: [&str; 2] = ["x-amz-security-token: access.hunter4", ";x-amz-security-token"];
/// What shows nowhere.
const SECRETS: [&str; 4] = [SUBJECT, ACCESS, s3::ACCESS, s3::SECRET];

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_had_from_variables() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), &["/us-east-1/s3/aws4_request"]).await;
    let keys = [("AWS_ACCESS_KEY_ID", s3::ACCESS), ("AWS_SECRET_ACCESS_KEY", s3::SECRET)];
    block_in_place(|| puts(&provider(store.address), &SECRETS, &keys));
    for text in IN_SESSION {
        store.demand(text);
    }
    let session = [&keys[..], &[("AWS_SESSION_TOKEN", ACCESS)]].concat();
    block_in_place(|| puts(&provider(store.address), &SECRETS, &session));
}

/// Also where the store is, and in which region.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_had_from_variables() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), &["/eu-central-1/s3/aws4_request"]).await;
    let endpoint = format!("http://{}", store.address);
    let variables = [
        ("AWS_ACCESS_KEY_ID", s3::ACCESS),
        ("AWS_SECRET_ACCESS_KEY", s3::SECRET),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT_URL_S3", &endpoint),
    ];
    let provider = json!({ "type": "s3", "s3_bucket": "bucket" });
    block_in_place(|| puts(&provider, &SECRETS, &variables));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_had_from_the_files_of_a_profile() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), &IN_SESSION).await;
    let home = tempfile::tempdir().unwrap();
    let keys = |id, secret| {
        format!(
            "aws_access_key_id = {id}\naws_secret_access_key = {secret}\naws_session_token = {ACCESS}\n"
        )
    };
    let ours = keys(s3::ACCESS, s3::SECRET);
    let others = keys("AKIAOTHEROTHER", "hunter1");
    let file = |name: &str, text: String| {
        let path = home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let credentials = file("credentials", format!("[default]\n{others}\n[backup]\n{ours}"));
    let config = file("config", format!("[default]\n{others}\n[profile backup]\n{ours}"));
    file(".aws/credentials", format!("[default]\n{ours}\n[backup]\n{others}"));
    let profile = ("AWS_PROFILE", "backup");
    block_in_place(|| {
        let provider = provider(store.address);
        puts(&provider, &SECRETS, &[profile, ("AWS_SHARED_CREDENTIALS_FILE", &credentials)]);
        puts(&provider, &SECRETS, &[profile, ("AWS_CONFIG_FILE", &config)]);
        puts(&provider, &SECRETS, &[("HOME", home.path().to_str().unwrap())]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_had_for_a_web_identity() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), &IN_SESSION).await;
    let sts = Host::serve(
        STS,
        busy_at_first(|_, body| {
            let grants = format!("WebIdentityToken={SUBJECT}&");
            match body.contains("Action=AssumeRoleWithWebIdentity&") && body.contains(&grants) {
                true => (200, assumed()),
                false => (403, String::new()),
            }
        }),
    );
    let file = dir.path().join("token");
    std::fs::write(&file, SUBJECT).unwrap();
    let identity = [
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/backup"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
    ];
    let refusing = Host::serve(STS, |_, _| (403, String::new()));
    block_in_place(|| {
        let provider = provider(store.address);
        puts(&provider, &SECRETS, &[sts.variables(), identity].concat());
        is_refused(&provider, &SECRETS, &[refusing.variables(), identity].concat());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_had_in_a_container() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), &IN_SESSION).await;
    let file = dir.path().join("token");
    std::fs::write(&file, SUBJECT).unwrap();
    // Where a pod gets its role, and where other containers do.
    let pod = serve(busy_at_first(|head, _| {
        let is_known = head.contains(&format!("authorization: {SUBJECT}"));
        role(head.starts_with("GET /role ") && is_known)
    }));
    let container = serve(busy_at_first(|head, _| {
        role(head.starts_with("GET http://169.254.170.2/v2/credentials/role "))
    }));
    let (pod, container) = (format!("http://{pod}/role"), format!("http://{container}"));
    let in_pod = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", pod.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.to_str().unwrap()),
    ];
    let path = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/role");
    let in_container = [&by_way_of(&container)[..], &[path]].concat();
    block_in_place(|| {
        puts(&provider(store.address), &SECRETS, &in_pod);
        puts(&provider(store.address), &SECRETS, &in_container);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_had_on_a_machine() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), &IN_SESSION).await;
    let machine = |name: &'static str| {
        let machine = serve(busy_at_first(move |head, _| {
            let asked = |path: &str| {
                head.starts_with(&format!("GET http://169.254.169.254/latest/{path} "))
                    && head.contains(&format!("x-aws-ec2-metadata-token: {SUBJECT}"))
            };
            if head.starts_with("PUT http://169.254.169.254/latest/api/token ")
                && head.contains("x-aws-ec2-metadata-token-ttl-seconds: ")
            {
                return (200, SUBJECT.into());
            }
            match asked("meta-data/iam/security-credentials/") {
                true => (200, name.into()),
                false => role(asked("meta-data/iam/security-credentials/backup")),
            }
        }));
        format!("http://{machine}")
    };
    let (own, others) = (machine("backup"), machine("other"));
    let variables =
        |machine| [&by_way_of(machine)[..], &[("AWS_EC2_METADATA_DISABLED", "")]].concat();
    block_in_place(|| {
        puts(&provider(store.address), &SECRETS, &variables(&own));
        is_refused(&provider(store.address), &SECRETS, &variables(&others));
    });
}

/// A store that takes only requests which hold all of these texts in their heads.
async fn store(dir: &Path, demanded: &[&str]) -> Proxy {
    let proxy = Proxy::start(s3::serve(dir).await).await;
    proxy.plan(REFUSED, Fault::Status(403, ""), u32::MAX);
    for text in demanded {
        proxy.demand(text);
    }
    proxy
}

pub fn provider(server: SocketAddr) -> Value {
    json!({ "type": "minio", "s3_bucket": "bucket", "s3_endpoint": format!("http://{server}") })
}

/// What a container and a machine are given, if they ask as they should.
fn role(is_asked: bool) -> (u16, String) {
    let role = json!({
        "Code": "Success",
        "AccessKeyId": s3::ACCESS,
        "SecretAccessKey": s3::SECRET,
        "Token": ACCESS,
        "Expiration": "2999-01-01T00:00:00Z",
    });
    match is_asked {
        true => (200, role.to_string()),
        false => (401, String::new()),
    }
}

/// What the token service gives for an identity.
fn assumed() -> String {
    let (id, secret) = (s3::ACCESS, s3::SECRET);
    format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{id}</AccessKeyId>\
         <SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{ACCESS}</SessionToken>\
         <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
}

//! Credentials for Google's store: the files that a variable names and that gcloud leaves, and a machine's own account.

use super::{Host, REFUSED, busy_at_first, by_way_of, is_refused, puts};
use crate::answers::serve;
use crate::gcs;
use crate::gcs_server::{self, SUBJECT, TOKEN};
use crate::proxy::{Fault, Proxy};
use reqsign_core::hash::base64_decode;
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use tokio::task::block_in_place;

/// Where tokens are had.
const TOKENS: &str = "oauth2.googleapis.com";
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";
const ACCOUNT: &str = "backup@project.iam.gserviceaccount.com";
/// A key that opens nothing.
const KEY: &str = include_str!("service_account.pem");
/// How everything begins that is signed with it.
const SIGNED: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.";
const VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// One that lasts, not another one for every request.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_had_for_an_accounts_key() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let tokens = Host::serve(
        TOKENS,
        busy_at_first(move |head, body| {
            count.fetch_add(1, Relaxed);
            granted(head.starts_with("POST /token ") && is_claimed(body))
        }),
    );
    let file = dir.path().join("key.json");
    let key = json!({ "type": "service_account", "client_email": ACCOUNT, "private_key": KEY });
    std::fs::write(&file, key.to_string()).unwrap();
    let named = [(VARIABLE, file.to_str().unwrap())];
    let variables = [&tokens.variables()[..], &named].concat();
    let line = KEY.lines().nth(1).unwrap();
    let provider = provider(&store().await);
    block_in_place(|| puts(&provider, &[line, SIGNED, TOKEN], &variables));
    // One for each client, and one more for what the first signs beside it.
    assert_eq!(asked.load(Relaxed), 3);
    let tokens = Host::serve(TOKENS, |_, _| (400, json!({ "error": "invalid_grant" }).to_string()));
    let variables = [&tokens.variables()[..], &named].concat();
    block_in_place(|| is_refused(&provider, &[line, SIGNED], &variables));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_had_for_a_workloads() {
    let dir = tempfile::tempdir().unwrap();
    let server = gcs_server::serve().await.address;
    let file = gcs::workload(server, dir.path(), SUBJECT);
    let provider = provider(&store().await);
    block_in_place(|| puts(&provider, &[SUBJECT, TOKEN], &[(VARIABLE, file.to_str().unwrap())]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_had_for_what_gcloud_left() {
    let (secret, refresh) = ("secret.hunter10", "refresh.hunter11");
    let known = json!({
        "client_id": "client",
        "client_secret": secret,
        "refresh_token": refresh,
    });
    let (mut asked, mut left) = (known.clone(), known);
    asked["grant_type"] = json!("refresh_token");
    left["type"] = json!("authorized_user");
    let tokens = Host::serve(
        TOKENS,
        busy_at_first(move |head, body| {
            let body: Value = serde_json::from_str(body).unwrap();
            granted(head.starts_with("POST /token ") && body == asked)
        }),
    );
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".config/gcloud/application_default_credentials.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, left.to_string()).unwrap();
    let variables = [&tokens.variables()[..], &[("HOME", home.path().to_str().unwrap())]].concat();
    let provider = provider(&store().await);
    block_in_place(|| puts(&provider, &[secret, refresh, TOKEN], &variables));
    let tokens = Host::serve(TOKENS, |_, _| (400, json!({ "error": "invalid_grant" }).to_string()));
    let variables = [&tokens.variables()[..], &[("HOME", home.path().to_str().unwrap())]].concat();
    block_in_place(|| is_refused(&provider, &[secret, refresh], &variables));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_had_for_a_machine() {
    let machine = serve(busy_at_first(|head, _| {
        let account = "computeMetadata/v1/instance/service-accounts/default";
        let asked = format!("GET http://metadata.google.internal/{account}/token?scopes={SCOPE} ");
        granted(head.starts_with(&asked) && head.contains("metadata-flavor: Google"))
    }));
    let machine = format!("http://{machine}");
    let variables = [&by_way_of(&machine)[..], &[("GCE_METADATA_HOST", "")]].concat();
    let provider = provider(&store().await);
    block_in_place(|| puts(&provider, &[TOKEN], &variables));
}

/// A store for whoever has the token.
async fn store() -> Proxy {
    let proxy = Proxy::start(gcs_server::serve().await.address).await;
    proxy.plan(REFUSED, Fault::Status(403, ""), u32::MAX);
    proxy
}

fn provider(store: &Proxy) -> Value {
    let endpoint = format!("http://{}", store.address);
    json!({ "type": "gcs", "gcs_bucket": "bucket", "gcs_endpoint": endpoint })
}

/// The store's token, for who may have it.
fn granted(is_known: bool) -> (u16, String) {
    let token = json!({ "access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer" });
    match is_known {
        true => (200, token.to_string()),
        false => (401, String::new()),
    }
}

/// Whether this claims to be the account, and is signed with its key (RFC 7515, RFC 7523). Such signatures are always the same.
fn is_claimed(body: &str) -> bool {
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    let Some(jwt) = body.strip_prefix(grant) else { return false };
    let (signed, signature) = jwt.rsplit_once('.').unwrap();
    let key = any_supported_type(&PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap()).unwrap();
    let signer = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).unwrap();
    let expected = signer.sign(signed.as_bytes()).unwrap();
    let Some(claims) = signed.strip_prefix(SIGNED) else { return false };
    let claims: Value = serde_json::from_slice(&decoded(claims)).unwrap();
    let lasts = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    let audience = format!("https://{TOKENS}/token");
    decoded(signature) == expected
        && (&claims["iss"], &claims["scope"], &claims["aud"])
            == (&json!(ACCOUNT), &json!(SCOPE), &json!(audience))
        && lasts == 3600
}

/// Base64 as URLs hold it.
fn decoded(text: &str) -> Vec<u8> {
    let padding = "=".repeat(text.len().wrapping_neg() % 4);
    base64_decode(&(text.replace('-', "+").replace('_', "/") + &padding)).unwrap()
}

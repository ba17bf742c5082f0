//! Credentials for Azure: an account's key and signature, tokens for a service principal, a workload and a machine.

use super::{ACCESS, REFUSED, SUBJECT, busy_at_first, by_way_of, is_refused, puts};
use crate::answers::serve;
use serde_json::{Value, json};

#[test]
fn a_token_is_had_for_a_federated_one_and_for_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, SUBJECT).unwrap();
    let provider = provider(&format!("authorization: Bearer {ACCESS}"));
    for (variable, value, grants) in [
        ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap(), "client_assertion"),
        ("AZURE_CLIENT_SECRET", SUBJECT, "client_secret"),
    ] {
        let tokens = serve(busy_at_first(move |head, body| {
            let is_known = body.contains(&format!("{grants}={SUBJECT}&"));
            match head.starts_with("POST /tenant/oauth2/v2.0/token ") && is_known {
                true => (200, json!({ "access_token": ACCESS, "expires_in": 3600 }).to_string()),
                false => (401, String::new()),
            }
        }));
        let refusing = serve(|_, _| (401, String::new()));
        let [tokens, refusing] = [tokens, refusing].map(|server| format!("http://{server}/"));
        let variables = |authority| {
            [
                ("AZURE_AUTHORITY_HOST", authority),
                ("AZURE_TENANT_ID", "tenant"),
                ("AZURE_CLIENT_ID", "client"),
                (variable, value),
            ]
        };
        puts(&provider, &[SUBJECT, ACCESS], &variables(&tokens));
        is_refused(&provider, &[SUBJECT], &variables(&refusing));
    }
}

#[test]
fn an_account_is_used_with_its_key_and_with_a_signature() {
    let key = "aHVudGVyNWh1bnRlcjVodW50ZXI1";
    let account = provider("authorization: SharedKey account:");
    let named = [("AZURE_STORAGE_ACCOUNT_NAME", "account"), ("AZURE_STORAGE_ACCOUNT_KEY", key)];
    puts(&account, &[key], &named);
    let signature = "hunter6hunter6hunter6";
    let token = format!("sv=2022-11-02&sp=rcwdl&sig={signature}");
    let shared = provider(&format!("sig={signature}"));
    puts(&shared, &[signature], &[("AZURE_STORAGE_SAS_TOKEN", &token)]);
}

/// The machine's own identity, and another one that it was given, too.
#[test]
fn a_token_is_had_for_a_machine() {
    let provider = provider(&format!("authorization: Bearer {ACCESS}"));
    let client = [("AZURE_CLIENT_ID", "client")];
    for (identity, named) in [(&[][..], ""), (&client[..], "&client_id=client")] {
        let machine = serve(busy_at_first(move |head, _| {
            let asked = format!(
                "GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01\
                 &resource=https%3A%2F%2Fstorage.azure.com%2F{named} "
            );
            let token = json!({
                "access_token": ACCESS,
                "expires_in": "3600",
                "expires_on": "32503680000",
                "resource": "https://storage.azure.com/",
                "token_type": "Bearer",
            });
            match head.starts_with(&asked) && head.contains("metadata: true") {
                true => (200, token.to_string()),
                false => (400, String::new()),
            }
        }));
        let machine = format!("http://{machine}");
        let variables = [&by_way_of(&machine), identity, &[("AZURE_IMDS_ENDPOINT", "")]].concat();
        puts(&provider, &[ACCESS], &variables);
    }
}

/// A store that takes what is put by whoever has this in the head of the request.
pub fn provider(permission: &str) -> Value {
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

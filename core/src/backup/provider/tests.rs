//! What is read from keys and URLs, what is refused, and what shows.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn parse(value: Value) -> Result<Provider, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[test]
fn a_url_says_the_same_as_the_keys() {
    let cases = [
        (
            json!({ "url": "file:///srv/b%20c" }),
            json!({ "type": "local", "local_path": "/srv/b c" }),
        ),
        (
            json!({ "url": "s3://b/deep/er?region=eu-1&endpoint=http%3A%2F%2Fh:9000/", "s3_access_key": "a", "s3_secret_key": "s" }),
            json!({ "type": "minio", "s3_bucket": "b", "s3_path": "/deep/er/", "s3_region": "eu-1",
                    "s3_endpoint": "http://h:9000", "s3_access_key": "a", "s3_secret_key": "s" }),
        ),
        (
            json!({ "url": "gs://b?credentials_file=/k.json" }),
            json!({ "type": "gcs", "gcs_bucket": "b", "gcs_credentials_file": "/k.json" }),
        ),
        (
            json!({ "url": "azblob://c/p?account=acc" }),
            json!({ "type": "azure", "azure_container": "c", "azure_path": "p", "azure_account": "acc" }),
        ),
    ];
    for (url, keys) in cases {
        let provider = parse(url.clone()).unwrap();
        assert_eq!(provider, parse(keys).unwrap(), "{url}");
        assert_eq!(parse(json!({ "url": provider.to_string() })).unwrap().kind(), provider.kind());
    }
}

#[test]
fn mistakes_are_named_and_nothing_is_repeated() {
    let cases = [
        (json!({}), "either a type"),
        (json!({ "type": "s3", "url": "s3://b" }), "either a type"),
        (json!({ "type": "ftp" }), "unknown variant `ftp`"),
        (json!({ "type": "s3" }), "provider.s3_bucket must not be empty"),
        (json!({ "type": "s3", "s3_bucket": "a/b" }), "provider.s3_bucket"),
        (
            json!({ "type": "gcs", "gcs_bucket": "b", "s3_region": "hunter2" }),
            "unknown field `s3_region`",
        ),
        (json!({ "type": "minio", "s3_bucket": "b" }), "provider.s3_endpoint"),
        (json!({ "type": "s3", "s3_bucket": "b", "s3_secret_key": "hunter2" }), "together"),
        (json!({ "type": "s3", "s3_bucket": "b", "s3_path": "a/../c" }), "provider.s3_path"),
        (
            json!({ "type": "s3", "s3_bucket": "b", "s3_endpoint": "https://u:hunter2@h" }),
            "user information",
        ),
        (json!({ "type": "s3", "s3_bucket": "b", "s3_endpoint": "h:9000" }), "https://"),
        (json!({ "url": "s3://key:hunter2@b/p" }), "user information"),
        (json!({ "url": "s3://b?secret_key=hunter2" }), "its query"),
        (json!({ "url": "s3://b?region=%zz" }), "not valid"),
        (json!({ "url": "s3://b", "s3_bucket": "other" }), "another key"),
        (json!({ "url": "ftp://hunter2" }), "s3://"),
        (json!({ "url": "file://.." }), "file:///srv/backups"),
        (json!({ "url": "file://hunter2/b" }), "local_path"),
        (json!({ "url": "file:///srv/%2e%2e/hunter2" }), "without . and .."),
        (
            json!({ "type": "s3", "s3_bucket": "b", "s3_secret_key": 711_711 }),
            "provider.s3_secret_key is no text: put it in quotes",
        ),
        (json!({ "type": "local", "local_path": "/x", "typo": 1 }), "unknown field `typo`"),
        (json!({ "type": 1 }), "either a type"),
    ];
    for (value, part) in cases {
        let error = parse(value.clone()).unwrap_err();
        assert!(error.contains(part), "{value}: {error}");
        assert!(!error.contains("hunter2") && !error.contains("711711"), "{error}");
    }
}

#[test]
fn credentials_never_show() {
    let azure = json!({ "type": "azure", "azure_container": "c", "azure_account": "a", "azure_key": "hunter2" });
    let s3 = json!({ "type": "s3", "s3_bucket": "b", "s3_access_key": "AKIAEXAMPLE", "s3_secret_key": "hunter2" });
    for provider in [azure, s3].map(|value| parse(value).unwrap()) {
        let shown =
            format!("{provider:?} {provider} {}", serde_json::to_string(&provider).unwrap());
        assert!(!shown.contains("hunter2") && !shown.contains("AKIAEXAMPLE"), "{shown}");
    }
}

proptest! {
    #[test]
    fn a_directory_is_written_out_as_what_is_read_as_the_same(path in "(/|file:/{0,3})?([ -~é\u{85}]{1,8}|[./%@?#]{1,6}){1,3}") {
        let local = |path: &str| parse(json!({ "type": "local", "local_path": path }));
        let provider = local(&path).unwrap();
        prop_assert_eq!(parse(serde_json::to_value(&provider).unwrap()), Ok(provider.clone()));
        let shown = provider.to_string();
        match shown.starts_with("file:") {
            true => prop_assert_eq!(parse(json!({ "url": shown })), Ok(provider)),
            false => prop_assert!(shown == path || shown == format!("./{path}"), "{}", shown),
        }
    }

    #[test]
    fn a_place_in_a_bucket_is_written_out_as_a_url_of_the_same(path in "[a-z %?#@&=é]{1,9}(/[a-z %?#@&=é]{1,9}){0,2}") {
        let provider = parse(json!({ "type": "s3", "s3_bucket": "b", "s3_path": path })).unwrap();
        prop_assert_eq!(parse(json!({ "url": provider.to_string() })), Ok(provider.clone()));
        prop_assert_eq!(parse(serde_json::to_value(&provider).unwrap()), Ok(provider));
    }

    #[test]
    fn no_url_is_a_panic(url in "(s3|gs|azblob|file|x)://[a-z@%?&=/.#0-9]{0,40}") {
        if let Ok(provider) = parse(json!({ "url": url })) {
            prop_assert!(provider.to_string().split('/').all(|part| part != ".."));
        }
    }
}

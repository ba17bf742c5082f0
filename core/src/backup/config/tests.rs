//! Files that are accepted, mistakes that are named, and what never shows.

use super::*;
use serde_json::{Value, json};

fn seed() -> Value {
    json!({
        "provider": {
            "type": "s3",
            "s3_bucket": "my-raftkv-backups",
            "s3_region": "us-east-1",
            "s3_access_key": "",
            "s3_secret_key": ""
        },
        "backup": {
            "compression": { "enabled": true, "type": "gzip", "level": 6 },
            "encryption": {
                "enabled": true,
                "type": "aes-256-gcm",
                "key_file": "/etc/raftkv/backup-key"
            },
            "node_id": "node-1",
            "cluster_id": "raftkv-prod",
            "version": "1.0.0",
            "prefix": "backups/"
        },
        "schedule": {
            "enabled": true,
            "cron_expression": "0 0 * * *",
            "timezone": "UTC",
            "enable_pruning": true
        },
        "retention": {
            "retention_days": 30,
            "max_backups": 10,
            "min_backups": 3,
            "prune_on_backup": true
        }
    })
}

fn check(value: Value) -> Result<(), String> {
    let config: Config = serde_json::from_value(value).map_err(|error| error.to_string())?;
    config.check().map_err(|error| error.to_string())
}

#[test]
fn a_full_file_and_a_minimal_one_are_accepted() {
    assert_eq!(check(seed()), Ok(()));
    let minimal = json!({ "provider": { "type": "local", "local_path": "/var/backups" } });
    assert_eq!(check(minimal), Ok(()));
}

#[test]
fn mistakes_are_named() {
    let cases: [(&str, Value, &str); 15] = [
        ("/provider/typo", json!("1"), "unknown field"),
        ("/provider/type", json!("ftp"), "unknown variant `ftp`"),
        ("/provider/s3_bucket", json!(""), "provider.s3_bucket must not be empty"),
        ("/provider/s3_access_key", json!("AKIA"), "must be given together"),
        ("/backup/compression/level", json!(10), "gzip level 10 is out of range"),
        ("/backup/encryption/key_file", json!(null), "names no key_file"),
        ("/backup/encryption/key_file", json!(""), "names no key_file"),
        ("/backup/encryption/key_env", json!("KEY"), "more than one of"),
        ("/backup/encryption/old_keys", json!([{ "env": "" }]), "must not be empty"),
        ("/backup/encryption/more_keys", json!([{ "secret": "x" }]), "{file: PATH}"),
        ("/backup/encryption/more_keys", json!(vec![json!({ "env": "K" }); 16]), "17 keys"),
        ("/backup/encryption/enabled", json!(false), "is not enabled"),
        ("/backup/prefix", json!("../other/"), "backup.prefix"),
        ("/retention/min_backups", json!(11), "more than retention.max_backups"),
        ("/retention/max_backup", json!(11), "unknown field `max_backup`"),
    ];
    for (path, value, message) in cases {
        let mut config = seed();
        let (parent, key) = path.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value;
        let error = check(config).unwrap_err();
        assert!(error.contains(message), "{path}: {error}");
    }
}

#[test]
fn as_many_keys_are_accepted_as_a_backup_can_be_sealed_for() {
    let mut config = seed();
    config["backup"]["encryption"]["more_keys"] = json!(vec![json!({ "env": "K" }); 15]);
    config["backup"]["encryption"]["old_keys"] = json!(vec![json!({ "env": "K" }); 20]);
    assert_eq!(check(config), Ok(()));
}

#[test]
fn credentials_never_show() {
    let mut config = seed();
    config["provider"]["s3_access_key"] = json!("AKIAEXAMPLE");
    config["provider"]["s3_secret_key"] = json!("hunter2");
    let config: Config = serde_json::from_value(config).unwrap();
    let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
    assert!(!shown.contains("hunter2") && !shown.contains("AKIAEXAMPLE"), "{shown}");
}

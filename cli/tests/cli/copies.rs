//! Backups in several stores, and what is left when one of them is gone.

use super::backup::{encrypted, fill};
use super::cluster::{Cli, Cluster, arg};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// An encrypted configuration with two stores besides the primary one.
fn with_copies(dir: &Path, required: u8) -> PathBuf {
    let config = encrypted(dir);
    let mut yaml = fs::read_to_string(&config).unwrap();
    yaml.push_str(&format!("required_copies: {required}\ncopies:\n"));
    for name in ["second", "third"] {
        let path = dir.join(name);
        yaml.push_str(&format!(
            "  - name: {name}\n    provider: {{type: local, local_path: {}}}\n",
            path.display()
        ));
    }
    fs::write(&config, yaml).unwrap();
    config
}

fn backups(config: &Path, args: &[&str]) -> Vec<Value> {
    let mut all = vec!["backup", "list", "--config", arg(config)];
    all.extend(args);
    Cli::offline().json(&all)["backups"].as_array().unwrap().clone()
}

fn create(cluster: &Cluster, config: &Path) -> String {
    let made = cluster.cli().json(&["backup", "create", "--config", arg(config)]);
    made["id"].as_str().unwrap().to_owned()
}

fn verify(config: &Path) -> Vec<&str> {
    vec!["backup", "verify", "--backup", "latest", "--level", "restore", "--config", arg(config)]
}

#[test]
fn a_backup_survives_the_loss_of_its_store() {
    let cluster = Cluster::start(1);
    fill(&cluster, 500);
    let dir = cluster.path("backup");
    let config = with_copies(&dir, 1);
    let id = create(&cluster, &config);
    assert_eq!(backups(&config, &[])[0]["stores"], json!(["primary", "second", "third"]));

    // One byte of the primary store's: told, and read from the next one.
    let data = |store: &str| dir.join(store).join("backups").join(&id).join("data.db");
    let mut bytes = fs::read(data("store")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(data("store"), bytes).unwrap();
    let output = Cli::offline().run(&verify(&config));
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("good in second; store primary: "), "{said}");
    let restore = |db: &str, more: &[&str], fails: Option<i32>| {
        let db = cluster.path(db);
        let args = ["backup", "restore", "--config", arg(&config), "--db", arg(&db)];
        let args = [&args[..], more].concat();
        let output = Cli::offline().run(&args);
        assert_eq!(output.status.code(), Some(fails.unwrap_or(0)));
        assert_eq!(db.exists(), fails.is_none());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let latest = ["--backup", "latest"];
    let said = restore("r1", &latest, None);
    assert!(said.contains("store primary: ") && said.contains("the copy in second"), "{said}");

    // The whole primary store is gone, and the second cannot be read.
    fs::remove_dir_all(dir.join("store")).unwrap();
    fs::remove_dir_all(dir.join("second")).unwrap();
    fs::write(dir.join("second"), "a file in a store's place").unwrap();
    let said = restore("r2", &latest, Some(6));
    let refused = said.lines().last().unwrap();
    assert!(refused.contains("store primary may have a newer backup"), "{said}");
    assert!(refused.contains(&id) && refused.contains("--or-older"), "{said}");
    let today = ["--backup", "@2999-01-01"];
    assert!(restore("r2", &today, Some(6)).contains("may have a newer backup"));
    let said = restore("r2", &["--backup", "latest", "--or-older"], None);
    assert!(said.contains("store second is left out"), "{said}");
    assert!(said.contains("store second may have a newer backup; using"), "{said}");
    let said = restore("r3", &["--backup", &id], None);
    assert!(!said.contains("newer"), "{said}");
    // Looking goes on; but what was not heard is not called good.
    good_but_for_silence(&verify(&config), "third");
    Cli::offline().ok(&["backup", "show", "--config", arg(&config), "latest"]);
    assert_eq!(backups(&config, &[])[0]["stores"], json!(["third"]));
    fs::rename(dir.join("third"), dir.join("gone")).unwrap();
    let said = restore("r4", &latest, Some(10));
    assert!(said.contains("store third is left out"), "{said}");
    fs::rename(dir.join("gone"), dir.join("third")).unwrap();

    // From what is left, the primary store is filled again.
    let back = ["backup", "copy", "--config", arg(&config), "--from", "third", "--to", "primary"];
    let copied = Cli::offline().json(&back);
    assert_eq!(copied["stores"][0]["copies"][0]["outcome"], "copied", "{copied}");
    assert_eq!(backups(&config, &["--store", "primary"]).len(), 1);
    Cli::offline().ok(&[&verify(&config)[..], &["--store", "primary"]].concat());
}

#[test]
fn a_backup_that_is_printed_for_nobody_is_copied_and_its_locks_given_back() {
    let cluster = Cluster::start(1);
    fill(&cluster, 100);
    let dir = cluster.path("backup");
    let config = with_copies(&dir, 2);
    let create = ["backup", "create", "--config", arg(&config)];
    assert_eq!(cluster.cli().unread(&create), (Some(0), String::new()));
    assert_eq!(backups(&config, &[])[0]["stores"], json!(["primary", "second", "third"]));
    for store in ["store", "second", "third"] {
        assert!(is_unlocked(&dir.join(store)), "store {store}");
    }
}

/// Whether the newest lock of a store was given back.
pub fn is_unlocked(store: &Path) -> bool {
    let locks = fs::read_dir(store.join("backups").join("locks")).unwrap();
    let newest = locks.map(|lock| lock.unwrap().path()).max().unwrap();
    let lock: Value = serde_json::from_slice(&fs::read(newest).unwrap()).unwrap();
    lock["released"] == true
}

/// A check finds the newest backup that it hears of good in this store, and ends with what it did not hear of.
fn good_but_for_silence(verify: &[&str], store: &str) {
    let checked = Cli::offline().run(verify);
    let stderr = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(6), "{stderr}");
    assert!(String::from_utf8_lossy(&checked.stdout).contains(&format!("good in {store}")));
    assert!(stderr.contains("store primary may have a newer backup"), "{stderr}");
}

#[test]
fn an_old_backup_is_not_taken_for_the_newest_unasked() {
    let cluster = Cluster::start(1);
    fill(&cluster, 100);
    let config = encrypted(&cluster.path("backup"));
    create(&cluster, &config);
    let newest = create(&cluster, &config);
    let data = config.with_file_name("store").join("backups").join(&newest).join("data.db");
    let bytes = fs::read(&data).unwrap();
    fs::write(&data, &bytes[..bytes.len() - 1]).unwrap();
    let cli = Cli::offline();
    let db = cluster.path("restored");
    let mut args =
        vec!["backup", "restore", "--config", arg(&config), "--backup", "latest", "--db", arg(&db)];
    let refused = cli.fails(5, &args);
    assert!(refused.contains(&newest) && refused.contains("--or-older"), "{refused}");
    assert!(!db.exists());
    let checked = cli.fails(5, &verify(&config));
    assert!(checked.contains(&newest), "{checked}");
    args.push("--or-older");
    cli.ok(&args);
    assert!(db.exists());
}

#[test]
fn a_backup_that_must_be_in_two_stores_does_not_count_in_one() {
    let cluster = Cluster::start(1);
    fill(&cluster, 100);
    let dir = cluster.path("backup");
    let config = with_copies(&dir, 2);
    fs::write(dir.join("second"), "a file in a store's place").unwrap();
    let failed = cluster.cli().fails(6, &["backup", "create", "--config", arg(&config)]);
    assert!(failed.contains("second"), "{failed}");
    let locks = fs::read_dir(dir.join("store/backups/locks")).unwrap();
    let lock = fs::read_to_string(locks.last().unwrap().unwrap().path()).unwrap();
    let lock: Value = serde_json::from_str(&lock).unwrap();
    assert_eq!(lock["released"], true, "the next one need not wait: {lock}");
    assert!(backups(&config, &["--store", "primary"]).is_empty());
    fs::remove_file(dir.join("second")).unwrap();
    fs::write(dir.join("third"), "a file in a store's place").unwrap();
    // The third need not have it; that it has not is said.
    let output = cluster.cli().run(&["backup", "create", "--config", arg(&config)]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("third") && said.contains("backup copy makes up"), "{said}");
    let behind = cluster.cli().fails(6, &["backup", "copy", "--config", arg(&config)]);
    assert!(behind.contains("third"), "{behind}");
    fs::remove_file(dir.join("third")).unwrap();
    Cli::offline().ok(&["backup", "copy", "--config", arg(&config)]);
    assert_eq!(backups(&config, &[])[0]["stores"], json!(["primary", "second", "third"]));
}

#[test]
fn pins_keys_and_deletion_reach_every_store() {
    let cluster = Cluster::start(1);
    fill(&cluster, 100);
    let dir = cluster.path("backup");
    let config = with_copies(&dir, 1);
    let id = create(&cluster, &config);
    create(&cluster, &config);
    let cli = Cli::offline();
    let stores = ["primary", "second", "third"];
    let pinned = |store: &str| backups(&config, &["--store", store])[0]["pinned"].clone();
    cli.ok(&["backup", "pin", &id, "--config", arg(&config), "--reason", "kept"]);
    assert!(stores.iter().all(|store| pinned(store) == json!("kept")));
    cli.ok(&["backup", "unpin", &id, "--config", arg(&config)]);
    assert!(stores.iter().all(|store| pinned(store).is_null()));

    let old = cli.json(&["backup", "key", "list", "--config", arg(&config)]);
    let old = old["keys"][0]["key_id"].as_str().unwrap().to_owned();
    let new_file = dir.join("new-key");
    let new = cli.json(&["backup", "key", "generate", arg(&new_file)]);
    let new = new["key_id"].as_str().unwrap().to_owned();
    let yaml = fs::read_to_string(&config).unwrap();
    let key = format!("key_file: {}", dir.join("key").display());
    let both = format!(
        "key_file: {}\n    old_keys: [{{file: {}}}]",
        new_file.display(),
        dir.join("key").display()
    );
    fs::write(&config, yaml.replace(&key, &both)).unwrap();
    let rotate =
        ["backup", "key", "rotate", "--config", arg(&config), "--old", &old, "--new", &new];
    let rotated = cli.json(&rotate);
    let changed = rotated["backups"].as_array().unwrap();
    assert_eq!(changed.len(), 6, "{rotated}");
    assert!(changed.iter().all(|backup| backup["outcome"] == "changed"), "{rotated}");

    cli.ok(&["backup", "delete", "--config", arg(&config), "--backup", &id, "--yes"]);
    for store in stores {
        let left = backups(&config, &["--store", store]);
        assert!(left.len() == 1 && left[0]["id"] != json!(id), "{store}: {left:?}");
    }
    let unknown = cli.fails(2, &["backup", "list", "--config", arg(&config), "--store", "fourth"]);
    assert!(unknown.contains("primary, second, third"), "{unknown}");
}

#[test]
fn a_plain_backup_is_not_copied_where_encryption_is_configured() {
    let cluster = Cluster::start(1);
    fill(&cluster, 100);
    let dir = cluster.path("backup");
    let config = with_copies(&dir, 1);
    // By somebody who can write to the store and has no key.
    let keyless = dir.join("keyless.yaml");
    let provider = format!("provider: {{type: local, local_path: {}}}\n", arg(&dir.join("store")));
    fs::write(&keyless, provider).unwrap();
    let planted = create(&cluster, &keyless);
    let own = create(&cluster, &config);
    let stores = |id: &str| {
        let listed = backups(&config, &[]);
        listed.iter().find(|backup| backup["id"] == json!(id)).unwrap()["stores"].clone()
    };
    assert_eq!(stores(&own), json!(["primary", "second", "third"]));
    assert_eq!(stores(&planted), json!(["primary"]));
    let copy = ["backup", "copy", "--config", arg(&config), "--to", "second"];
    let copied = Cli::offline().json(&copy);
    let told = &copied["stores"][0]["copies"][0];
    assert_eq!((&told["id"], &told["outcome"]), (&json!(planted), &json!("plain")), "{copied}");
    Cli::offline().ok(&[&copy[..], &["--allow-plaintext"]].concat());
    assert_eq!(stores(&planted), json!(["primary", "second"]));
}

#[test]
fn a_cluster_keeps_copies_by_itself() {
    let mut cluster = Cluster::prepare(1);
    let dir = cluster.path("backup");
    let config = with_copies(&dir, 2);
    cluster.launch_with(0, &["--backup-config", arg(&config)]);
    fill(&cluster, 500);
    let made = cluster.cli().json(&["backup", "create", "--in-cluster"]);
    assert_eq!(made["outcome"], "complete", "{made}");
    cluster.wait_until("every store has it", |_| {
        backups(&config, &[])[0]["stores"] == json!(["primary", "second", "third"])
    });
    fs::remove_dir_all(dir.join("store")).unwrap();
    good_but_for_silence(&verify(&config), "second");
}

/// Every finding's store, backup and outcome.
fn findings(report: &Value) -> Vec<(String, String, Value)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |it: &Value| (text(&it["store"]), text(&it["backup"]), it["outcome"].clone());
    report["findings"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn what_is_wrong_in_a_store_of_copies_is_found_and_put_right() {
    let cluster = Cluster::start(1);
    fill(&cluster, 50);
    let dir = cluster.path("backup");
    let config = with_copies(&dir, 1);
    let ids = [create(&cluster, &config), create(&cluster, &config)];
    let object =
        |store: &str, id: &str, name: &str| dir.join(store).join("backups").join(id).join(name);
    let lose = |store: &str, id: &str| {
        fs::remove_file(object(store, id, "metadata.json")).unwrap();
    };
    let catalog = |more: &[&str]| -> Vec<String> {
        let all = [&["backup", "catalog"], more, &["--config", arg(&config), "-o", "json"]];
        all.concat().into_iter().map(str::to_owned).collect()
    };
    let run = |more: &[&str], exit: i32| -> Value {
        let args = catalog(more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = Cli::offline().run(&args);
        assert_eq!(output.status.code(), Some(exit), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    lose("second", &ids[0]);
    lose("third", &ids[0]);
    lose("third", &ids[1]);
    let found = |store: &str, id: &str, outcome: Value| (store.to_owned(), id.to_owned(), outcome);
    // Which comes first of those without metadata says their ids.
    let sorted = |mut findings: Vec<(String, String, Value)>| {
        findings.sort_by_key(|(store, id, _)| (store.clone(), *id != ids[0]));
        findings
    };
    let all = |outcome: Value| {
        [("second", 0), ("third", 0), ("third", 1)]
            .map(|(store, id)| found(store, &ids[id], outcome.clone()))
    };
    assert_eq!(sorted(findings(&run(&["fsck"], 5))), all(Value::Null));
    assert_eq!(sorted(findings(&run(&["rebuild"], 0))), all(json!("rebuilt")));
    assert_eq!(run(&["fsck"], 0)["findings"], json!([]));
    lose("third", &ids[1]);
    let only = run(&["rebuild", "--backup", &ids[0]], 0);
    assert_eq!(only["findings"], json!([]));

    // One store is not there, and has nothing to look after; one cannot be listed, and is told of at the end.
    fs::remove_dir_all(dir.join("second")).unwrap();
    let repaired = run(&["fsck", "--repair", "--yes"], 0);
    assert_eq!(findings(&repaired), [found("third", &ids[1], json!("rebuilt"))]);
    assert!(!dir.join("second").exists(), "nothing is made where there was nothing");
    fs::write(dir.join("second"), "a file in a store's place").unwrap();
    lose("third", &ids[1]);
    assert_eq!(findings(&run(&["fsck"], 5)), [found("third", &ids[1], Value::Null)]);
    let repaired = run(&["fsck", "--repair", "--yes"], 6);
    assert_eq!(findings(&repaired), [found("third", &ids[1], json!("rebuilt"))]);
}

#[test]
fn prune_goes_through_every_store() {
    let cluster = Cluster::start(1);
    fill(&cluster, 50);
    let dir = cluster.path("backup");
    let config = with_copies(&dir, 1);
    let ids = [create(&cluster, &config), create(&cluster, &config)];
    let mut yaml = fs::read_to_string(&config).unwrap();
    yaml.push_str("retention: {max_backups: 1, min_backups: 1}\n");
    fs::write(&config, yaml).unwrap();
    let prune = ["backup", "prune", "--config", arg(&config)];
    let planned = Cli::offline().json(&[&prune[..], &["--dry-run"]].concat());
    let going = |report: &Value| -> Vec<Value> {
        let all = report["backups"].as_array().unwrap().iter();
        let going = all.filter(|backup| backup["action"] == "delete");
        going.inspect(|it| assert_eq!(it["id"], ids[0])).map(|it| it["store"].clone()).collect()
    };
    assert_eq!(going(&planned), ["primary", "second", "third"]);
    let pruned = Cli::offline().json(&[&prune[..], &["--yes"]].concat());
    assert_eq!(going(&pruned), ["primary", "second", "third"]);
    for store in ["primary", "second", "third"] {
        let left = backups(&config, &["--store", store]);
        assert_eq!(left.len(), 1, "store {store}");
        assert_eq!(left[0]["id"], ids[1]);
    }
}

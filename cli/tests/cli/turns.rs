//! Backups that have to wait for their turn, and those whose turn it is not.

use super::backup::{encrypted, fill};
use super::cluster::{Cli, Cluster, arg};
use super::copies::is_unlocked;
use super::gate::Gate;
use super::s3::{S3, provider};
use serde_json::{Value, json};
use std::fs;

/// A store, and the gate before it that holds what names one of these objects.
fn gated(cluster: &Cluster, names: &'static str) -> (S3, Gate) {
    let s3 = S3::start(&cluster.path("s3"));
    let gate = Gate::before(s3.address, names);
    s3.reach(gate.address());
    (s3, gate)
}

#[test]
fn the_state_is_frozen_when_the_store_is_locked() {
    let cluster = Cluster::start(1);
    fill(&cluster, 100);
    let (s3, gate) = gated(&cluster, "/locks/");
    let create = ["backup", "create", "--config", arg(&s3.config), "-o", "json"];
    let child = cluster.cli().command(&create).spawn().unwrap();
    gate.wait_until_held();
    let written = cluster.cli().json(&["put", "meanwhile", "x"])["revision"].as_u64();
    gate.open();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((made["revision"].as_u64(), made["keys"].as_u64()), (written, Some(101)), "{made}");
}

const IN_CLUSTER: [&str; 5] = ["backup", "create", "--in-cluster", "-o", "json"];

#[test]
fn of_two_that_the_cluster_is_asked_for_at_once_one_is_refused() {
    let mut cluster = Cluster::prepare(1);
    let (s3, gate) = gated(&cluster, "/data.db");
    cluster.launch_with(0, &["--backup-config", arg(&s3.config)]);
    fill(&cluster, 100);
    let first = cluster.cli().command(&IN_CLUSTER).spawn().unwrap();
    gate.wait_until_held();
    let refused = cluster.cli().fails(13, &IN_CLUSTER);
    assert!(refused.contains("another backup is being made"), "{refused}");
    gate.open();
    let first = first.wait_with_output().unwrap();
    assert!(first.status.success(), "{first:?}");
    let first: Value = serde_json::from_slice(&first.stdout).unwrap();
    let status = cluster.cli().json(&["backup", "schedule", "status"]);
    assert_eq!((&status["last"]["id"], &status["run"]), (&first["id"], &Value::Null), "{status}");
}

#[test]
fn what_keeps_the_cluster_from_a_backup_is_an_exit_code() {
    let mut cluster = Cluster::prepare(1);
    let s3 = S3::start(&cluster.path("s3"));
    cluster.launch_with(0, &["--backup-config", arg(&s3.config)]);
    fill(&cluster, 100);
    let gate = Gate::before(s3.address, "/data.db");
    s3.reach(gate.address());
    let beside = ["backup", "create", "--config", arg(&s3.config)];
    let beside = cluster.cli().command(&beside).spawn().unwrap();
    gate.wait_until_held();
    let refused = cluster.cli().run(&IN_CLUSTER);
    assert_eq!(refused.status.code(), Some(13), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("the store's lock is held by backup create"), "{said}");
    gate.open();
    assert!(beside.wait_with_output().unwrap().status.success());

    let mut local = Cluster::prepare(1);
    let config = encrypted(&local.path("backup"));
    fs::write(config.with_file_name("store"), "a file in a store's place").unwrap();
    local.launch_with(0, &["--backup-config", arg(&config)]);
    fill(&local, 1);
    let failed = local.cli().run(&IN_CLUSTER);
    assert_eq!(failed.status.code(), Some(6), "{failed:?}");
}

#[test]
fn keys_are_not_changed_while_a_backup_is_made() {
    let cluster = Cluster::start(1);
    fill(&cluster, 100);
    let (s3, gate) = gated(&cluster, "/data.db");
    let create = ["backup", "create", "--config", arg(&s3.config)];
    let create = cluster.cli().command(&create).spawn().unwrap();
    gate.wait_until_held();

    let yaml = fs::read_to_string(&s3.config).unwrap();
    let yaml = yaml.replace(&gate.address().to_string(), &s3.address.to_string());
    let (old, new) = (s3.config.with_file_name("backup.key"), cluster.path("new-key"));
    Cli::offline().ok(&["backup", "key", "generate", arg(&new)]);
    let keys = format!("key_file: {}\n    old_keys: [{{file: {}}}]", new.display(), old.display());
    let rotated = yaml.replace(&format!("key_file: {}", old.display()), &keys);
    fs::write(&s3.config, rotated).unwrap();
    let config = ["--config", arg(&s3.config)];
    let listed = Cli::offline().json(&[&["backup", "key", "list"][..], &config].concat());
    let id = |place: usize| listed["keys"][place]["key_id"].as_str().unwrap();
    let rotate = ["backup", "key", "rotate", "--old", id(1), "--new", id(0)];
    let rotate = [&rotate[..], &config].concat();
    let refused = Cli::offline().run(&rotate);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(13), "{said}");
    assert!(said.contains("held by backup create") && said.contains("keep the old key"), "{said}");

    gate.open();
    assert!(create.wait_with_output().unwrap().status.success());
    let rotated = Cli::offline().json(&rotate);
    assert_eq!(rotated["backups"][0]["outcome"], "changed", "{rotated}");
    assert!(is_unlocked(&s3.bucket()));
}

#[test]
fn nothing_is_deleted_while_it_may_be_on_its_way_to_another_store() {
    let cluster = Cluster::start(1);
    fill(&cluster, 100);
    let s3 = S3::start(&cluster.path("s3"));
    let gate = Gate::before(s3.address, "/data.db");
    let config = encrypted(&cluster.path("backup"));
    let yaml = fs::read_to_string(&config).unwrap();
    let with_copies = |address| {
        let copies = format!("copies: [{{name: second, provider: {}}}]\n", provider(address));
        fs::write(&config, format!("{yaml}{copies}")).unwrap();
    };
    with_copies(gate.address());
    let create = ["backup", "create", "--config", arg(&config), "-o", "json"];
    let create = cluster.cli().command(&create).spawn().unwrap();
    gate.wait_until_held();

    with_copies(s3.address);
    let delete = ["backup", "delete", "--config", arg(&config), "--backup", "latest", "--force"];
    let refused = Cli::offline().fails(13, &delete);
    assert!(refused.contains("store second") && refused.contains("by backup copy"), "{refused}");
    let backups = |store: &str| {
        let list = ["backup", "list", "--config", arg(&config), "--store", store];
        Cli::offline().json(&list)["backups"].as_array().unwrap().len()
    };
    assert_eq!(backups("primary"), 1, "all stores or none");
    let pin = ["backup", "pin", "--config", arg(&config), "latest", "--reason", "why"];
    let refused = Cli::offline().fails(13, &pin);
    assert!(refused.contains("store second") && refused.contains("by backup copy"), "{refused}");

    gate.open();
    let create = create.wait_with_output().unwrap();
    assert!(create.status.success(), "{create:?}");
    assert_eq!(backups("second"), 1);
    Cli::offline().ok(&pin);
    let deleted = Cli::offline().json(&delete);
    let outcomes: Vec<_> =
        deleted["stores"].as_array().unwrap().iter().map(|store| &store["outcome"]).collect();
    assert_eq!(outcomes, [&json!("removed"); 2], "{deleted}");
    assert_eq!((backups("primary"), backups("second")), (0, 0));
    for store in [config.with_file_name("store"), s3.bucket()] {
        assert!(is_unlocked(&store), "{}", store.display());
    }
}

#[test]
fn a_backup_whose_lock_was_taken_over_is_not_complete() {
    let cluster = Cluster::start(1);
    fill(&cluster, 100);
    let (s3, gate) = gated(&cluster, "/data.db");
    let create = ["backup", "create", "--config", arg(&s3.config)];
    let child = cluster.cli().command(&create).spawn().unwrap();
    gate.wait_until_held();
    // As by one that saw no sign of life for a minute.
    let locks = s3.bucket().join("backups").join("locks");
    let own = fs::read_dir(&locks).unwrap().map(|lock| lock.unwrap().path()).max().unwrap();
    fs::write(own.with_file_name("00000000000000000099.json"), "somebody else").unwrap();
    gate.open();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(13), "{said}");
    assert!(said.contains("was taken over by somebody else"), "{said}");
    let list = ["backup", "list", "--config", arg(&s3.config)];
    let listed = Cli::offline().json(&list);
    assert_eq!(listed["backups"][0]["status"], "failed", "{listed}");
}

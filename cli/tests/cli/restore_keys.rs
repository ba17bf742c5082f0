//! Keys put back into a cluster that goes on meanwhile, or takes little at once.

use super::backup::{encrypted, fill};
use super::cluster::{Cluster, arg};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A cluster of one with this many keys, and a backup of them.
fn backed_up(keys: usize, flags: &[&str]) -> (Cluster, PathBuf) {
    let mut cluster = Cluster::prepare(1);
    cluster.launch_with(0, flags);
    fill(&cluster, keys);
    let config = encrypted(&cluster.path("backup"));
    cluster.cli().ok(&["backup", "create", "--config", arg(&config)]);
    (cluster, config)
}

fn restore_keys(config: &Path) -> Vec<&str> {
    let command = ["backup", "restore-keys", "--config", arg(config), "--backup", "latest"];
    [&command[..], &["--prefix", "k/"]].concat()
}

fn count(cluster: &Cluster) -> u64 {
    cluster.cli().json(&["get", "k/", "--prefix", "--count-only"])["count"].as_u64().unwrap()
}

#[test]
fn a_long_restore_of_keys_outlives_the_revision_that_it_began_with() {
    let (cluster, config) = backed_up(800, &["--max-range", "4KiB"]);
    for gone in ["k/000", "k/001", "k/002", "k/003", "k/004", "k/005"] {
        cluster.cli().ok(&["del", gone, "--prefix"]);
    }
    assert_eq!(count(&cluster), 200);
    // What is missing before the first page of what is there takes eight seconds; only then the second page is read.
    let slowly = [&restore_keys(&config)[..], &["--rate", "60", "-o", "json"]].concat();
    let restoring = cluster.cli().command(&slowly).spawn().unwrap();
    cluster.wait_until("it has begun", |cluster| count(cluster) > 200);
    let newest = cluster.cli().json(&["put", "other", "x"])["revision"].to_string();
    cluster.cli().ok(&["compact", &newest]);
    let output = restoring.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let done = ["written", "unchanged", "kept"].map(|field| report[field].clone());
    assert_eq!(done, [600, 200, 0].map(|number| json!(number)));
    assert_eq!(count(&cluster), 800);
}

#[test]
fn keys_come_back_in_parts_as_small_as_the_cluster_takes() {
    for limits in [
        &["--max-txn-ops", "10"][..],
        &["--max-key", "1KiB", "--max-value", "1KiB", "--max-write", "2KiB"],
        &["--max-txn-ops", "2"],
    ] {
        let (mut cluster, config) = backed_up(300, &[]);
        cluster.cli().ok(&["del", "k/", "--prefix"]);
        cluster.kill(0);
        cluster.launch_with(0, limits);
        let report = cluster.cli().json(&restore_keys(&config));
        assert_eq!((&report["written"], count(&cluster)), (&json!(300), 300), "{limits:?}");
        cluster.kill(0);
        cluster.launch_with(0, &["--max-txn-ops", "1"]);
        cluster.cli().ok(&["del", "k/", "--prefix"]);
        let refused = cluster.cli().fails(1, &restore_keys(&config));
        assert!(refused.contains("limit is 1"), "{refused}");
    }
}

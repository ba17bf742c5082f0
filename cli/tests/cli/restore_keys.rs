//! Keys put back into a cluster that goes on meanwhile, or takes little at once.

use super::backup::{encrypted, fill};
use super::cluster::{Cluster, arg};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
        let refused = cluster.cli().run(&restore_keys(&config));
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!((refused.status.code(), said.lines().count()), (Some(1), 101), "{said}");
        assert!(said.lines().all(|line| line.contains("limit is 1")), "{said}");
    }
}

#[test]
fn a_key_that_the_cluster_does_not_take_keeps_no_other_from_its_place() {
    let (cluster, config) = backed_up(30, &["--max-key", "1KiB"]);
    let long = "l".repeat(1022);
    cluster.cli().ok(&["put", &format!("k/{long}"), "x"]);
    cluster.cli().ok(&["backup", "create", "--config", arg(&config)]);
    let args = [&restore_keys(&config)[..], &["--to", "there/", "-o", "json"]].concat();
    let partly = cluster.cli().run(&args);
    let said = String::from_utf8(partly.stderr).unwrap();
    assert_eq!(partly.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("there/{long} is not written: ")), "{said}");
    assert!(said.contains("1 keys were refused"), "{said}");
    let report: Value = serde_json::from_slice(&partly.stdout).unwrap();
    assert_eq!((&report["written"], &report["refused"]), (&json!(30), &json!(1)));
    let count = cluster.cli().json(&["get", "there/", "--prefix", "--count-only"])["count"].clone();
    assert_eq!(count, 30);
}

/// Keys are bytes, and people make them meanwhile.
#[test]
fn any_bytes_come_back_and_what_is_made_meanwhile_stays() {
    let mut cluster = Cluster::prepare(1);
    cluster.launch_with(0, &[]);
    let lines = cluster.path("binary.ndjson");
    let key = |number: u8| STANDARD.encode([b'k', b'/', 0xff, 0, number]);
    let line =
        |number| format!("{{\"key_base64\":\"{}\",\"value_base64\":\"/wA=\"}}\n", key(number));
    std::fs::write(&lines, (0..200).map(line).collect::<String>()).unwrap();
    cluster.cli().ok(&["import", arg(&lines)]);
    let before = cluster.path("before.ndjson");
    cluster.cli().ok(&["export", arg(&before)]);
    let config = encrypted(&cluster.path("backup"));
    cluster.cli().ok(&["backup", "create", "--config", arg(&config)]);
    cluster.cli().ok(&["del", "k/", "--prefix"]);

    let slowly = [&restore_keys(&config)[..], &["--rate", "100", "-o", "json"]].concat();
    let restoring = cluster.cli().command(&slowly).spawn().unwrap();
    cluster.wait_until("it has begun", |cluster| count(cluster) > 0);
    // The last one of all, before its turn has come.
    let mine = cluster.path("mine.ndjson");
    let own = line(199).replace("/wA=", "//8A");
    std::fs::write(&mine, &own).unwrap();
    cluster.cli().ok(&["import", arg(&mine)]);
    let output = restoring.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["written"], &report["kept"]), (&json!(199), &json!(1)), "{report}");
    let after = cluster.path("after.ndjson");
    cluster.cli().ok(&["export", arg(&after)]);
    let [before, after] = [before, after].map(|path| std::fs::read_to_string(path).unwrap());
    let differs: Vec<_> = before.lines().zip(after.lines()).filter(|(was, is)| was != is).collect();
    assert_eq!(differs.len(), 1, "{after}");
    assert!(differs[0].1.contains("//8A"), "{after}");
}

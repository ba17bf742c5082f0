//! The largest transaction that a node takes as it comes, through a backup and into a new cluster.

use super::backup::encrypted;
use super::cluster::{Cli, Cluster, arg};
use serde_json::{Value, json};
use std::fs;

const KEY_BYTES: usize = 64 << 10;
const VALUE_BYTES: usize = 1536 << 10;
const WRITE_BYTES: usize = 4 << 20;
const OPS: usize = 1024;

/// The largest key and value and as many others as there may be, of exactly as many bytes as there may be, and `more`.
fn transaction(more: usize) -> String {
    let put = |key: String, value_bytes: usize| json!({"put": {"key": key, "value": "v".repeat(value_bytes)}});
    let name = |number: usize| format!("{number:04}");
    let others = OPS - 1;
    let left = WRITE_BYTES - KEY_BYTES - VALUE_BYTES - others * name(1).len();
    let mut puts: Vec<Value> = (1..others).map(|number| put(name(number), left / others)).collect();
    puts.push(put(name(others), left - (others - 1) * (left / others) + more));
    puts.push(put("k".repeat(KEY_BYTES), VALUE_BYTES));
    json!({"success": puts}).to_string()
}

#[test]
fn the_largest_transaction_survives_the_cluster() {
    let mut old = Cluster::start(3);
    let refusal = old.cli().stdin(transaction(1)).run(&["txn"]);
    assert!(
        !refusal.status.success() && String::from_utf8_lossy(&refusal.stderr).contains("write")
    );
    let done = old.cli().stdin(transaction(0)).json(&["txn"]);
    assert_eq!(done["succeeded"], true);
    let exported = old.path("before.ndjson");
    assert_eq!(old.cli().json(&["export", arg(&exported)])["keys"], OPS);
    let config = encrypted(&old.path("backup"));
    let made = old.cli().json(&["backup", "create", "--config", arg(&config)]);
    assert_eq!(made["keys"], OPS);
    (0..3).for_each(|place| old.kill(place));

    let mut new = Cluster::prepare(2);
    let (db, members) = (new.data_dir(0), new.initial_cluster());
    let restore = ["cluster", "restore", "--config", arg(&config), "--backup", "latest", "--db"];
    Cli::offline().ok(&[&restore[..], &[arg(&db), "--initial-cluster", &members]].concat());
    new.launch(0);
    new.launch_joining(1, 0);
    new.wait_until("the other one has everything", |new| {
        let status = new.cli().json(&["status"]);
        let nodes = status["nodes"].as_array().unwrap();
        nodes.len() == 2 && nodes.iter().all(|node| node["keys"] == OPS)
    });
    let again = new.path("after.ndjson");
    new.cli().ok(&["export", arg(&again)]);
    assert!(fs::read(&exported).unwrap() == fs::read(&again).unwrap(), "it is not the same");
}

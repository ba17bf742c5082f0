//! Everything over certificates: a cluster that loses its leader, is backed up, and comes back under another authority.

use super::backup::{encrypted, fill};
use super::cluster::{Cli, Cluster, arg};
use serde_json::json;

#[test]
fn a_certified_cluster_lives_dies_and_comes_back() {
    let mut old = Cluster::prepare_certified(3);
    (0..3).for_each(|place| old.launch(place));
    fill(&old, 500);
    old.cli().ok(&["put", "who", "the old one"]);
    let get = ["get", "who", "--timeout", "3s"];
    let refusal = old.cli_of(None).fails(4, &get);
    assert!(refusal.contains("certificate"), "{refusal}");
    let leader = old.leader();
    old.kill(leader);
    assert_eq!(old.cli().json(&["get", "who"])["kvs"][0]["value"], "the old one");
    old.cli().ok(&["put", "after", "the leader died"]);

    let config = encrypted(&old.path("backup"));
    let made = old.cli().json(&["backup", "create", "--config", arg(&config)]);
    assert_eq!((&made["status"], &made["keys"]), (&json!("complete"), &json!(502)));
    let exported = old.path("before.ndjson");
    old.cli().ok(&["export", arg(&exported)]);
    (0..3).for_each(|place| old.kill(place));

    let mut new = Cluster::prepare_certified(3);
    let (db, members) = (new.data_dir(0), new.initial_cluster());
    let restore = ["cluster", "restore", "--config", arg(&config), "--backup", "latest", "--db"];
    Cli::offline().ok(&[&restore[..], &[arg(&db), "--initial-cluster", &members]].concat());
    new.launch(0);
    (1..3).for_each(|place| new.launch_joining(place, 0));
    new.wait_until("three voters", |new| {
        let members = new.cli().json(&["member", "list"]);
        let members = members["members"].as_array().unwrap();
        members.iter().filter(|member| member["role"] == "voter").count() == 3
    });
    let refusal = new.cli_of(Some(&old)).fails(4, &get);
    assert!(refusal.contains("not from our ca.crt"), "{refusal}");
    // What the first node was given is with the others by now.
    new.kill(0);
    let again = new.path("after.ndjson");
    new.cli().ok(&["export", arg(&again)]);
    assert_eq!(std::fs::read(&exported).unwrap(), std::fs::read(&again).unwrap());
}

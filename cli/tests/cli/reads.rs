//! Reads with options: limits, keys without values, old reads, watches from the past; and leases that are held.

use super::cluster::Cluster;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout};

#[test]
fn ranges_are_limited_and_values_left_out() {
    let cluster = Cluster::start(1);
    let cli = cluster.cli();
    for key in ["k/1", "k/2", "k/3"] {
        cli.ok(&["put", key, "hidden"]);
    }
    let two = cli.json(&["get", "k/", "--prefix", "--limit", "2"]);
    let keys: Vec<&Value> = two["kvs"].as_array().unwrap().iter().map(|kv| &kv["key"]).collect();
    assert_eq!((keys, &two["count"]), (vec![&json!("k/1"), &json!("k/2")], &json!(3)));
    let names = cli.json(&["get", "k/", "--prefix", "--keys-only"]);
    assert_eq!(names["kvs"].as_array().unwrap().len(), 3);
    assert!(!names.to_string().contains("hidden") && names["kvs"][0]["value"].is_null(), "{names}");
    let table = cli.ok(&["get", "k/", "--prefix", "--keys-only"]);
    assert!(table.contains("k/3") && !table.contains("hidden"), "{table}");
}

#[test]
fn old_reads_need_no_leader() {
    let mut cluster = Cluster::start(3);
    cluster.cli().ok(&["put", "a", "1"]);
    let leader = cluster.leader();
    let left = (leader + 1) % 3;
    // The last one must have it before it is alone.
    cluster.wait_until("all have it", |cluster| {
        let status = cluster.cli().json(&["status"]);
        let nodes = status["nodes"].as_array().unwrap();
        nodes.len() == 3 && nodes.iter().all(|node| node["keys"] == 1)
    });
    (0..3).filter(|place| *place != left).for_each(|place| cluster.kill(place));
    assert_eq!(cluster.cli().json(&["get", "a", "--stale"])["kvs"][0]["value"], "1");
    cluster.cli().fails(4, &["get", "a", "--timeout", "2s"]);
}

#[test]
fn watches_begin_in_the_past_as_far_as_it_is_kept() {
    let cluster = Cluster::start(1);
    let cli = cluster.cli();
    let first = cli.json(&["put", "w/1", "x"])["revision"].as_u64().unwrap();
    cli.ok(&["put", "other", "x"]);
    cli.ok(&["del", "w/1"]);
    cli.ok(&["put", "w/2", "y"]);
    let events = |from: u64, count: &str| {
        let from = from.to_string();
        let watch = ["watch", "w/", "--prefix", "--rev", &from, "--count", count, "-o", "json"];
        let lines = cli.ok(&watch);
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let told = |event: Value| (event["type"].to_string(), event["key"].to_string());
        events.map(told).collect::<Vec<_>>()
    };
    let event = |kind: &str, key: &str| (json!(kind).to_string(), json!(key).to_string());
    let all = [event("put", "w/1"), event("delete", "w/1"), event("put", "w/2")];
    assert_eq!(events(first, "3"), all);
    assert_eq!(events(first + 1, "2"), all[1..]);
    cli.ok(&["compact", &(first + 2).to_string()]);
    let watch = ["watch", "w/", "--prefix", "--rev", &first.to_string()];
    let output = cli.run(&watch);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("compacted"), "{said}");
}

#[test]
fn a_lease_lives_as_long_as_it_is_kept_alive() {
    let cluster = Cluster::start(1);
    let cli = cluster.cli();
    let id = cli.json(&["lease", "grant", "6s"])["id"].to_string();
    cli.ok(&["put", "held", "x", "--lease", &id]);
    let (mut keeper, mut lines) = keep_alive(&cluster, &id);
    // Between two words lies a third of the lease's time: after four of them it would be over.
    for _ in 0..4 {
        let line = lines.next().unwrap().unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((line["id"].to_string(), &line["ttl_ms"]), (id.clone(), &json!(6000)));
    }
    assert_eq!(cli.json(&["get", "held"])["kvs"][0]["value"], "x");
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    cluster.wait_until("the lease is over, and its key gone", |cluster| {
        cluster.cli().run(&["get", "held"]).status.code() == Some(10)
    });
    cli.fails(10, &["lease", "keep-alive", &id]);
}

type Lines = std::io::Lines<BufReader<ChildStdout>>;

fn keep_alive(cluster: &Cluster, id: &str) -> (Child, Lines) {
    let mut keeper = cluster.cli().command(&["lease", "keep-alive", id, "-o", "json"]);
    let mut keeper = keeper.spawn().unwrap();
    let lines = BufReader::new(keeper.stdout.take().unwrap()).lines();
    (keeper, lines)
}

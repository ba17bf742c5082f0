//! Members that come, are given a vote, and go.

use super::cluster::Cluster;
use serde_json::{Value, json};

/// Three members, and the address of a fourth.
fn start() -> (Cluster, String) {
    let mut cluster = Cluster::prepare(4);
    let members: Vec<String> =
        (0..3).map(|p| format!("{}={}", p + 1, cluster.address(p))).collect();
    (0..3).for_each(|place| cluster.spawn(place, &["--initial-cluster", &members.join(",")]));
    let address = cluster.address(3).to_owned();
    (cluster, address)
}

/// A member as it is listed.
fn member(listed: &Value, id: u32) -> Option<Value> {
    let members = listed["members"].as_array().unwrap();
    members.iter().find(|member| member["id"] == id).cloned()
}

fn role(cluster: &Cluster, id: u32) -> Value {
    member(&cluster.cli().json(&["member", "list"]), id)
        .map_or(Value::Null, |it| it["role"].clone())
}

#[test]
fn a_learner_is_added_promoted_and_removed() {
    let (mut cluster, address) = start();
    let cli = cluster.cli();
    cli.ok(&["put", "a", "1"]);
    let added = cli.json(&["member", "add", "4", &address, "--learner"]);
    let learner = json!({"id": 4, "incarnation": 0, "address": address, "role": "learner"});
    assert_eq!(member(&added, 4), Some(learner));
    let line = cli.fails(13, &["member", "add", "4", &address]);
    assert!(line.contains("member 4 exists"), "{line}");
    let line = cli.fails(13, &["member", "add", "5", &address]);
    assert!(line.contains("member 4's address"), "{line}");

    // It has no data, so it comes under its next incarnation.
    let seed = cluster.address(0).to_owned();
    cluster.spawn(3, &["--join", &seed, "--learner"]);
    cluster.wait_until("the learner has everything", |cluster| {
        let status = cluster.cli().json(&["status"]);
        status["nodes"].as_array().unwrap().iter().any(|node| {
            (&node["id"], &node["role"], &node["keys"]) == (&json!(4), &json!("learner"), &json!(1))
        })
    });
    let promoted = cli.json(&["member", "promote", "4"]);
    assert_eq!(member(&promoted, 4).unwrap()["incarnation"], 1);
    cluster.wait_until("it votes", |cluster| role(cluster, 4) == "voter");

    let removed = cli.json(&["member", "remove", "4"]);
    assert_eq!(member(&removed, 4), None);
    assert_ne!(cluster.ended(3), Some(0));
    assert!(cluster.log(3).contains("Halted(Removed"), "{}", cluster.log(3));
}

#[test]
fn a_member_votes_once_it_has_caught_up_and_nobody_is_changed_who_is_not_there() {
    let (mut cluster, address) = start();
    let cli = cluster.cli();
    let added = cli.json(&["member", "add", "4", &address]);
    assert_eq!(member(&added, 4).unwrap()["role"], "joining");
    let seed = cluster.address(0).to_owned();
    cluster.spawn(3, &["--join", &seed]);
    cluster.wait_until("it votes", |cluster| role(cluster, 4) == "voter");
    for change in ["promote", "remove"] {
        let line = cli.fails(10, &["member", change, "9"]);
        assert!(line.contains("member 9"), "{line}");
    }
    assert_eq!(cli.run(&["member", "add", "0", "127.0.0.1:1"]).status.code(), Some(1));
}

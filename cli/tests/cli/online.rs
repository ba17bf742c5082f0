//! The command line against real nodes.

use super::cluster::{Cluster, arg};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};

#[test]
fn keys_are_written_read_and_deleted() {
    let cluster = Cluster::start(1);
    let cli = cluster.cli();
    let first = cli.json(&["put", "a", "1"])["revision"].as_u64().unwrap();
    cluster.cli().stdin(b"\xff\x00".as_slice()).ok(&["put", "a/b", "-"]);
    let all = cli.json(&["get", "a", "--prefix"]);
    assert_eq!(all["revision"], first + 1);
    assert_eq!(all["count"], 2);
    assert_eq!(
        all["kvs"][0],
        json!({"key": "a", "value": "1", "create_revision": first, "mod_revision": first, "version": 1, "lease": 0})
    );
    assert_eq!(all["kvs"][1]["value_base64"], "/wA=");
    assert_eq!(cli.json(&["get", "a", "--count-only"])["count"], 1);
    assert_eq!(cli.json(&["del", "a"]), json!({"revision": first + 2, "deleted": 1}));
    assert_eq!(cli.json(&["get", "a", "--rev", &first.to_string()])["kvs"][0]["value"], "1");
    assert!(cli.fails(10, &["get", "a"]).contains("no key a"));
    assert_eq!(cli.json(&["compact", &(first + 2).to_string()])["compacted"], first + 2);
    let line = cli.fails(1, &["get", "a", "--rev", &first.to_string()]);
    assert!(line.contains("compacted"), "{line}");
}

#[test]
fn transactions_compare_and_change() {
    let cluster = Cluster::start(1);
    let txn = r#"{"compare":[{"key":"lock","version":0}],
                  "success":[{"put":{"key":"lock","value":"me"}}],
                  "failure":[{"get":{"key":"lock"}}]}"#;
    let taken = cluster.cli().stdin(txn).json(&["txn"]);
    assert_eq!((&taken["succeeded"], &taken["results"]), (&json!(true), &json!([{"put": {}}])));
    let refused = cluster.cli().stdin(txn).json(&["txn"]);
    assert_eq!(refused["succeeded"], json!(false));
    assert_eq!(refused["results"][0]["get"]["kvs"][0]["value"], "me");
    assert_eq!(refused["revision"], taken["revision"]);
}

#[test]
fn leases_end_with_their_keys() {
    let cluster = Cluster::start(1);
    let cli = cluster.cli();
    let id = cli.json(&["lease", "grant", "1h"])["id"].to_string();
    cli.ok(&["put", "held", "x", "--lease", &id]);
    assert_eq!(cli.json(&["lease", "keep-alive", &id, "--once"])["ttl_ms"], 3_600_000);
    assert_eq!(cli.json(&["lease", "list"])["leases"][0]["keys"], 1);
    cli.ok(&["lease", "revoke", &id]);
    cli.fails(10, &["get", "held"]);
    cli.fails(10, &["lease", "revoke", &id]);
}

#[test]
fn watches_print_what_happens() {
    let cluster = Cluster::start(1);
    let cli = cluster.cli();
    cli.ok(&["put", "w/0", "before"]);
    let mut watch = cli.command(&["watch", "w/", "--prefix", "--count", "2", "-o", "json"]);
    let mut watch = watch.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(watch.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "watching\n");
    cli.ok(&["put", "w/1", "x"]);
    cli.ok(&["del", "w/0"]);
    let mut lines = String::new();
    watch.stdout.take().unwrap().read_to_string(&mut lines).unwrap();
    assert!(watch.wait().unwrap().success());
    let events: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&events[0]["type"], &events[0]["key"]), (&json!("put"), &json!("w/1")));
    assert_eq!((&events[1]["type"], &events[1]["key"]), (&json!("delete"), &json!("w/0")));
}

#[test]
fn imports_survive_the_leader_and_exports_give_everything_back() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let file = cluster.path("keys.ndjson");
    let lines: Vec<String> = (0..20_000)
        .map(|number| format!(r#"{{"key":"k/{number:06}","value":"value {number}"}}"#))
        .collect();
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    let cli = cluster.cli();
    let import = ["import", arg(&file), "-o", "json"];
    let import = cli.command(&import).spawn().unwrap();
    // Something is imported, and the rest is under way.
    while cli.json(&["get", "k/", "--prefix", "--count-only"])["count"] == 0 {}
    cluster.kill(leader);
    let output = import.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let imported: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(imported["lines"], 20_000);
    let exported = cluster.path("exported.ndjson");
    assert_eq!(cli.json(&["export", arg(&exported), "--prefix", "k/"])["keys"], 20_000);
    assert_eq!(fs::read_to_string(&exported).unwrap(), lines.join("\n") + "\n");
}

#[test]
fn a_bad_line_is_named_and_the_import_goes_on_from_where_it_was() {
    let cluster = Cluster::start(1);
    let (file, resume) = (cluster.path("keys.ndjson"), cluster.path("resume"));
    let good = |number: usize| format!("{{\"key\":\"{number}\",\"value\":\"\"}}\n");
    let first: String = (0..1000).map(good).collect();
    fs::write(&file, format!("{first}oops\n")).unwrap();
    let cli = cluster.cli();
    let import = ["import", arg(&file), "--resume-file", arg(&resume)];
    assert!(cli.fails(2, &import).contains("line 1001"));
    fs::write(&file, format!("{first}{}", good(1000))).unwrap();
    let resumed = cli.json(&import);
    assert_eq!((&resumed["skipped"], &resumed["lines"]), (&json!(1000), &json!(1)));
    assert_eq!(cli.json(&["get", "", "--prefix", "--count-only"])["count"], 1001);
    assert!(!resume.exists());
}

#[test]
fn the_cluster_can_be_looked_at_and_led() {
    let cluster = Cluster::start(3);
    let cli = cluster.cli();
    let leader = cluster.leader();
    cli.ok(&["put", "a/1", "x"]);
    let status = cli.json(&["status"]);
    assert_eq!(status["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(cli.json(&["member", "list"])["members"].as_array().unwrap().len(), 3);
    let next = (leader + 1) % 3;
    cli.ok(&["leader", "transfer", &(next + 1).to_string()]);
    assert_eq!(cluster.leader(), next);

    let id = (next + 1).to_string();
    let saved = cli.json(&["snapshot", "save", "--node", &id]);
    let listed = cli.json(&["snapshot", "list", "--node", &id]);
    assert_eq!(listed["snapshots"].as_array().unwrap().last(), Some(&saved));
    let index = saved["index"].as_u64().unwrap();
    let file = cluster.data_dir(next).join(format!("snapshots/snapshot-{index:09}.snap"));
    let inspected = cli.json(&["snapshot", "inspect", arg(&file)]);
    assert_eq!(inspected["state_hash"], saved["state_hash"]);
    assert_eq!(inspected["prefixes"][0]["prefix"], "a/");
    let (json, back) = (cluster.path("snapshot.json"), cluster.path("snapshot.snap"));
    cli.ok(&["snapshot", "export", arg(&file), arg(&json)]);
    cli.ok(&["snapshot", "import", arg(&json), arg(&back)]);
    assert_eq!(fs::read(&file).unwrap(), fs::read(&back).unwrap());
    cli.fails(10, &["snapshot", "list", "--node", "9"]);
}

#[test]
fn a_benchmark_counts_what_it_did() {
    let cluster = Cluster::start(1);
    for kind in ["put", "get", "mixed"] {
        let args = ["bench", kind, "--ops", "500", "--clients", "8", "--key-space", "50"];
        let measured = cluster.cli().json(&args);
        assert_eq!((&measured["ops"], &measured["errors"]), (&json!(500), &json!(0)));
        assert!(measured["p50_us"].as_u64() <= measured["p999_us"].as_u64(), "{measured}");
    }
    let count = cluster.cli().json(&["get", "bench/", "--prefix", "--count-only"]);
    assert_eq!(count["count"], 50);
}

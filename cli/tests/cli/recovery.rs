//! Ways back from a disaster: keys deleted by mistake, a damaged newest backup, a whole cluster from one command.

use super::backup::{data_of, encrypted, fill};
use super::cluster::{Cli, Cluster, arg};
use super::retention::Store;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};

#[test]
fn keys_deleted_by_mistake_come_back_from_a_backup() {
    let cluster = Cluster::start(1);
    fill(&cluster, 300);
    let cli = cluster.cli();
    cli.ok(&["put", "other", "stays"]);
    let config = encrypted(&cluster.path("backup"));
    cli.ok(&["backup", "create", "--config", arg(&config)]);
    cli.ok(&["del", "k/001", "--prefix"]);
    cli.ok(&["put", "k/00001", "changed since"]);
    cli.ok(&["put", "k/new", "made since"]);

    let backup = |args: &[&str]| {
        let (command, rest) = args.split_first().unwrap();
        cli.json(&[&["backup", command, "--config", arg(&config)], rest].concat())
    };
    let found = backup(&["get", "latest", "k/00100"]);
    assert_eq!(found["kvs"][0]["value"], "plain secret 100");
    let missing = ["backup", "get", "latest", "k/new", "--config", arg(&config)];
    assert_eq!(cli.run(&missing).status.code(), Some(10));
    assert_eq!(backup(&["browse", "latest", "--prefix", "k/001", "--limit", "3"])["count"], 100);
    let counts = |diff: &Value| ["deleted", "changed", "added", "same"].map(|f| diff[f].clone());
    let diff = backup(&["diff", "latest", "--prefix", "k/"]);
    assert_eq!(counts(&diff), [100, 1, 1, 199].map(|number| json!(number)));

    let restore = ["restore-keys", "--backup", "latest", "--prefix", "k/"];
    let done = |report: &Value| ["written", "unchanged", "kept"].map(|f| report[f].clone());
    let dry = backup(&[&restore[..], &["--dry-run"]].concat());
    assert_eq!(done(&dry), [100, 199, 1].map(|number| json!(number)));
    assert_eq!(cli.json(&["get", "k/00100", "--count-only"])["count"], 0, "it was a dry run");
    assert_eq!(done(&backup(&restore)), [100, 199, 1].map(|number| json!(number)));
    assert_eq!(done(&backup(&restore)), [0, 299, 1].map(|number| json!(number)), "again");
    assert_eq!(cli.json(&["get", "k/00001"])["kvs"][0]["value"], "changed since");
    let overwritten = backup(&[&restore[..], &["--overwrite"]].concat());
    assert_eq!(done(&overwritten), [1, 299, 0].map(|number| json!(number)));
    let diff = backup(&["diff", "latest"]);
    assert_eq!(counts(&diff), [0, 0, 1, 301].map(|number| json!(number)), "only the new key");

    let elsewhere = backup(&[&restore[..], &["--to", "old/", "--rate", "100000"]].concat());
    assert_eq!(done(&elsewhere), [300, 0, 0].map(|number| json!(number)));
    assert_eq!(cli.json(&["get", "old/00042"])["kvs"][0]["value"], "plain secret 42");
    let nothing = ["backup", "restore-keys", "--config", arg(&config), "--backup", "latest"];
    let nothing = cli.run(&[&nothing[..], &["--prefix", "nowhere/"]].concat());
    assert_eq!(nothing.status.code(), Some(10));
}

#[test]
fn the_old_cluster_makes_no_backups_where_the_new_one_has_its_own() {
    let store = Store::new("");
    let made = store.create();
    let restored = store.cluster.path("restored");
    store.json(&["restore", "--backup", "latest", "--db", arg(&restored)]);
    // As long as the new cluster has none, the old one's are the newest there are.
    let again = store.create();
    let heirs = store.json(&["create", "--db", arg(&restored)]);
    assert_eq!(heirs["epoch"].as_u64(), made["epoch"].as_u64().map(|epoch| epoch + 1));
    let line = store.fails(13, &["create", "--db", arg(&store.cluster.data_dir(0))]);
    let id = |made: &Value| made["id"].as_str().unwrap().to_owned();
    assert!(line.contains(&id(&heirs)) && line.contains("was restored from this one"), "{line}");
    let complete = |made| (id(made), "complete".to_owned());
    assert_eq!(store.statuses(), [&made, &again, &heirs].map(complete));
    store.json(&["create", "--db", arg(&restored)]);
}

#[test]
fn a_damaged_newest_backup_gives_way_to_the_one_before_and_says_so() {
    let cluster = Cluster::start(1);
    fill(&cluster, 200);
    let config = encrypted(&cluster.path("backup"));
    let create = ["backup", "create", "--config", arg(&config)];
    let older = cluster.cli().json(&create);
    cluster.cli().ok(&["put", "k/new", "x"]);
    let newer = cluster.cli().json(&create);
    let data = data_of(&config, &newer);
    let mut bytes = fs::read(&data).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&data, bytes).unwrap();

    let db = cluster.path("restored");
    let restore = ["backup", "restore", "--config", arg(&config), "--backup", "latest", "--db"];
    let restore = [&restore[..], &[arg(&db)]].concat();
    let older_id = older["id"].as_str().unwrap();
    let refusal = Cli::offline().fails(5, &restore);
    assert!(refusal.contains(older_id) && refusal.contains("--or-older"), "{refusal}");
    assert!(!db.exists());
    let again = [&restore[..], &["--or-older", "-o", "json"]].concat();
    let output = Cli::offline().run(&again);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(newer["id"].as_str().unwrap()) && said.contains(older_id), "{said}");
    let restored: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&restored["backup"], &restored["keys"]), (&older["id"], &json!(200)));

    let begun = older["timestamp"].as_str().unwrap();
    let show = ["backup", "show", "--config", arg(&config)];
    let at = format!("@{begun}");
    assert_eq!(Cli::offline().json(&[&show[..], &[&at]].concat())["id"], older["id"]);
    let too_old = Cli::offline().fails(10, &[&show[..], &["@2001-01-01"]].concat());
    assert!(too_old.contains(older_id), "{too_old}");
    assert!(Cli::offline().fails(2, &[&show[..], &["@noon"]].concat()).contains("UTC"));
}

fn voters(cluster: &Cluster) -> usize {
    let members = cluster.cli().json(&["member", "list"]);
    let members = members["members"].as_array().unwrap();
    members.iter().filter(|member| member["role"] == "voter").count()
}

/// How often a node says in such a line that a node from before a restore is refused.
fn refusals(cluster: &Cluster, place: usize, line: &str) -> usize {
    let log = cluster.log(place);
    let is = |it: &&str| it.contains(line) && it.contains("a node from before a restore");
    log.lines().filter(is).count()
}

#[test]
fn one_command_brings_a_whole_cluster_back_and_old_nodes_stay_out() {
    let mut cluster = Cluster::start(3);
    fill(&cluster, 1000);
    let config = encrypted(&cluster.path("backup"));
    let made = cluster.cli().json(&["backup", "create", "--config", arg(&config)]);
    let exported = cluster.path("before.ndjson");
    cluster.cli().ok(&["export", arg(&exported)]);
    (0..3).for_each(|place| cluster.kill(place));
    // Two are lost; the third one's machine comes back later, with its old data.
    (0..2).for_each(|place| fs::remove_dir_all(cluster.data_dir(place)).unwrap());

    let (db, members) = (cluster.data_dir(0), cluster.initial_cluster());
    let restore = ["cluster", "restore", "--config", arg(&config), "--backup", "latest", "--db"];
    let restore = [&restore[..], &[arg(&db), "--initial-cluster", &members]].concat();
    let restored = Cli::offline().json(&restore);
    assert_eq!((&restored["keys"], &restored["id"]), (&json!(1000), &json!(1)));
    assert_ne!(restored["cluster_id"], made["cluster_id"]);
    assert_eq!(restored["join"].as_array().unwrap().len(), 2);
    assert_eq!(Cli::offline().json(&restore), restored, "run again");
    // The old node comes first: nobody is there to refuse it.
    cluster.launch(2);
    cluster.wait_until("nobody answers the old node", |cluster| {
        let log = cluster.log(2);
        let silent = |line: &&str| line.contains("cannot be reached") && line.contains("no answer");
        log.lines().filter(silent).count() >= 2
    });
    cluster.launch(0);
    cluster.wait_until("both say that the old node is refused, and why", |cluster| {
        refusals(cluster, 2, "it refused this node") == 1 && refusals(cluster, 0, "a node at") > 0
    });
    cluster.kill(2);
    cluster.launch_joining(1, 0);
    cluster.wait_until("two voters", |cluster| voters(cluster) == 2);
    // Now it comes last.
    cluster.launch(2);
    cluster.wait_until("it is refused by both, and all say why", |cluster| {
        refusals(cluster, 2, "it refused this node") == 3 && refusals(cluster, 1, "a node at") > 0
    });
    cluster.kill(2);
    fs::remove_dir_all(cluster.data_dir(2)).unwrap();
    cluster.launch_joining(2, 0);
    cluster.wait_until("three voters", |cluster| voters(cluster) == 3);
    // The first node can be spared now: the others hold everything.
    cluster.kill(0);
    let again = cluster.path("after.ndjson");
    cluster.cli().ok(&["export", arg(&again)]);
    assert_eq!(fs::read(&exported).unwrap(), fs::read(&again).unwrap());
    let status = cluster.cli().json(&["status"]);
    assert_eq!(status["cluster_id"], restored["cluster_id"]);
}

#[test]
fn a_cluster_comes_back_larger_or_smaller_than_it_was() {
    let mut old = Cluster::start(3);
    fill(&old, 1000);
    let config = encrypted(&old.path("backup"));
    old.cli().ok(&["backup", "create", "--config", arg(&config)]);
    let exported = old.path("before.ndjson");
    old.cli().ok(&["export", arg(&exported)]);
    (0..3).for_each(|place| old.kill(place));

    for size in [5, 1] {
        let mut new = Cluster::prepare(size);
        let (db, members) = (new.data_dir(0), new.initial_cluster());
        let restore = ["cluster", "restore", "--config", arg(&config), "--backup", "latest"];
        let flags = ["--db", arg(&db), "--initial-cluster", &members];
        let restored = Cli::offline().json(&[&restore[..], &flags].concat());
        assert_eq!(restored["join"].as_array().unwrap().len(), size - 1);
        new.launch(0);
        (1..size).for_each(|place| new.launch_joining(place, 0));
        new.wait_until("every member votes", |new| voters(new) == size);
        // As many go as can be spared, the first one among them.
        (0..(size - 1) / 2).for_each(|place| new.kill(place));
        let again = new.path("after.ndjson");
        new.cli().ok(&["export", arg(&again)]);
        assert_eq!(fs::read(&exported).unwrap(), fs::read(&again).unwrap(), "{size} members");
        new.cli().ok(&["put", "k/new", "x"]);
    }
}

/// Adds the second place of a cluster as a learner, and waits until it has so many keys.
fn add_learner(cluster: &mut Cluster, keys: u64) {
    let [seed, learner] = [0, 1].map(|place| cluster.address(place).to_owned());
    cluster.cli().ok(&["member", "add", "2", &learner, "--learner"]);
    cluster.spawn(1, &["--join", &seed, "--learner"]);
    cluster.wait_until("the learner has everything", |cluster| {
        let status = cluster.cli().json(&["status"]);
        let learner = json!({"id": 2, "role": "learner", "keys": keys});
        let is = |node: &Value| ["id", "role", "keys"].iter().all(|it| node[it] == learner[it]);
        status["nodes"].as_array().unwrap().iter().any(is)
    });
}

#[test]
fn a_cluster_with_a_learner_comes_back_without_it_and_takes_another() {
    let mut old = Cluster::prepare(2);
    let alone = format!("1={}", old.address(0));
    old.spawn(0, &["--initial-cluster", &alone]);
    fill(&old, 100);
    add_learner(&mut old, 100);
    let config = encrypted(&old.path("backup"));
    old.cli().ok(&["backup", "create", "--config", arg(&config)]);
    (0..2).for_each(|place| old.kill(place));

    let mut new = Cluster::prepare(2);
    let alone = format!("1={}", new.address(0));
    let db = new.data_dir(0);
    let restore = ["cluster", "restore", "--config", arg(&config), "--backup", "latest"];
    let flags = ["--db", arg(&db), "--initial-cluster", &alone];
    Cli::offline().ok(&[&restore[..], &flags].concat());
    new.spawn(0, &["--initial-cluster", &alone]);
    let listed = new.cli().json(&["member", "list"]);
    assert_eq!(listed["members"].as_array().map(Vec::len), Some(1), "{listed}");
    add_learner(&mut new, 100);
    new.cli().ok(&["member", "promote", "2"]);
    new.wait_until("both vote", |new| voters(new) == 2);
}

#[test]
fn a_watch_from_before_a_disaster_is_told_to_list_again() {
    let mut cluster = Cluster::start(1);
    fill(&cluster, 100);
    let config = encrypted(&cluster.path("backup"));
    let made = cluster.cli().json(&["backup", "create", "--config", arg(&config)]);
    let cli = cluster.cli();
    // One watch lives through the disaster, and sees a write that is lost in it.
    let watch = ["watch", "k/", "--prefix", "--count", "2", "--timeout", "120s"];
    let mut watch = cli.command(&watch).spawn().unwrap();
    let mut said = BufReader::new(watch.stderr.take().unwrap());
    let mut seen = BufReader::new(watch.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "watching\n");
    let lost = cli.json(&["put", "k/lost", "x"])["revision"].as_u64().unwrap();
    line.clear();
    seen.read_line(&mut line).unwrap();
    assert!(line.contains("k/lost"), "{line}");
    cluster.kill(0);
    fs::remove_dir_all(cluster.data_dir(0)).unwrap();

    let (db, members) = (cluster.data_dir(0), cluster.initial_cluster());
    let restore = ["cluster", "restore", "--config", arg(&config), "--backup", "latest"];
    let flags = ["--db", arg(&db), "--initial-cluster", &members];
    Cli::offline().ok(&[&restore[..], &flags].concat());
    cluster.launch(0);
    let after = cli.json(&["put", "k/after", "x"])["revision"].as_u64().unwrap();
    let compacted = |revision: u64| {
        let oldest = after - 1;
        format!(
            "revision {revision} is compacted; the oldest readable one is {oldest}: list again and watch from there"
        )
    };
    let mut end = String::new();
    said.read_to_string(&mut end).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(1), "{end}");
    assert!(end.contains(&compacted(lost + 1)), "{end}");
    // So is one that begins at any revision that the old cluster gave out.
    for revision in [1, made["revision"].as_u64().unwrap(), lost] {
        let end = cli.fails(1, &["watch", "k/", "--prefix", "--rev", &revision.to_string()]);
        assert!(end.contains(&compacted(revision)), "{end}");
    }
    // What is listed says from where a watch goes on.
    let listed = cli.json(&["get", "k/", "--prefix", "--count-only"]);
    assert_eq!((&listed["count"], &listed["revision"]), (&json!(101), &json!(after)));
    let again = ["watch", "k/", "--prefix", "--rev", &after.to_string(), "--count", "1"];
    assert!(cli.ok(&again).contains("k/after"));
}

#[test]
fn a_member_that_lost_its_disk_joins_anew_and_fills_from_the_others() {
    let mut cluster = Cluster::start(3);
    fill(&cluster, 1000);
    let victim = (cluster.leader() + 1) % 3;
    cluster.kill(victim);
    fs::remove_dir_all(cluster.data_dir(victim)).unwrap();
    cluster.launch_joining(victim, (victim + 1) % 3);
    cluster.wait_until("the member votes again, as another incarnation", |cluster| {
        let members = cluster.cli().json(&["member", "list"]);
        let anew = json!({"id": victim + 1, "incarnation": 1, "role": "voter"});
        members["members"].as_array().unwrap().iter().any(|member| {
            ["id", "incarnation", "role"].iter().all(|field| member[field] == anew[field])
        })
    });
    // Without one of the others, what the new disk holds is needed.
    cluster.kill((victim + 1) % 3);
    let all = cluster.cli().json(&["get", "k/", "--prefix", "--count-only"]);
    assert_eq!(all["count"], 1000);
}

//! Which point comes back: one of an earlier time, the newest of the right cluster, none that was written in plain text by mistake.

use super::backup::{data_of, encrypted, fill};
use super::cluster::{Cli, Cluster, arg};
use super::retention::Store;
use serde_json::{Value, json};
use std::fs;

fn id(made: &Value) -> &str {
    made["id"].as_str().unwrap()
}

#[test]
fn what_was_overwritten_by_mistake_comes_back_from_an_earlier_time() {
    let mut cluster = Cluster::start(1);
    fill(&cluster, 20);
    let config = encrypted(&cluster.path("backup"));
    let create = ["backup", "create", "--config", arg(&config)];
    let earlier = cluster.cli().json(&create);
    cluster.cli().ok(&["put", "k/00007", "nonsense"]);
    let later = cluster.cli().json(&create);
    let diff = ["backup", "diff", id(&earlier), "--with", id(&later), "--config", arg(&config)];
    let diff = Cli::offline().json(&diff);
    assert_eq!((&diff["changed"], &diff["same"]), (&json!(1), &json!(19)), "{diff}");
    assert_eq!(diff["keys"][0]["key"], "k/00007");
    cluster.kill(0);

    let mut new = Cluster::prepare(1);
    let (db, at) = (new.data_dir(0), format!("@{}", earlier["timestamp"].as_str().unwrap()));
    let restore = ["cluster", "restore", "--config", arg(&config), "--backup", &at, "--db"];
    let members = new.initial_cluster();
    let restore = [&restore[..], &[arg(&db), "--initial-cluster", &members]].concat();
    assert_eq!(Cli::offline().json(&restore)["backup"], earlier["id"]);
    new.launch(0);
    let value =
        |cluster: &Cluster, key| cluster.cli().json(&["get", key])["kvs"][0]["value"].clone();
    assert_eq!(value(&new, "k/00007"), "plain secret 7");

    // A backup right after that is the newest there is.
    let again = new.cli().json(&create);
    assert_eq!(again["epoch"], 1);
    let shown = ["backup", "show", "latest", "--config", arg(&config)];
    assert_eq!(Cli::offline().json(&shown)["id"], again["id"]);

    // Whatever starts a node by restoring it first takes nothing from one that has lived since.
    new.cli().ok(&["put", "k/00007", "written since"]);
    new.kill(0);
    let refused = Cli::offline().fails(13, &restore);
    assert!(refused.contains("--force"), "{refused}");
    new.launch(0);
    assert_eq!(value(&new, "k/00007"), "written since");
}

#[test]
fn another_clusters_backups_are_never_taken_for_this_ones() {
    let (ours, theirs) = (Store::new(""), Store::new(""));
    let made = ours.create();
    let their_db = theirs.cluster.data_dir(0);
    let refused = ours.fails(13, &["create", "--db", arg(&their_db)]);
    assert!(refused.contains(id(&made)) && refused.contains("of another cluster"), "{refused}");

    // Theirs comes here all the same, sealed for our key.
    let yaml = fs::read_to_string(&ours.config).unwrap();
    let elsewhere = ours.config.with_file_name("elsewhere.yaml");
    let store = ours.config.with_file_name("store");
    let other_store = ours.config.with_file_name("other-store");
    fs::write(&elsewhere, yaml.replace(arg(&store), arg(&other_store))).unwrap();
    let create = ["backup", "create", "--db", arg(&their_db), "--config", arg(&elsewhere)];
    let other = Cli::offline().json(&create);
    let within = |store: &std::path::Path| store.join("backups").join(id(&other));
    fs::rename(within(&other_store), within(&store)).unwrap();
    let db = ours.cluster.path("restored");
    for asked in ["latest", "@2999-01-01"] {
        for more in [&[][..], &["--or-older"]] {
            let args = [&["restore", "--backup", asked, "--db", arg(&db)], more].concat();
            let refused = ours.fails(13, &args);
            assert!(refused.contains(id(&made)) && refused.contains(id(&other)), "{refused}");
        }
    }
    let verify = ["verify", "--backup", "latest"];
    assert_eq!(Cli::offline().run(&ours.args(&verify)).status.code(), Some(13));
    assert!(!db.exists());
    let restored = ours.json(&["restore", "--backup", id(&made), "--db", arg(&db)]);
    assert_eq!(restored["backup"], made["id"]);
}

#[test]
fn encryption_does_not_end_with_the_lines_that_ask_for_it() {
    let store = Store::new("");
    let sealed = store.create();
    let yaml = fs::read_to_string(&store.config).unwrap();
    let (kept, _) = yaml.split_once("  encryption:").unwrap();
    fs::write(&store.config, kept).unwrap();
    let db = store.cluster.data_dir(0);
    let refused = store.fails(13, &["create", "--db", arg(&db)]);
    assert!(refused.contains(id(&sealed)) && refused.contains("enabled: false"), "{refused}");
    assert_eq!(store.statuses().len(), 1);
    fs::write(&store.config, format!("{kept}  encryption: {{enabled: false}}\n")).unwrap();
    let plain = store.create();
    assert_ne!(plain["id"], sealed["id"]);
}

/// The only backup of the cluster that was lost last has lost its metadata.
#[test]
fn what_is_left_of_a_backup_tells_the_epoch_of_its_cluster() {
    let store = Store::new("");
    let first = store.create();
    let restore = |name: &str| {
        let db = store.cluster.path(name);
        store.json(&["restore", "--backup", id(&first), "--db", arg(&db)])
    };
    assert_eq!(restore("second")["epoch"], 1);
    let second = store.json(&["create", "--db", arg(&store.cluster.path("second"))]);
    fs::remove_file(data_of(&store.config, &second).with_file_name("metadata.json")).unwrap();
    assert_eq!(restore("third")["epoch"], 2);
}

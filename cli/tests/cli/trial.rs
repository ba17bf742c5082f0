//! A node that was told nothing of backups: what it makes by itself, and where it must not.

use super::backup::{encrypted, fill};
use super::cluster::{Cli, Cluster, arg};

#[test]
fn a_node_that_was_told_nothing_makes_backups_in_its_own_directory() {
    let mut cluster = Cluster::start(1);
    fill(&cluster, 100);
    let create = ["backup", "create", "--in-cluster"];
    let made = cluster.cli().json(&create);
    assert_eq!(made["outcome"], "complete", "{made}");
    cluster.kill(0);
    cluster.launch(0);
    assert_eq!(cluster.cli().json(&create)["outcome"], "complete", "also when it starts again");
    let id = made["id"].as_str().unwrap();
    assert!(cluster.data_dir(0).join("backups").join(id).join("metadata.json").exists());
}

#[test]
fn a_restored_node_that_was_told_nothing_makes_no_plain_backups() {
    let mut old = Cluster::prepare(1);
    let config = encrypted(&old.path("backup"));
    old.launch_with(0, &["--backup-config", arg(&config)]);
    fill(&old, 100);
    let create = ["backup", "create", "--in-cluster"];
    assert_eq!(old.cli().json(&create)["outcome"], "complete");
    let refuses = |cluster: &Cluster| {
        cluster.cli().ok(&["put", "it", "serves"]);
        let line = cluster.cli().fails(4, &[&["--timeout", "5s"], &create[..]].concat());
        assert!(line.contains("`backup_config` on at least one"), "{line}");
        assert!(!cluster.data_dir(0).join("backups").exists());
    };
    old.kill(0);
    let mut new = Cluster::prepare(1);
    let (db, members) = (new.data_dir(0), new.initial_cluster());
    let restore = ["cluster", "restore", "--config", arg(&config), "--backup", "latest", "--db"];
    Cli::offline().ok(&[&restore[..], &[arg(&db), "--initial-cluster", &members]].concat());
    new.launch(0);
    refuses(&new);
    assert!(!new.log(0).contains("makes backups in"), "{}", new.log(0));
    // Nor does the old one, which is only started without its flag.
    old.launch(0);
    refuses(&old);
}

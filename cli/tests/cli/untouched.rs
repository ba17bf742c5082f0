//! Whoever looks at a snapshot, or verifies a backup, changes nothing of it: whole or damaged.

use super::backup::{data_of, encrypted, fill};
use super::cluster::{Cli, Cluster, arg};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Every file below a directory: its bytes, and when they were written.
fn tree(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.append(&mut tree(&path));
        } else {
            let written = fs::metadata(&path).unwrap().modified().unwrap();
            files.insert(path.clone(), (fs::read(&path).unwrap(), written));
        }
    }
    files
}

fn flip_last_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn inspecting_snapshots_and_verifying_backups_change_nothing() {
    let mut cluster = Cluster::start(1);
    fill(&cluster, 300);
    let index = cluster.cli().json(&["snapshot", "save"])["index"].as_u64().unwrap();
    let config = encrypted(&cluster.path("backup"));
    let made = cluster.cli().json(&["backup", "create", "--config", arg(&config)]);
    cluster.cli().ok(&["put", "k/new", "x"]);
    cluster.cli().ok(&["backup", "create", "--config", arg(&config)]);
    cluster.kill(0);

    let (store, node) = (cluster.path("backup"), cluster.data_dir(0));
    let snapshot = node.join(format!("snapshots/snapshot-{index:09}.snap"));
    for (exit, damage) in [(0, false), (5, true)] {
        if damage {
            flip_last_byte(&snapshot);
            flip_last_byte(&data_of(&config, &made));
        }
        let before = (tree(&store), tree(&node));
        assert!(before.0.len() > 4 && before.1.contains_key(&snapshot), "{:?}", before.0.keys());
        let inspect = ["snapshot", "inspect", arg(&snapshot)];
        assert_eq!(Cli::offline().run(&inspect).status.code(), Some(exit));
        for level in ["exists", "checksum", "decrypt", "restore"] {
            let verify = ["backup", "verify", "--config", arg(&config), "--backup", "all"];
            let verify = Cli::offline().run(&[&verify[..], &["--level", level]].concat());
            let expected = if level == "exists" { 0 } else { exit };
            assert_eq!(verify.status.code(), Some(expected), "{level}: {verify:?}");
        }
        assert!(before == (tree(&store), tree(&node)), "something was written");
    }
}

#[test]
fn the_directory_of_a_stopped_node_is_only_read_by_a_backup() {
    let mut cluster = Cluster::start(1);
    fill(&cluster, 300);
    let config = encrypted(&cluster.path("backup"));
    cluster.kill(0);
    let node = cluster.data_dir(0);
    // What opening it to write would put right.
    fs::set_permissions(&node, fs::Permissions::from_mode(0o755)).unwrap();
    let look = || {
        let mut files = tree(&node);
        assert!(files.remove(&node.join("lock")).is_some(), "it says who has the directory");
        files
    };
    let before = look();
    let create = ["backup", "create", "--config", arg(&config), "--db", arg(&node)];
    assert_eq!(Cli::offline().json(&create)["keys"], 300);
    assert!(before == look(), "something was written");
    assert_eq!(fs::metadata(&node).unwrap().permissions().mode() & 0o777, 0o755);
}

//! Whoever looks at a snapshot, or verifies a backup, changes nothing of it: whole or damaged.

use super::backup::{data_of, encrypted, fill};
use super::cluster::{Cli, Cluster, arg};
use std::collections::BTreeMap;
use std::fs;
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

//! Backups of real nodes, and clusters made from them.

use super::cluster::{Cli, Cluster, arg};
use raftkv_core::backup::format::Preamble;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// A configuration with a local store in `dir`, encrypted with a fresh key.
pub fn encrypted(dir: &Path) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let (config, key) = (dir.join("backup.yaml"), dir.join("key"));
    Cli::offline().ok(&["backup", "key", "generate", arg(&key)]);
    let yaml = format!(
        "provider:\n  type: local\n  local_path: {}\nbackup:\n  compression:\n    enabled: true\n    type: gzip\n    level: 6\n  \
         encryption:\n    enabled: true\n    type: aes-256-gcm\n    key_file: {}\n",
        dir.join("store").display(),
        key.display()
    );
    fs::write(&config, yaml).unwrap();
    config
}

pub fn fill(cluster: &Cluster, keys: usize) {
    let lines: String = (0..keys)
        .map(|number| {
            format!("{{\"key\":\"k/{number:05}\",\"value\":\"plain secret {number}\"}}\n")
        })
        .collect();
    cluster.cli().stdin(lines).ok(&["import", "-"]);
}

pub fn data_of(config: &Path, backup: &Value) -> PathBuf {
    let id = backup["id"].as_str().unwrap();
    config.with_file_name("store").join("backups").join(id).join("data.db")
}

#[test]
fn a_cluster_comes_back_after_losing_everything() {
    let mut old = Cluster::start(3);
    fill(&old, 3000);
    let config = encrypted(&old.path("backup"));
    let made = old.cli().json(&["backup", "create", "--config", arg(&config)]);
    assert_eq!((&made["status"], &made["keys"]), (&json!("complete"), &json!(3000)));
    let exported = old.path("before.ndjson");
    old.cli().ok(&["export", arg(&exported)]);
    for place in 0..3 {
        old.kill(place);
        fs::remove_dir_all(old.data_dir(place)).unwrap();
    }
    let stored = fs::read(data_of(&config, &made)).unwrap();
    assert!(
        !stored.windows(12).any(|bytes| bytes == b"plain secret"),
        "nothing leaves in the clear"
    );

    let mut new = Cluster::prepare(3);
    let members = new.initial_cluster();
    let mut cluster_id: Option<String> = None;
    let mut hashes = Vec::new();
    let whole_id = made["id"].as_str().unwrap();
    for place in 0..3 {
        let (db, id) = (new.data_dir(place), (place + 1).to_string());
        let mut args = vec!["backup", "restore", "--config", arg(&config)];
        args.extend(["--db", arg(&db), "--initial-cluster", &members, "--id", &id]);
        if let Some(cluster_id) = &cluster_id {
            args.extend(["--cluster-id", cluster_id]);
            for other in [&["--backup", "latest"][..], &["--backup", whole_id, "--or-older"]] {
                let refused = Cli::offline().fails(2, &[&args[..], other].concat());
                assert!(refused.contains("the very backup"), "{refused}");
            }
        }
        args.extend(["--backup", if cluster_id.is_some() { whole_id } else { "latest" }]);
        let restored = Cli::offline().json(&args);
        assert_eq!((&restored["keys"], &restored["epoch"]), (&json!(3000), &json!(1)));
        assert_ne!(restored["cluster_id"], made["cluster_id"]);
        cluster_id = restored["cluster_id"].as_str().map(str::to_owned);
        hashes.push(restored["state_hash"].clone());
    }
    assert!(
        hashes.iter().all(|hash| *hash == hashes[0]),
        "every member starts from the same state"
    );
    for place in 0..3 {
        new.launch(place);
    }
    let again = new.path("after.ndjson");
    new.cli().ok(&["export", arg(&again)]);
    assert_eq!(fs::read(&exported).unwrap(), fs::read(&again).unwrap());
    let status = new.cli().json(&["status"]);
    assert_eq!(status["cluster_id"].as_str(), cluster_id.as_deref());
    let revision = new.cli().json(&["put", "k/new", "x"])["revision"].as_u64();
    assert!(revision > made["revision"].as_u64(), "the revision goes on above the old ones");
}

#[test]
fn what_a_restored_cluster_gave_out_is_not_given_out_again_from_an_older_backup() {
    let mut cluster = Cluster::start(1);
    fill(&cluster, 10);
    let config = encrypted(&cluster.path("backup"));
    let create = ["backup", "create", "--config", arg(&config), "--db"];
    cluster.kill(0);
    let old_db = cluster.data_dir(0);
    let first = Cli::offline().json(&[&create[..], &[arg(&old_db)]].concat());
    let restore = |backup: &str, db: &str| {
        let db = cluster.path(db);
        let args = ["backup", "restore", "--config", arg(&config), "--backup", backup, "--db"];
        Cli::offline().json(&[&args[..], &[arg(&db)]].concat())
    };
    let second = restore("latest", "second");
    assert_eq!(second["epoch"], json!(1));
    Cli::offline().json(&[&create[..], &[arg(&cluster.path("second"))]].concat());
    let third = restore(first["id"].as_str().unwrap(), "third");
    assert_eq!(third["epoch"], json!(2), "the store has a backup of epoch 1");
    assert!(third["revision"].as_u64() > second["revision"].as_u64());
}

#[test]
fn a_stopped_node_can_be_backed_up_and_a_running_one_only_through_the_cluster() {
    let mut cluster = Cluster::start(1);
    fill(&cluster, 500);
    let config = encrypted(&cluster.path("backup"));
    let db = cluster.data_dir(0);
    let create = ["backup", "create", "--config", arg(&config), "--db", arg(&db)];
    assert!(Cli::offline().fails(13, &create).contains("in use"));
    // Killed, not stopped: everything acknowledged must be in the backup nevertheless.
    cluster.kill(0);
    let made = Cli::offline().json(&create);
    assert_eq!(made["keys"], 500);
    let restored = cluster.path("restored");
    let restore = ["backup", "restore", "--config", arg(&config), "--backup", "latest"];
    let restore = [&restore[..], &["--db", arg(&restored)]].concat();
    assert_eq!(Cli::offline().json(&restore)["keys"], 500);
    let another = [&restore[..], &["--listen", "127.0.0.1:7499"]].concat();
    assert!(Cli::offline().fails(13, &another).contains("--force"));
    let forced = Cli::offline().json(&[&restore[..], &["--force"]].concat());
    assert!(Path::new(forced["moved_aside"].as_str().unwrap()).join("identity").exists());
}

#[test]
fn the_highest_epoch_makes_a_cluster_that_serves_and_a_higher_one_is_refused() {
    let mut cluster = Cluster::start(1);
    fill(&cluster, 50);
    let config = encrypted(&cluster.path("backup"));
    cluster.cli().ok(&["backup", "create", "--config", arg(&config)]);
    cluster.kill(0);
    let db = cluster.data_dir(0);
    fs::remove_dir_all(&db).unwrap();
    let restore = ["backup", "restore", "--config", arg(&config), "--backup", "latest", "--db"];
    let restore =
        [&restore[..], &[arg(&db), "--listen", cluster.address(0), "--lost-epoch"]].concat();
    for lost in ["9223371", "18446744073709551615"] {
        let output = Cli::offline().run(&[&restore[..], &[lost]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("--lost-epoch") && !db.exists(), "{said}");
    }
    let restored = Cli::offline().json(&[&restore[..], &["9223370"]].concat());
    assert_eq!(restored["epoch"], 9223371);
    cluster.spawn(0, &[]);
    let revision = cluster.cli().json(&["put", "k/new", "x"])["revision"].as_u64();
    assert!(revision > restored["revision"].as_u64());
}

#[test]
fn damaged_backups_and_wrong_keys_restore_nothing() {
    let cluster = Cluster::start(1);
    fill(&cluster, 500);
    let config = encrypted(&cluster.path("backup"));
    let made = cluster.cli().json(&["backup", "create", "--config", arg(&config)]);
    let cli = Cli::offline();
    let verify = ["backup", "verify", "--config", arg(&config), "--backup", "all"];
    let verify = [&verify[..], &["--level", "restore"]].concat();
    let good = cli.json(&verify);
    assert_eq!(good["backups"][0]["ok"], json!(true));
    assert!(good["checked"].as_str().unwrap().contains("hash"), "{good}");
    assert_eq!(good["backups"][0]["authentic"], json!(true));
    let said = |output: std::process::Output| String::from_utf8(output.stdout).unwrap();
    assert!(said(cli.run(&verify)).contains("good at level restore: "));
    let listed = cli.json(&["backup", "list", "--config", arg(&config)]);
    assert_eq!(listed["backups"][0]["authentic"], json!(true));

    let db = cluster.path("restored");
    let restore = |config: &Path, exit| {
        let args = ["backup", "restore", "--backup", "latest", "--db", arg(&db), "--config"];
        let said = Cli::offline().fails(exit, &[&args[..], &[arg(config)]].concat());
        assert!(!db.exists(), "nothing is left of a failed restore");
        said
    };
    let other = encrypted(&cluster.path("other"));
    let yaml = fs::read_to_string(&config).unwrap();
    let own_key = config.with_file_name("key");
    let wrong = yaml.replace(arg(&own_key), arg(&other.with_file_name("key")));
    fs::write(&other, wrong).unwrap();
    restore(&other, 12);

    let data = data_of(&config, &made);
    let good = fs::read(&data).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&data, &flipped).unwrap();
    restore(&config, 5);
    let damaged = cli.run(&verify);
    assert_eq!(damaged.status.code(), Some(5));
    let damaged = said(damaged);
    assert!(damaged.contains("nothing behind it was checked"), "{damaged}");
    assert!(!damaged.contains("good at level"), "{damaged}");
    fs::write(&data, &good[..good.len() - 1]).unwrap();
    let cut = restore(&config, 5);
    let id = made["id"].as_str().unwrap();
    assert!(cut.contains(&format!("the newest of them is {id}: ")), "{cut}");
    let shown = cli.json(&["backup", "show", "--config", arg(&config), &id[..8]]);
    assert_eq!(shown["status"], "damaged");
    fs::write(&data, &good).unwrap();
    assert_eq!(cli.json(&verify)["backups"][0]["ok"], json!(true));
}

/// Without a key nobody knows who wrote it; and what a list calls forged is not good at any level.
#[test]
fn a_check_promises_no_more_than_it_has_seen() {
    let cluster = Cluster::start(1);
    fill(&cluster, 10);
    let plain = cluster.path("plain.yaml");
    let store = cluster.path("plain");
    fs::write(&plain, format!("provider: {{type: local, local_path: {}}}\n", arg(&store))).unwrap();
    let sealed = encrypted(&cluster.path("backup"));
    let verify = |config: &Path, level: &str| {
        let args = ["backup", "verify", "--config", arg(config), "--backup", "all", "--level"];
        Cli::offline().run(&[&args[..], &[level]].concat())
    };
    let said = |output: std::process::Output| String::from_utf8(output.stdout).unwrap();
    cluster.cli().ok(&["backup", "create", "--config", arg(&plain)]);
    assert!(said(verify(&plain, "restore")).contains("no key proves otherwise"));

    let made = cluster.cli().json(&["backup", "create", "--config", arg(&sealed)]);
    let metadata = data_of(&sealed, &made).with_file_name("metadata.json");
    let forged = fs::read_to_string(&metadata).unwrap().replace("\"keys\": 10", "\"keys\": 11");
    fs::write(&metadata, forged).unwrap();
    for level in ["exists", "checksum", "decrypt", "restore"] {
        let output = verify(&sealed, level);
        assert_eq!(output.status.code(), Some(5), "{level}: {output:?}");
        let said = said(output);
        assert!(said.contains("MAC") && !said.contains("no key proves"), "{level}: {said}");
    }
}

#[test]
fn a_check_says_which_chunk_is_damaged_and_where() {
    let cluster = Cluster::start(1);
    fill(&cluster, 500);
    let config = encrypted(&cluster.path("backup"));
    let made = cluster.cli().json(&["backup", "create", "--config", arg(&config)]);
    let data = data_of(&config, &made);
    let good = fs::read(&data).unwrap();
    let first = Preamble::decode(&good).unwrap().len_bytes;
    let length = u32::from_le_bytes(good[first..first + 4].try_into().unwrap());
    let last = first + 4 + length as usize;
    let verify = ["backup", "verify", "--config", arg(&config), "--backup", "latest"];
    let damage = "damaged, altered, or not from this place of this backup";
    for (number, begins, at) in [(0, first, first + 100), (1, last, good.len() - 1)] {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        fs::write(&data, flipped).unwrap();
        let id = made["id"].as_str().unwrap();
        let what = format!("backup {id}: chunk {number} at byte {begins} of data.db: {damage}");
        let output = Cli::offline().run(&[&verify[..], &["-o", "json"]].concat());
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let backup = &report["backups"][0];
        assert_eq!((&backup["ok"], &backup["error"]), (&json!(false), &json!(what)));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&what), "{said}");
    }
}

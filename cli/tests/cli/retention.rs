//! Backups over time: which go, which stay, whose keys open them, and what becomes of a store that was damaged.

use super::backup::{data_of, encrypted, fill};
use super::cluster::{Cli, Cluster, arg};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Backups of a stopped node, with a configuration that ends in `more`.
pub struct Store {
    pub cluster: Cluster,
    pub config: PathBuf,
}

impl Store {
    pub fn new(more: &str) -> Store {
        let mut cluster = Cluster::start(1);
        fill(&cluster, 50);
        cluster.kill(0);
        let config = encrypted(&cluster.path("backup"));
        let yaml = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{yaml}{more}")).unwrap();
        Store { cluster, config }
    }

    pub fn create(&self) -> Value {
        let db = self.cluster.data_dir(0);
        self.json(&["create", "--db", arg(&db)])
    }

    pub fn json(&self, args: &[&str]) -> Value {
        Cli::offline().json(&self.args(args))
    }

    pub fn fails(&self, exit: i32, args: &[&str]) -> String {
        Cli::offline().fails(exit, &self.args(args))
    }

    pub fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [&["backup"], args, &["--config", arg(&self.config)]].concat()
    }

    pub fn statuses(&self) -> Vec<(String, String)> {
        let listed = self.json(&["list"]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let backups = listed["backups"].as_array().unwrap().iter();
        backups.map(|backup| (text(&backup["id"]), text(&backup["status"]))).collect()
    }
}

fn id(backup: &Value) -> &str {
    backup["id"].as_str().unwrap()
}

#[test]
fn old_backups_go_by_the_rules_and_pins_keep_them() {
    let store = Store::new("retention:\n  max_backups: 2\n  min_backups: 1\n");
    let made = [store.create(), store.create(), store.create()];
    let oldest = id(&made[0]);
    let planned = store.json(&["prune", "--dry-run"]);
    let actions = |planned: &Value| -> Vec<Value> {
        planned["backups"].as_array().unwrap().iter().map(|b| b["action"].clone()).collect()
    };
    assert_eq!(actions(&planned), ["delete", "keep", "keep"]);
    assert_eq!(planned["backups"][0]["id"], oldest);
    assert_eq!(planned["backups"][2]["reason"], "the newest 1 always stay");
    assert!(store.fails(13, &["prune"]).contains("--yes"));
    store.json(&["pin", oldest, "--reason", "before the migration"]);
    assert_eq!(store.json(&["show", oldest])["pinned"], "before the migration");
    assert_eq!(actions(&store.json(&["prune", "--yes"])), ["keep", "keep", "keep"]);
    assert!(store.fails(13, &["delete", "--backup", oldest, "--yes"]).contains("migration"));
    store.json(&["unpin", oldest]);
    let pruned = store.json(&["prune", "--yes"]);
    assert_eq!(pruned["backups"][0]["outcome"], "removed");
    assert_eq!(store.statuses().len(), 2);
    store.json(&["delete", "--backup", id(&made[1]), "--yes"]);
    let last = ["delete", "--backup", id(&made[2])];
    assert!(store.fails(13, &[&last[..], &["--yes"]].concat()).contains("only complete"));
    store.json(&[&last[..], &["--force"]].concat());
    assert_eq!(store.statuses(), []);
}

#[test]
fn a_backup_lets_older_ones_go_where_that_is_configured() {
    let store =
        Store::new("retention:\n  max_backups: 2\n  min_backups: 1\n  prune_on_backup: true\n");
    let made = [store.create(), store.create(), store.create()];
    let left: Vec<String> = store.statuses().into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, [id(&made[1]), id(&made[2])]);
}

#[test]
fn nothing_goes_where_nobody_has_said_what_may() {
    let store = Store::new("");
    store.create();
    for how in ["--dry-run", "--yes"] {
        let line = store.fails(2, &["prune", how]);
        assert!(line.contains("`retention: {retention_days: 30,"), "{line}");
    }
    assert_eq!(store.statuses().len(), 1);
}

#[test]
fn the_last_backup_that_can_be_restored_is_not_deleted_by_accident() {
    let store = Store::new("");
    let yaml = fs::read_to_string(&store.config).unwrap();
    let (provider, _) = yaml.split_once("backup:").unwrap();
    fs::write(&store.config, provider).unwrap();
    let plain = store.create();
    // Encryption is on now: the plain one is none of ours.
    fs::write(&store.config, &yaml).unwrap();
    let sealed = store.create();
    let line = store.fails(13, &["delete", "--backup", id(&sealed), "--yes"]);
    assert!(line.contains("only complete one that this configuration can restore"), "{line}");
    store.json(&["delete", "--backup", id(&plain), "--yes"]);
    let line = store.fails(13, &["delete", "--backup", id(&sealed), "--yes"]);
    assert!(line.contains("it is the only complete one (--force"), "{line}");
}

#[test]
fn a_new_key_takes_the_old_ones_place() {
    let store = Store::new("");
    let made = store.create();
    let new_key = store.cluster.path("new-key");
    let generated = Cli::offline().json(&["backup", "key", "generate", arg(&new_key)]);
    let new = generated["key_id"].as_str().unwrap();
    let old_key = store.config.with_file_name("key");
    let old_yaml = fs::read_to_string(&store.config).unwrap();
    let only_new = old_yaml.replace(arg(&old_key), arg(&new_key));
    let both = only_new.replace("    key_file:", "    old_keys: [{file: OLD}]\n    key_file:");
    fs::write(&store.config, both.replace("OLD", arg(&old_key))).unwrap();
    let listed = store.json(&["key", "list"]);
    assert_eq!(listed["keys"][0]["key_id"], new);
    assert_eq!(listed["keys"][1]["seals"], json!(false));
    let old = listed["keys"][1]["key_id"].as_str().unwrap().to_owned();
    let rotate = ["key", "rotate", "--old", &old, "--new", new];
    let before = fs::read(data_of(&store.config, &made)).unwrap();
    assert_eq!(store.json(&rotate)["backups"][0]["outcome"], "changed");
    assert_eq!(store.json(&rotate)["backups"][0]["outcome"], "already");
    assert_eq!(fs::read(data_of(&store.config, &made)).unwrap(), before);
    let checked = store.json(&["key", "check"]);
    assert_eq!(checked["backups"][0]["key_ids"], json!([new]));

    fs::write(&store.config, only_new).unwrap();
    let db = store.cluster.path("restored");
    let restored = store.json(&["restore", "--backup", "latest", "--db", arg(&db)]);
    assert_eq!(restored["keys"], 50);
    let other = store.cluster.path("other-key");
    Cli::offline().ok(&["backup", "key", "generate", arg(&other)]);
    fs::write(&store.config, old_yaml.replace(arg(&old_key), arg(&other))).unwrap();
    store.fails(12, &["key", "check"]);
}

#[test]
fn a_store_is_put_right() {
    let store = Store::new("");
    let first = store.create();
    let later = store.cluster.path("later");
    store.json(&["restore", "--backup", "latest", "--db", arg(&later)]);
    let made = [first, store.json(&["create", "--db", arg(&later)])];
    let object = |place: usize, name: &str| -> PathBuf {
        data_of(&store.config, &made[place]).with_file_name(name)
    };
    assert_eq!(store.json(&["catalog", "fsck"])["findings"], json!([]));
    let lost = object(0, "metadata.json");
    let written = fs::read(&lost).unwrap();
    fs::remove_file(&lost).unwrap();
    let other = object(1, "data.db");
    let broken_off = other.parent().unwrap().with_file_name(fresh_id(&other));
    fs::create_dir(&broken_off).unwrap();
    fs::write(broken_off.join("data.db.partial"), b"half").unwrap();
    store.fails(5, &["catalog", "fsck"]);
    assert!(store.fails(13, &["catalog", "fsck", "--repair"]).contains("--yes"));
    let repaired = store.json(&["catalog", "fsck", "--repair", "--yes"]);
    assert_eq!(repaired["findings"][0]["outcome"], "rebuilt");
    assert_eq!(repaired["findings"][1]["outcome"], "removed");
    assert_eq!(fs::read(&lost).unwrap(), written, "the document is the one that was lost");
    assert!(!broken_off.exists());
    assert_eq!(store.json(&["catalog", "fsck"])["findings"], json!([]));

    // An older backup is not taken for one whose metadata are damaged or gone; what is to be done about that is said.
    let newest = object(1, "metadata.json");
    let whole = fs::read(&newest).unwrap();
    let db = store.cluster.path("restored");
    for left in [Some(&whole[1..]), None] {
        match left {
            Some(left) => fs::write(&newest, left).unwrap(),
            None => fs::remove_file(&newest).unwrap(),
        }
        let said = store.fails(5, &["restore", "--backup", "latest", "--db", arg(&db)]);
        assert!(said.contains("is newer") && said.contains("catalog rebuild"), "{said}");
        assert!(said.contains(id(&made[0])) && !db.exists(), "{said}");
        // Damaged metadata are in the way of others, and nobody may take them away unasked.
        for mend in [
            &["catalog", "rebuild"][..],
            &["catalog", "rebuild", "--backup", id(&made[1])],
            &["catalog", "fsck", "--repair", "--yes"],
        ] {
            if left.is_some() {
                let said = store.fails(5, mend);
                assert!(said.contains("left alone") && said.contains("metadata.json"), "{said}");
                assert!(newest.exists(), "{mend:?}");
            }
        }
    }
    fs::write(&newest, &whole).unwrap();

    fs::remove_file(&lost).unwrap();
    let rebuilt = store.json(&["catalog", "rebuild"]);
    assert_eq!(rebuilt["findings"][0]["outcome"], "rebuilt");
    fs::remove_file(&lost).unwrap();
    store.json(&["catalog", "fsck", "--repair", "--remove-orphans", "--yes"]);
    assert_eq!(store.statuses(), [(id(&made[1]).to_owned(), "complete".to_owned())]);
}

#[test]
fn a_removal_that_broke_off_is_finished_by_whoever_prunes_or_makes_a_backup() {
    let store = Store::new("retention: {retention_days: 365}\n");
    let folder = |made: &Value| data_of(&store.config, made).parent().unwrap().to_owned();
    let break_off = |made: &Value| {
        fs::remove_file(folder(made).join("metadata.json")).unwrap();
        fs::write(folder(made).join("removal.json"), "").unwrap();
    };
    let [first, second, third] = [(); 3].map(|()| store.create());
    break_off(&first);
    store.json(&["prune", "--yes"]);
    assert!(!folder(&first).exists());
    break_off(&second);
    store.create();
    assert!(!folder(&second).exists() && folder(&third).join("metadata.json").exists());
}

#[test]
fn a_store_that_is_too_full_for_a_lock_lets_backups_go() {
    let store = Store::new("");
    let made = store.create();
    let args = store.args(&["delete", "--backup", id(&made), "--force"]);
    let program = Cli::offline().command(&args);
    // No file may grow, as on a full disk.
    let ended = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"])
        .arg(program.get_program())
        .args(program.get_args())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{said}");
    assert!(said.contains("without its lock"), "{said}");
    assert_eq!(store.statuses(), []);
}

/// An id that no backup has: that of this path with one digit changed.
fn fresh_id(object: &Path) -> String {
    let id = object.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let first = if id.starts_with('0') { '1' } else { '0' };
    format!("{first}{}", &id[1..])
}

#[test]
fn the_lines_that_start_a_restored_cluster_can_be_used_as_they_are() {
    let store = Store::new("");
    store.create();
    let restore = |to: &str, members: &str, format: &str| {
        let db = store.cluster.path(to);
        let args = ["cluster", "restore", "--config", arg(&store.config), "--db", arg(&db)];
        let more = ["--backup", "latest", "--initial-cluster", members, "-o", format];
        Cli::offline().ok(&[&args[..], &more].concat())
    };
    let here = restore("here", "1=127.0.0.1:7400,2=127.0.0.1:7401", "table");
    let there = restore("there", "1=10.0.1.1:7400,2=10.0.1.2:7400", "table");
    let start = |said: &str| -> Vec<bool> {
        let lines = said.lines().filter(|line| line.contains("raftkv-node "));
        lines.map(|line| line.contains(" --cert-dir DIR")).collect()
    };
    assert_eq!((start(&here), start(&there)), (vec![false; 2], vec![true; 2]), "{here}\n{there}");
    for said in [&here, &there] {
        assert!(said.contains("--backup-config FILE"), "{said}");
    }
    let join = "--listen 10.0.1.2:7400 --cert-dir DIR --join 10.0.1.1:7400";
    assert!(there.contains(join), "{there}");
}

#[test]
fn messages_name_what_the_command_has_and_what_it_comes_to() {
    let mut store = Store::new("");
    let said = store.fails(10, &["list"]);
    assert!(said.contains("nothing was backed up there yet"), "{said}");
    store.create();
    store.cluster.launch(0);
    store.cluster.cli().ok(&["put", "it", "runs"]);
    let db = store.cluster.data_dir(0);
    for refused in [
        &["create", "--db", arg(&db)][..],
        &["restore", "--backup", "latest", "--db", arg(&db), "--force"],
    ] {
        let said = store.fails(13, refused);
        assert!(said.contains("in use") && said.contains("--db"), "{said}");
        assert!(!said.contains("--data-dir"), "{said}");
    }
}

/// Whoever wants to keep a backup may come behind a removal that was broken off before anything was gone.
#[test]
fn what_was_about_to_go_can_still_be_pinned() {
    let store = Store::new("retention:\n  max_backups: 1\n  min_backups: 1\n");
    let made = [store.create(), store.create()];
    let note = data_of(&store.config, &made[0]).with_file_name("removal.json");
    fs::write(&note, "left by somebody who was killed").unwrap();
    store.json(&["pin", id(&made[0]), "--reason", "it is needed"]);
    assert!(!note.exists());
    let pruned = store.json(&["prune", "--yes"]);
    assert_eq!(store.statuses().len(), 2, "{pruned}");
}

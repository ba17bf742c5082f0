//! Commands at work on a backup that are told to stop, or killed, in the middle.

use super::backup::{encrypted, fill};
use super::cluster::{Cli, Cluster, arg};
use super::gate::Gate;
use super::s3::{S3, provider};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A command that was told to stop, and knows it.
struct Told {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Told {
    /// Sends it SIGTERM, and waits until it says that it was told.
    fn tell(mut child: Child) -> Told {
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut said = String::new();
        while !said.contains("told to stop") {
            assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "it ended instead: {said}");
        }
        Told { child, stderr }
    }

    /// Its exit code, and what it has printed on stdout and, after it was told, on stderr.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut printed, mut said) = (String::new(), String::new());
        self.stderr.read_to_string(&mut said).unwrap();
        self.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        (self.child.wait().unwrap().code(), printed, said)
    }
}

/// What the newest lock in a store says, and the names of all files of backups there.
fn look(store: &Path) -> (Value, Vec<String>) {
    let (mut locks, mut objects) = (Vec::new(), Vec::new());
    for dir in fs::read_dir(store.join("backups")).unwrap().map(|dir| dir.unwrap().path()) {
        for file in fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()) {
            match dir.ends_with("locks") {
                true => locks.push(file),
                false => objects.push(file.file_name().unwrap().to_str().unwrap().to_owned()),
            }
        }
    }
    locks.sort();
    let lock = fs::read_to_string(locks.last().unwrap()).unwrap();
    (serde_json::from_str(&lock).unwrap(), objects)
}

fn create(config: &Path) -> Vec<&str> {
    vec!["backup", "create", "--config", arg(config), "-o", "json"]
}

/// Runs a command that is told to stop while the gate holds its request: its exit code, what it printed, and what it said.
fn told_at_the_gate(
    cluster: &Cluster,
    command: &[&str],
    gate: &Gate,
) -> (Option<i32>, String, String) {
    let child = cluster.cli().command(command).spawn().unwrap();
    gate.wait_until_held();
    let told = Told::tell(child);
    gate.open();
    told.end()
}

#[test]
fn a_backup_that_is_told_to_stop_is_taken_back() {
    let cluster = Cluster::start(1);
    fill(&cluster, 500);
    let s3 = S3::start(&cluster.path("s3"));
    let gate = Gate::before(s3.address, "/data.db");
    s3.reach(gate.address());

    let (code, printed, said) = told_at_the_gate(&cluster, &create(&s3.config), &gate);
    assert_eq!((code, printed.as_str()), (Some(1), ""), "{said}");
    assert!(said.contains("told to stop"), "{said}");
    let (lock, objects) = look(&s3.bucket());
    assert_eq!(lock["released"], true, "the next one need not wait: {lock}");
    assert_eq!(objects, ["status.json"], "only how it ended is left");

    let made: Value = serde_json::from_str(&cluster.cli().ok(&create(&s3.config))).unwrap();
    let listed = Cli::offline().json(&["backup", "list", "--config", arg(&s3.config)]);
    let backups = listed["backups"].as_array().unwrap();
    let of = |status: &str| -> Vec<&Value> {
        backups.iter().filter(|it| it["status"] == status).map(|it| &it["id"]).collect()
    };
    assert_eq!((of("complete"), of("failed").len()), (vec![&made["id"]], 1), "{listed}");
}

/// A configuration with a local store and two that have copies: one in S3 at this address, and another local one.
fn with_copies(dir: &Path, s3: &str) -> PathBuf {
    let config = encrypted(dir);
    let mut yaml = fs::read_to_string(&config).unwrap();
    let third = dir.join("third");
    yaml.push_str(&format!(
        "copies:\n  - name: second\n    provider: {s3}\n  - name: third\n    provider: {{type: local, local_path: {}}}\n",
        third.display()
    ));
    fs::write(&config, yaml).unwrap();
    config
}

#[test]
fn a_complete_backup_stays_when_its_copies_are_told_to_stop() {
    let cluster = Cluster::start(1);
    fill(&cluster, 500);
    let s3 = S3::start(&cluster.path("s3"));
    let gate = Gate::before(s3.address, "/data.db");
    let config = with_copies(&cluster.path("backup"), &provider(gate.address()));

    let (code, printed, said) = told_at_the_gate(&cluster, &create(&config), &gate);
    assert_eq!(code, Some(0), "{said}");
    let made: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(made["status"], "complete");
    assert!(said.contains("is complete, but has no copy in second and third"), "{said}");
    let (lock, objects) = look(&s3.bucket());
    assert_eq!(lock["released"], true, "the next one need not wait: {lock}");
    assert!(objects.iter().all(|name| name != "metadata.json"), "nothing looks whole: {objects:?}");
    assert!(!cluster.path("backup").join("third").exists(), "nothing more was begun");

    let copied = Cli::offline().json(&["backup", "copy", "--config", arg(&config)]);
    for (store, name) in [(0, "second"), (1, "third")] {
        let store = &copied["stores"][store];
        assert_eq!((&store["store"], &store["copies"][0]["id"]), (&json!(name), &made["id"]));
        assert_eq!(store["copies"][0]["outcome"], "copied", "{copied}");
    }
}

#[test]
fn a_sidecar_that_waits_for_a_key_can_be_told_to_stop() {
    let cluster = Cluster::start(1);
    let config = encrypted(&cluster.path("backup"));
    let [script, read, waits] = ["key.sh", "read", "waits"].map(|name| cluster.path(name));
    let key = config.with_file_name("key");
    // The file is read once before there is anything to be taken back.
    // Nobody has its output but the sidecar; it ends when that is gone for good.
    let lines = format!(
        "exec 2>/dev/null\nif test -e {0}; then\n  : >{1}\n  while kill -0 $PPID; do sleep 1; done\nfi\n: >{0}\nexec cat {2}\n",
        read.display(),
        waits.display(),
        key.display()
    );
    fs::write(&script, lines).unwrap();
    let yaml = fs::read_to_string(&config).unwrap();
    let program = format!("key_command: [/bin/sh, {}]", script.display());
    let yaml = yaml.replace(&format!("key_file: {}", key.display()), &program);
    fs::write(&config, yaml).unwrap();
    let start = ["backup", "schedule", "start", "--config", arg(&config)];
    let child = cluster.cli().command(&start).spawn().unwrap();
    cluster.wait_until("the program waits", |_| waits.exists());
    let (code, printed, said) = Told::tell(child).end();
    assert_eq!((code, printed.as_str()), (Some(1), ""), "{said}");
    assert!(said.contains("before the backup that is due was made"), "{said}");
}

#[test]
fn a_restore_that_was_killed_half_way_is_simply_repeated() {
    let mut cluster = Cluster::start(1);
    fill(&cluster, 3000);
    let config = encrypted(&cluster.path("backup"));
    cluster.cli().ok(&create(&config));
    cluster.kill(0);

    let (place, db) = (cluster.path("new"), cluster.path("new").join("db"));
    fs::create_dir(&place).unwrap();
    let restore = ["backup", "restore", "--config", arg(&config), "--backup", "latest", "--db"];
    let restore = [&restore[..], &[arg(&db), "--listen", cluster.address(0)]].concat();
    // The operating system kills whoever writes more than this into one file, so it dies in the middle of the first large one.
    let killed = Command::new("sh")
        .args(["-c", "ulimit -c 0 && ulimit -f 8 && exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_raftkv-cli"))
        .args(&restore)
        .env_remove("RAFTKV_BACKUP_CONFIG")
        .stdout(Stdio::null())
        .output()
        .unwrap();
    let signal = rustix::process::Signal::XFSZ.as_raw();
    assert_eq!(killed.status.signal(), Some(signal), "{killed:?}");
    let half = place.join("db.restoring");
    assert!(half.is_dir() && !half.join("identity").exists() && !db.exists());

    let restored = Cli::offline().json(&restore);
    assert_eq!(restored["keys"], json!(3000));
    let left: Vec<_> = fs::read_dir(&place).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["db"], "nothing is left beside it");
    // As if it had been killed before it could say what it made.
    assert_eq!(Cli::offline().json(&restore), restored);
    fs::remove_dir_all(cluster.data_dir(0)).unwrap();
    fs::rename(&db, cluster.data_dir(0)).unwrap();
    cluster.spawn(0, &[]);
    assert_eq!(
        cluster.cli().json(&["get", "k/", "--prefix", "--count-only"])["count"],
        json!(3000)
    );
}

#[test]
fn a_restore_that_was_killed_while_it_moved_directories_is_simply_repeated() {
    let mut cluster = Cluster::start(1);
    fill(&cluster, 500);
    let config = encrypted(&cluster.path("backup"));
    cluster.cli().ok(&create(&config));
    cluster.cli().ok(&["put", "k/new", "x"]);
    cluster.kill(0);
    let db = cluster.data_dir(0);
    let restore = ["backup", "restore", "--config", arg(&config), "--backup", "latest", "--db"];
    let listen = cluster.address(0).to_owned();
    let restore = [&restore[..], &[arg(&db), "--listen", &listen]].concat();
    let forced = [&restore[..], &["--force"]].concat();
    let restored = Cli::offline().json(&forced);
    let aside = restored["moved_aside"].as_str().unwrap();
    assert!(Path::new(aside).join("identity").exists());

    // What was there is aside, and the new directory is not at its place yet.
    let staged = cluster.path("data-1.restoring");
    for is_recreated in [false, true] {
        fs::rename(&db, &staged).unwrap();
        if is_recreated {
            fs::create_dir(&db).unwrap();
        }
        assert_eq!(Cli::offline().json(&forced), restored, "recreated: {is_recreated}");
        assert!(!staged.exists());
    }
    // At its place, and nobody was told.
    let output = Cli::offline().run(&[&forced[..], &["-o", "json"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("was restored by this command before"), "{said}");
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), restored);

    // What is asked for must be the very same, and stand for the same backup as before.
    assert!(Cli::offline().fails(13, &restore).contains("not empty"));
    let made = Cli::offline().ok(&[&create(&config)[..], &["--db", aside]].concat());
    let made: Value = serde_json::from_str(&made).unwrap();
    let newer = Cli::offline().json(&forced);
    assert_eq!(newer["backup"], made["id"]);
    let id = "ab".repeat(16);
    let whole_id = newer["backup"].as_str().unwrap();
    let named = forced.iter().map(|it| if *it == "latest" { whole_id } else { it });
    let named: Vec<&str> = named.chain(["--cluster-id", &id]).collect();
    let other = Cli::offline().json(&named);
    assert_eq!(other["cluster_id"], id.as_str());
    let again = Cli::offline().json(&forced);
    assert_ne!(again["cluster_id"], newer["cluster_id"], "the other one was there");
    assert_eq!(Cli::offline().json(&forced), again);

    cluster.spawn(0, &[]);
    cluster.cli().ok(&["get", "k/", "--prefix", "--count-only"]);
    assert!(Cli::offline().fails(13, &forced).contains("in use"));
    cluster.kill(0);
    assert!(!db.join("restored.json").exists());
    let after = Cli::offline().json(&forced);
    assert_ne!(after["cluster_id"], again["cluster_id"], "a node had started from it");
}

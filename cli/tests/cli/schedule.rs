//! Backups that a cluster of real nodes makes itself.

use super::backup::{data_of, encrypted, fill};
use super::cluster::{Cli, Cluster, arg, unread};
use super::copies::is_unlocked;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

/// Three nodes of which those at `able` can make backups.
fn start(
    config: impl Fn(&Cluster) -> std::path::PathBuf,
    able: &[usize],
) -> (Cluster, std::path::PathBuf) {
    let mut cluster = Cluster::prepare(3);
    let config = config(&cluster);
    for place in 0..3 {
        match able.contains(&place) {
            true => cluster.launch_with(place, &["--backup-config", arg(&config)]),
            false => cluster.launch(place),
        }
    }
    (cluster, config)
}

#[test]
fn the_cluster_makes_a_backup_when_asked() {
    let (cluster, config) = start(|cluster| encrypted(&cluster.path("backup")), &[0, 1, 2]);
    fill(&cluster, 3000);
    let leader = cluster.leader() as u64 + 1;
    let made = cluster.cli().json(&["backup", "create", "--in-cluster"]);
    assert_eq!(made["outcome"], "complete", "{made}");
    assert_ne!(made["node"], json!(leader), "a follower does the work");
    let again = cluster.cli().json(&["backup", "schedule", "run-now"]);
    assert_ne!(again["id"], made["id"]);
    let begun = cluster.cli().json(&["backup", "schedule", "run-now", "--no-wait"]);
    assert!(begun["outcome"].is_null() && begun["id"].is_string(), "{begun}");
    let listed = Cli::offline().json(&[
        "backup",
        "show",
        "--config",
        arg(&config),
        made["id"].as_str().unwrap(),
    ]);
    assert_eq!((&listed["status"], &listed["keys"]), (&json!("complete"), &json!(3000)));
    assert_eq!((&listed["raft_index"], &listed["revision"]), (&made["index"], &made["revision"]));
    let stored = fs::read(data_of(&config, &made)).unwrap();
    assert!(!stored.windows(12).any(|bytes| bytes == b"plain secret"));
    let id = made["id"].as_str().unwrap();
    Cli::offline().ok(&[
        "backup",
        "verify",
        "--config",
        arg(&config),
        "--backup",
        id,
        "--level",
        "restore",
    ]);
    for place in 0..3 {
        let log = cluster.log(place);
        let key = fs::read_to_string(config.with_file_name("key")).unwrap();
        assert!(!log.contains(key.trim()), "the key is in the log of node {}", place + 1);
    }
}

#[test]
fn a_schedule_is_set_shown_paused_resumed_and_ended() {
    let (cluster, config) = start(|cluster| encrypted(&cluster.path("backup")), &[1]);
    let yaml = fs::read_to_string(&config).unwrap();
    let schedule = "schedule:\n  enabled: true\n  cron_expression: 0 0 29 2 *\n  timezone: Europe/Berlin\n  enable_pruning: true\n";
    fs::write(&config, format!("{yaml}{schedule}")).unwrap();
    let schedule = |args: &[&str]| cluster.cli().json(&[&["backup", "schedule"], args].concat());
    assert_eq!(schedule(&["status"])["schedule"], Value::Null);
    cluster.cli().fails(10, &["backup", "schedule", "pause"]);

    let set = schedule(&["start", "--config", arg(&config), "--daemon"]);
    let expected = json!({ "cron": "0 0 29 2 *", "timezone": "Europe/Berlin", "prune": true });
    assert_eq!((&set["schedule"], &set["paused"]), (&expected, &json!(false)));
    assert!(set["next"][0].as_str().unwrap().ends_with("-02-28T23:00:00.000Z"), "{set}");
    let able: Vec<&Value> =
        set["nodes"].as_array().unwrap().iter().map(|node| &node["able"]).collect();
    assert_eq!(able.iter().filter(|able| **able == &json!(true)).count(), 1, "{set}");

    let paused = schedule(&["pause"]);
    assert_eq!((&paused["paused"], &paused["next"]), (&json!(true), &json!([])));
    let made = schedule(&["run-now"]);
    assert_eq!((&made["outcome"], &made["node"]), (&json!("complete"), &json!(2)));
    let resumed = schedule(&["resume"]);
    assert_eq!((&resumed["paused"], &resumed["last"]), (&json!(false), &made));
    assert!(resumed["lag_seconds"].as_i64().unwrap() >= 0);
    assert_eq!(schedule(&["stop"])["schedule"], Value::Null);
    let table = cluster.cli().ok(&["backup", "schedule", "status"]);
    assert!(
        table.contains("can make backups") && table.contains("cannot: no backup_config"),
        "{table}"
    );

    let wrong = fs::read_to_string(&config).unwrap().replace("0 0 29 2 *", "0 0 30 2 *");
    fs::write(&config, wrong).unwrap();
    let line = cluster
        .cli()
        .fails(2, &["backup", "schedule", "start", "--config", arg(&config), "--daemon"]);
    assert!(line.contains("no day ever matches"), "{line}");
}

#[test]
fn a_schedule_that_is_switched_off_is_not_started() {
    let cluster = Cluster::start(1);
    let config = encrypted(&cluster.path("backup"));
    let yaml = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{yaml}schedule: {{enabled: false}}\n")).unwrap();
    for more in [&["--daemon"][..], &[]] {
        let start = ["backup", "schedule", "start", "--config", arg(&config)];
        let line = cluster.cli().fails(13, &[&start[..], more].concat());
        assert!(line.contains("schedule.enabled is false"), "{line}");
    }
}

#[test]
fn a_backup_that_is_too_old_is_an_exit_code() {
    let mut cluster = Cluster::prepare(1);
    let config = encrypted(&cluster.path("backup"));
    cluster.launch_with(0, &["--backup-config", arg(&config)]);
    let status = ["backup", "schedule", "status", "--max-lag"];
    let line = cluster.cli().fails(5, &[&status[..], &["7d"]].concat());
    assert!(line.contains("has made no backup: see"), "{line}");
    cluster.cli().ok(&["backup", "schedule", "run-now"]);
    cluster.cli().ok(&[&status[..], &["7d"]].concat());
    cluster.wait_until("the backup is two seconds old", |cluster| {
        let view = cluster.cli().json(&["backup", "schedule", "status"]);
        view["lag_seconds"].as_i64() >= Some(2)
    });
    let line = cluster.cli().fails(5, &[&status[..], &["1s"]].concat());
    assert!(line.contains("and 1 s are allowed"), "{line}");
}

#[test]
fn who_cannot_make_backups_says_so() {
    let cluster = Cluster::start(3);
    let line = cluster.cli().fails(4, &["--timeout", "5s", "backup", "schedule", "run-now"]);
    assert!(line.contains("backup_config"), "{line}");

    let mut keyless = Cluster::prepare(1);
    let config = encrypted(&keyless.path("backup"));
    fs::remove_file(config.with_file_name("key")).unwrap();
    keyless.launch_with(0, &["--backup-config", arg(&config)]);
    assert_ne!(keyless.ended(0), Some(0));
    assert!(keyless.log(0).contains("key file"), "{}", keyless.log(0));
    assert!(!keyless.data_dir(0).exists(), "nothing was made");
}

#[test]
fn a_node_warns_of_a_key_that_others_can_read() {
    let mut cluster = Cluster::prepare(1);
    let config = encrypted(&cluster.path("backup"));
    let key = config.with_file_name("key");
    cluster.launch_with(0, &["--backup-config", arg(&config)]);
    cluster.leader();
    assert!(!cluster.log(0).contains("can be read by others"), "{}", cluster.log(0));
    cluster.kill(0);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    cluster.launch_with(0, &["--backup-config", arg(&config)]);
    cluster.leader();
    let warned = cluster.log(0);
    let warning = format!("key file {} can be read by others: chmod 600 it", key.display());
    assert!(warned.contains(&warning) && warned.contains("WARN"), "{warned}");
}

/// A sidecar that runs.
struct Sidecar {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Sidecar {
    fn start(cluster: &Cluster, config: &Path) -> Sidecar {
        let start = ["backup", "schedule", "start", "--config", arg(config), "-o", "json"];
        let mut child = cluster.cli().command(&start).stdin(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Sidecar { child, lines }
    }

    /// The backup that it makes next.
    fn made(&mut self) -> Value {
        let made: Value = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(made["status"], "complete", "{made}");
        made
    }

    fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "it was at rest");
    }
}

#[test]
fn a_sidecar_makes_up_for_missed_slots_with_one_backup_and_older_ones_go_as_its_schedule_says() {
    let mut cluster = Cluster::start(1);
    let config = encrypted(&cluster.path("backup"));
    cluster.cli().ok(&["put", "a", "1"]);
    // An old backup: every slot since then was missed.
    let old = cluster.cli().json(&["backup", "create", "--config", arg(&config)]);
    cluster.cli().ok(&["put", "a", "2"]);
    let yaml = fs::read_to_string(&config).unwrap();
    let schedule = "schedule: {cron_expression: '* * * * *', enable_pruning: true}\n";
    let rules = "retention: {max_backups: 1, min_backups: 1}\n";
    fs::write(&config, format!("{yaml}{schedule}{rules}")).unwrap();
    let mut sidecar = Sidecar::start(&cluster, &config);
    let made = sidecar.made();
    assert_eq!(made["revision"], 2);
    let is_there = |made: &Value| data_of(&config, made).exists();
    cluster.wait_until("the old one is gone", |_| !is_there(&old));
    sidecar.end();
    assert!(is_there(&made));
    assert_eq!(objects(&config), 2);
    cluster.kill(0);
}

#[test]
fn a_sidecar_begins_with_a_backup_where_there_is_none() {
    let mut cluster = Cluster::start(1);
    let config = encrypted(&cluster.path("backup"));
    cluster.cli().ok(&["put", "a", "1"]);
    let yaml = fs::read_to_string(&config).unwrap();
    // The next slot is far away.
    fs::write(&config, format!("{yaml}schedule: {{cron_expression: 0 0 29 2 *}}\n")).unwrap();
    let mut sidecar = Sidecar::start(&cluster, &config);
    let made = sidecar.made();
    assert_eq!(made["revision"], 1);
    sidecar.end();
    assert_eq!(objects(&config), 2);
    cluster.kill(0);
}

#[test]
fn a_sidecar_with_a_new_key_makes_a_backup_although_nothing_has_changed() {
    let mut cluster = Cluster::start(1);
    let config = encrypted(&cluster.path("backup"));
    cluster.cli().ok(&["put", "a", "1"]);
    cluster.cli().ok(&["backup", "create", "--config", arg(&config)]);
    let key = config.with_file_name("new-key");
    Cli::offline().ok(&["backup", "key", "generate", arg(&key)]);
    // The old key still opens what is there.
    let yaml = fs::read_to_string(&config)
        .unwrap()
        .replace("    key_file:", "    more_keys: [{file: NEW}]\n    key_file:");
    let yaml = yaml.replace("NEW", arg(&key));
    fs::write(&config, format!("{yaml}schedule: {{cron_expression: '* * * * *'}}\n")).unwrap();
    let mut sidecar = Sidecar::start(&cluster, &config);
    let made = sidecar.made();
    assert_eq!((&made["revision"], made["key_ids"].as_array().map(Vec::len)), (&json!(1), Some(2)));
    cluster.wait_until("the lock is given back", |_| is_unlocked(&config.with_file_name("store")));
    sidecar.end();
    cluster.kill(0);
}

#[test]
fn a_sidecar_goes_on_when_nobody_reads_what_it_prints() {
    let cluster = Cluster::start(1);
    let config = encrypted(&cluster.path("backup"));
    cluster.cli().ok(&["put", "a", "1"]);
    cluster.cli().ok(&["backup", "create", "--config", arg(&config)]);
    cluster.cli().ok(&["put", "a", "2"]);
    let yaml = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{yaml}schedule:\n  cron_expression: '* * * * *'\n")).unwrap();
    let start = ["backup", "schedule", "start", "--config", arg(&config)];
    let mut command = cluster.cli().command(&start);
    let mut sidecar = command.stdin(Stdio::null()).stdout(unread()).spawn().unwrap();
    cluster.wait_until("the backup is made and the lock given back", |_| {
        objects(&config) == 4 && is_unlocked(&config.with_file_name("store"))
    });
    assert_eq!(sidecar.try_wait().unwrap(), None, "it has ended");
    let pid = rustix::process::Pid::from_child(&sidecar);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(sidecar.wait().unwrap().code(), Some(0), "it was at rest");
}

#[test]
fn a_sidecar_brings_copies_up_to_date_where_no_backup_is_due() {
    let mut cluster = Cluster::start(1);
    let config = encrypted(&cluster.path("backup"));
    cluster.cli().ok(&["put", "a", "1"]);
    let made = cluster.cli().json(&["backup", "create", "--config", arg(&config)]);
    let yaml = fs::read_to_string(&config).unwrap();
    let second = cluster.path("second");
    let copies = format!(
        "copies: [{{name: second, provider: {{type: local, local_path: {}}}}}]\n",
        second.display()
    );
    let schedule = "schedule: {cron_expression: 0 0 29 2 *}\n";
    fs::write(&config, format!("{yaml}{schedule}{copies}")).unwrap();
    let sidecar = Sidecar::start(&cluster, &config);
    let metadata = data_of(&config, &made).with_file_name("metadata.json");
    let copy = second.join(metadata.strip_prefix(config.with_file_name("store")).unwrap());
    cluster.wait_until("the copy is there", |_| copy.exists());
    sidecar.end();
    assert_eq!(fs::read(copy).unwrap(), fs::read(metadata).unwrap());
    cluster.kill(0);
}

/// How many objects of backups there are in the store. Locks are not counted: one that was killed leaves its lock.
fn objects(config: &Path) -> usize {
    let backups = fs::read_dir(config.with_file_name("store").join("backups")).unwrap();
    let of = |backup: fs::DirEntry| {
        let is_there = |name: &&str| backup.path().join(name).exists();
        ["data.db", "metadata.json"].iter().filter(|name| is_there(name)).count()
    };
    backups.map(|backup| of(backup.unwrap())).sum()
}

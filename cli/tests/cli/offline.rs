//! The command line without a cluster: usage, exit codes, files.

use super::cluster::{Cli, arg};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn nobody_there_is_exit_code_4() {
    // Bound but never answered, so that nobody else can take the port.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let args = ["get", "a", "--timeout", "300ms", "--endpoints", &address];
    let line = Cli::offline().fails(4, &args);
    assert!(line.contains(&address) && line.contains("--endpoints"), "{line}");
}

#[test]
fn usage_is_exit_code_2() {
    let cli = Cli::offline();
    for args in [
        &["frobnicate"][..],
        &["put", "only-a-key"],
        &["get", "a", "--timeout", "soon"],
        &["get", "a", "-o", "xml"],
    ] {
        assert_eq!(cli.run(args).status.code(), Some(2), "{args:?}");
    }
    assert!(cli.fails(2, &["get", "a", "--endpoints", "nowhere"]).contains("HOST:PORT"));
    let line = cli.stdin(r#"{"then":[]}"#).fails(2, &["txn"]);
    assert!(line.contains("then") && line.contains("docs/CLI.md"), "{line}");
}

#[test]
fn what_would_not_be_heeded_is_refused() {
    let cli = Cli::offline();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("backup.yaml");
    let here = ["--config", arg(&config)];
    let in_cluster = ["backup", "create", "--in-cluster", "--timeout", "300ms"];
    let daemon = ["backup", "schedule", "start", "--daemon", "--store", "primary"];
    for (args, flags) in
        [(&in_cluster[..], ["--in-cluster", "--config"]), (&daemon, ["--daemon", "--store"])]
    {
        let refused = cli.run(&[args, &here].concat());
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains("cannot be used with"), "{said}");
        assert!(flags.iter().all(|flag| said.contains(flag)), "{said}");
    }
    // Where a variable names the file for every command, it is in nobody's way.
    let mut command = cli.command(&in_cluster);
    let asked = command.env("RAFTKV_BACKUP_CONFIG", &config).output().unwrap();
    assert_eq!(asked.status.code(), Some(4), "{asked:?}");
    let mut command = cli.command(&["backup", "create"]);
    let found = command.env("RAFTKV_BACKUP_CONFIG", &config).output().unwrap();
    assert_eq!(found.status.code(), Some(10), "{found:?}");
    let unnamed = cli.run(&["backup", "create"]);
    let said = String::from_utf8_lossy(&unnamed.stderr);
    assert_eq!(unnamed.status.code(), Some(2), "{said}");
    assert!(said.contains("--config") && said.contains("RAFTKV_BACKUP_CONFIG"), "{said}");
}

#[test]
fn completions_know_every_command() {
    let script = Cli::offline().ok(&["completions", "bash"]);
    for command in ["import", "backup", "leader", "bench"] {
        assert!(script.contains(command), "{command}");
    }
}

#[test]
fn a_reader_that_has_gone_away_is_told_nothing_and_changes_no_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a snapshot").unwrap();
    let cli = Cli::offline();
    assert_eq!(cli.unread(&["completions", "bash"]), (Some(0), String::new()));
    let (exit, said) = cli.unread(&["snapshot", "inspect", arg(&file)]);
    assert!(exit == Some(5) && said.contains("damaged"), "{exit:?} {said}");
}

#[test]
fn where_nobody_hears_what_is_said_exit_codes_and_data_are_the_same() {
    let cli = Cli::offline();
    assert_eq!(cli.unheard(&["put"]), (Some(2), String::new()));
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    fs::write(&key, "ab".repeat(32)).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let config = dir.path().join("backup.yaml");
    fs::create_dir(dir.path().join("backups")).unwrap();
    let (store, key) = (dir.path().display(), key.display());
    let yaml = format!(
        "provider: {{type: local, local_path: {store}}}\nbackup: {{encryption: {{enabled: true, key_file: {key}}}}}\n"
    );
    fs::write(&config, yaml).unwrap();
    let list = ["backup", "list", "--config", arg(&config), "-o", "json"];
    let heard = cli.run(&list);
    assert!(!heard.stderr.is_empty(), "there is something to be said");
    let shown = String::from_utf8(heard.stdout).unwrap();
    assert_eq!(cli.unheard(&list), (Some(0), shown));
}

#[test]
fn certificates_are_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("certs");
    let made =
        Cli::offline().json(&["cert", "init", "--out", arg(&out), "--hosts", "node-1,10.0.0.1"]);
    assert!(made["files"].as_array().unwrap().len() >= 6, "{made}");
    Cli::offline().fails(1, &["cert", "init", "--out", arg(&out)]);
}

#[test]
fn keys_are_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let made = Cli::offline().json(&["backup", "key", "generate", arg(&file)]);
    assert_eq!(made["key_id"].as_str().unwrap().len(), 32);
    let key = fs::read(&file).unwrap();
    Cli::offline().fails(13, &["backup", "key", "generate", arg(&file)]);
    assert_eq!(fs::read(&file).unwrap(), key);
}

#[test]
fn a_key_that_could_not_be_written_is_not_in_the_way_of_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let generate = ["backup", "key", "generate", arg(&file)];
    // No file may grow: the write fails, or kills, as it would on a full disk or in a crash.
    for (trap, exit) in [("trap '' XFSZ; ", Some(6)), ("", None)] {
        let program = Cli::offline().command(&generate);
        let ended = std::process::Command::new("sh")
            .args(["-c", &format!("{trap}ulimit -f 0; exec \"$@\""), "sh"])
            .arg(program.get_program())
            .args(program.get_args())
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), exit, "{ended:?}");
        assert!(!file.exists());
    }
    Cli::offline().ok(&generate);
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["key"]);
    let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[test]
fn backup_mistakes_have_their_codes() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("backup.yaml");
    let store = dir.path().join("store");
    let cli = Cli::offline();
    cli.fails(10, &["backup", "list", "--config", arg(&config)]);
    fs::write(&config, "provider:\n  type: local\n  local_path: /x\n  typo: 1\n").unwrap();
    let line = cli.fails(2, &["backup", "list", "--config", arg(&config)]);
    assert!(line.contains("typo") && line.contains("line"), "{line}");
    let local = format!("provider:\n  type: local\n  local_path: {}\n", store.display());
    fs::write(&config, &local).unwrap();
    cli.fails(10, &["backup", "list", "--config", arg(&config)]);
    fs::create_dir_all(store.join("backups")).unwrap();
    assert_eq!(
        cli.json(&["backup", "list", "--config", arg(&config)])["backups"],
        serde_json::json!([])
    );
    cli.fails(10, &["backup", "show", "--config", arg(&config), "latest"]);
    let missing =
        format!("{local}backup:\n  encryption:\n    enabled: true\n    key_file: /nowhere\n");
    fs::write(&config, missing).unwrap();
    assert!(cli.fails(12, &["backup", "list", "--config", arg(&config)]).contains("/nowhere"));
}

#[test]
fn a_directory_without_a_node_cannot_be_backed_up() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("backup.yaml");
    fs::write(&config, "provider:\n  type: local\n  local_path: /x\n").unwrap();
    let (config, db) = (arg(&config), dir.path().join("db"));
    Cli::offline().fails(10, &["backup", "create", "--config", config, "--db", arg(&db)]);
    assert!(!db.exists(), "looking must not make it");
}

#[test]
fn files_that_are_no_snapshots_are_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a snapshot").unwrap();
    let cli = Cli::offline();
    let line = cli.fails(5, &["snapshot", "inspect", arg(&file)]);
    assert!(line.contains("byte"), "{line}");
    let json = dir.path().join("json");
    cli.fails(5, &["snapshot", "export", arg(&file), arg(&json)]);
    assert!(!json.exists());
    cli.fails(10, &["snapshot", "inspect", arg(&dir.path().join("missing"))]);
}

//! Keys that come from the environment or from a program.

use super::cluster::{Cli, arg};
use super::retention::Store;
use std::fs;
use std::process::Output;

/// A store whose key comes from elsewhere than a file, and all that was said so far.
struct Keyed {
    store: Store,
    key: String,
    yaml: String,
    said: String,
}

impl Keyed {
    fn new() -> Keyed {
        let store = Store::new("");
        let key = fs::read_to_string(store.config.with_file_name("key")).unwrap();
        let yaml = fs::read_to_string(&store.config).unwrap();
        Keyed { store, key: key.trim().to_owned(), yaml, said: String::new() }
    }

    /// Takes the key from this line of the configuration.
    fn source(&self, line: &str) {
        let file = format!("key_file: {}", self.store.config.with_file_name("key").display());
        assert!(self.yaml.contains(&file));
        fs::write(&self.store.config, self.yaml.replace(&file, line)).unwrap();
    }

    fn run(&mut self, args: &[&str], env: &[(&str, &str)]) -> Output {
        let mut command = Cli::offline().command(&self.store.args(args));
        let output = command.envs(env.iter().copied()).output().unwrap();
        self.said.push_str(&String::from_utf8_lossy(&output.stdout));
        self.said.push_str(&String::from_utf8_lossy(&output.stderr));
        output
    }

    fn succeeds(&mut self, args: &[&str], env: &[(&str, &str)]) {
        let output = self.run(args, env);
        assert!(output.status.success(), "{args:?}: {output:?}");
    }

    /// What asks for the key ends with exit code 12, and says this on one line.
    fn refuses(&mut self, env: &[(&str, &str)], what: &str) {
        let db = self.store.cluster.data_dir(0);
        let restored = self.store.cluster.path("refused");
        let create = ["create", "--db", arg(&db)];
        let restore = ["restore", "--backup", "latest", "--db", arg(&restored)];
        for args in [&create[..], &restore[..]] {
            let output = self.run(args, env);
            let line = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(12), "{args:?}: {output:?}");
            assert!(line.contains(what) && line.lines().count() == 1, "{args:?}: {line}");
        }
        assert!(!restored.exists(), "something was restored: {what}");
    }

    fn objects(&self) -> usize {
        let backups = self.store.config.with_file_name("store").join("backups");
        fs::read_dir(backups).map_or(0, Iterator::count)
    }
}

#[test]
fn a_key_from_the_environment_makes_and_opens_backups() {
    let mut keyed = Keyed::new();
    keyed.source("key_env: BACKUP_KEY");
    keyed.refuses(&[], "BACKUP_KEY");
    keyed.refuses(&[("BACKUP_KEY", "hunter2")], "BACKUP_KEY");
    keyed.refuses(&[("BACKUP_KEY", "")], "BACKUP_KEY");
    assert_eq!(keyed.objects(), 0, "nothing was written without the key");

    let (db, restored) = (keyed.store.cluster.data_dir(0), keyed.store.cluster.path("restored"));
    let key = keyed.key.clone();
    let env = [("BACKUP_KEY", key.as_str())];
    keyed.succeeds(&["create", "--db", arg(&db)], &env);
    keyed.succeeds(&["restore", "--backup", "latest", "--db", arg(&restored)], &env);
    let other = "ab".repeat(32);
    let wrong = keyed.run(&["verify", "--backup", "latest"], &[("BACKUP_KEY", &other)]);
    assert_eq!(wrong.status.code(), Some(12), "{wrong:?}");
    assert!(restored.join("identity").exists());
    for secret in [keyed.key.as_str(), &other, "hunter2"] {
        assert!(!keyed.said.contains(secret), "{secret} was told: {}", keyed.said);
    }
}

#[test]
fn a_key_from_a_program_makes_and_opens_backups() {
    let mut keyed = Keyed::new();
    let file = keyed.store.config.with_file_name("key");
    let (db, restored) = (keyed.store.cluster.data_dir(0), keyed.store.cluster.path("restored"));
    let cases = [
        ("key_command: [/bin/sh, -c, 'echo hunter2; exit 3']", "exit status: 3"),
        ("key_command: [/bin/echo, hunter2]", "/bin/echo"),
        ("key_command: [/bin/true, --password=hunter2]", "/bin/true"),
        ("key_command: [/nowhere/vault, --password=hunter2]", "/nowhere/vault"),
    ];
    for (line, what) in cases {
        keyed.source(line);
        keyed.refuses(&[], what);
    }
    assert_eq!(keyed.objects(), 0, "nothing was written without the key");

    keyed.source(&format!("key_command: [/bin/cat, {}]", file.display()));
    keyed.succeeds(&["create", "--db", arg(&db)], &[]);
    keyed.succeeds(&["restore", "--backup", "latest", "--db", arg(&restored)], &[]);
    assert!(restored.join("identity").exists());
    // What was sealed with the program's key opens with the file that it prints.
    fs::write(&keyed.store.config, &keyed.yaml).unwrap();
    keyed.succeeds(&["verify", "--backup", "latest", "--level", "restore"], &[]);
    for secret in [keyed.key.as_str(), "hunter2"] {
        assert!(!keyed.said.contains(secret), "{secret} was told: {}", keyed.said);
    }
}

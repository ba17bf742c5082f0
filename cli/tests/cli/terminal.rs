//! What a person sees at a terminal: questions before something is deleted, and how far a long job is.

use super::backup::{data_of, encrypted, fill};
use super::cluster::{Cli, Cluster, arg};
use super::retention::Store;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::process::Child;

/// How long a person waits on a loaded machine.
const PATIENCE: Timespec = Timespec { tv_sec: 120, tv_nsec: 0 };

/// A command that runs at a terminal.
struct Session {
    terminal: File,
    child: Child,
    shown: String,
}

impl Session {
    fn start(args: &[&str]) -> Session {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(flags).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let line = || ioctl_tiocgptpeer(&terminal, flags);
        let mut command = Cli::offline().command(args);
        command.env("TERM", "xterm");
        command.stdin(line().unwrap()).stdout(line().unwrap()).stderr(line().unwrap());
        let child = command.spawn().unwrap();
        // The command's ends of the terminal are its own alone, so that it closes when the command ends.
        drop(command);
        Session { terminal: terminal.into(), child, shown: String::new() }
    }

    /// Reads until this is shown, or, with nothing to wait for, until the command has closed the terminal.
    fn wait_for(&mut self, words: Option<&str>) {
        let mut bytes = [0; 4096];
        while words.is_none_or(|words| !self.shown.contains(words)) {
            let mut ready = [PollFd::new(&self.terminal, PollFlags::IN)];
            assert_eq!(poll(&mut ready, Some(&PATIENCE)).unwrap(), 1, "only this: {}", self.shown);
            // A terminal whose other end is closed is an error on Linux.
            let count = self.terminal.read(&mut bytes).unwrap_or(0);
            if count == 0 {
                assert_eq!(words, None, "it was not shown: {}", self.shown);
                return;
            }
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    fn types(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// The exit code, and all that was shown.
    fn end(mut self) -> (Option<i32>, String) {
        self.wait_for(None);
        (self.child.wait().unwrap().code(), self.shown)
    }

    /// The terminal goes away; the exit code.
    fn hang_up(self) -> Option<i32> {
        let Session { terminal, mut child, .. } = self;
        drop(terminal);
        child.wait().unwrap().code()
    }
}

#[test]
fn prune_deletes_only_after_a_yes() {
    let store = Store::new("retention:\n  max_backups: 1\n  min_backups: 1\n");
    let made = [store.create(), store.create(), store.create()];
    let prune = store.args(&["prune"]);
    let asked = || {
        let mut session = Session::start(&prune);
        session.wait_for(Some("[y/N] "));
        session
    };
    // Control and D: nothing more is typed.
    for answer in ["n\n", "\n", "yess\n", "\u{4}"] {
        let mut session = asked();
        session.types(answer);
        let (exit, shown) = session.end();
        assert_eq!(exit, Some(13), "{answer:?}: {shown}");
        assert!(shown.contains("nothing was deleted"), "{answer:?}: {shown}");
    }
    assert_eq!(asked().hang_up(), Some(13));
    assert_eq!(store.statuses().len(), 3);

    // Nobody else is kept waiting for the answer, and what it does not know of stays.
    let mut session = asked();
    let meanwhile = store.create();
    session.types("y\n");
    let (exit, shown) = session.end();
    assert_eq!(exit, Some(0), "{shown}");
    for gone in &made[..2] {
        let id = gone["id"].as_str().unwrap();
        assert!(shown.contains(&format!("{id}: there are 1 newer ones")), "{shown}");
    }
    assert!(shown.contains("Delete these 2 backups?") && shown.contains("removed"), "{shown}");
    assert!(shown.contains("it was not shown"), "{shown}");
    let complete = |made: &Value| (made["id"].as_str().unwrap().to_owned(), "complete".to_owned());
    assert_eq!(store.statuses(), [complete(&made[2]), complete(&meanwhile)]);
}

#[test]
fn fsck_repairs_only_after_a_yes_and_only_what_it_has_shown() {
    let store = Store::new("");
    let [first, second] = [store.create(), store.create()];
    let lose_metadata = |made: &Value| {
        let metadata = data_of(&store.config, made).with_file_name("metadata.json");
        fs::remove_file(metadata).unwrap();
    };
    lose_metadata(&first);
    let fsck = store.args(&["catalog", "fsck", "--repair"]);
    let asked = || {
        let mut session = Session::start(&fsck);
        session.wait_for(Some("[y/N] "));
        session
    };
    let mut session = asked();
    session.types("n\n");
    let (exit, shown) = session.end();
    assert_eq!(exit, Some(13), "{shown}");

    // Nobody else is kept waiting for the answer, and what it does not know of stays.
    let mut session = asked();
    let meanwhile = store.create();
    lose_metadata(&second);
    session.types("y\n");
    let (exit, shown) = session.end();
    assert_eq!(exit, Some(0), "{shown}");
    assert!(shown.contains("rebuilt") && shown.contains("it was not shown"), "{shown}");
    let statuses = store.statuses();
    let status = |made: &Value| {
        let id = made["id"].as_str().unwrap();
        let found = statuses.iter().find(|(listed, _)| listed == id);
        found.map(|(_, status)| status.as_str())
    };
    assert_eq!(status(&first), Some("complete"));
    assert_ne!(status(&second), Some("complete"));
    assert_eq!(status(&meanwhile), Some("complete"));
    // The next time it was shown.
    let mut session = asked();
    session.types("y\n");
    let (exit, shown) = session.end();
    assert_eq!(exit, Some(0), "{shown}");
    assert!(shown.contains("rebuilt"), "{shown}");
}

#[test]
fn keys_that_are_put_back_are_counted_in_bytes() {
    let cluster = Cluster::start(1);
    fill(&cluster, 300);
    let config = encrypted(&cluster.path("backup"));
    cluster.cli().ok(&["backup", "create", "--config", arg(&config)]);
    cluster.cli().ok(&["del", "k/", "--prefix"]);
    let args = ["backup", "restore-keys", "--config", arg(&config), "--backup", "latest"];
    let pace = ["--prefix", "k/", "--rate", "100"];
    let more = ["-o", "json", "--endpoints", cluster.address(0)];
    let (exit, shown) = Session::start(&[&args[..], &pace, &more].concat()).end();
    assert_eq!(exit, Some(0), "{shown}");
    let bytes = |keys: usize| -> usize {
        (0..keys).map(|key| format!("k/{key:05}plain secret {key}").len()).sum()
    };
    // At least one line is due while these transactions, of ten keys each, are done.
    let line = |done| format!("{{\"done_bytes\":{},\"total_bytes\":{},", bytes(done), bytes(300));
    assert!((1..=30).any(|tens| shown.contains(&line(10 * tens))), "{shown}");
    assert!(shown.contains("left_secs"), "{shown}");

    // A person is shown a bar, with the bytes that are done, the rate, and the time that is left.
    let more = ["--to", "other/", "--endpoints", cluster.address(0)];
    let (exit, shown) = Session::start(&[&args[..], &pace, &more].concat()).end();
    assert_eq!(exit, Some(0), "{shown}");
    let bars: Vec<_> = shown.split(['\r', '\n']).filter(|it| it.contains("B/s ")).collect();
    let longer = 300 * ("other/".len() - "k/".len());
    let total = format!("/{:.2} KiB ", (bytes(300) + longer) as f64 / 1024.0);
    let is_bar = |bar: &&str| bar.contains(&total) && bar.trim_end().ends_with('s');
    assert!(bars.iter().any(is_bar), "{shown}");
}

//! Real processes for tests: nodes on free loopback ports, and the command line against them.

use serde_json::Value;
use std::io::{PipeWriter, Write as _};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Nodes of one cluster, stopped when dropped.
pub struct Cluster {
    dir: tempfile::TempDir,
    addresses: Vec<String>,
    nodes: Vec<Option<Child>>,
    certs: Option<PathBuf>,
}

impl Cluster {
    /// A cluster of `size` fresh nodes that serves.
    pub fn start(size: usize) -> Cluster {
        let mut cluster = Cluster::prepare(size);
        for number in 0..size {
            cluster.launch(number);
        }
        cluster
    }

    /// Addresses and an empty directory; nothing runs yet.
    pub fn prepare(size: usize) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        // All are bound before any is freed, so that none is given twice.
        let sockets: Vec<UdpSocket> =
            (0..size).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = sockets.iter().map(|socket| socket.local_addr().unwrap().to_string());
        let addresses = addresses.collect();
        Cluster { dir, addresses, nodes: (0..size).map(|_| None).collect(), certs: None }
    }

    /// As [`Self::prepare`], with an authority of its own and certificates for its nodes and its command line.
    pub fn prepare_certified(size: usize) -> Cluster {
        let mut cluster = Cluster::prepare(size);
        let certs = cluster.path("certs");
        Cli::offline().ok(&["cert", "init", "--out", arg(&certs)]);
        cluster.certs = Some(certs);
        cluster
    }

    /// Starts (or starts again) a node, by its place from 0; its id is one more.
    pub fn launch(&mut self, place: usize) {
        let members = self.initial_cluster();
        self.spawn(place, &["--initial-cluster", &members]);
    }

    /// As [`Self::launch`], with these flags beside.
    pub fn launch_with(&mut self, place: usize, flags: &[&str]) {
        let members = self.initial_cluster();
        self.spawn(place, &[&["--initial-cluster", &members], flags].concat());
    }

    /// Waits for a node to end by itself; its exit code.
    pub fn ended(&mut self, place: usize) -> Option<i32> {
        let mut node = self.nodes[place].take().unwrap();
        node.wait().unwrap().code()
    }

    /// Starts a node with an empty directory that joins the one at `seed`.
    pub fn launch_joining(&mut self, place: usize, seed: usize) {
        let seed = self.addresses[seed].clone();
        self.spawn(place, &["--join", &seed]);
    }

    /// Starts a node with its number, address and directory, and these flags.
    pub fn spawn(&mut self, place: usize, how: &[&str]) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(&format!("node-{}.log", place + 1)))
            .unwrap();
        let (id, listen) = ((place + 1).to_string(), &self.addresses[place]);
        let data_dir = self.data_dir(place);
        let args = ["raftkv-node", "--id", &id, "--listen", listen, "--data-dir", arg(&data_dir)];
        let certs = self.certs.as_deref().map(|certs| ["--cert-dir", arg(certs)]);
        let certs = certs.as_ref().map_or(&[][..], |flags| flags);
        let node = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "cluster::node", "--nocapture"])
            .env_clear()
            .env(NODE_ARGS, [&args[..], certs, how].concat().join("\n"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.nodes[place] = Some(node);
    }

    /// Kills a node with SIGKILL.
    pub fn kill(&mut self, place: usize) {
        if let Some(mut node) = self.nodes[place].take() {
            node.kill().unwrap();
            node.wait().unwrap();
        }
    }

    /// What a node has printed so far.
    pub fn log(&self, place: usize) -> String {
        std::fs::read_to_string(self.path(&format!("node-{}.log", place + 1))).unwrap_or_default()
    }

    /// Waits until this holds.
    pub fn wait_until(&self, what: &str, holds: impl Fn(&Cluster) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "it never came to this: {what}");
            sleep(Duration::from_millis(50));
        }
    }

    /// `1=...,2=...` as the nodes are given it.
    pub fn initial_cluster(&self) -> String {
        let members = self.addresses.iter().zip(1..);
        let members: Vec<String> = members.map(|(address, id)| format!("{id}={address}")).collect();
        members.join(",")
    }

    /// Where a node keeps its data.
    pub fn data_dir(&self, place: usize) -> PathBuf {
        self.path(&format!("data-{}", place + 1))
    }

    /// A path in the cluster's temporary directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command line, pointed at this cluster.
    pub fn cli(&self) -> Cli {
        let certs = self.certs.clone();
        Cli { endpoints: self.addresses.join(","), stdin: Vec::new(), certs }
    }

    /// The command line, pointed at this cluster, with the certificates of another one or none.
    pub fn cli_of(&self, other: Option<&Cluster>) -> Cli {
        Cli { certs: other.and_then(|other| other.certs.clone()), ..self.cli() }
    }

    /// Where a node listens.
    pub fn address(&self, place: usize) -> &str {
        &self.addresses[place]
    }

    /// The place of the node that leads.
    pub fn leader(&self) -> usize {
        // A linearizable read only comes back once there is a leader that serves.
        self.cli().json(&["get", "", "--prefix", "--count-only"]);
        let status = self.cli().json(&["status"]);
        let nodes = status["nodes"].as_array().unwrap();
        let leader = nodes.iter().find(|node| node["role"] == "leader").unwrap();
        leader["id"].as_u64().unwrap() as usize - 1
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for place in 0..self.nodes.len() {
            self.kill(place);
        }
        if std::thread::panicking() {
            for place in 0..self.nodes.len() {
                let log = self.path(&format!("node-{}.log", place + 1));
                let log = std::fs::read_to_string(log).unwrap_or_default();
                eprintln!("--- node {}\n{log}", place + 1);
            }
        }
    }
}

/// The command line.
pub struct Cli {
    endpoints: String,
    stdin: Vec<u8>,
    certs: Option<PathBuf>,
}

impl Cli {
    /// For commands that need no cluster.
    pub fn offline() -> Cli {
        Cli { endpoints: "127.0.0.1:1".into(), stdin: Vec::new(), certs: None }
    }

    /// What the command reads from stdin.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Cli {
        self.stdin = bytes.into();
        self
    }

    /// The command as it will be run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_raftkv-cli"));
        command.args(args).env_clear().env("RAFTKV_ENDPOINTS", &self.endpoints);
        command.env("RAFTKV_TIMEOUT", "60s");
        command.envs(self.certs.iter().map(|certs| ("RAFTKV_CERT_DIR", certs)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        let mut child = self.command(args).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let bytes = self.stdin.clone();
        // A command that does not read its stdin closes it.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&bytes)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// Runs a command whose stdout nobody reads: its exit code, and what it said on stderr.
    pub fn unread(&self, args: &[&str]) -> (Option<i32>, String) {
        let ended = self.command(args).stdin(Stdio::null()).stdout(unread()).output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    }

    /// Runs a command whose stderr nobody reads: its exit code, and its stdout.
    pub fn unheard(&self, args: &[&str]) -> (Option<i32>, String) {
        let ended = self.command(args).stdin(Stdio::null()).stderr(unread()).output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stdout).unwrap())
    }

    /// Runs a command that must succeed; its stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must succeed; its JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[args, &["-o", "json"]].concat())).unwrap()
    }

    /// Runs a command that must fail with this exit code and one line on stderr; that line.
    pub fn fails(&self, exit: i32, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(exit), "{args:?}: {output:?}");
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(line.lines().count(), 1, "{args:?}: {line}");
        line
    }
}

/// A pipe whose reader has gone away.
pub fn unread() -> PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The arguments of a node that runs in this executable, a line each.
const NODE_ARGS: &str = "RAFTKV_TEST_NODE_ARGS";

/// Is the node of other tests: cargo builds a package's own binaries for its tests, but not those of another one. As a process of
/// its own it can be killed like the real one, and runs the same code but for a few lines.
#[test]
#[ignore = "other tests start it"]
fn node() {
    let Ok(args) = std::env::var(NODE_ARGS) else { return };
    let matches = raftkv_node::args::command().get_matches_from(args.lines());
    let settings = raftkv_node::args::read(&matches, std::iter::empty()).unwrap().settings;
    raftkv_node::run::log_to_stderr(&settings).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(raftkv_node::run::run(settings)).unwrap();
}

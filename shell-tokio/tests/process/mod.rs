//! Nodes as processes of their own, on loopback and free ports, stopped by their own id when a test ends.

#![allow(dead_code, reason = "each test file uses a part")]

use raftkv_core::api::{KeyRange, NodeStatus, PutRequest, RangeRequest, Role};
use raftkv_node::client::{Client, ClientError, Options};
use std::io::PipeWriter;
use std::net::UdpSocket;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running node. Dropping it kills the process.
pub struct Node {
    child: Child,
}

impl Node {
    /// Starts a process with these flags; its log goes to `log`.
    pub fn start(args: &[String], log: &Path) -> Node {
        Node::spawn(command(args), log)
    }

    /// Starts a process; its log goes to `log`.
    pub fn spawn(mut command: Command, log: &Path) -> Node {
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a log file");
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("the binary starts");
        Node { child }
    }

    /// Starts a process whose log nobody reads.
    pub fn unheard(args: &[String]) -> Node {
        let mut command = command(args);
        let child = command.stdout(Stdio::null()).stderr(unread()).spawn();
        Node { child: child.expect("the binary starts") }
    }

    /// The process's number.
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// As a power cut for the process.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited");
    }

    /// Asks it to stop, and waits until it has.
    pub fn terminate(mut self) -> ExitStatus {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::TERM)
            .expect("signalled");
        self.child.wait().expect("waited")
    }

    /// Waits until it ends by itself, or takes too long.
    pub async fn wait(mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waited") {
                return status;
            }
            assert!(Instant::now() < deadline, "the node did not end by itself");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command with a clean environment.
pub fn command(args: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftkv-node"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// A cluster of processes in a directory of its own.
pub struct Cluster {
    /// Holds the data directories `d1`, `d2`, ... and logs.
    pub temp: TempDir,
    /// Where each member is reached, by number from 1.
    pub addresses: Vec<String>,
    /// Where each listens; elsewhere, if it is reached through a proxy.
    pub listen: Vec<String>,
    /// What a member runs.
    pub command: fn(&[String]) -> Command,
    /// The running ones.
    pub nodes: Vec<Option<Node>>,
    /// Flags for all.
    pub extra: Vec<String>,
}

impl Cluster {
    /// Chooses addresses for `size` members, and starts none.
    pub fn new(size: usize, extra: &[&str]) -> Cluster {
        let addresses = free_addresses(size);
        Cluster {
            temp: tempfile::tempdir().expect("a directory"),
            listen: addresses.clone(),
            addresses,
            command,
            nodes: (0..size).map(|_| None).collect(),
            extra: extra.iter().map(|flag| flag.to_string()).collect(),
        }
    }

    /// Starts `size` members of a new cluster.
    pub fn start(size: usize, extra: &[&str]) -> Cluster {
        let mut cluster = Cluster::new(size, extra);
        (1..=size).for_each(|member| cluster.start_member(member, &[]));
        cluster
    }

    /// Where a member keeps its data.
    pub fn data_dir(&self, member: usize) -> PathBuf {
        self.temp.path().join(format!("d{member}"))
    }

    /// What a member logged.
    pub fn log(&self, member: usize) -> String {
        std::fs::read_to_string(self.temp.path().join(format!("log{member}"))).unwrap_or_default()
    }

    /// The flags of a member of the first cluster.
    pub fn flags(&self, member: usize, more: &[&str]) -> Vec<String> {
        let list: Vec<_> =
            (1..).zip(&self.addresses).map(|(id, at)| format!("{id}={at}")).collect();
        let mut flags = self.base_flags(member);
        flags.extend(["--initial-cluster".into(), list.join(",")]);
        flags.extend(more.iter().map(|flag| flag.to_string()));
        flags
    }

    /// The flags of a member, without saying which cluster.
    pub fn base_flags(&self, member: usize) -> Vec<String> {
        let data_dir = self.data_dir(member).display().to_string();
        let mut flags: Vec<String> =
            ["--id", &member.to_string(), "--data-dir", &data_dir].map(String::from).into();
        flags.extend(["--listen".into(), self.listen[member - 1].clone()]);
        flags.extend(["--advertise".into(), self.addresses[member - 1].clone()]);
        flags.extend(self.extra.iter().cloned());
        flags
    }

    /// Starts a member that is not running.
    pub fn start_member(&mut self, member: usize, more: &[&str]) {
        let flags = self.flags(member, more);
        self.start_with(member, &flags);
    }

    /// Starts a member with exactly these flags.
    pub fn start_with(&mut self, member: usize, flags: &[String]) {
        let log = self.temp.path().join(format!("log{member}"));
        self.nodes[member - 1] = Some(Node::spawn((self.command)(flags), &log));
    }

    /// Takes a running member out of the cluster's hands.
    pub fn take(&mut self, member: usize) -> Node {
        self.nodes[member - 1].take().expect("it runs")
    }

    /// A client that knows every member's address.
    pub async fn client(&self) -> Client {
        let deadline = Instant::now() + PATIENCE;
        let options = Options {
            endpoints: self.addresses.clone(),
            timeout: Duration::from_secs(30),
            attempt_timeout: Duration::from_secs(2),
            ..Options::default()
        };
        loop {
            match Client::connect(options.clone()).await {
                Ok(client) => return client,
                Err(error) => self.pause_until(deadline, &error.to_string()).await,
            }
        }
    }

    /// Every running member's status, once one leads and all have applied the same, with equal state hashes.
    pub async fn settled(&self, client: &Client) -> Vec<NodeStatus> {
        let deadline = Instant::now() + PATIENCE;
        let running = self.nodes.iter().flatten().count();
        loop {
            let statuses: Vec<NodeStatus> =
                client.statuses().await.into_iter().filter_map(|(_, status)| status.ok()).collect();
            let leaders = statuses.iter().filter(|status| status.role == Role::Leader).count();
            let same = statuses.windows(2).all(|pair| {
                pair[0].applied_index == pair[1].applied_index
                    && pair[0].last_index == pair[1].applied_index
            });
            if statuses.len() == running && leaders == 1 && same {
                assert!(
                    statuses.windows(2).all(|pair| pair[0].state_hash == pair[1].state_hash),
                    "states differ: {statuses:?}"
                );
                return statuses;
            }
            self.pause_until(deadline, &format!("{statuses:?}")).await;
        }
    }

    /// The number of the member that leads.
    pub async fn leader(&self, client: &Client) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for (_, status) in client.statuses().await {
                if let Ok(NodeStatus { role: Role::Leader, identity, .. }) = status {
                    return identity.node.member() as usize;
                }
            }
            self.pause_until(deadline, "no leader").await;
        }
    }

    /// A pause between two looks; panics when the time is up.
    pub async fn pause_until(&self, deadline: Instant, last: &str) {
        assert!(Instant::now() < deadline, "not settled: {last}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// A failed test shows what the nodes had to say.
impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for member in 1..=self.nodes.len() {
                eprintln!(
                    "--- member {member} at {}\n{}",
                    self.addresses[member - 1],
                    self.log(member)
                );
            }
        }
    }
}

/// Loopback addresses on ports that were free a moment ago.
pub fn free_addresses(count: usize) -> Vec<String> {
    let sockets: Vec<_> =
        (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a free port")).collect();
    sockets.iter().map(|socket| socket.local_addr().expect("an address").to_string()).collect()
}

/// A pipe whose reader has gone away.
pub fn unread() -> PipeWriter {
    let (_, writer) = std::io::pipe().expect("a pipe");
    writer
}

/// Writes a key.
pub async fn put(client: &Client, key: &str, value: &str) -> Result<u64, ClientError> {
    let put = PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease: 0,
        return_previous: false,
    };
    client.put(put).await.map(|result| result.revision())
}

/// Reads a key, linearizably.
pub async fn get(client: &Client, key: &str) -> Option<String> {
    let read = RangeRequest::new(KeyRange::one(key.to_owned()));
    let range = client.range(read).await.expect("a read");
    range.kvs.first().map(|kv| String::from_utf8(kv.value.to_vec()).expect("text"))
}

/// The path of a member's newest log segment, and where its last byte that is not zero ends.
pub fn newest_segment(cluster: &Cluster, member: usize) -> (PathBuf, u64) {
    let directory = cluster.data_dir(member).join("wal");
    let newest = std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .max()
        .expect("a segment");
    let bytes = std::fs::read(&newest).expect("readable");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("records") as u64 + 1;
    (newest, used)
}

/// As a disk that lost a bit.
pub fn flip_byte(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("written");
}

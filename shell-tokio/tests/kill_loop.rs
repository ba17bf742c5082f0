//! Power cuts of random members under load and on a bad network, again and again: nothing acknowledged is lost, every retried write is
//! applied once, every answer fits one order, all states equal.
//!
//! Nodes are real processes that reach each other through a proxy and keep unsynced bytes and names in their own memory, so that
//! kill -9 loses them. What clients did and saw is checked for linearizability every few rounds, on keys of these rounds alone.
//!
//! A few rounds by default; `RAFTKV_KILL_ROUNDS=1000 cargo test -p raftkv-node --test kill_loop` for a long run.

#[path = "../../simtests/tests/linearizability/mod.rs"]
mod linearizability;
mod process;
mod proxy;
mod volatile;
mod workload;

use linearizability::Verdict;
use process::{Cluster, PATIENCE};
use proxy::{Faults, Host, Proxy};
use raftkv_core::rng::{Rng, Seed};
use raftkv_node::client::{Client, Options};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use volatile::Volatile;
use workload::{CLIENTS, Record};

/// Snapshots and new segments many times a round.
const FLAGS: &[&str] = &[
    "--tick",
    "50ms",
    "--heartbeat",
    "50ms",
    "--election-timeout",
    "500ms",
    "--snapshot-entries",
    "150",
    "--segment",
    "1MiB",
    "--history-revisions",
    "200",
];
const ROUNDS_DEFAULT: u64 = 8;
/// After so many rounds the history is checked, and another begins.
const ROUNDS_CHECKED: u64 = 4;
/// Answers before a power cut, and again while the network may be bad.
const ANSWERS_BEFORE: usize = 100;
const MEMBERS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost() {
    let rounds = std::env::var("RAFTKV_KILL_ROUNDS")
        .map_or(ROUNDS_DEFAULT, |text| text.parse().expect("a number of rounds"));
    let seed = u64::from(getrandom::u32().expect("randomness"));
    println!("seed {seed}");
    let mut nemesis = Nemesis::start(seed).await;
    let mut totals = (0, 0);
    for first in (0..rounds).step_by(ROUNDS_CHECKED as usize) {
        let count = ROUNDS_CHECKED.min(rounds - first);
        let (answers, steps) = nemesis.one_history(first, count).await;
        totals = (totals.0 + answers, totals.1 + steps);
        println!(
            "{} rounds, {} answers, {} steps at keys; {:?}",
            first + count,
            totals.0,
            totals.1,
            nemesis.proxy.counts()
        );
    }
    println!("power cuts: {:?}", nemesis.cuts);
    assert!(nemesis.proxy.counts().passed > 0, "nothing went through the proxy");
}

/// The cluster and everything that is done to it.
struct Nemesis {
    cluster: Cluster,
    proxy: Proxy,
    rng: Rng,
    /// At the end of the last history.
    revision: u64,
    cuts: Cuts,
}

/// Power cuts by what they hit.
#[derive(Debug, Default)]
struct Cuts {
    one: u64,
    all: u64,
    in_recovery: u64,
    on_a_bad_network: u64,
}

impl Nemesis {
    async fn start(seed: u64) -> Nemesis {
        let mut cluster = Cluster::new(MEMBERS, FLAGS);
        cluster.command = lossy_node;
        let listen: Vec<SocketAddr> =
            cluster.listen.iter().map(|address| address.parse().expect("an address")).collect();
        let proxy = Proxy::start(&listen, seed).await.expect("free ports");
        cluster.addresses = proxy.fronts().iter().map(SocketAddr::to_string).collect();
        (1..=MEMBERS).for_each(|member| cluster.start_member(member, &[]));
        let rng = Seed::from_number(seed).fork("nemesis");
        Nemesis { cluster, proxy, rng, revision: 0, cuts: Cuts::default() }
    }

    /// Some rounds with keys of their own. Gives how many requests were answered, and steps checked.
    async fn one_history(&mut self, first: u64, rounds: u64) -> (usize, usize) {
        let record = Arc::new(Record::new(first));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let client = self.client().await;
            let rng = Seed::from_number(self.rng.next_u64()).fork("client");
            clients.spawn(workload::run(client, number, record.clone(), rng));
        }
        for _ in 0..rounds {
            self.round(&record).await;
        }
        self.answers(&record, ANSWERS_BEFORE).await;
        record.stop();
        while let Some(ended) = clients.join_next().await {
            ended.expect("a client");
        }
        let client = self.client().await;
        workload::read_everything(&client, &record).await;
        let statuses = self.cluster.settled(&client).await;
        assert_eq!(statuses.len(), MEMBERS);
        let history = record.take();
        // However often a write was sent, it was done once.
        let revision = statuses[0].revision;
        let made = revision - std::mem::replace(&mut self.revision, revision);
        let expected = workload::revisions(&history);
        assert!(expected.contains(&made), "{made} revisions were made, {expected:?} expected");
        let answers = history.iter().filter(|operation| operation.answer.is_some()).count();
        let verdict = linearizability::check(&history);
        let fine = Verdict { steps: verdict.steps, ..Verdict::default() };
        let story = || workload::story(&history, verdict.illegal.iter().chain(&verdict.unknown));
        assert_eq!(verdict, fine, "{}", story());
        (answers, verdict.steps)
    }

    /// Work, a bad network or not, a power cut, and everything mended.
    async fn round(&mut self, record: &Record) {
        self.answers(record, ANSWERS_BEFORE).await;
        let is_bad = self.rng.below(5) < 2;
        if is_bad {
            self.spoil_network();
            self.cuts.on_a_bad_network += 1;
            // How long it stays bad; whether anybody gets an answer meanwhile is another matter.
            sleep(Duration::from_millis(self.rng.below(1_500))).await;
        }
        let victims = match self.rng.below(5) {
            0 | 1 => (1..=MEMBERS).collect(),
            _ => vec![self.any_member()],
        };
        match victims.len() {
            1 => self.cuts.one += 1,
            _ => self.cuts.all += 1,
        }
        victims.iter().for_each(|member| self.cluster.take(*member).kill());
        if !is_bad && victims.len() == 1 {
            self.answers(record, ANSWERS_BEFORE).await;
        }
        victims.iter().for_each(|member| self.cluster.start_member(*member, &[]));
        if self.rng.below(3) == 0 {
            // Once more, while they read back what the first cut has left.
            sleep(Duration::from_millis(self.rng.below(100))).await;
            victims.iter().for_each(|member| self.cluster.take(*member).kill());
            victims.iter().for_each(|member| self.cluster.start_member(*member, &[]));
            self.cuts.in_recovery += 1;
        }
        self.proxy.heal();
    }

    fn any_member(&mut self) -> usize {
        1 + self.rng.below(MEMBERS as u64) as usize
    }

    fn spoil_network(&mut self) {
        let member = self.any_member();
        let others = (1..=MEMBERS).filter(|other| *other != member).map(Host::Member);
        let others: Vec<Host> = others.chain([Host::Client]).collect();
        let cut = Faults { cut: true, ..Faults::default() };
        let one = Host::Member(member);
        match self.rng.below(4) {
            0 => others.iter().for_each(|other| {
                self.proxy.set(one, *other, cut);
                self.proxy.set(*other, one, cut);
            }),
            1 => others.iter().for_each(|other| self.proxy.set(one, *other, cut)),
            2 => others.iter().for_each(|other| self.proxy.set(*other, one, cut)),
            _ => self.storm(),
        }
    }

    /// Every link between members loses, repeats and delays.
    fn storm(&mut self) {
        for (from, to) in (1..=MEMBERS).flat_map(|from| (1..=MEMBERS).map(move |to| (from, to))) {
            let faults = Faults {
                cut: false,
                loss_percent: self.rng.below(30),
                duplicate_percent: self.rng.below(30),
                delay_ms_max: self.rng.below(100),
            };
            self.proxy.set(Host::Member(from), Host::Member(to), faults);
        }
    }

    /// Waits until clients have got so many more answers.
    async fn answers(&self, record: &Record, count: usize) {
        let goal = record.answers() + count;
        let deadline = Instant::now() + PATIENCE;
        while record.answers() < goal {
            self.cluster.pause_until(deadline, "clients get no answers").await;
        }
    }

    /// One that gives up soon, so that outcomes stay unknown.
    async fn client(&self) -> Client {
        let deadline = Instant::now() + PATIENCE;
        let options = Options {
            endpoints: self.cluster.addresses.clone(),
            timeout: Duration::from_secs(3),
            attempt_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_millis(500),
            ..Options::default()
        };
        loop {
            match Client::connect(options.clone()).await {
                Ok(client) => return client,
                Err(error) => self.cluster.pause_until(deadline, &error.to_string()).await,
            }
        }
    }
}

/// The arguments of a node that runs in this executable, a line each.
const NODE_ARGS: &str = "RAFTKV_TEST_NODE_ARGS";

/// A node whose kill is a power cut.
fn lossy_node(args: &[String]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this executable"));
    command.env_clear().env(NODE_ARGS, args.join("\n"));
    command.args(["node", "--exact", "--ignored", "--nocapture"]);
    command
}

/// Is the node of the other test: only here can it have a file system that loses things.
#[test]
#[ignore = "the other test starts it"]
fn node() {
    let Ok(args) = std::env::var(NODE_ARGS) else { return };
    let args = std::iter::once("raftkv-node").chain(args.lines());
    let matches = raftkv_node::args::command().get_matches_from(args);
    let settings = raftkv_node::args::read(&matches, std::iter::empty()).unwrap().settings;
    raftkv_node::run::log_to_stderr(&settings).unwrap();
    let draw = u64::from(getrandom::u32().unwrap());
    // Often nothing becomes stable before it must.
    let early_percent = [0, 0, 10, 50][draw as usize % 4];
    eprintln!("{early_percent} % of what is written becomes stable early");
    let file_system = Arc::new(Volatile::new(early_percent, draw));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(raftkv_node::run::run_on(settings, file_system)).unwrap();
}

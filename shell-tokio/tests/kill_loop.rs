//! kill -9 of random members under load, again and again: nothing acknowledged is lost, every retried write applied once, all states equal.
//!
//! A few rounds by default; `RAFTKV_KILL_ROUNDS=200 cargo test -p raftkv-node --test kill_loop` for a long run.

mod process;

use process::{Cluster, PATIENCE, get, put};
use raftkv_node::client::Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::time::Instant;

const FAST: &[&str] = &[
    "--tick",
    "50ms",
    "--heartbeat",
    "50ms",
    "--election-timeout",
    "500ms",
    "--snapshot-entries",
    "500",
];
const ROUNDS_DEFAULT: u64 = 6;
const WRITERS: usize = 8;
/// Acknowledged writes between two kills.
const WRITES_PER_ROUND: u64 = 200;

/// Each writer owns a key and counts up in it.
struct Writers {
    stop: AtomicBool,
    acknowledged: [AtomicU64; WRITERS],
    /// Writes whose outcome the client could not learn in time, and that were sent as new ones.
    unknown: AtomicU64,
}

impl Writers {
    fn total(&self) -> u64 {
        self.acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).sum()
    }
}

/// Writes 1, 2, 3, ... to one key; each revision must be later than the last.
async fn write(client: Client, writers: Arc<Writers>, own: usize) {
    let (mut number, mut last_revision) = (0, 0);
    while !writers.stop.load(Ordering::SeqCst) {
        number += 1;
        let deadline = Instant::now() + PATIENCE;
        let revision = loop {
            match put(&client, &format!("writer/{own}"), &number.to_string()).await {
                Ok(revision) => break revision,
                Err(error) => {
                    writers.unknown.fetch_add(1, Ordering::SeqCst);
                    assert!(Instant::now() < deadline, "writer {own}: {error}");
                }
            }
        };
        assert!(revision > last_revision, "the revision went back to {revision}");
        last_revision = revision;
        writers.acknowledged[own].store(number, Ordering::SeqCst);
    }
}

/// Waits until the writers have done so much more.
async fn work(cluster: &Cluster, writers: &Writers) {
    let goal = writers.total() + WRITES_PER_ROUND;
    let deadline = Instant::now() + PATIENCE;
    while writers.total() < goal {
        cluster.pause_until(deadline, "the writers do not come on").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost() {
    let rounds = std::env::var("RAFTKV_KILL_ROUNDS")
        .map_or(ROUNDS_DEFAULT, |text| text.parse().expect("a number of rounds"));
    let mut cluster = Cluster::start(3, FAST);
    let client = cluster.client().await;
    let writers = Arc::new(Writers {
        stop: AtomicBool::new(false),
        acknowledged: [const { AtomicU64::new(0) }; WRITERS],
        unknown: AtomicU64::new(0),
    });
    let tasks: Vec<_> =
        (0..WRITERS).map(|own| tokio::spawn(write(client.clone(), writers.clone(), own))).collect();
    for round in 0..rounds {
        work(&cluster, &writers).await;
        let victims = match getrandom::u32().expect("randomness") % 5 {
            0 => vec![1, 2, 3],
            one => vec![1 + one as usize % 3],
        };
        victims.iter().for_each(|member| cluster.take(*member).kill());
        for own in (0..WRITERS).filter(|_| victims.len() < 3) {
            // What is read back while a member is gone is at least what was acknowledged before the read began.
            let before = writers.acknowledged[own].load(Ordering::SeqCst);
            let read = get(&client, &format!("writer/{own}")).await;
            let read: u64 = read.map_or(0, |value| value.parse().expect("a number"));
            assert!(read >= before, "round {round}: writer {own} read {read} after {before}");
        }
        victims.iter().for_each(|member| cluster.start_member(*member, &[]));
    }
    work(&cluster, &writers).await;
    writers.stop.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.expect("a writer");
    }
    for own in 0..WRITERS {
        let read = get(&client, &format!("writer/{own}")).await;
        let last = writers.acknowledged[own].load(Ordering::SeqCst).to_string();
        assert_eq!(read.as_ref(), Some(&last), "writer {own}");
    }
    let statuses = cluster.settled(&client).await;
    assert_eq!(statuses.len(), 3);
    // Every write made one revision, however often it was sent.
    let (revision, acknowledged) = (statuses[0].revision, writers.total());
    let unknown = writers.unknown.load(Ordering::SeqCst);
    assert!(
        (acknowledged..=acknowledged + unknown).contains(&revision),
        "{acknowledged} writes and {unknown} unknown ones made {revision} revisions"
    );
}

//! Disks that fill up or lose bytes, under real processes: a node stops with its reason or mends itself, and nothing acknowledged is lost.

mod process;

use process::{Cluster, flip_byte, get, newest_segment, put};
use raftkv_core::api::NodeStatus;
use rustix::process::{Resource, Rlimit};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const FAST: &[&str] = &[
    "--tick",
    "50ms",
    "--heartbeat",
    "50ms",
    "--election-timeout",
    "500ms",
    "--snapshot-entries",
    "50",
];

/// The log grows beyond it in no time; log lines of a node never do.
const FILE_BYTES_MAX: u64 = 128 << 10;

/// As a disk that is full from then on: no file of the process may grow beyond a size.
fn limit_files(cluster: &Cluster, member: usize) {
    let node = cluster.nodes[member - 1].as_ref().expect("it runs");
    let limit = Rlimit { current: Some(FILE_BYTES_MAX), maximum: Some(FILE_BYTES_MAX) };
    rustix::process::prlimit(Some(node.pid()), Resource::Fsize, limit).expect("limited");
}

fn assert_says_that_the_disk_is_full(log: &str) {
    let last = log.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("raftkv-node: ")
            && last.contains("disk full")
            && last.contains("wal/")
            && last.contains("Mend the disk"),
        "{last}"
    );
}

/// Counts up in a key until it is told to stop, and remembers what was acknowledged.
fn count_up(client: raftkv_node::client::Client) -> (tokio::task::JoinHandle<()>, Arc<AtomicU64>) {
    let acknowledged = Arc::new(AtomicU64::new(0));
    let seen = acknowledged.clone();
    let task = tokio::spawn(async move {
        let padding = "x".repeat(1000);
        for number in 1.. {
            if put(&client, "counter", &format!("{number} {padding}")).await.is_err() {
                return;
            }
            seen.store(number, Ordering::SeqCst);
        }
    });
    (task, acknowledged)
}

async fn counter(cluster: &Cluster) -> u64 {
    let value = get(&cluster.client().await, "counter").await.expect("it was written");
    value.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

#[tokio::test]
async fn a_full_disk_stops_a_lone_node_and_loses_nothing() {
    let mut cluster = Cluster::start(1, FAST);
    let (writer, acknowledged) = count_up(cluster.client().await);
    limit_files(&cluster, 1);
    let status = cluster.take(1).wait().await;
    writer.abort();
    assert_eq!(status.code(), Some(6), "{}", cluster.log(1));
    assert_says_that_the_disk_is_full(&cluster.log(1));
    let acknowledged = acknowledged.load(Ordering::SeqCst);
    assert!(acknowledged > 10, "only {acknowledged} writes fitted");

    cluster.start_member(1, &[]);
    let read = counter(&cluster).await;
    // The write that failed was not acknowledged, and may be there or not.
    assert!((acknowledged..=acknowledged + 1).contains(&read), "{read} after {acknowledged}");
}

#[tokio::test]
async fn a_full_disk_of_the_leader_leaves_the_cluster_to_the_others() {
    let mut cluster = Cluster::start(3, FAST);
    let client = cluster.client().await;
    let leader = cluster.leader(&client).await;
    let (writer, acknowledged) = count_up(client.clone());
    limit_files(&cluster, leader);
    let status = cluster.take(leader).wait().await;
    assert_eq!(status.code(), Some(6), "{}", cluster.log(leader));
    assert_says_that_the_disk_is_full(&cluster.log(leader));

    // The others go on, and the writer with them.
    let (before, deadline) =
        (acknowledged.load(Ordering::SeqCst), tokio::time::Instant::now() + process::PATIENCE);
    while acknowledged.load(Ordering::SeqCst) < before + 20 {
        cluster.pause_until(deadline, "no write after the leader's end").await;
    }
    cluster.start_member(leader, &[]);
    writer.abort();
    let acknowledged = acknowledged.load(Ordering::SeqCst);
    let statuses = cluster.settled(&cluster.client().await).await;
    assert_eq!(statuses.len(), 3);
    assert!(counter(&cluster).await >= acknowledged);
}

/// A cluster of three that settled with several snapshots on every disk, and a stopped member 3.
async fn with_snapshots() -> (Cluster, Vec<PathBuf>) {
    let mut cluster = Cluster::start(3, FAST);
    let client = cluster.client().await;
    for number in 0..300 {
        put(&client, &format!("key{number}"), "value").await.expect("a write");
    }
    cluster.settled(&client).await;
    // Stopped as asked, so that no snapshot is still being written.
    assert_eq!(cluster.take(3).terminate().code(), Some(0), "{}", cluster.log(3));
    let directory = cluster.data_dir(3).join("snapshots");
    let entries = std::fs::read_dir(directory).expect("a directory");
    let entries = entries.map(|entry| entry.expect("an entry").path());
    let mut snapshots: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "snap")).collect();
    snapshots.sort();
    assert!(snapshots.len() >= 2, "{snapshots:?}");
    (cluster, snapshots)
}

fn assert_whole(statuses: &[NodeStatus], keys: u64) {
    assert_eq!(statuses.len(), 3);
    assert!(statuses.iter().all(|status| status.keys == keys), "{statuses:?}");
}

#[tokio::test]
async fn a_damaged_snapshot_is_made_up_for_by_the_one_before_and_the_log() {
    let (mut cluster, snapshots) = with_snapshots().await;
    let newest = snapshots.last().unwrap();
    flip_byte(newest, std::fs::metadata(newest).unwrap().len() / 2);
    cluster.start_member(3, &[]);
    let client = cluster.client().await;
    put(&client, "after", "damage").await.unwrap();
    assert_whole(&cluster.settled(&client).await, 301);
    let name = newest.file_name().unwrap().to_string_lossy().into_owned();
    let log = cluster.log(3);
    assert!(log.contains(&format!("snapshots/{name} cannot be used")), "{log}");
    assert!(!log.contains("taken in"), "it needed nobody: {log}");
}

#[tokio::test]
async fn without_any_whole_snapshot_the_member_refills_from_its_peers() {
    let (mut cluster, snapshots) = with_snapshots().await;
    for snapshot in &snapshots {
        flip_byte(snapshot, std::fs::metadata(snapshot).unwrap().len() / 2);
    }
    cluster.start_member(3, &[]);
    assert_eq!(cluster.take(3).wait().await.code(), Some(3), "{}", cluster.log(3));
    let log = cluster.log(3);
    let last = log.lines().last().unwrap_or_default();
    for snapshot in &snapshots {
        let name = snapshot.file_name().unwrap().to_string_lossy().into_owned();
        assert!(last.contains(&name), "{name} is not named: {last}");
    }

    cluster.start_member(3, &["--rejoin"]);
    let client = cluster.client().await;
    put(&client, "after", "damage").await.unwrap();
    assert_whole(&cluster.settled(&client).await, 301);
}

#[tokio::test]
async fn a_log_damaged_in_the_middle_is_refused_and_the_member_rejoins() {
    let mut cluster = Cluster::start(3, FAST);
    let client = cluster.client().await;
    for number in 0..100 {
        put(&client, &format!("key{number}"), "value").await.unwrap();
    }
    cluster.settled(&client).await;
    cluster.take(3).kill();
    let (segment, used) = newest_segment(&cluster, 3);
    flip_byte(&segment, used / 2);
    let before = std::fs::read(&segment).unwrap();
    cluster.start_member(3, &[]);
    assert_eq!(cluster.take(3).wait().await.code(), Some(3), "{}", cluster.log(3));
    let log = cluster.log(3);
    let last = log.lines().last().unwrap_or_default();
    let name = segment.file_name().unwrap().to_string_lossy().into_owned();
    assert!(last.contains(&format!("wal/{name} is damaged at byte ")), "{last}");
    assert!(last.contains("--rejoin"), "{last}");
    let at = last.split("at byte ").nth(1).and_then(|rest| rest.split(':').next());
    let at: u64 = at.and_then(|number| number.parse().ok()).expect("an offset");
    assert!(at <= used / 2 && at + 1024 > used / 2, "byte {at}, but {} was flipped", used / 2);
    assert_eq!(std::fs::read(&segment).unwrap(), before, "nothing is changed");

    cluster.start_member(3, &["--rejoin"]);
    let client = cluster.client().await;
    put(&client, "after", "rejoining").await.unwrap();
    let statuses = cluster.settled(&client).await;
    assert_whole(&statuses, 101);
    assert!(statuses.iter().any(|status| status.identity.node.to_string() == "3.1"));
    assert!(cluster.data_dir(3).join("damaged-1").join("wal").exists());
}

//! Clusters of real processes: kill -9, lost disks, members that come and go.

mod process;

use process::{Cluster, get, newest_segment, put};
use raftkv_core::api::{NodeStatus, Request, Role};
use std::fs;
use std::os::unix::fs::FileExt as _;

const FAST: &[&str] = &["--tick", "50ms", "--heartbeat", "50ms", "--election-timeout", "500ms"];

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9_of_the_leader_and_of_all() {
    let mut cluster = Cluster::start(3, FAST);
    let client = cluster.client().await;
    for round in 0..3 {
        // Writes go on while the leader dies.
        let writer = tokio::spawn({
            let client = client.clone();
            async move {
                for number in 0..200 {
                    put(&client, &format!("{round}/{number}"), "value").await.expect("a write");
                }
            }
        });
        let leader = cluster.leader(&client).await;
        cluster.take(leader).kill();
        writer.await.unwrap();
        cluster.start_member(leader, &[]);
    }
    (1..=3).for_each(|member| cluster.take(member).kill());
    (1..=3).for_each(|member| cluster.start_member(member, &[]));
    let client = cluster.client().await;
    for round in 0..3 {
        for number in 0..200 {
            let key = format!("{round}/{number}");
            assert_eq!(get(&client, &key).await.as_deref(), Some("value"), "{key}");
        }
    }
    let statuses = cluster.settled(&client).await;
    assert_eq!(statuses[0].keys, 600);
}

#[tokio::test]
async fn a_member_joins_gets_everything_and_leaves() {
    let mut cluster = Cluster::new(4, FAST);
    let newcomer = cluster.addresses.pop().unwrap();
    (1..=3).for_each(|member| cluster.start_member(member, &[]));
    let client = cluster.client().await;
    put(&client, "before", "joining").await.unwrap();
    cluster.addresses.push(newcomer);
    let mut flags = cluster.base_flags(4);
    flags.extend(["--join".into(), cluster.addresses[0].clone()]);
    cluster.start_with(4, &flags);
    // Once it was told of the cluster, it settles with the others.
    let deadline = tokio::time::Instant::now() + process::PATIENCE;
    while client.members().await.unwrap().len() < 4 {
        cluster.pause_until(deadline, "the member is not in the list").await;
    }
    let client = cluster.client().await;
    let statuses = cluster.settled(&client).await;
    assert!(statuses.iter().all(|status| status.keys == 1));

    client.administer(Request::MemberRemove { member: 4 }).await.unwrap();
    let status = cluster.take(4).wait().await;
    assert_eq!(status.code(), Some(7), "{}", cluster.log(4));
    assert_eq!(client.members().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_write_that_a_crash_cut_short_is_dropped() {
    let mut cluster = Cluster::start(3, FAST);
    let client = cluster.client().await;
    for number in 0..50 {
        put(&client, &format!("key{number}"), "value").await.unwrap();
    }
    cluster.settled(&client).await;
    cluster.take(2).kill();
    // A record's beginning, with nothing behind it.
    let (path, used) = newest_segment(&cluster, 2);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0x7f; 40], used.next_multiple_of(8)).unwrap();
    cluster.start_member(2, &[]);
    let statuses = cluster.settled(&cluster.client().await).await;
    assert!(statuses.iter().all(|status| status.keys == 50));
    assert!(cluster.log(2).contains("cut short"), "{}", cluster.log(2));
}

#[tokio::test]
async fn a_member_that_lost_what_it_acknowledged_stops_and_joins_anew() {
    let mut cluster = Cluster::start(3, FAST);
    let client = cluster.client().await;
    for number in 0..50 {
        put(&client, &format!("key{number}"), "value").await.unwrap();
    }
    cluster.settled(&client).await;
    // Only a leader that has heard a follower acknowledge can know what it lost.
    let leader = cluster.leader(&client).await;
    let (member, other) = match leader {
        1 => (2, 3),
        2 => (3, 1),
        _ => (1, 2),
    };
    cluster.take(member).kill();
    let (path, used) = newest_segment(&cluster, member);
    fs::File::options().write(true).open(path).unwrap().set_len(used / 2).unwrap();
    cluster.start_member(member, &[]);
    assert_eq!(cluster.take(member).wait().await.code(), Some(8), "{}", cluster.log(member));

    fs::remove_dir_all(cluster.data_dir(member)).unwrap();
    let mut flags = cluster.base_flags(member);
    let known = [&cluster.addresses[other - 1], &cluster.addresses[leader - 1]].map(String::as_str);
    flags.extend(["--join".into(), known.join(",")]);
    cluster.start_with(member, &flags);
    let client = cluster.client().await;
    put(&client, "after", "joining").await.unwrap();
    let statuses = cluster.settled(&client).await;
    assert!(statuses.iter().all(|status| status.keys == 51));
}

#[tokio::test]
async fn a_leader_that_is_told_to_stop_goes_when_another_one_leads() {
    let mut cluster = Cluster::start(3, &[]);
    let client = cluster.client().await;
    put(&client, "a", "1").await.unwrap();
    let leader = cluster.leader(&client).await;
    let status = cluster.take(leader).terminate();
    assert_eq!(status.code(), Some(0), "{}", cluster.log(leader));
    // No patience: without a leader now, a vote would have been held only because the old one was missed.
    let statuses = client.statuses().await;
    let leads = |status: &NodeStatus| status.role == Role::Leader;
    let others: Vec<_> = statuses.iter().filter_map(|(_, status)| status.as_ref().ok()).collect();
    assert!(others.len() == 2 && others.iter().any(|status| leads(status)), "{statuses:?}");
    let log = cluster.log(leader);
    let said = log.split_once("told to stop").expect("it says so").1;
    assert!(said.contains("following node"), "it left before it knew who leads: {log}");
    assert_eq!(get(&client, "a").await.as_deref(), Some("1"));
}

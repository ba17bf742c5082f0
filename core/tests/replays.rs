//! The whole core replays: the same inputs and seed give the same outputs, byte for byte, through elections, crashes, cuts and snapshots.
//! And a first, small search for trouble: after healing, every state is the same and a fresh write goes through.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "only a part is used")]
mod cluster;

use cluster::Cluster;
use raftkv_core::api::{KeyRange, PutRequest, RangeRequest, Request, Response, WriteOp};
use raftkv_core::config::Config;
use raftkv_core::rng::{Rng, Seed};

const STEPS: u32 = 300;

fn put(key: u64, value: u64) -> Request {
    let (key, value) = (format!("key{key}").into(), value.to_string().into());
    let put = PutRequest { key, value, lease: 0, return_previous: false };
    Request::Write { session: None, op: WriteOp::Put(put) }
}

fn act(cluster: &mut Cluster, chance: &mut Rng, step: u32) {
    let member = 1 + chance.below(3) as u32;
    let other = 1 + chance.below(3) as u32;
    match chance.below(20) {
        0 => cluster.crash(member),
        1 | 2 if cluster.hosts[&member].node.is_none() => cluster.start(member),
        3 => cluster.cut.extend([(member, other), (other, member)]),
        4 => cluster.cut.extend([(member, other)]),
        5 => cluster.cut.clear(),
        6 => {
            cluster.ask(member, Request::SnapshotSave);
        }
        7 => {
            cluster.ask(member, Request::LeaderTransfer { member: other });
        }
        8 => cluster.hosts.get_mut(&member).unwrap().stalled ^= true,
        9 | 10 => {
            cluster.ask(member, Request::Range(RangeRequest::new(KeyRange::all())));
        }
        11..=14 => {
            cluster.ask(member, put(chance.below(10), u64::from(step)));
        }
        _ => cluster.pass_tick(),
    }
    for _ in 0..chance.below(20) {
        let member = 1 + chance.below(3) as u32;
        if chance.below(2) == 0 {
            cluster.disk_step(member);
        } else {
            cluster.deliver();
        }
    }
}

fn run(seed: u64) -> Cluster {
    let mut chance = Seed::from_number(seed).fork("actions");
    let config = Config {
        snapshot_entries: 5 + chance.below(20),
        trailing_entries: chance.below(5),
        segment_bytes: 4096,
        ..Config::default()
    };
    let mut cluster = Cluster::new(3, config);
    for step in 0..STEPS {
        act(&mut cluster, &mut chance, step);
    }
    heal(&mut cluster);
    cluster
}

fn heal(cluster: &mut Cluster) {
    cluster.cut.clear();
    for member in cluster.members() {
        let host = cluster.hosts.get_mut(&member).unwrap();
        assert!(host.halted.is_none(), "node {member} halted: {:?}", host.halted);
        host.stalled = false;
        if host.node.is_none() {
            cluster.start(member);
        }
    }
    // Transfers of leadership that were under way hold up writes until they end.
    (0..40).for_each(|_| cluster.pass_tick());
    let leader = cluster.elect();
    let req = cluster.ask(leader, put(0, 0));
    (0..40).for_each(|_| cluster.pass_tick());
    assert!(matches!(cluster.answer(req), Response::Write(_)), "{:?}", cluster.answer(req));
    let mut states = cluster.hosts.values().map(|host| {
        let node = host.node.as_ref().unwrap();
        (node.applied_index(), node.state().hash())
    });
    let first = states.next().unwrap();
    assert!(states.all(|state| state == first), "the states differ");
}

#[test]
fn clusters_heal() {
    for seed in 0..150 {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "seed {seed} failed");
    }
}

#[test]
fn the_same_seed_gives_the_same_outputs() {
    for seed in 0..10 {
        let (first, second) = (run(seed).trace, run(seed).trace);
        let differing = first.lines().zip(second.lines()).find(|(a, b)| a != b);
        assert_eq!(differing, None, "seed {seed} does not replay");
        assert_eq!(first.len(), second.len(), "seed {seed} does not replay");
    }
}

//! Elections replay: the same inputs and seed give the same messages, byte for byte, whatever raft-rs draws for itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use raftkv_core::config::Config;
use raftkv_core::consensus::{Consensus, Restart};
use raftkv_core::ids::NodeId;
use raftkv_core::log::{ConfState, HardState};
use raftkv_core::rng::Seed;
use raftkv_core::wire::peer::{RaftMessage, SnapshotMeta};
use std::fmt::Write;

const NODES: u64 = 3;

fn cluster(seed: u64) -> Vec<Consensus> {
    let voters: Vec<NodeId> = (1..=NODES).map(NodeId).collect();
    let conf = ConfState { voters: voters.clone(), ..ConfState::default() };
    let start = |node: NodeId| {
        let restart = Restart {
            node,
            hard_state: HardState { term: 1, vote: NodeId::NONE, commit: 1 },
            snapshot: SnapshotMeta { index: 1, term: 1, conf: conf.clone() },
            entries: vec![],
        };
        Consensus::new(&Config::default(), restart, &Seed::from_number(seed * 10 + node.0))
    };
    voters.into_iter().map(start).collect()
}

/// Ticks a cluster whose network loses a quarter of everything and is cut now and then; every message is a line of the trace.
fn run(seed: u64) -> String {
    let mut nodes = cluster(seed);
    let mut chance = Seed::from_number(seed).fork("network");
    let (mut trace, mut leaders) = (String::new(), 0);
    let mut cut = NodeId::NONE;
    for tick in 0..1500u64 {
        if tick % 200 == 0 {
            cut = NodeId(chance.below(NODES + 1));
        }
        nodes.iter_mut().for_each(Consensus::tick);
        if let Some(leader) = nodes.iter_mut().find(|node| node.is_leader()) {
            leaders += 1;
            leader.queue_proposal(vec![tick as u8; 9].into());
            let _ = leader.submit_proposals();
        }
        let mut wire: Vec<RaftMessage> = nodes.iter_mut().flat_map(drain).collect();
        while !wire.is_empty() {
            let mut next = Vec::new();
            for message in wire {
                writeln!(trace, "{tick} {message:?}").unwrap();
                let lost = chance.below(4) == 0 || [message.from, message.to].contains(&cut);
                if !lost {
                    let (from, to) = (message.from, message.to);
                    let node = &mut nodes[to.0 as usize - 1];
                    node.step(from, message).unwrap();
                    next.extend(drain(node));
                }
            }
            wire = next;
        }
    }
    assert!(leaders > 500, "the cluster must have had leaders, or nothing was tested");
    trace
}

/// Everything the node wants sent, with a disk that is always done at once.
fn drain(node: &mut Consensus) -> Vec<RaftMessage> {
    let mut sent = Vec::new();
    while let Some(effects) = node.flush() {
        sent.extend(effects.messages);
        if let Some(persist) = effects.persist {
            node.persisted(persist.number);
            sent.extend(persist.messages);
        }
        if let Some(last) = effects.committed.last() {
            node.applied(last.index);
        }
    }
    sent
}

#[test]
fn the_same_seed_gives_the_same_messages() {
    for seed in 0..10 {
        let (first, second) = (run(seed), run(seed));
        let differing = first.lines().zip(second.lines()).position(|(a, b)| a != b);
        assert_eq!(differing, None, "seed {seed} does not replay");
        assert_eq!(first.len(), second.len());
    }
}

#[test]
fn another_seed_gives_other_messages() {
    assert_ne!(run(1), run(2));
}

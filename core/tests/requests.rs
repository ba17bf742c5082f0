//! What a node does with requests when it has too much to do, and with its leadership when it is told to stop.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "only a part is used")]
mod cluster;

use cluster::Cluster;
use raftkv_core::api::{
    Consistency, Error, KeyRange, RangeRequest, Request, Response, WatchRequest,
};
use raftkv_core::config::Config;
use raftkv_core::io::{Halt, Input};

#[test]
fn how_a_node_is_can_be_asked_however_busy_it_is() {
    let mut config = Config::default();
    config.limits.inflight_requests = 1;
    let mut cluster = Cluster::new(3, config);
    let leader = cluster.elect();
    cluster.settle();
    // Nobody is left to confirm a read: it is under way from now on.
    (1..=3).filter(|member| *member != leader).for_each(|member| cluster.crash(member));
    let read = || Request::Range(RangeRequest::new(KeyRange::all()));
    cluster.ask(leader, read());
    let refused = cluster.ask(leader, read());
    assert!(matches!(cluster.answer(refused), Response::Error(Error::Busy { .. })));
    let status = cluster.ask(leader, Request::Status);
    assert!(matches!(cluster.answer(status), Response::Status(_)));
    let backups = cluster.ask(leader, Request::BackupStatus);
    assert!(matches!(cluster.answer(backups), Response::Backups(_)));
}

#[test]
fn a_leader_that_is_told_to_stop_stays_until_another_one_leads() {
    // It has much more patience than a handover takes.
    let mut cluster = Cluster::new(3, Config { election_ticks: 100, ..Config::default() });
    let old = cluster.elect();
    cluster.settle();
    cluster.input(old, Input::Shutdown);
    for _ in 0..100 {
        if cluster.hosts[&old].halted.is_some() {
            break;
        }
        // It may stop at any moment: after every single step there is a tick for it.
        if !cluster.members().into_iter().any(|member| cluster.disk_step(member)) {
            cluster.deliver();
        }
        cluster.advance();
        cluster.input(old, Input::Timeout);
    }
    assert_eq!(cluster.hosts[&old].halted, Some(Halt::Stopped));
    let mut others = cluster.hosts.values().filter_map(|host| host.node.as_ref());
    assert!(others.any(|node| node.consensus().is_leader()), "it has left, and nobody leads");
}

#[test]
fn a_removed_node_that_must_wait_turns_clients_away() {
    let mut cluster = Cluster::new(3, Config::default());
    let leader = cluster.elect();
    cluster.settle();
    let gone = leader % 3 + 1;
    // It hears everything, and is heard by nobody: nobody can tell it that it may go.
    cluster.cut.extend((1..=3).map(|other| (gone, other)));
    let range = RangeRequest::new(KeyRange::all());
    let stale = RangeRequest { consistency: Consistency::Stale, ..range.clone() };
    let watch = WatchRequest { range: KeyRange::all(), from_revision: 0, with_previous: false };
    let waiting = [Request::Range(range), Request::Watch(watch)];
    let waiting = waiting.map(|request| cluster.ask(gone, request));
    let removed = cluster.ask(leader, Request::MemberRemove { member: gone });
    cluster.settle();
    assert_eq!(cluster.answer(removed), &Response::Done);
    assert_eq!(cluster.hosts[&gone].halted, None);
    let late = cluster.ask(gone, Request::Range(stale));
    for req in waiting.into_iter().chain([late]) {
        let answer = cluster.answer(req);
        assert!(matches!(answer, Response::Error(Error::Unavailable(_))), "{answer:?}");
    }
    let status = cluster.ask(gone, Request::Status);
    assert!(matches!(cluster.answer(status), Response::Status(_)));
    cluster.cut.clear();
    (0..30).for_each(|_| cluster.pass_tick());
    assert!(matches!(cluster.hosts[&gone].halted, Some(Halt::Removed { .. })));
}

/// Removes a member that hears nobody. When it hears the others again, it learns of its removal by asking.
fn removed_unheard_it_asks_and_goes(cluster: &mut Cluster, leader: u32, member: u32) {
    let removed = cluster.ask(leader, Request::MemberRemove { member });
    cluster.settle();
    assert_eq!(cluster.answer(removed), &Response::Done);
    (0..100).for_each(|_| cluster.pass_tick());
    assert_eq!(cluster.hosts[&member].halted, None, "nobody could tell it");
    cluster.cut.clear();
    (0..100).for_each(|_| cluster.pass_tick());
    assert!(matches!(cluster.hosts[&member].halted, Some(Halt::Removed { .. })));
}

#[test]
fn a_learner_that_missed_its_own_removal_asks_and_goes() {
    let mut cluster = Cluster::new(3, Config::default());
    let leader = cluster.elect();
    cluster.settle();
    let learner = 4;
    cluster.join(learner, leader, true);
    (0..30).for_each(|_| cluster.pass_tick());
    let applied = |member| cluster.hosts[&member].node.as_ref().unwrap().applied_index();
    assert_eq!(applied(learner), applied(leader), "it has not caught up");
    cluster.cut.extend((1..=3).map(|other| (other, learner)));
    removed_unheard_it_asks_and_goes(&mut cluster, leader, learner);
}

#[test]
fn a_node_that_was_removed_before_its_first_snapshot_came_asks_and_goes() {
    let mut cluster = Cluster::new(3, Config::default());
    let leader = cluster.elect();
    cluster.settle();
    let new = 4;
    cluster.cut.extend((1..=3).map(|other| (other, new)));
    cluster.join(new, leader, false);
    (0..30).for_each(|_| cluster.pass_tick());
    assert_eq!(cluster.hosts[&new].node.as_ref().unwrap().applied_index(), 0);
    removed_unheard_it_asks_and_goes(&mut cluster, leader, new);
}

#[test]
fn a_change_of_membership_that_nobody_confirms_is_answered_before_a_stop() {
    let mut cluster = Cluster::new(3, Config::default());
    let leader = cluster.elect();
    cluster.settle();
    let (gone, stays) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    // The one that goes acknowledges its removal; the one that stays is not heard.
    cluster.cut.insert((stays, leader));
    let removed = cluster.ask(leader, Request::MemberRemove { member: gone });
    cluster.settle();
    assert_eq!(cluster.replies.get(&removed), None);
    let again = cluster.ask(leader, Request::MemberRemove { member: stays });
    assert!(matches!(cluster.answer(again), Response::Error(Error::Unavailable(_))));
    cluster.input(leader, Input::Shutdown);
    (0..30).for_each(|_| cluster.pass_tick());
    assert_eq!(cluster.hosts[&leader].halted, Some(Halt::Stopped));
    assert_eq!(cluster.answer(removed), &Response::Error(Error::Unknown));
}

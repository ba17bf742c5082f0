//! What a node does with requests when it has too much to do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "only a part is used")]
mod cluster;

use cluster::Cluster;
use raftkv_core::api::{Error, KeyRange, RangeRequest, Request, Response};
use raftkv_core::config::Config;

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

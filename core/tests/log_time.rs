//! Log time never jumps, whenever in a leader's first moments a request arrives.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "only a part is used")]
mod cluster;

use cluster::Cluster;
use raftkv_core::api::{Request, WriteOp};
use raftkv_core::config::Config;
use raftkv_core::ids::ReqId;
use raftkv_core::io::Input;
use raftkv_core::time::{Mono, Now, Span, Wall};

#[test]
fn a_request_in_the_moment_of_election_is_not_stamped_with_the_age_of_the_machine() {
    let mut cluster = Cluster::new(1, Config::default());
    cluster.settle();
    (0..300).for_each(|_| cluster.pass_tick());
    cluster.crash(1);
    // A lone voter elects itself as it starts, and nobody has asked for its outputs when the first request comes.
    cluster.hosts.get_mut(&1).unwrap().prepare = |node| {
        let now = Now { mono: Mono(0) + Span::from_millis(30_000), wall: Wall(0) };
        let op = WriteOp::LeaseGrant { id: 7, ttl_ms: 1_000 };
        let request = Request::Write { session: None, op };
        node.handle(now, Input::Client { req: ReqId(1 << 40), request });
    };
    cluster.start(1);
    cluster.settle();
    let node = cluster.hosts[&1].node.as_ref().unwrap();
    assert_eq!(node.state().lease_count(), 1, "the lease was granted");
    assert!(node.state().log_time_ms() < 1_000, "log time is {} ms", node.state().log_time_ms());
}

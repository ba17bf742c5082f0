//! Backups that have to wait for their turn, and those whose turn it is not.

use super::backup::fill;
use super::cluster::{Cluster, arg};
use super::gate::Gate;
use super::s3::S3;
use serde_json::Value;

#[test]
fn the_state_is_frozen_when_the_store_is_locked() {
    let cluster = Cluster::start(1);
    fill(&cluster, 100);
    let s3 = S3::start(&cluster.path("s3"));
    let gate = Gate::before(s3.address, "/locks/");
    s3.reach(gate.address());
    let create = ["backup", "create", "--config", arg(&s3.config), "-o", "json"];
    let child = cluster.cli().command(&create).spawn().unwrap();
    gate.wait_until_held();
    let written = cluster.cli().json(&["put", "meanwhile", "x"])["revision"].as_u64();
    gate.open();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((made["revision"].as_u64(), made["keys"].as_u64()), (written, Some(101)), "{made}");
}

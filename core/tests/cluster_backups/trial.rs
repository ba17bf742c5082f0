//! A node without a backup configuration: plain backups beside its data, and only where nobody counts on others.

use super::EVERY_MINUTE;
use super::cluster::{address, identity};
use super::sample::settings;
use super::scene::{Scene, able, plain};
use raftkv_core::api::{Ended, MemberInfo, MemberRole, Request, Response};
use raftkv_core::backup::compress::Compression;
use raftkv_core::boot;
use raftkv_core::boot::GenesisBase;
use raftkv_core::ids::{Epoch, Identity, NodeId};
use raftkv_core::node::Node;

fn trying(node: &mut Node) {
    node.try_backups(settings(Compression::None, &[]), plain(), Vec::new());
}

impl Scene {
    /// Asks for a backup, which is made.
    fn made(&mut self) -> Ended {
        self.run();
        self.until("it ends", |backups| backups.run.is_none()).last.unwrap()
    }

    /// Nobody says that it can make a backup, and nobody does.
    fn refuses(&mut self) {
        let stored = self.stores[0].objects.clone();
        for member in self.cluster.members() {
            assert!(!self.status(member).able, "node {member}");
        }
        let req = self.ask_leader(Request::BackupRun);
        self.ticks(100);
        let Response::Error(error) = self.cluster.answer(req) else { panic!("it is made") };
        assert!(error.to_string().contains("`backup_config` on at least one"), "{error}");
        assert_eq!(self.stores[0].objects, stored);
    }

    /// The only node starts anew, like this.
    fn restart_with(&mut self, prepare: fn(&mut Node)) {
        self.cluster.crash(1);
        self.cluster.hosts.get_mut(&1).unwrap().prepare = prepare;
        self.cluster.start(1);
        self.ticks(5);
    }
}

#[test]
fn a_trial_ends_with_the_second_member_and_begins_again_without() {
    let mut scene = Scene::prepared(1, trying);
    scene.put("a", "1");
    assert!(scene.status(1).able);
    assert!(scene.made().is_good());
    scene.cluster.join(2, 1, true);
    scene.ticks(100);
    scene.refuses();
    // It is also asked by another that leads.
    scene.ask_leader(Request::MemberPromote { member: 2 });
    scene.ticks(100);
    for leader in [2, 1] {
        scene.ask_leader(Request::LeaderTransfer { member: leader });
        scene.ticks(20);
        assert_eq!(scene.leader(), leader);
        scene.refuses();
    }
    scene.ask_leader(Request::MemberRemove { member: 2 });
    scene.ticks(100);
    assert!(scene.status(1).able);
}

#[test]
fn a_schedule_is_never_served_by_a_trial() {
    let mut scene = Scene::prepared(1, trying);
    scene.put("a", "1");
    scene.schedule(EVERY_MINUTE);
    scene.ticks(2_400);
    assert!(scene.warnings("a backup is due, but no member can make") > 0);
    scene.refuses();
    assert_eq!(scene.backups().last, None);
    scene.ask_leader(Request::BackupSchedule { schedule: None });
    assert!(scene.made().is_good());
}

#[test]
fn no_trial_begins_where_a_configuration_made_the_newest_backup() {
    let mut scene = Scene::new(1);
    scene.put("a", "1");
    let made = scene.made();
    scene.restart_with(trying);
    scene.refuses();
    scene.restart_with(able);
    assert_eq!(scene.made().node, made.node);
}

#[test]
fn a_trial_goes_on_where_its_backups_are_found() {
    let mut scene = Scene::prepared(1, trying);
    scene.put("a", "1");
    let made = scene.made();
    scene.restart_with(trying);
    scene.refuses();
    scene.cluster.crash(1);
    scene.cluster.start(1);
    let node = scene.cluster.hosts.get_mut(&1).unwrap().node.as_mut().unwrap();
    node.try_backups(settings(Compression::None, &[]), plain(), vec![made.id]);
    scene.ticks(5);
    assert!(scene.made().is_good());
    assert!(scene.made().is_good(), "and once more, after one that is new");
}

#[test]
fn a_cluster_that_was_restored_begins_no_trial() {
    let mut scene = Scene::prepared(1, trying);
    let node = NodeId::new(1, 0);
    let of_epoch = Identity { epoch: Epoch(1), ..identity(node) };
    let member = MemberInfo { node, address: address(1), role: MemberRole::Voter };
    scene.cluster.crash(1);
    let host = scene.cluster.hosts.get_mut(&1).unwrap();
    host.disk = super::cluster::Disk::default();
    for op in boot::genesis(of_epoch, vec![member], GenesisBase::empty()) {
        host.disk.carry_out(&op).unwrap();
    }
    scene.cluster.start(1);
    scene.ticks(5);
    scene.refuses();
}

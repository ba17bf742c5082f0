//! Who makes a backup, and what becomes of the question when the leader goes.

use super::EVERY_MINUTE;
use super::scene::{Scene, able};
use raftkv_core::api::{Request, Response};
use raftkv_core::io::Input;
use raftkv_core::wire::peer::PeerFrame;

#[test]
fn who_is_busy_is_told_from_who_cannot() {
    let mut scene = Scene::prepared(3, |_| {});
    let maker = scene.leader() % 3 + 1;
    able(scene.cluster.hosts.get_mut(&maker).unwrap().node.as_mut().unwrap());
    scene.put("a", "1");
    scene.ask_leader(Request::BackupRun);
    assert_eq!(scene.begin().node.member(), maker);
    // It is cut off until the run is given up, and the store does not answer it for longer.
    for other in scene.cluster.members().into_iter().filter(|other| *other != maker) {
        scene.cluster.cut.extend([(maker, other), (other, maker)]);
    }
    while scene.backups().run.is_some() {
        scene.tick_without_store(1);
    }
    scene.cluster.cut.clear();
    scene.tick_without_store(50);
    let req = scene.ask_leader(Request::BackupRun);
    scene.tick_without_store(20);
    let Response::Error(error) = scene.cluster.answer(req) else { panic!("it was not refused") };
    let said = error.to_string();
    assert!(
        said.contains("at work on another") && said.ends_with(&format!("(node {maker})")),
        "{said}"
    );
    assert!(!said.contains("on at least one"), "{said}");
    // Once it is done with that, it makes the next one.
    scene.ticks(50);
    scene.run();
    scene.until("it ends", |backups| backups.run.is_none());
    assert_eq!(scene.complete().len(), 1);
}

impl Scene {
    /// Time passes until the leader asks who can make the backup that is due. Nobody has heard the question yet.
    fn until_asked(&mut self) {
        for _ in 0..3_000 {
            self.cluster.advance();
            for member in self.cluster.members() {
                self.cluster.input(member, Input::Timeout);
            }
            let is_question = |frame: &PeerFrame| matches!(frame, PeerFrame::BackupAsk { .. });
            if self.cluster.wire.iter().any(|(_, _, frame)| is_question(frame)) {
                return;
            }
            self.cluster.settle();
        }
        panic!("nobody asks; it is {:?}", self.backups());
    }

    /// So many frames are delivered and disk operations done, as long as no run has begun; whether one has.
    fn creep(&mut self, steps: usize) -> bool {
        for _ in 0..steps {
            let hosts = self.cluster.hosts.values().filter_map(|host| host.node.as_ref());
            if hosts.into_iter().any(|node| node.state().backups().run.is_some()) {
                return true;
            }
            let members = self.cluster.members();
            let moved = members.iter().any(|member| self.cluster.disk_step(*member));
            if !moved && !self.cluster.deliver() {
                self.cluster.advance();
                members.iter().for_each(|member| self.cluster.input(*member, Input::Timeout));
            }
        }
        false
    }
}

#[test]
fn the_leader_may_go_between_the_question_and_the_entry_and_the_slot_has_one_backup() {
    let mut steps = 0;
    loop {
        let mut scene = Scene::new(3);
        scene.put("a", "1");
        scene.schedule(EVERY_MINUTE);
        scene.until_asked();
        let has_begun = scene.creep(steps);
        // It dies, or it is alone and goes on.
        let old = scene.leader();
        match steps % 2 {
            0 => scene.cluster.crash(old),
            _ => {
                for other in scene.cluster.members().into_iter().filter(|other| *other != old) {
                    scene.cluster.cut.extend([(old, other), (other, old)]);
                }
            }
        }
        let one_is_good = |scene: &mut Scene| {
            let nodes = scene.cluster.hosts.values().filter_map(|host| host.node.as_ref());
            let last = nodes.filter_map(|node| node.state().backups().last.clone());
            last.max_by_key(|last| last.number).filter(|last| last.is_good())
        };
        let mut last = None;
        for _ in 0..600 {
            scene.tick();
            last = one_is_good(&mut scene);
            if last.is_some() {
                break;
            }
        }
        let last = last.unwrap_or_else(|| panic!("after {steps} steps: {:?}", scene.backups()));
        scene.cluster.cut.clear();
        if steps % 2 == 0 {
            scene.cluster.start(old);
        }
        // The old leader's own attempt, if there was one, comes to nothing.
        scene.ticks(100);
        let after = scene.backups();
        assert_eq!((after.run, after.last.as_ref()), (None, Some(&last)), "after {steps} steps");
        assert_eq!(scene.complete(), [last.id], "after {steps} steps");
        if has_begun {
            break;
        }
        steps += 1;
    }
    assert!(steps > 10, "only {steps} moments were tried");
}

#[test]
fn a_node_that_cannot_reach_the_store_holds_up_no_backup() {
    for size in [2, 3, 4] {
        let mut scene = Scene::new(size);
        scene.put("a", "1");
        scene.schedule("*/5 * * * *");
        let run = scene.begin();
        let (bad, leader) = (run.node.member(), scene.leader());
        scene.cut_off = vec![bad];
        let good = scene.until("one is made", |backups| backups.complete.is_some());
        let made = good.complete.unwrap();
        assert_eq!(made.slot, run.slot, "with {size} nodes");
        assert_eq!(scene.warnings("ended: Failed"), 1, "with {size} nodes");
        assert_ne!(made.node.member(), bad, "with {size} nodes");
        assert_eq!(made.node.member() == leader, size == 2, "with {size} nodes");
        // Where nothing else decides, whoever has shown that it can goes on with it.
        if size > 2 {
            scene.next(2);
            assert_eq!(scene.backups().complete.unwrap().node, made.node);
            assert_eq!(scene.warnings("ended: Failed"), 1, "with {size} nodes");
        }
    }
}

#[test]
fn everyone_has_a_turn_when_one_after_the_other_fails() {
    for cron in ["*/5 * * * *", EVERY_MINUTE] {
        let mut scene = Scene::new(3);
        scene.put("a", "1");
        scene.schedule(cron);
        let leader = scene.leader();
        scene.cut_off = scene.cluster.members();
        scene.cut_off.retain(|member| *member != leader);
        let good = scene.until("one is made", |backups| backups.complete.is_some());
        assert_eq!(good.complete.unwrap().node.member(), leader);
        assert_eq!(scene.warnings("ended: Failed"), 2, "each of the others failed once");
    }
}

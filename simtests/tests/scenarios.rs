//! Named disasters. Each is a short story with faults placed by hand, told on several seeds; `docs/SIMULATION.md` retells them.

use raftkv_core::api::Request;
use raftkv_core::time::Span;
use raftkv_sim::check::Violation;
use raftkv_sim::model::disk::{Crash, CrashPolicy};
use raftkv_sim::world::options::Options;
use raftkv_sim::world::scenario::Scenario;
use raftkv_sim::world::{Report, Run, World};

const SEEDS: u64 = 3;

fn millis(millis: u64) -> Span {
    Span::from_millis(millis)
}

/// Tells a story on several seeds, each starting from a calm cluster that serves.
fn tell(
    voters: u32,
    adjust: impl Fn(&mut Options),
    story: impl Fn(&mut Scenario, u64) -> Result<(), Violation>,
) -> Vec<Report> {
    (0..SEEDS)
        .map(|seed| {
            let mut options = Options::calm(seed);
            options.voters = voters;
            options.workload.think = millis(50);
            options.with_reference = false;
            adjust(&mut options);
            let mut scenario = Scenario::new(World::new(options, None));
            let told = scenario
                .run_until("the cluster serves", |scenario| scenario.acknowledged() > 20)
                .and_then(|()| story(&mut scenario, seed));
            if let Err(violation) = told {
                panic!("seed {seed}: {violation}");
            }
            let Run { report, result } = scenario.finish();
            result.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
            report
        })
        .collect()
}

fn leader(scenario: &Scenario) -> u32 {
    scenario.leader().expect("a cluster that serves has a leader")
}

/// Waits until another member than `old` leads.
fn succession(scenario: &mut Scenario, old: u32) -> Result<(), Violation> {
    let is_new = |scenario: &Scenario| scenario.leader().is_some_and(|leader| leader != old);
    scenario.run_until("another leader", is_new)
}

#[test]
fn an_isolated_leader_with_an_uncommitted_tail_gives_way() {
    let reports = tell(
        3,
        |_| {},
        |scenario, _| {
            let old = leader(scenario);
            scenario.isolate(old, false, false);
            succession(scenario, old)?;
            scenario.run_for(millis(3_000))?;
            scenario.heal_links();
            scenario.run_for(millis(2_000))
        },
    );
    assert!(reports.iter().all(|report| report.elections >= 2));
}

#[test]
fn a_leader_that_hears_nobody_steps_down() {
    tell(
        3,
        |_| {},
        |scenario, _| {
            let old = leader(scenario);
            scenario.isolate(old, false, true);
            succession(scenario, old)?;
            scenario.run_for(millis(5_000))
        },
    );
}

#[test]
fn a_leader_that_nobody_hears_is_replaced() {
    tell(
        3,
        |_| {},
        |scenario, _| {
            let old = leader(scenario);
            scenario.isolate(old, true, false);
            succession(scenario, old)?;
            scenario.run_for(millis(5_000))
        },
    );
}

#[test]
fn a_leader_paused_for_a_minute_serves_nothing_stale() {
    tell(
        3,
        |_| {},
        |scenario, _| {
            let old = leader(scenario);
            scenario.pause(old, millis(60_000));
            // Its last word about itself is from before the pause, so the term decides who leads.
            succession(scenario, old)?;
            scenario.run_for(millis(62_000))
        },
    );
}

#[test]
fn a_cluster_without_power_comes_back_with_everything() {
    tell(
        3,
        |_| {},
        |scenario, seed| {
            for (round, policy) in CrashPolicy::DRAWN.into_iter().enumerate() {
                scenario.crash_all(policy, millis(10 + 100 * seed));
                let before = scenario.acknowledged();
                let serves = |scenario: &Scenario| scenario.acknowledged() > before + 10;
                scenario.run_until("it serves again", serves)?;
                scenario.run_for(millis(7 * round as u64))?;
            }
            Ok(())
        },
    );
}

#[test]
fn a_single_node_survives_a_write_torn_at_every_byte() {
    for kept in 0..160 {
        tell_once(kept, |scenario| {
            for _ in 0..2 {
                scenario.run_until("a write is under way", |scenario| scenario.disk_is_busy(1))?;
                scenario.crash(1, Crash::Power(CrashPolicy::Bytes(kept)), millis(5));
                let before = scenario.acknowledged();
                let serves = |scenario: &Scenario| scenario.acknowledged() > before;
                scenario.run_until("it serves again", serves)?;
            }
            Ok(())
        });
    }
}

fn tell_once(seed: usize, story: impl Fn(&mut Scenario) -> Result<(), Violation>) {
    let mut options = Options::calm(seed as u64);
    options.voters = 1;
    options.workload.think = millis(5);
    options.clients = 2;
    options.with_reference = false;
    options.disk.sync_mean = millis(2);
    let mut scenario = Scenario::new(World::new(options, None));
    let told = scenario
        .run_until("the node serves", |scenario| scenario.acknowledged() > 5)
        .and_then(|()| story(&mut scenario));
    told.and_then(|()| scenario.finish().result)
        .unwrap_or_else(|violation| panic!("{seed} bytes kept: {violation}"));
}

#[test]
fn a_member_whose_disk_is_lost_joins_anew() {
    let reports = tell(
        3,
        |options| options.config.snapshot_entries = 50,
        |scenario, seed| {
            let member = seed as u32 % 3 + 1;
            scenario.lose_disk(member);
            let is_back = |scenario: &Scenario| {
                scenario.status(member).is_some_and(|status| {
                    status.identity.node.incarnation() == 1 && status.applied_index > 20
                })
            };
            scenario.run_until("the member is back", is_back)
        },
    );
    assert!(reports.iter().all(|report| report.sometimes["a member joined anew"] == 1));
}

#[test]
fn a_snapshot_whose_installation_is_interrupted_is_installed_in_the_end() {
    tell(
        3,
        |options| {
            options.config.snapshot_entries = 30;
            options.config.trailing_entries = 0;
            options.workload.value_bytes = 2_000;
            options.disk.sync_mean = millis(1);
        },
        |scenario, seed| {
            let behind = leader(scenario) % 3 + 1;
            scenario.crash(behind, Crash::Power(CrashPolicy::DropAll), millis(5_000));
            scenario.run_for(millis(5_000))?;
            for attempt in 0..10 {
                scenario.run_for(millis(1 + (seed + attempt) % 30))?;
                scenario.crash(behind, Crash::Power(CrashPolicy::Sectors), millis(1));
            }
            Ok(())
        },
    );
}

#[test]
fn a_node_whose_disk_was_rolled_back_never_answers_from_it() {
    let reports = tell(
        3,
        |_| {},
        |scenario, _| {
            let member = leader(scenario) % 3 + 1;
            scenario.crash(member, Crash::Power(CrashPolicy::DropAll), millis(2_000));
            let image = scenario.disk_image(member);
            scenario.run_for(millis(6_000))?;
            scenario.crash(member, Crash::Power(CrashPolicy::DropAll), millis(100));
            scenario.restore_disk(member, image);
            scenario.run_for(millis(10_000))
        },
    );
    let stopped = |report: &&Report| report.sometimes.contains_key("a rolled-back node stopped");
    assert!(reports.iter().filter(stopped).count() > 0, "nobody noticed");
}

#[test]
fn a_full_disk_stops_a_log_or_a_snapshot_but_loses_nothing() {
    let reports = tell(
        3,
        |options| {
            options.config.snapshot_entries = 20;
            options.config.segment_bytes = 4 << 10;
        },
        |scenario, _| {
            for member in 1..=3 {
                scenario.set_disk_full(member, true);
                scenario.run_for(millis(4_000))?;
                scenario.set_disk_full(member, false);
                let before = scenario.acknowledged();
                let serves = |scenario: &Scenario| scenario.acknowledged() > before + 5;
                scenario.run_until("it serves again", serves)?;
            }
            Ok(())
        },
    );
    assert!(reports.iter().all(|report| report.faults["disk full refusal"] > 0));
}

#[test]
fn a_full_disk_that_receives_a_snapshot_gets_it_later() {
    let reports = tell(3, slow_snapshots, |scenario, _| {
        let behind = leader(scenario) % 3 + 1;
        scenario.crash(behind, Crash::Power(CrashPolicy::DropAll), millis(5_000));
        scenario.run_for(millis(4_900))?;
        scenario.run_until("the snapshot comes", |scenario| {
            scenario.half_snapshot_bytes(behind).is_some()
        })?;
        scenario.set_disk_full(behind, true);
        scenario.run_for(millis(3_000))?;
        scenario.set_disk_full(behind, false);
        scenario.run_for(millis(1_000))
    });
    assert!(reports.iter().all(|report| report.sometimes["a snapshot was installed"] > 0));
}

/// Followers that were away need a snapshot of many chunks, and writing it takes a while.
fn slow_snapshots(options: &mut Options) {
    options.config.snapshot_entries = 30;
    options.config.trailing_entries = 0;
    options.workload.keys = 400;
    options.workload.value_bytes = 20_000;
    options.workload.think = millis(10);
    options.disk.sync_mean = millis(1);
    options.disk.access_mean = millis(1);
}

#[test]
fn a_snapshot_interrupted_at_every_chunk_is_installed_in_the_end() {
    let reports = tell(3, slow_snapshots, |scenario, seed| {
        let behind = leader(scenario) % 3 + 1;
        scenario.crash(behind, Crash::Power(CrashPolicy::DropAll), millis(8_000));
        scenario.run_for(millis(7_900))?;
        for chunk in 0..8 {
            // Longer than what one more chunk would make it: the next attempt gets one chunk further.
            let longer = |scenario: &Scenario| {
                let length = scenario.half_snapshot_bytes(behind).unwrap_or_default();
                let installed = scenario.status(behind).is_some_and(|it| it.snapshot_index > 1);
                installed || length > chunk * 60_000
            };
            scenario.run_until("one more chunk, or all of it", longer)?;
            let policy = CrashPolicy::DRAWN[(seed + chunk) as usize % CrashPolicy::DRAWN.len()];
            scenario.crash(behind, Crash::Power(policy), millis(1));
        }
        Ok(())
    });
    assert!(reports.iter().all(|report| report.sometimes["a snapshot was installed"] > 0));
    let rare = "crash while a snapshot was being written or received";
    assert!(reports.iter().any(|report| report.sometimes.contains_key(rare)));
}

#[test]
fn half_a_snapshot_of_a_dead_leader_does_not_keep_out_the_older_one_of_the_next() {
    let only_when_asked = |options: &mut Options| {
        slow_snapshots(options);
        options.config.snapshot_entries = 1_000_000;
        options.config.snapshot_interval = millis(1_000_000);
    };
    tell(3, only_when_asked, |scenario, _| {
        let dies = leader(scenario);
        let (heir, behind) = (dies % 3 + 1, (dies + 1) % 3 + 1);
        let newest = |scenario: &Scenario, member: u32| {
            scenario.status(member).map_or(0, |status| status.snapshot_index)
        };
        scenario.crash(behind, Crash::Power(CrashPolicy::DropAll), millis(6_000));
        for member in [heir, dies] {
            scenario.run_for(millis(2_000))?;
            scenario.ask_at(member, Request::SnapshotSave);
            scenario.run_until("it has a snapshot", |scenario| newest(scenario, member) > 1)?;
        }
        scenario.run_until("half of the newer one is here", |scenario| {
            scenario.half_snapshot_bytes(behind).is_some_and(|length| length > 100_000)
        })?;
        assert!(newest(scenario, heir) < newest(scenario, dies));
        scenario.crash(dies, Crash::Process, millis(1_000_000));
        scenario.run_until("the follower has caught up with the next leader", |scenario| {
            let is_here = newest(scenario, behind) >= newest(scenario, heir);
            scenario.leader() == Some(heir) && is_here && !scenario.is_behind(behind)
        })?;
        let before = scenario.acknowledged();
        scenario.run_until("two of three serve", |scenario| scenario.acknowledged() > before + 10)
    });
}

#[test]
fn a_second_snapshot_while_the_first_is_being_installed_does_no_harm() {
    let reports = tell(
        3,
        |options| {
            slow_snapshots(options);
            options.config.snapshot_entries = 5;
            options.config.snapshots_kept = 1;
        },
        |scenario, _| {
            let behind = leader(scenario) % 3 + 1;
            scenario.crash(behind, Crash::Power(CrashPolicy::DropAll), millis(5_000));
            scenario.run_for(millis(5_000))?;
            for _ in 0..10 {
                scenario.ask_operator(Request::SnapshotSave);
            }
            scenario.run_for(millis(5_000))
        },
    );
    assert!(reports.iter().all(|report| report.sometimes["a snapshot was installed"] > 0));
}

#[test]
fn a_removed_node_that_missed_its_removal_disturbs_nobody_and_stops() {
    let reports = tell(
        5,
        |_| {},
        |scenario, _| {
            let gone = leader(scenario) % 5 + 1;
            scenario.isolate(gone, false, false);
            scenario.run_for(millis(3_000))?;
            scenario.ask_operator(Request::MemberRemove { member: gone });
            scenario.run_until("it is removed", |scenario| !scenario.voters().contains(&gone))?;
            // It has stood for election all the time, and does so when it is heard again.
            scenario.run_for(millis(3_000))?;
            scenario.heal_links();
            scenario.run_for(millis(5_000))
        },
    );
    assert!(reports.iter().all(|report| report.elections == 1), "it has disturbed the leader");
    assert!(reports.iter().all(|report| report.sometimes["a removed node stopped"] > 0));
}

#[test]
fn a_change_of_membership_survives_a_power_cut_between_applying_and_writing_it_down() {
    for policy in CrashPolicy::DRAWN {
        tell(
            3,
            |options| options.spares = 1,
            |scenario, _| {
                scenario.let_join(4);
                let is_joined = |scenario: &Scenario| scenario.voters().contains(&4);
                // Somebody has applied it a moment ago; nobody has had the time to write that down.
                scenario.run_until("the fourth votes", is_joined)?;
                scenario.crash_all(policy, millis(10));
                let before = scenario.acknowledged();
                let serves = |scenario: &Scenario| scenario.acknowledged() > before + 5;
                scenario.run_until("it serves again", serves)?;
                let gone = leader(scenario) % 3 + 1;
                scenario.ask_operator(Request::MemberRemove { member: gone });
                scenario.run_until("a member is removed", |scenario| {
                    !scenario.voters().contains(&gone)
                })?;
                scenario.crash_all(policy, millis(10));
                scenario.run_for(millis(2_000))
            },
        );
    }
}

#[test]
fn bit_rot_on_a_minority_is_refused_or_overcome_wherever_it_is() {
    for kind in ["log, middle", "log, tail", "hard state", "snapshot"] {
        let reports = tell(
            5,
            |options| {
                options.config.snapshot_entries = 40;
                options.config.trailing_entries = 10;
            },
            |scenario, seed| {
                let mut rotted = 0;
                for round in 0..20 {
                    scenario.run_for(millis(1_000))?;
                    let member = (seed + round) as u32 % 5 + 1;
                    rotted += u32::from(rotted < 4 && scenario.rot(member, kind));
                }
                assert!(rotted > 0, "there was no {kind} to rot");
                scenario.run_for(millis(3_000))
            },
        );
        let noticed = |report: &Report| {
            let states = ["damage was refused at start", "damage was overcome at start"];
            states.iter().any(|state| report.sometimes.contains_key(state))
        };
        assert!(reports.iter().all(noticed), "{kind} was not noticed");
    }
}

//! Named disasters of the second kind: the data centre, the object store, the keys. `docs/SIMULATION.md` retells them.

use bytes::Bytes;
use raftkv_core::api::{DeleteRequest, KeyRange, KeyValue, Request, WriteOp};
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::ObjectName;
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::read::ReadTrouble;
use raftkv_core::time::Span;
use raftkv_sim::check::Violation;
use raftkv_sim::model::disk::{Crash, CrashPolicy};
use raftkv_sim::model::store::{Damage, Outage};
use raftkv_sim::random::Ppm;
use raftkv_sim::world::disaster::DisasterOptions;
use raftkv_sim::world::options::Options;
use raftkv_sim::world::scenario::Scenario;
use raftkv_sim::world::{Report, Run, World};
use std::collections::BTreeMap;

const SEEDS: u64 = 3;

const fn millis(millis: u64) -> Span {
    Span::from_millis(millis)
}

/// Tells a story on one seed, starting from a calm cluster that serves.
fn tell_once(
    seed: u64,
    adjust: impl Fn(&mut Options),
    story: impl FnOnce(&mut Scenario) -> Result<(), Violation>,
) -> Report {
    let mut options = Options::calm(seed);
    options.workload.think = millis(50);
    options.with_reference = false;
    adjust(&mut options);
    let mut scenario = Scenario::new(World::new(options, None));
    let told = scenario
        .run_until("the cluster serves", |scenario| scenario.acknowledged() > 5)
        .and_then(|()| story(&mut scenario));
    told.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    let Run { report, result } = scenario.finish();
    result.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    report
}

fn tell(
    adjust: impl Fn(&mut Options),
    story: impl Fn(&mut Scenario) -> Result<(), Violation>,
) -> Vec<Report> {
    (0..SEEDS).map(|seed| tell_once(seed, &adjust, &story)).collect()
}

/// Makes a backup, and gives its id.
fn back_up(scenario: &mut Scenario) -> Result<BackupId, Violation> {
    let before = scenario.good_backups().len();
    scenario.back_up();
    scenario.run_until("a backup is complete", |scenario| {
        scenario.good_backups().len() > before && scenario.job_steps().is_none()
    })?;
    Ok(*scenario.good_backups().last().expect("there is one more than before"))
}

/// Tries to restore the newest backup in memory, and says what kind of trouble there was.
fn drill(scenario: &mut Scenario) -> Result<Option<ReadTrouble>, Violation> {
    scenario.drill();
    scenario.run_until("the restore begins", |scenario| scenario.job_steps().is_some())?;
    scenario.run_until("the restore ends", |scenario| scenario.job_steps().is_none())?;
    Ok(scenario.last_trouble())
}

fn is_restored(scenario: &mut Scenario) -> Result<(), Violation> {
    scenario.run_until("a restored cluster takes over", Scenario::is_restored)?;
    let before = scenario.acknowledged();
    scenario.run_until("it serves", |scenario| scenario.acknowledged() > before + 20)
}

#[test]
fn the_data_centre_is_lost_and_restored_onto_one_three_and_five_nodes() {
    for voters in [1, 3, 5] {
        let reports = tell(
            |options| options.disaster = DisasterOptions { voters, ..options.disaster },
            |scenario| {
                back_up(scenario)?;
                scenario.run_for(millis(2_000))?;
                scenario.lose_data_centre()?;
                is_restored(scenario)
            },
        );
        for report in reports {
            let lost = "acknowledged writes lost with the data centre, and reported";
            assert_eq!(report.sometimes[lost], 1, "two seconds of writes came after the backup");
        }
    }
}

#[test]
fn the_data_centre_is_lost_at_every_step_of_a_backup() {
    let mut during = 0;
    for step in 1..25 {
        let report = tell_once(
            step,
            |options| {
                options.disaster.old_nodes_wake = step % 2 == 0;
                many_steps(options);
            },
            |scenario| {
                back_up(scenario)?;
                scenario.run_for(millis(500))?;
                scenario.back_up();
                reach_step(scenario, step)?;
                scenario.lose_data_centre()?;
                is_restored(scenario)
            },
        );
        during += report.sometimes.get("data centre lost during a backup").copied().unwrap_or(0);
    }
    assert!(during > 10, "only {during} steps were in the middle of a backup");
}

/// Small parts make a backup of many steps.
fn many_steps(options: &mut Options) {
    options.backups.compression = Compression::None;
    options.backups.bounds.part_bytes = 200;
    options.backups.bounds.parts_in_flight = 1;
}

/// Waits until the operator's job has had so many inputs, or has ended.
fn reach_step(scenario: &mut Scenario, step: u64) -> Result<(), Violation> {
    scenario.run_until("the job begins", |scenario| scenario.job_steps().is_some())?;
    scenario.run_until("the step is reached", |scenario| {
        scenario.job_steps().is_none_or(|steps| steps >= step)
    })
}

#[test]
fn a_damaged_newest_backup_gives_way_to_the_one_before() {
    for damage in Damage::ALL {
        let reports = tell(
            |_| {},
            |scenario| {
                // A swap spoils two of them.
                back_up(scenario)?;
                back_up(scenario)?;
                scenario.run_for(millis(1_000))?;
                let newest = back_up(scenario)?;
                scenario.damage(ObjectName::data(newest), damage);
                scenario.lose_data_centre()?;
                is_restored(scenario)
            },
        );
        let said = "an older backup restored for a damaged newest one";
        // Where the catalog sees the damage already, the backup is no candidate at all.
        let is_seen =
            matches!(damage, Damage::Truncate | Damage::Delete | Damage::Swap | Damage::RollBack);
        assert!(
            is_seen || reports.iter().any(|report| report.sometimes.contains_key(said)),
            "{damage:?}"
        );
    }
}

#[test]
fn old_nodes_that_wake_after_the_restore_are_refused() {
    let reports = tell(
        |options| options.disaster.old_nodes_wake = true,
        |scenario| {
            back_up(scenario)?;
            scenario.lose_data_centre()?;
            is_restored(scenario)?;
            scenario.run_for(millis(20_000))
        },
    );
    assert!(
        reports.iter().all(|report| report.sometimes["a node of another cluster is there"] >= 3)
    );
}

#[test]
fn two_clusters_restored_from_one_backup_do_not_mix() {
    let reports = tell(
        |_| {},
        |scenario| {
            let backup = back_up(scenario)?;
            scenario.lose_data_centre()?;
            is_restored(scenario)?;
            scenario.restore_elsewhere(backup)?;
            scenario.run_for(millis(20_000))
        },
    );
    assert!(
        reports.iter().all(|report| report.sometimes["a node of another cluster is there"] == 3)
    );
}

#[test]
fn a_backup_survives_the_loss_of_the_leader_at_every_step_of_it() {
    for step in 1..20 {
        tell_once(step, many_steps, |scenario| {
            scenario.back_up();
            reach_step(scenario, step)?;
            if let Some(leader) = scenario.leader() {
                let crash = Crash::Power(CrashPolicy::DropAll);
                scenario.crash(leader, crash, millis(3_000));
            }
            scenario
                .run_until("a backup is complete", |scenario| !scenario.good_backups().is_empty())
        });
    }
}

#[test]
fn a_backup_whose_maker_dies_at_any_step_leaves_nothing_that_looks_complete() {
    for step in 1..20 {
        tell_once(step, many_steps, |scenario| {
            scenario.back_up();
            reach_step(scenario, step)?;
            scenario.kill_operator();
            scenario
                .run_until("a backup is complete", |scenario| !scenario.good_backups().is_empty())
        });
    }
}

#[test]
fn the_store_is_down_for_days() {
    // Fewer clients and slower clocks, so that two days pass quickly.
    const DAYS: Span = millis(2 * 86_400_000);
    tell_once(
        0,
        |options| {
            options.voters = 1;
            options.clients = 5;
            options.watchers = 0;
            options.workload.think = millis(20_000);
            options.config.tick = millis(1_000);
            options.recovery = millis(600_000);
        },
        |scenario| {
            back_up(scenario)?;
            scenario.store_outage(Outage::Down, DAYS);
            scenario.back_up();
            scenario.run_for(DAYS)?;
            assert_eq!(scenario.good_backups().len(), 1, "nothing was stored meanwhile");
            scenario.run_until("the backup is made at last", |scenario| {
                scenario.good_backups().len() == 2
            })
        },
    );
}

type Contents = BTreeMap<Bytes, KeyValue>;

#[test]
fn an_accidental_deletion_is_undone_from_a_backup() {
    tell(
        |options| {
            options.workload.mix.delete = 0;
            options.workload.mix.txn = 0;
            options.workload.mix.lease = 0;
            options.workload.keys = 100;
            options.clients = 1;
        },
        |scenario| {
            let leader = scenario.leader().expect("a cluster that serves has a leader");
            scenario.run_for(millis(5_000))?;
            let before = scenario.contents(leader);
            let backup = back_up(scenario)?;
            let later = scenario.contents(leader);
            let delete = DeleteRequest { range: KeyRange::all(), return_previous: false };
            scenario.ask_at(leader, Request::Write { session: None, op: WriteOp::Delete(delete) });
            scenario.run_until("nothing is left, or not much", |scenario| {
                scenario.contents(leader).len() < before.len() / 4
            })?;
            // Somebody has made some of them anew already.
            scenario.run_for(millis(1_500))?;
            scenario.undo(backup);
            scenario.run_until("the job begins", |scenario| scenario.job_steps().is_some())?;
            scenario.run_until("the job ends", |scenario| scenario.job_steps().is_none())?;
            let after = scenario.contents(leader);
            assert!(before.keys().all(|key| after.contains_key(key)), "a key is not back");
            let is_back = |found: &KeyValue| found.value.starts_with(b"undone ");
            let back = after.values().filter(|found| is_back(found)).count();
            assert!(back > 5 && back < before.len(), "{back} of {} were put back", before.len());
            for found in after.values().filter(|found| is_back(found)) {
                let of = |old: &Contents| old.get(&found.key).map(|old| old.value.clone());
                let origins = [of(&before), of(&later)];
                let is_origin = |origin: &Bytes| found.value.ends_with(origin);
                let is_known = origins.iter().flatten().any(is_origin);
                assert!(is_known, "{found:?} is not what was deleted: {origins:?}");
                assert_eq!(found.version, 1, "what was there stays as it is");
            }
            Ok(())
        },
    );
}

#[test]
fn a_wrong_or_missing_key_opens_nothing_and_says_so() {
    tell(
        |_| {},
        |scenario| {
            back_up(scenario)?;
            assert_eq!(drill(scenario)?, None);
            scenario.rotate_key();
            assert_eq!(drill(scenario)?, None, "old keys are kept");
            back_up(scenario)?;
            assert_eq!(drill(scenario)?, None);
            scenario.lose_keys();
            assert_eq!(drill(scenario)?, Some(ReadTrouble::Key));
            Ok(())
        },
    );
}

#[test]
fn a_store_that_loses_credentials_says_so_and_recovers() {
    tell(
        |_| {},
        |scenario| {
            back_up(scenario)?;
            scenario.store_outage(Outage::Denied, millis(5_000));
            scenario.drill();
            scenario.run_for(millis(5_000))?;
            assert_eq!(drill(scenario)?, None);
            Ok(())
        },
    );
}

#[test]
fn a_restore_that_is_interrupted_at_every_step_is_run_again() {
    for step in 1..15 {
        tell_once(
            step,
            |_| {},
            |scenario| {
                back_up(scenario)?;
                scenario.lose_data_centre()?;
                reach_step(scenario, step)?;
                scenario.kill_operator();
                is_restored(scenario)
            },
        );
    }
}

#[test]
fn a_restore_onto_a_full_disk_is_run_again_when_there_is_space() {
    for voters in [1, 3] {
        let reports = tell(
            |options| options.voters = voters,
            |scenario| {
                back_up(scenario)?;
                scenario.lose_data_centre()?;
                scenario.run_until("a restored cluster is to take over", Scenario::is_restored)?;
                let members = scenario.voters();
                members.iter().for_each(|member| scenario.set_disk_full(*member, true));
                // Answers of the lost cluster may still be on their way.
                scenario.run_for(millis(1_000))?;
                let before = scenario.acknowledged();
                scenario.run_for(millis(3_000))?;
                assert_eq!(scenario.acknowledged(), before, "there is nothing to serve from");
                members.iter().for_each(|member| scenario.set_disk_full(*member, false));
                scenario.run_until("it serves", |it| it.acknowledged() > before + 20)
            },
        );
        for report in reports {
            assert!(report.faults["disk full refusal"] > 0);
            assert!(report.sometimes["a restore met a failing disk"] > 0);
        }
    }
}

#[test]
fn a_restored_cluster_is_lost_before_its_first_backup() {
    // No backup tells what the second and the third cluster gave out: names of sessions must not come again.
    tell(
        |options| {
            options.disaster.again = Ppm::NEVER;
            options.workload.sessions = Ppm::ALWAYS;
        },
        |scenario| {
            back_up(scenario)?;
            for _ in 0..3 {
                scenario.lose_data_centre()?;
                is_restored(scenario)?;
            }
            Ok(())
        },
    );
}

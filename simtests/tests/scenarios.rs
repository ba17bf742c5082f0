//! Named disasters. Each is a short story with faults placed by hand, told on several seeds; `docs/SIMULATION.md` retells them.

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
fn a_single_node_survives_a_write_torn_at_many_bytes() {
    for kept in (0..160).step_by(8) {
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

//! Crash points: in short stories the power fails at every single action of a member, on its disk and in the object store, under every policy of what survives
//! unsynced; it recovers, and fails again while it does. Then everything is checked, what was acknowledged above all.
//!
//! Source: Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014 (ALICE); Mohan et al., "CrashMonkey", OSDI 2018.

use raftkv_core::api::Request;
use raftkv_core::backup::compress::Compression;
use raftkv_core::time::Span;
use raftkv_sim::check::Violation;
use raftkv_sim::model::disk::{Crash, CrashPolicy};
use raftkv_sim::world::World;
use raftkv_sim::world::options::Options;
use raftkv_sim::world::scenario::Scenario;
use simtests::campaign;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A story whose disk operations, and what it asks of the object store, are the crash points.
struct Story {
    name: &'static str,
    options: fn(&mut Options),
    /// Leads to where the crash points begin; says whose they are.
    begin: fn(&mut Scenario) -> Result<u32, Violation>,
    /// Where they end.
    until: fn(&Scenario, u32) -> bool,
    /// The story is not what it should be with fewer.
    points_min: u64,
}

/// What survives of unsynced writes: nothing, those before some moment, any, any sectors, and some bytes of the first.
const POLICIES: [CrashPolicy; 5] = [
    CrashPolicy::DropAll,
    CrashPolicy::Prefix,
    CrashPolicy::Subset,
    CrashPolicy::Sectors,
    CrashPolicy::Bytes(100),
];

/// More would make the test too long.
const POINTS_MAX: u64 = 400;

fn millis(millis: u64) -> Span {
    Span::from_millis(millis)
}

fn scenario(story: &Story) -> Result<(Scenario, u32), Violation> {
    let mut options = Options::calm(1);
    options.workload.think = millis(40);
    options.clients = 2;
    options.with_reference = false;
    // A segment is written out whole when it is begun, and every crash begins one.
    options.config.segment_bytes = 16 << 10;
    (story.options)(&mut options);
    let mut scenario = Scenario::new(World::new(options, None));
    scenario.run_until("the cluster serves", |scenario| scenario.acknowledged() > 5)?;
    let member = (story.begin)(&mut scenario)?;
    Ok((scenario, member))
}

/// How many actions the member begins in the story.
fn count(story: &Story) -> Result<u64, Violation> {
    let (mut scenario, member) = scenario(story)?;
    let before = scenario.actions(member);
    scenario.run_until("the story ends", |scenario| (story.until)(scenario, member))?;
    Ok(scenario.actions(member) - before)
}

/// Cuts the member's power once it has begun so many operations, and again as it recovers.
fn crash_at(story: &Story, point: u64, policy: CrashPolicy) -> Result<(), Violation> {
    let (mut scenario, member) = scenario(story)?;
    let begun = scenario.actions(member) + point;
    scenario.run_to_action(member, begun)?;
    scenario.crash(member, Crash::Power(policy), millis(20));
    let again = scenario.actions(member) + 1 + point % 7;
    scenario.run_to_action(member, again)?;
    scenario.crash(member, Crash::Power(policy), millis(20));
    scenario.finish().result
}

fn crash_everywhere(story: &Story) {
    let points = count(story).unwrap_or_else(|violation| panic!("{}: {violation}", story.name));
    let name = story.name;
    assert!(points >= story.points_min, "{name} has only {points} crash points");
    assert!(points <= POINTS_MAX, "{name} has {points} crash points, more than {POINTS_MAX}");
    let cases: Vec<(u64, CrashPolicy)> =
        (1..=points).flat_map(|point| POLICIES.map(|policy| (point, policy))).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..campaign::all_processors() {
            scope.spawn(|| {
                while let Some(&(point, policy)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(violation) = crash_at(story, point, policy) {
                        let failure = format!("{name}, action {point}, {policy:?}: {violation}");
                        failures.lock().expect("nobody panics with it").push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("nobody panics with it");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn leader(scenario: &Scenario) -> u32 {
    scenario.leader().expect("a cluster that serves has a leader")
}

/// Index of the member's newest snapshot.
fn snapshot_index(scenario: &Scenario, member: u32) -> u64 {
    scenario.status(member).map_or(0, |status| status.snapshot_index)
}

#[test]
fn when_the_log_goes_on_in_a_new_segment() {
    crash_everywhere(&Story {
        name: "new segments",
        options: |options| {
            options.voters = 1;
            options.config.segment_bytes = 4 << 10;
            options.workload.value_bytes = 400;
        },
        begin: |_| Ok(1),
        until: |scenario, member| scenario.newest_segment(member) >= 4,
        points_min: 15,
    });
}

#[test]
fn when_a_snapshot_is_written_and_the_log_cut() {
    crash_everywhere(&Story {
        name: "snapshots",
        options: |options| {
            options.voters = 1;
            options.config.snapshot_entries = 15;
            options.config.snapshots_kept = 2;
            options.config.segment_bytes = 4 << 10;
            options.config.trailing_entries = 0;
            options.workload.value_bytes = 300;
        },
        begin: |_| Ok(1),
        until: |scenario, member| snapshot_index(scenario, member) > 60,
        points_min: 60,
    });
}

#[test]
fn when_a_follower_installs_a_snapshot() {
    crash_everywhere(&Story {
        name: "installation",
        options: install_soon,
        begin: |scenario| {
            let behind = fall_behind(scenario)?;
            Ok(behind)
        },
        until: |scenario, member| {
            snapshot_index(scenario, member) > 20 && !scenario.is_behind(member)
        },
        points_min: 10,
    });
}

#[test]
fn when_a_leader_sends_a_snapshot() {
    crash_everywhere(&Story {
        name: "sending",
        options: install_soon,
        begin: |scenario| {
            let leads = leader(scenario);
            fall_behind(scenario)?;
            Ok(leads)
        },
        until: |scenario, member| {
            let behind = member % 3 + 1;
            snapshot_index(scenario, behind) > 20 && !scenario.is_behind(behind)
        },
        points_min: 2,
    });
}

fn install_soon(options: &mut Options) {
    options.config.snapshot_entries = 20;
    options.config.trailing_entries = 0;
    options.workload.value_bytes = 1_000;
}

/// The one after the leader sleeps until the others' logs do not reach back to where it was.
fn fall_behind(scenario: &mut Scenario) -> Result<u32, Violation> {
    let leads = leader(scenario);
    let behind = leads % 3 + 1;
    scenario.crash(behind, Crash::Power(CrashPolicy::DropAll), millis(3_000));
    scenario.run_for(millis(3_000))?;
    Ok(behind)
}

#[test]
fn when_history_is_compacted() {
    crash_everywhere(&Story {
        name: "compaction",
        options: |options| {
            options.voters = 1;
            options.config.snapshot_entries = 25;
            options.config.trailing_entries = 0;
            options.workload.mix.compact = 30;
            options.workload.keys = 5;
        },
        begin: |_| Ok(1),
        until: |scenario, member| {
            scenario.status(member).is_some_and(|status| status.compacted > 30)
                && snapshot_index(scenario, member) > 60
        },
        points_min: 40,
    });
}

#[test]
fn when_a_member_joins_anew() {
    crash_everywhere(&Story {
        name: "joining",
        options: install_soon,
        begin: lose_follower,
        until: |scenario, member| is_back(scenario, member),
        points_min: 8,
    });
}

#[test]
fn when_a_leader_changes_the_membership() {
    crash_everywhere(&Story {
        name: "change of membership",
        options: install_soon,
        begin: |scenario| {
            let leads = leader(scenario);
            lose_follower(scenario)?;
            Ok(leads)
        },
        until: |scenario, member| is_back(scenario, member % 3 + 1),
        points_min: 10,
    });
}

#[test]
fn when_one_of_two_members_is_removed() {
    crash_everywhere(&Story {
        name: "one of two removed",
        options: |options| options.voters = 2,
        begin: |scenario| {
            let member = leader(scenario);
            scenario.ask_operator(Request::MemberRemove { member: 3 - member });
            Ok(member)
        },
        until: |scenario, member| scenario.voters() == [member] && !scenario.disk_is_busy(member),
        points_min: 4,
    });
}

fn lose_follower(scenario: &mut Scenario) -> Result<u32, Violation> {
    let lost = leader(scenario) % 3 + 1;
    scenario.run_until("there is a snapshot", |scenario| snapshot_index(scenario, lost) > 10)?;
    scenario.lose_disk(lost);
    Ok(lost)
}

fn is_back(scenario: &Scenario, member: u32) -> bool {
    scenario.status(member).is_some_and(|status| status.identity.node.incarnation() > 0)
        && !scenario.is_behind(member)
}

#[test]
fn when_a_node_makes_a_backup_for_its_cluster() {
    crash_everywhere(&Story {
        name: "backup by the cluster",
        options: |options| {
            options.backups.by_cluster = true;
            options.backups.compression = Compression::None;
            options.backups.bounds.part_bytes = 1_000;
            options.backups.bounds.parts_in_flight = 1;
            options.backups.store.latency_mean = millis(5);
            options.config.backup_lease = millis(3_000);
        },
        begin: |scenario| {
            scenario.ask_operator(Request::BackupRun);
            scenario.run_until("a backup is begun", |scenario| scenario.maker().is_some())?;
            Ok(scenario.maker().expect("it was begun"))
        },
        until: |scenario, _| scenario.cluster_has_backup(),
        points_min: 10,
    });
}

#[test]
fn when_a_node_runs_retention_for_its_cluster() {
    crash_everywhere(&Story {
        name: "retention by the cluster",
        options: |options| {
            options.backups.by_cluster = true;
            options.backups.nodes_prune = true;
            options.backups.rules.max_backups = 1;
            options.backups.rules.min_backups = 1;
            options.backups.rules.retention_days = 0;
            options.backups.rules.prune_on_backup = true;
            options.backups.store.latency_mean = millis(5);
            options.config.backup_lease = millis(3_000);
        },
        begin: |scenario| {
            for number in 1..=2 {
                scenario.back_up();
                scenario.run_until("the operator has a backup", |scenario| {
                    scenario.good_backups().len() == number && scenario.job_steps().is_none()
                })?;
            }
            scenario.ask_operator(Request::BackupRun);
            scenario.run_until("the cluster has one, too", |scenario| {
                scenario.good_backups().len() == 3
            })?;
            Ok(scenario.maker().expect("it is not told before it has pruned"))
        },
        until: |scenario, _| scenario.good_backups().len() == 1 && scenario.maker().is_none(),
        points_min: 10,
    });
}

#[test]
fn when_a_data_directory_is_restored() {
    crash_everywhere(&Story {
        name: "restored data directory",
        options: |options| {
            options.workload.keys = 400;
            options.workload.value_bytes = 20_000;
        },
        begin: lose_and_restore,
        until: |scenario, member| scenario.status(member).is_some(),
        points_min: 10,
    });
}

/// The data centre is lost, and its backup was read; the data directories are about to be made.
fn lose_and_restore(scenario: &mut Scenario) -> Result<u32, Violation> {
    scenario.run_until("it has something to lose", |scenario| scenario.acknowledged() > 50)?;
    scenario.back_up();
    scenario.run_until("a backup is complete", |scenario| {
        !scenario.good_backups().is_empty() && scenario.job_steps().is_none()
    })?;
    scenario.lose_data_centre()?;
    scenario.run_until("a cluster is restored", Scenario::is_restored)?;
    Ok(1)
}

#[test]
fn when_a_restored_cluster_starts() {
    crash_everywhere(&Story {
        name: "start of a restored cluster",
        options: |options| options.config.snapshot_entries = 20,
        begin: lose_and_restore,
        until: |scenario, member| {
            scenario.leader().is_some() && snapshot_index(scenario, member) % 1_000_000_000 > 20
        },
        points_min: 20,
    });
}

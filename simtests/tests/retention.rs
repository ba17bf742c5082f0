//! Named disasters of retention: it races those who read, its process dies at every step, its calendar is years off. `docs/SIMULATION.md`
//! retells them.

use raftkv_core::backup::BackupId;
use raftkv_core::backup::config::Retention;
use raftkv_core::time::Span;
use raftkv_sim::check::Violation;
use raftkv_sim::world::options::Options;
use raftkv_sim::world::scenario::Scenario;
use raftkv_sim::world::{Report, Run, World};

const DECADE_MS: i64 = 3_652 * 86_400_000;

const fn millis(millis: u64) -> Span {
    Span::from_millis(millis)
}

/// Of all backups only the newest stays, whatever its age.
fn newest_only() -> Retention {
    Retention { retention_days: 0, max_backups: 1, min_backups: 1, ..Retention::default() }
}

/// Tells a story that begins with three backups, oldest first.
fn tell(
    seed: u64,
    story: impl FnOnce(&mut Scenario, &[BackupId]) -> Result<(), Violation>,
) -> Report {
    let mut options = Options::calm(seed);
    options.workload.think = millis(50);
    options.with_reference = false;
    options.backups.store.latency_mean = millis(5);
    let mut scenario = Scenario::new(World::new(options, None));
    let told = make_backups(&mut scenario).and_then(|backups| story(&mut scenario, &backups));
    told.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    let Run { report, result } = scenario.finish();
    result.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    report
}

fn make_backups(scenario: &mut Scenario) -> Result<Vec<BackupId>, Violation> {
    scenario.run_until("the cluster serves", |scenario| scenario.acknowledged() > 5)?;
    for count in 1..=3 {
        scenario.back_up();
        scenario.run_until("a backup is complete", |scenario| {
            scenario.good_backups().len() == count && scenario.job_steps().is_none()
        })?;
        scenario.run_for(millis(100))?;
    }
    Ok(scenario.good_backups())
}

/// Runs retention to its end.
fn prune(scenario: &mut Scenario, rules: Retention, offset_ms: i64) -> Result<(), Violation> {
    scenario.prune(rules, offset_ms);
    scenario.run_until("retention begins", |scenario| scenario.prune_steps().is_some())?;
    scenario.run_until("retention ends", |scenario| scenario.prune_steps().is_none())
}

#[test]
fn only_what_the_rules_name_goes() {
    tell(0, |scenario, backups| {
        prune(scenario, Retention { max_backups: 2, min_backups: 1, ..newest_only() }, 0)?;
        assert_eq!(scenario.good_backups(), backups[1..]);
        prune(scenario, newest_only(), 0)?;
        assert_eq!(scenario.good_backups(), backups[2..]);
        prune(scenario, newest_only(), 0)?;
        assert_eq!(scenario.good_backups(), backups[2..], "the newest always stays");
        Ok(())
    });
}

#[test]
fn a_calendar_that_is_ten_years_off_takes_nothing() {
    for offset_ms in [DECADE_MS, -DECADE_MS] {
        let report = tell(1, |scenario, backups| {
            let rules = Retention { retention_days: 30, min_backups: 1, ..Retention::default() };
            prune(scenario, rules, offset_ms)?;
            assert_eq!(scenario.good_backups(), backups);
            Ok(())
        });
        assert_eq!(report.sometimes["retention refused to go by a wrong clock"], 1);
    }
}

#[test]
fn retention_whose_process_dies_at_any_step_is_run_again() {
    // What was asked of the store and not answered is done or not, as the seed has it.
    for (step, seed) in (1..12).flat_map(|step| (0..2).map(move |seed| (step, seed))) {
        tell(seed, |scenario, backups| {
            scenario.prune(newest_only(), 0);
            scenario.run_until("retention begins", |it| it.prune_steps().is_some())?;
            scenario.run_until("the step is reached", |scenario| {
                scenario.prune_steps().is_none_or(|steps| steps >= step)
            })?;
            scenario.kill_prune();
            scenario.run_for(millis(1_000))?;
            let left = scenario.good_backups();
            assert!(left.contains(&backups[2]), "the newest stays: {left:?}");
            prune(scenario, newest_only(), 0)?;
            assert_eq!(scenario.good_backups(), backups[2..]);
            Ok(())
        });
    }
}

#[test]
fn a_restore_that_retention_overtakes_at_any_step_restores_or_says_that_the_backup_is_gone() {
    let (mut restored, mut spared) = (0, 0);
    for step in 0..12 {
        let report = tell(step, |scenario, backups| {
            scenario.drill_of(backups[0]);
            scenario.run_until("the restore begins", |scenario| scenario.job_steps().is_some())?;
            scenario.run_until("the step is reached", |scenario| {
                scenario.job_steps().is_none_or(|steps| steps >= step)
            })?;
            prune(scenario, newest_only(), 0)?;
            scenario.run_until("the restore ends", |scenario| scenario.job_steps().is_none())?;
            spared += u32::from(scenario.good_backups().contains(&backups[0]));
            Ok(())
        });
        restored += report.sometimes["backup restored in memory"] - 1;
    }
    assert!(restored > 5, "a restore under way goes on: {restored}");
    assert!(spared > 5, "what is in use is spared: {spared}");
}

//! Seeded disasters: fixed seeds, those that once found a bug, and some that change with every commit.

use raftkv_sim::fingerprint::Fingerprint;
use raftkv_sim::world::options::{Options, Ring};
use simtests::{campaign, regressions, run_options};
use std::process::Command;

/// Seeds 0 up to this.
const FIXED_SEEDS: u64 = 2_000;
/// Seeds drawn from the commit.
const COMMIT_SEEDS: u64 = 20;
/// Seeds run twice, in two processes.
const TWICE_SEEDS: u64 = 10;

#[test]
fn every_seed_survives() {
    let mut seeds = regressions(Ring::Models);
    seeds.extend(0..FIXED_SEEDS);
    let first = commit_seed();
    seeds.extend((0..COMMIT_SEEDS).map(|number| first.wrapping_add(number)));
    let summary = campaign::run(Ring::Models, &seeds, campaign::all_processors(), |_, _| {});
    println!("{summary}");
    assert!(summary.failures.is_empty(), "{summary}");
    assert_eq!(summary.never_reached(), [""; 0], "no seed reached these");
}

#[test]
fn a_calm_cluster_serves_and_has_one_leader() {
    for seed in 0..5 {
        let verdict = run_options(Options::calm(seed), None);
        assert_eq!(verdict.failure, None);
        let report = verdict.report.expect("it did not panic");
        assert_eq!(report.elections, 1);
        assert!(report.acknowledged > 100, "{report:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_in_another_process() {
    for seed in 0..TWICE_SEEDS {
        let [one, other] = [told_by_a_process(seed), told_by_a_process(seed)];
        let difference =
            one.lines().zip(other.lines()).enumerate().find(|(_, (one, other))| one != other);
        if let Some((line, (one, other))) = difference {
            panic!("seed {seed} differs in line {line}:\n{one}\n{other}");
        }
        assert_eq!(one.len(), other.len(), "seed {seed} ends differently");
        assert!(one.lines().count() > 100, "seed {seed} tells nothing:\n{one}");
    }
}

fn told_by_a_process(seed: u64) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["run", "--trace", "--seed", &seed.to_string()])
        .output()
        .expect("the simulator starts");
    String::from_utf8(output.stdout).expect("traces are text")
}

/// A number that changes with every commit; 0 where there is no repository.
fn commit_seed() -> u64 {
    let commit = Command::new("git").args(["rev-parse", "HEAD"]).output();
    commit.map_or(0, |output| Fingerprint::of(&output.stdout) >> 16)
}

//! Seeded disasters: fixed seeds, those that once found a bug, and some that change with every commit.

use raftkv_sim::fingerprint::Fingerprint;
use raftkv_sim::world::Story;
use raftkv_sim::world::options::Options;
use simtests::{campaign, run_options, run_seed};
use std::process::Command;

/// Seeds 0 up to this.
const FIXED_SEEDS: u64 = 300;
/// Seeds drawn from the commit.
const COMMIT_SEEDS: u64 = 20;
/// Seeds run twice.
const TWICE_SEEDS: u64 = 10;

#[test]
fn every_seed_survives() {
    let mut seeds = regressions();
    seeds.extend(0..FIXED_SEEDS);
    let first = commit_seed();
    seeds.extend((0..COMMIT_SEEDS).map(|number| first.wrapping_add(number)));
    let summary = campaign::run(&seeds, campaign::all_processors(), |_, _| {});
    println!("{summary}");
    assert!(summary.failures.is_empty(), "{summary}");
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
fn the_same_seed_gives_the_same_bytes() {
    for seed in 0..TWICE_SEEDS {
        let stories: Vec<String> = (0..2)
            .map(|_| {
                let story = Story::default();
                run_seed(seed, Some(story.clone()));
                story.take()
            })
            .collect();
        let first_difference =
            stories[0].lines().zip(stories[1].lines()).position(|(one, other)| one != other);
        if let Some(line) = first_difference {
            let at = |story: &str| story.lines().nth(line).unwrap_or_default().to_owned();
            panic!("seed {seed} differs in line {line}:\n{}\n{}", at(&stories[0]), at(&stories[1]));
        }
        assert_eq!(stories[0].len(), stories[1].len(), "seed {seed} ends differently");
    }
}

fn regressions() -> Vec<u64> {
    include_str!("../seeds/regressions.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            let seed = line.split_whitespace().next().and_then(|word| word.parse().ok());
            seed.unwrap_or_else(|| panic!("a line starts with its seed: {line}"))
        })
        .collect()
}

/// A number that changes with every commit; 0 where there is no repository.
fn commit_seed() -> u64 {
    let commit = Command::new("git").args(["rev-parse", "HEAD"]).output();
    commit.map_or(0, |output| Fingerprint::of(&output.stdout) >> 16)
}

//! Ring 1: the server's driver loop under madsim, in the same world as ring 0. The simulator that holds it is built by cargo when
//! these tests begin (`simtests::laboratory`).

use raftkv_sim::fingerprint::Fingerprint;
use simtests::laboratory;
use std::process::{Command, Output};

/// Seeds 0 up to this.
const FIXED_SEEDS: u64 = 200;
/// Seeds drawn from the commit.
const COMMIT_SEEDS: u64 = 10;
/// Seeds run twice, in two processes.
const TWICE_SEEDS: u64 = 5;
/// Seeds that a bug planted in the driver may take.
const BUG_SEEDS_MAX: u64 = 30;

/// Bugs in the driver loop, and in what its leaves promise.
const DRIVER_BUGS: &[&str] = &[
    "SubmittedCalledDone",
    "InputHandledTwice",
    "TimersNotWaitedFor",
    "HaltIgnored",
    "FlushedATurnLate",
    "LaneReversed",
    "CompletionDroppedWhenFull",
];

#[test]
fn every_seed_survives() {
    let fixed = format!("many --from 0 --count {FIXED_SEEDS}");
    let of_the_commit = format!("many --from {} --count {COMMIT_SEEDS}", commit_seed());
    for words in ["replay", &fixed, &of_the_commit] {
        println!("{}", assert_passes(words));
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_in_another_process() {
    for seed in 0..TWICE_SEEDS {
        let [one, other] = [(), ()].map(|()| run(&format!("run --trace --seed {seed}")).1);
        let difference =
            one.lines().zip(other.lines()).enumerate().find(|(_, (one, other))| one != other);
        if let Some((line, (one, other))) = difference {
            panic!("seed {seed} differs in line {line}:\n{one}\n{other}");
        }
        assert_eq!(one.len(), other.len(), "seed {seed} ends differently");
        assert!(one.lines().count() > 100, "seed {seed} tells nothing:\n{one}");
    }
}

#[test]
fn bugs_planted_in_the_driver_are_caught() {
    let bugs = DRIVER_BUGS.join(",");
    let told = assert_passes(&format!("planted --seeds {BUG_SEEDS_MAX} --bug {bugs}"));
    println!("{told}");
    let hunted = |bug: &&&str| told.lines().any(|line| line.starts_with(**bug));
    assert_eq!(DRIVER_BUGS.iter().filter(hunted).count(), DRIVER_BUGS.len(), "{told}");
}

/// Runs a command of the simulator in ring 1, which must find nothing wrong. Gives what it told.
fn assert_passes(words: &str) -> String {
    let (output, told) = run(words);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    told
}

fn run(words: &str) -> (Output, String) {
    let words: Vec<String> = words.split(' ').chain(["--ring", "1"]).map(String::from).collect();
    let output = laboratory::command(&words).output().expect("cargo starts");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, told)
}

/// A number that changes with every commit; 0 where there is no repository.
fn commit_seed() -> u64 {
    let commit = Command::new("git").args(["rev-parse", "HEAD"]).output();
    commit.map_or(0, |output| Fingerprint::of(&output.stdout) >> 16)
}

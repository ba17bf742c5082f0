//! The harness is proven: bugs planted in the core are caught by seeds, and a failing story can be made short. `docs/SIMULATION.md`
//! holds the whole table; here are the bugs that few seeds are needed for.

use simtests::laboratory;
use std::process::Output;

/// Bugs that a few seeds catch. `sim planted` hunts all.
const QUICK: &[&str] = &[
    "LogNotSynced",
    "VoteNotPersisted",
    "CommitNotPersistedWithMembership",
    "AcknowledgedBeforeQuorum",
    "EarlierTermCommitted",
    "QuorumNotChecked",
    "AppliedBeforeDurable",
    "ReadWithoutIndex",
    "ReadNeverRetried",
    "MiddleDamageCut",
    "TornTailLeftInPlace",
    "LogCutBeyondSnapshot",
    "StaleLogKeptBehindSnapshot",
    "StaleMembershipInSnapshot",
    "SessionsNotInSnapshot",
    "SnapshotNotVerified",
    "IncarnationNotRaised",
    "HashIgnoresDeletes",
    "TransactionCutShort",
    "CompareOfNothingHolds",
    "RevisionReusedAfterRestart",
    "RetryAppliedAgain",
    "LeaseEndsEarly",
    "WatchSkipsOnWake",
    "FinalChunkNotWritten",
    "MetadataWrittenFirst",
    "PublishedBeforeSync",
];

/// Seeds that each of them may take.
const SEEDS_MAX: u32 = 100;

/// A short story has at most so many events.
const EVENTS_MAX: u64 = 60;

fn run(words: &[&str]) -> (Output, String) {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let output = laboratory::command(&words).output().expect("cargo starts");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, told)
}

#[test]
fn planted_bugs_are_caught() {
    let seeds = SEEDS_MAX.to_string();
    let (output, told) = run(&["planted", "--seeds", &seeds, "--bug", &QUICK.join(",")]);
    println!("{told}");
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    let hunted = told.lines().filter(|line| QUICK.iter().any(|bug| line.starts_with(bug))).count();
    assert_eq!(hunted, QUICK.len(), "only these were planted:\n{told}");
}

#[test]
fn a_failing_story_becomes_short() {
    let (output, told) = run(&["shrink", "--seed", "1", "--bug", "SentBeforeDurable"]);
    println!("{told}");
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    let events = told.lines().find_map(|line| line.strip_prefix("events: ")?.parse::<u64>().ok());
    assert!(events.is_some_and(|events| events <= EVENTS_MAX), "{told}");
    let reproduce = told.lines().find_map(|line| line.split_once("--bin sim -- "));
    let (_, words) = reproduce.expect("it says how to see it");
    let (output, told) = run(&words.split(' ').collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(1), "the short story fails, too:\n{told}");
    assert!(told.contains("FAILED: promises"), "{told}");
}

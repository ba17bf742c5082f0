//! Replays every fuzz target, without a fuzzer: over the inputs that fuzzing found worth keeping, and over each seed cut short and
//! with single bytes changed. `RAFTKV_WRITE_SEEDS=1` writes the seeds into the corpora first.

#![expect(clippy::disallowed_methods, reason = "tests read and write files")]

#[path = "../../fuzz/src/backups.rs"]
mod backups;
#[path = "../../fuzz/src/seal.rs"]
mod seal;
#[path = "../../fuzz/src/seeds.rs"]
mod seeds;
#[path = "../../fuzz/src/store.rs"]
mod store;
#[path = "../../fuzz/src/targets.rs"]
mod targets;

use backups::Stop;
use raftkv_core::backup::format::Preamble;
use raftkv_core::backup::read::ReadError;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use targets::ALL;

#[test]
fn the_corpora_pass() {
    for (name, target) in ALL {
        let directory = fuzz_directory().join("corpus").join(name);
        if std::env::var_os("RAFTKV_WRITE_SEEDS").is_some() {
            fs::create_dir_all(&directory).unwrap();
            for (number, seed) in seeds::of(name).iter().enumerate() {
                fs::write(directory.join(format!("seed-{number}")), seed).unwrap();
            }
        }
        let entries = fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{} is not readable: {error}", directory.display()));
        let inputs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        assert!(!inputs.is_empty(), "{} is empty", directory.display());
        for input in inputs {
            eprintln!("{}", input.display());
            target(&fs::read(&input).unwrap());
        }
    }
}

#[test]
fn damaged_seeds_do_not_panic() {
    let seeds = ALL.iter().flat_map(|(name, target)| {
        seeds::of(name).into_iter().map(move |seed| (name, target, seed))
    });
    for (name, target, seed) in seeds {
        assert!(target(&seed), "the seed of {name} is not well-formed");
        for (place, input) in damaged(&seed) {
            eprintln!("{name}, byte {place}");
            target(&input);
        }
    }
}

/// Cut short at each byte, and with each byte changed.
fn damaged(seed: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..seed.len()).flat_map(move |place| {
        let changed = [seed[place] ^ 1, seed[place] ^ 0x80, 0, 0xff].map(|byte| {
            let mut bytes = seed.to_vec();
            bytes[place] = byte;
            (place, bytes)
        });
        [(place, seed[..place].to_vec())].into_iter().chain(changed)
    })
}

/// What came of those of these seeds, damaged, that count for a test.
fn reached(seeds: &[Vec<u8>], of: impl Fn(&[u8]) -> Option<String>) -> BTreeSet<String> {
    let inputs = seeds.iter().flat_map(|seed| damaged(seed));
    inputs.filter_map(|(_, input)| of(&input)).collect()
}

fn expect<const N: usize>(reached: &BTreeSet<String>, wanted: [&str; N]) {
    for wanted in wanted {
        assert!(reached.contains(wanted), "{wanted} is out of reach; there are {reached:?}");
    }
}

/// The variant's name.
fn kind(value: impl Debug) -> String {
    let text = format!("{value:?}");
    text.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

#[test]
fn changed_snapshots_reach_the_state_behind_their_checksums() {
    let refused = reached(&seeds::of("snapshot_file"), |input| match targets::snapshot(input) {
        (true, Err(bad)) => Some(bad.what.to_owned()),
        _ => None,
    });
    expect(&refused, ["lease", "session", "key", "the end"]);
}

#[test]
fn changed_backups_reach_their_chunks_behind_their_checksums() {
    // Those whose checksums need no key.
    let is_plain = |seed: &Vec<u8>| Preamble::decode(&seed[1..]).unwrap().slots.is_empty();
    let mut seeds = seeds::of("backup_object");
    seeds.retain(is_plain);
    let stops = reached(&seeds, |input| match backups::object(input) {
        Err(Stop::Front(error)) => Some(kind(error)),
        Err(Stop::Chunk(fault)) => Some(format!("chunk: {}", kind(fault))),
        Ok(()) => None,
    });
    expect(&stops, ["KeyMissing", "chunk: Length", "chunk: Declared", "chunk: Decompress"]);
    // With a tag that fits, only a trailer that is none is damaged.
    expect(&stops, ["chunk: Damaged"]);
}

#[test]
fn changed_backups_reach_every_comparison_of_the_reader() {
    // What is not compressed can be changed and still be opened.
    let stored = b"\"compression_type\": \"none\"";
    let is_stored = |seed: &Vec<u8>| seed.windows(stored.len()).any(|text| text == stored);
    let seed = seeds::of("backup_reader").into_iter().find(is_stored).unwrap();
    let errors = |spared: u8| {
        let flags = [backups::RESTORED & !spared];
        reached(&[[&flags, &seed[1..]].concat()], |input| match backups::read(input)? {
            Err(ReadError::Mismatch { what, .. }) => Some(what.to_owned()),
            Err(error) => Some(kind(error)),
            Ok(_) => None,
        })
    };
    let fronts = ["the cluster", "the epoch", "the log index", "the term", "the revision"];
    let errors_where_metadata_may_lie = errors(backups::AGREEING);
    expect(&errors_where_metadata_may_lie, fronts);
    expect(&errors_where_metadata_may_lie, ["the length of data.db", "the SHA-256 of data.db"]);
    let errors_where_the_stream_may = errors(backups::WHOLE);
    expect(&errors_where_the_stream_may, ["Chunk", "Overlong", "State"]);
    let trailers = ["the plain length in the trailer", "the plain SHA-256 in the trailer"];
    expect(&errors_where_the_stream_may, trailers);
}

#[test]
fn every_target_has_its_file() {
    let directory = fuzz_directory().join("fuzz_targets");
    let mut files: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let names: Vec<String> = ALL.iter().map(|(name, _)| format!("{name}.rs")).collect();
    assert_eq!(files, names);
    let manifest = fs::read_to_string(fuzz_directory().join("Cargo.toml")).unwrap();
    for (name, _) in ALL {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
    }
}

fn fuzz_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

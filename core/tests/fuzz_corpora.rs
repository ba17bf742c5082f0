//! Replays every fuzz target, without a fuzzer: over the inputs that fuzzing found worth keeping, and over each seed cut short and
//! with single bytes changed. `RAFTKV_WRITE_SEEDS=1` writes the seeds into the corpora first.

#![expect(clippy::disallowed_methods, reason = "tests read and write files")]

#[path = "../../fuzz/src/seal.rs"]
mod seal;
#[path = "../../fuzz/src/seeds.rs"]
mod seeds;
#[path = "../../fuzz/src/targets.rs"]
mod targets;

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
        for place in 0..seed.len() {
            eprintln!("{name}, byte {place}");
            target(&seed[..place]);
            for changed in [seed[place] ^ 1, seed[place] ^ 0x80, 0, 0xff] {
                let mut bytes = seed.clone();
                bytes[place] = changed;
                target(&bytes);
            }
        }
    }
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

//! What a campaign did, for people.

use crate::{Verdict, reproduce};
use raftkv_sim::world::options::Ring;
use raftkv_sim::world::sometimes;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Sums over many runs.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Runs.
    pub seeds: u64,
    /// Simulated time of all runs, nanoseconds.
    pub simulated_ns: u128,
    /// Real time.
    pub wall: Duration,
    /// Requests answered well.
    pub acknowledged: u64,
    /// Log entries applied.
    pub applied: u64,
    /// Elections won.
    pub elections: u64,
    /// How often each fault fired.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each rare state was reached.
    pub sometimes: BTreeMap<&'static str, u64>,
    /// How much each check was fed.
    pub checks: BTreeMap<&'static str, u64>,
    /// Failing seeds, what ran their nodes, and what was wrong.
    pub failures: Vec<(u64, Ring, String)>,
}

impl Summary {
    /// Adds a run.
    pub fn add(&mut self, verdict: &Verdict) {
        self.seeds += 1;
        if let Some(report) = &verdict.report {
            self.simulated_ns += u128::from(report.simulated.0);
            self.acknowledged += report.acknowledged;
            self.applied += report.applied;
            self.elections += report.elections;
            for (name, count) in &report.faults {
                *self.faults.entry(name).or_default() += count;
            }
            for (name, count) in &report.sometimes {
                *self.sometimes.entry(name).or_default() += count;
            }
            for (name, count) in &report.checks {
                *self.checks.entry(name).or_default() += count;
            }
        }
        if let Some(failure) = &verdict.failure {
            self.failures.push((verdict.seed, verdict.ring, failure.clone()));
        }
    }

    /// Rare states that every large campaign should reach, and this one did not.
    pub fn never_reached(&self) -> Vec<&'static str> {
        let unreached = |name: &&&str| !self.sometimes.contains_key(**name);
        sometimes::REQUIRED.iter().filter(unreached).copied().collect()
    }

    /// Simulated seconds per real second.
    pub fn ratio(&self) -> u128 {
        self.simulated_ns / self.wall.as_nanos().max(1)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} seeds, {} simulated seconds in {:.1} s ({} to 1); {} requests answered, {} entries applied, {} elections",
            self.seeds,
            self.simulated_ns / 1_000_000_000,
            self.wall.as_secs_f64(),
            self.ratio(),
            self.acknowledged,
            self.applied,
            self.elections
        )?;
        for (name, count) in &self.faults {
            writeln!(f, "  fault      {name:<54} {count:>10}")?;
        }
        for (name, count) in &self.sometimes {
            writeln!(f, "  sometimes  {name:<54} {count:>10}")?;
        }
        for name in self.never_reached() {
            writeln!(f, "  never reached  {name}")?;
        }
        for (seed, ring, failure) in &self.failures {
            let reproduce = reproduce(*ring, *seed);
            writeln!(f, "FAILED seed {seed}: {failure}\n  reproduce: {reproduce}")?;
        }
        Ok(())
    }
}

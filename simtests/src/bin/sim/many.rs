//! Commands about many runs.

use super::arguments::Arguments;
use super::say;
use simtests::{campaign, regressions};

/// `sim many`
pub fn many(arguments: &Arguments) -> Result<bool, String> {
    go(&range(arguments)?, arguments, false)
}

/// `sim report`
pub fn report(arguments: &Arguments) -> Result<bool, String> {
    go(&range(arguments)?, arguments, true)
}

/// `sim replay`
pub fn replay(arguments: &Arguments) -> Result<bool, String> {
    go(&regressions(arguments.ring()?), arguments, false)
}

fn range(arguments: &Arguments) -> Result<Vec<u64>, String> {
    let (from, count) = (arguments.required("--from")?, arguments.required("--count")?);
    let end = from.checked_add(count).ok_or("--from plus --count is too large")?;
    Ok((from..end).collect())
}

fn go(seeds: &[u64], arguments: &Arguments, with_checks: bool) -> Result<bool, String> {
    let summary = campaign::run(arguments.ring()?, seeds, arguments.jobs()?, |verdict, summary| {
        if let Some(failure) = &verdict.failure {
            eprintln!("seed {}: {failure}", verdict.seed);
        }
        if summary.seeds.is_multiple_of(100) {
            eprintln!(
                "{} of {} seeds, {} failed, {} faults, {} simulated seconds, {} to 1",
                summary.seeds,
                seeds.len(),
                summary.failures.len(),
                summary.faults.values().sum::<u64>(),
                summary.simulated_ns / 1_000_000_000,
                summary.ratio()
            );
        }
    });
    say(summary.to_string().trim_end());
    if with_checks {
        summary
            .checks
            .iter()
            .for_each(|(name, fed)| say(&format!("  check      {name:<34} {fed:>12}")));
    }
    Ok(summary.failures.is_empty())
}

//! `sim planted`: which planted bugs are caught, by which seed and check. A build without the bugs builds one with them and asks that.

use super::arguments::Arguments;

/// Options of the command.
pub const KNOWN: &[&str] = &["--bug", "--without", "--seeds", "--jobs"];

/// Seeds tried for each bug unless told otherwise.
#[cfg(planted_bugs)]
const SEEDS_MAX: u64 = 10_000;

/// Builds with the bugs, and hands the arguments on.
#[cfg(not(planted_bugs))]
pub fn run(_: &Arguments, words: &[String]) -> Result<bool, String> {
    let words: Vec<String> = std::iter::once("planted".into()).chain(words.to_vec()).collect();
    let status = simtests::planted::command(&words).status();
    Ok(status.map_err(|error| format!("cargo does not start: {error}"))?.success())
}

/// Hunts.
#[cfg(planted_bugs)]
pub fn run(arguments: &Arguments, _: &[String]) -> Result<bool, String> {
    use raftkv_core::planted::Bug;
    use simtests::planted::{Hunt, hunt};
    use std::sync::atomic::{AtomicU64, Ordering};

    let named = |list: &str| list.split(',').map(str::to_owned).collect::<Vec<_>>();
    let only = arguments.text("--bug")?.map(named);
    let without = arguments.text("--without")?.map(named).unwrap_or_default();
    let name = |bug: &Bug| format!("{bug:?}");
    let names: Vec<String> = Bug::ALL.iter().map(name).collect();
    if let Some(stranger) = only.iter().flatten().chain(&without).find(|bug| !names.contains(bug)) {
        return Err(format!("{stranger} is no planted bug; these are: {}", names.join(" ")));
    }
    let wanted = |bug: &&Bug| {
        let name = name(bug);
        only.as_ref().is_none_or(|only| only.contains(&name)) && !without.contains(&name)
    };
    let bugs: Vec<Bug> = Bug::ALL.iter().filter(wanted).copied().collect();
    let seeds = arguments.number("--seeds")?.unwrap_or(SEEDS_MAX);
    // A panic is one way of noticing; its words are in the outcome.
    std::panic::set_hook(Box::new(|_| {}));
    let (count, escaped) = (bugs.len(), AtomicU64::new(0));
    hunt(&Hunt { bugs, seeds, jobs: arguments.jobs()? }, |outcome| {
        super::say(&outcome.to_string());
        escaped.fetch_add(u64::from(outcome.failure.is_none()), Ordering::Relaxed);
    });
    let escaped = escaped.into_inner();
    super::say(&format!("{} of {count} planted bugs were caught", count as u64 - escaped));
    Ok(escaped == 0)
}

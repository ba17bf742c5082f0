//! `sim planted`: which planted bugs are caught, by which seed and check.

use super::arguments::Arguments;

/// Seeds tried for each bug unless told otherwise.
#[cfg(planted_bugs)]
const SEEDS_MAX: u64 = 10_000;

#[cfg(not(planted_bugs))]
pub use absent::{hunt, plant};

#[cfg(not(planted_bugs))]
mod absent {
    use super::Arguments;

    /// There is nothing to plant.
    pub fn plant(_: &Arguments) -> Result<(), String> {
        Ok(())
    }

    /// There is nothing to hunt.
    pub fn hunt(_: &Arguments) -> Result<bool, String> {
        Err("no bugs are planted in this build".into())
    }
}

#[cfg(planted_bugs)]
pub use present::{hunt, plant};

#[cfg(planted_bugs)]
mod present {
    use super::{Arguments, SEEDS_MAX};
    use crate::say;
    use raftkv_core::planted::{self, Bug};
    use raftkv_sim::world::options::Ring;
    use simtests::planted::{Hunt, hunt as hunt_all};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Plants the bug that `--bug` names in what this thread runs.
    pub fn plant(arguments: &Arguments) -> Result<(), String> {
        planted::plant(arguments.text("--bug")?.map(bug).transpose()?);
        Ok(())
    }

    /// Hunts.
    pub fn hunt(arguments: &Arguments) -> Result<bool, String> {
        let only = arguments.text("--bug")?.map(bugs).transpose()?;
        let without = arguments.text("--without")?.map(bugs).transpose()?.unwrap_or_default();
        let ring = arguments.ring()?;
        let can_show = |bug: &&Bug| ring == Ring::Driver || !bug.is_in_driver();
        let mut wanted =
            only.unwrap_or_else(|| Bug::ALL.iter().filter(can_show).copied().collect());
        wanted.retain(|bug| !without.contains(bug));
        let seeds = arguments.number("--seeds")?.unwrap_or(SEEDS_MAX);
        // A panic is one way of noticing; its words are in the outcome.
        std::panic::set_hook(Box::new(|_| {}));
        let (count, escaped) = (wanted.len(), AtomicU64::new(0));
        let (jobs, all) = (arguments.jobs()?, arguments.has("--all"));
        let hunt = Hunt { ring, bugs: wanted, seeds, jobs, all };
        hunt_all(&hunt, |outcome| {
            say(&outcome.to_string());
            escaped.fetch_add(u64::from(outcome.failure.is_none()), Ordering::Relaxed);
        });
        let escaped = escaped.into_inner();
        say(&format!("{} of {count} planted bugs were caught", count as u64 - escaped));
        Ok(escaped == 0)
    }

    fn bugs(names: &str) -> Result<Vec<Bug>, String> {
        names.split(',').map(bug).collect()
    }

    fn bug(name: &str) -> Result<Bug, String> {
        let found = Bug::ALL.iter().find(|bug| format!("{bug:?}") == name).copied();
        found.ok_or_else(|| format!("{name} is no planted bug; these are: {:?}", Bug::ALL))
    }
}

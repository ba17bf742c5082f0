//! Makes a failing story short: settings are taken to their plainest values, or as near as they go, while the run still fails the same
//! property.
//!
//! Invariant: what comes out was run, and failed. Source: delta debugging (Zeller, 1999), greedy, on settings instead of events.

use crate::run_options;
use crate::settings::{SETTINGS, Setting};
use raftkv_sim::world::options::Options;

/// Runs tried at most.
pub const TRIES_MAX: u64 = 2_000;

/// The shortest failing story found.
#[derive(Debug)]
pub struct Shrunk {
    /// Its options.
    pub options: Options,
    /// What it fails with.
    pub failure: String,
    /// Lines of its trace; `None` when the code under test panicked.
    pub events: Option<u64>,
    /// Runs made on the way.
    pub tries: u64,
}

/// Shrinks the run with these options; `None` when it passes. `on_step` is told of every success.
pub fn shrink(options: Options, on_step: impl FnMut(&Shrunk)) -> Option<Shrunk> {
    let (drawn, first) = (options.clone(), run_options(options.clone(), None));
    let failure = first.failure?;
    let events = first.report.map(|report| report.events);
    let property = property_of(&failure).to_owned();
    let best = Shrunk { options, failure, events, tries: 1 };
    let mut search = Search { best, property, on_step };
    while search.round() && search.best.tries < TRIES_MAX {}
    search.take_back(&drawn);
    Some(search.best)
}

/// The property a failure names, before its details.
pub fn property_of(failure: &str) -> &str {
    failure.split(':').next().unwrap_or(failure)
}

struct Search<F> {
    best: Shrunk,
    property: String,
    on_step: F,
}

impl<F: FnMut(&Shrunk)> Search<F> {
    /// Tries every setting once; whether anything became plainer.
    fn round(&mut self) -> bool {
        let before = self.best.tries;
        let changed = SETTINGS.iter().filter(|setting| self.plainer(setting)).count();
        changed > 0 && self.best.tries > before
    }

    /// Takes one setting as near to its plainest value as it goes; whether it moved.
    fn plainer(&mut self, setting: &Setting) -> bool {
        let (from, plainest) = (setting.get(&self.best.options), setting.plainest);
        if from == plainest {
            return false;
        }
        // A setting may be plainer and its story longer all the same, but not by much.
        let events_max = self.best.events.map(|events| events + events / 4);
        let is_short = |events: Option<u64>| events <= events_max;
        if self.attempt(setting, plainest, is_short) {
            return true;
        }
        // Between the last value that fails and one that does not.
        let (mut fails, mut passes) = (from, plainest);
        while fails.abs_diff(passes) > fails.abs_diff(plainest) / 50 + 1 {
            let middle = fails.midpoint(passes);
            if self.attempt(setting, middle, is_short) {
                fails = middle;
            } else {
                passes = middle;
            }
        }
        fails != from
    }

    /// Undoes what made no difference, so that fewer words tell the story.
    fn take_back(&mut self, drawn: &Options) {
        for setting in SETTINGS {
            let value = setting.get(drawn);
            let events = self.best.events;
            if setting.get(&self.best.options) != value {
                self.attempt(setting, value, |longer| longer <= events);
            }
        }
    }

    /// Keeps the value if the run still fails, and its story is not too long.
    fn attempt(
        &mut self,
        setting: &Setting,
        value: u64,
        is_short: impl Fn(Option<u64>) -> bool,
    ) -> bool {
        let mut options = self.best.options.clone();
        setting.set(&mut options, value);
        if setting.get(&options) != value || self.best.tries >= TRIES_MAX {
            return false;
        }
        self.best.tries += 1;
        let verdict = run_options(options.clone(), None);
        let Some(failure) = verdict.failure.filter(|it| property_of(it) == self.property) else {
            return false;
        };
        let events = verdict.report.map(|report| report.events);
        if !is_short(events) {
            return false;
        }
        self.best = Shrunk { options, failure, events, tries: self.best.tries };
        (self.on_step)(&self.best);
        true
    }
}

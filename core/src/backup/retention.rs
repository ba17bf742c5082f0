//! Which backups may go, and why each of the others stays. A pure plan: what carries it out is [`super::remove`].
//!
//! Backups are ordered by restore epoch and log index, never by clocks. Age is all that a clock decides, and only while the clock agrees
//! with the newest backups and with the store; otherwise there is no plan. A backup counts as no older than any that precedes it in
//! that order, so that one node's wrong clock makes nothing old.
//!
//! Invariants: the newest complete backup stays, and so do the newest [`Retention::min_backups`]; what is pinned or
//! held ([`super::hold`]) stays; an entry that is not complete and genuine neither counts nor changes what happens to others, and goes only when its own status says that it broke off;
//! each decision carries its reason.

mod checks;

pub use checks::{CLOCK_TOLERANCE_MS, MAX_GAP_DAYS, RetentionError};

use super::blob::ObjectName;
use super::catalog::Entry;
use super::config::Retention;
use super::format::Plaintext;
use super::hold;
use super::id::BackupId;
use super::metadata::Metadata;
use crate::planted::{self, Bug};
use crate::time::Wall;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How long what broke off stays in the list: longer than any backup that is being made goes without writing anything.
pub const BROKEN_OFF_MS: i64 = DAY_MS;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// By the clock of whoever asks.
    pub now: Wall,
    /// By the store's, where it tells: when it took something that was written just now. Only for whoever holds the store's lock, so that
    /// nobody makes a backup meanwhile; without it, what broke off stays.
    pub store: Option<Wall>,
}

/// What happens to each backup, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One for each entry of the catalog.
    pub decisions: Vec<Decision>,
    /// Holds that keep nothing any more, and when they were last written by the store's clock.
    pub forgotten: Vec<(ObjectName, Wall)>,
}

/// What happens to one backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Which.
    pub id: BackupId,
    /// What, and why.
    pub verdict: Verdict,
}

/// Whether a backup stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep(Keep),
    /// It goes.
    Delete(Delete),
}

/// Why a backup stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is pinned, for this reason.
    Pinned(String),
    /// Something reads it.
    Held(String),
    /// It is one of the newest that always stay.
    Minimum(u32),
    /// It is the newest of its hour, day, week or month.
    Newest(Period),
    /// It is neither too old nor one too many.
    WithinLimits,
    /// Retention has no say over it: it is not a complete, genuine backup.
    NotCounted(String),
}

/// Why a backup goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delete {
    /// It is older than it may be.
    Age {
        /// How old.
        days: i64,
        /// How old it may be.
        limit: u32,
    },
    /// There are enough newer ones.
    Count {
        /// How many there may be.
        limit: u32,
    },
    /// It broke off, and has been listed as that for long enough.
    BrokenOff,
}

/// What keep rules count in. UTC; weeks begin on Mondays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week.
    Week,
    /// A calendar month.
    Month,
}

/// Decides on every entry of a catalog. `plaintext` says whether backups that are not encrypted count as ours.
pub fn plan(
    rules: &Retention,
    plaintext: Plaintext,
    entries: &[Entry],
    clocks: Clocks,
) -> Result<Plan, RetentionError> {
    let mut ordered: Vec<&Entry> = entries.iter().collect();
    ordered.sort_by(|one, other| one.order(other));
    let good: Vec<Good> = ordered.iter().filter_map(|entry| Good::of(entry, plaintext)).collect();
    checks::check(&good, rules, clocks)?;
    let mut verdicts = verdicts(&good, rules, clocks);
    let decision = |entry: &&Entry| Decision {
        id: entry.id,
        verdict: verdicts.remove(&entry.id).unwrap_or_else(|| not_counted(entry, clocks.store)),
    };
    let decisions = ordered.iter().map(decision).collect();
    let forgotten = ordered.iter().flat_map(|entry| hold::forgotten(entry, clocks.store)).collect();
    Ok(Plan { decisions, forgotten })
}

impl Plan {
    /// What goes, oldest first.
    pub fn deletions(&self) -> impl Iterator<Item = BackupId> + '_ {
        let goes = |decision: &&Decision| matches!(decision.verdict, Verdict::Delete(_));
        self.decisions.iter().filter(goes).map(|decision| decision.id)
    }
}

/// A backup that counts.
struct Good<'a> {
    entry: &'a Entry,
    metadata: &'a Metadata,
}

impl<'a> Good<'a> {
    fn of(entry: &'a Entry, plaintext: Plaintext) -> Option<Self> {
        Some(Good { entry, metadata: entry.genuine(plaintext)? })
    }
}

fn minimum(rules: &Retention) -> usize {
    rules.min_backups.max(1) as usize - usize::from(planted::is(Bug::RetentionKeepsOneLess))
}

fn verdicts(good: &[Good], rules: &Retention, clocks: Clocks) -> BTreeMap<BackupId, Verdict> {
    let times = times(good);
    let mut verdicts = protections(good, &times, rules, clocks.store);
    if rules.retention_days > 0 {
        for (one, time_ms) in good.iter().zip(&times) {
            let days = clocks.now.0.saturating_sub(*time_ms) / DAY_MS;
            if days >= i64::from(rules.retention_days) {
                let age = Delete::Age { days, limit: rules.retention_days };
                verdicts.entry(one.entry.id).or_insert(Verdict::Delete(age));
            }
        }
    }
    let stays = |verdicts: &BTreeMap<BackupId, Verdict>, one: &&Good| {
        !matches!(verdicts.get(&one.entry.id), Some(Verdict::Delete(_)))
    };
    let left: Vec<&Good> = good.iter().filter(|one| stays(&verdicts, one)).collect();
    let limit = rules.max_backups;
    let excess = if limit == 0 { 0 } else { left.len().saturating_sub(limit as usize) };
    for (place, one) in left.into_iter().enumerate() {
        let verdict = match place < excess {
            true => Verdict::Delete(Delete::Count { limit }),
            false => Verdict::Keep(Keep::WithinLimits),
        };
        verdicts.entry(one.entry.id).or_insert(verdict);
    }
    verdicts
}

/// When each backup was made, but no earlier than any before it.
fn times(good: &[Good]) -> Vec<i64> {
    let mut latest = i64::MIN;
    let mut time = |one: &Good| {
        latest = latest.max(one.metadata.timestamp.0);
        latest
    };
    good.iter().map(&mut time).collect()
}

/// What stays whatever its age and number.
fn protections(
    good: &[Good],
    times: &[i64],
    rules: &Retention,
    store: Option<Wall>,
) -> BTreeMap<BackupId, Verdict> {
    let mut kept = BTreeMap::new();
    let mut keep = |id, why| {
        kept.entry(id).or_insert(Verdict::Keep(why));
    };
    for one in good {
        if let Some(reason) = &one.entry.pin {
            keep(one.entry.id, Keep::Pinned(reason.clone()));
        } else if let Some(holder) = hold::counting(one.entry, store).next() {
            keep(one.entry.id, Keep::Held(holder.note.clone()));
        }
    }
    for one in good.iter().rev().take(minimum(rules)) {
        keep(one.entry.id, Keep::Minimum(minimum(rules) as u32));
    }
    let periods = [
        (Period::Hour, rules.keep_hourly),
        (Period::Day, rules.keep_daily),
        (Period::Week, rules.keep_weekly),
        (Period::Month, rules.keep_monthly),
    ];
    for (period, count) in periods {
        let mut seen = BTreeSet::new();
        for (one, time_ms) in good.iter().zip(times).rev() {
            if seen.len() < count as usize && seen.insert(period.number(*time_ms)) {
                keep(one.entry.id, Keep::Newest(period));
            }
        }
    }
    kept
}

/// Whether it broke off so long ago that nothing goes on with it. `store` is the store's clock, read while its lock is held. Data without any
/// status is not judged: it may be a whole backup that has lost its metadata.
pub fn has_broken_off(entry: &Entry, store: Wall) -> bool {
    let is_free = entry.pin.is_none() && hold::counting(entry, Some(store)).next().is_none();
    let age_ms = entry.written.map_or(0, |at| store.0.saturating_sub(at.0));
    entry.run.is_some() && is_free && age_ms > BROKEN_OFF_MS
}

fn not_counted(entry: &Entry, store: Option<Wall>) -> Verdict {
    if store.is_some_and(|store| has_broken_off(entry, store)) {
        return Verdict::Delete(Delete::BrokenOff);
    }
    Verdict::Keep(Keep::NotCounted(entry.standing.objection()))
}

impl Period {
    /// Which hour, day, week or month a time is in, counted from somewhere.
    fn number(self, time_ms: i64) -> i64 {
        let day = time_ms.div_euclid(DAY_MS);
        match self {
            Period::Hour => time_ms.div_euclid(DAY_MS / 24),
            Period::Day => day,
            // The first day, 1 January 1970, was a Thursday.
            Period::Week => (day + 3).div_euclid(7),
            Period::Month => month(time_ms),
        }
    }
}

fn month(time_ms: i64) -> i64 {
    let nearest = if time_ms < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    let time = jiff::Timestamp::from_millisecond(time_ms).unwrap_or(nearest);
    let date = jiff::tz::TimeZone::UTC.to_datetime(time).date();
    i64::from(date.year()) * 12 + i64::from(date.month())
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Keep(Keep::Pinned(reason)) if reason.is_empty() => f.write_str("it is pinned"),
            Verdict::Keep(Keep::Pinned(reason)) => write!(f, "it is pinned: {reason}"),
            Verdict::Keep(Keep::Held(holder)) => write!(f, "it is in use by {holder}"),
            Verdict::Keep(Keep::Minimum(count)) => write!(f, "the newest {count} always stay"),
            Verdict::Keep(Keep::Newest(period)) => {
                write!(f, "it is the newest of its {}", format!("{period:?}").to_lowercase())
            }
            Verdict::Keep(Keep::WithinLimits) => f.write_str("it is within the limits"),
            Verdict::Keep(Keep::NotCounted(why)) => write!(f, "not counted: {why}"),
            Verdict::Delete(Delete::Age { days, limit }) => {
                write!(f, "it is {days} days old, and {limit} is the limit")
            }
            Verdict::Delete(Delete::Count { limit }) => {
                write!(f, "there are {limit} newer ones, which is the limit")
            }
            Verdict::Delete(Delete::BrokenOff) => f.write_str("it broke off more than a day ago"),
        }
    }
}

//! When backups are due: five cron fields, read in an IANA time zone.
//!
//! Fields are minute, hour, day of the month, month, day of the week: numbers, names (`JAN`, `MON`), `*`, ranges, steps and lists. Where
//! both day fields are restricted, a day that matches either is one; a field that begins with `*` counts as not restricted (POSIX `crontab`, and
//! Vixie cron for steps). Sunday is 0 or 7.
//!
//! Invariants: slots are instants, and strictly ascend. A time that a daylight-saving gap skips stands for the first moment behind the gap; a
//! time that happens twice stands for its first occurrence; so every civil time is one slot, and slots that fall together are one. The
//! zones are those built in, never the machine's, so that every node knows the same slots. A search ends after [`SEARCH_DAYS`], and
//! an expression that names no day within them is refused.

use crate::time::Wall;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Span, ToSpan as _};

/// The longest expression that is read.
pub const EXPRESSION_BYTES_MAX: usize = 256;
/// The longest name of a time zone that is read.
pub const ZONE_BYTES_MAX: usize = 64;
/// How many days a search looks at: 29 February may be eight years away.
pub const SEARCH_DAYS: u32 = 9 * 366;

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both day fields are restricted: one match is enough.
    either_day: bool,
    zone: TimeZone,
}

/// Why a schedule cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not five fields.
    #[error(
        "a cron expression has five fields (minute, hour, day, month, weekday), as in \"0 2 * * *\"; this one has {found}"
    )]
    Fields {
        /// How many there are.
        found: usize,
    },
    /// Longer than any sensible one.
    #[error("the {what} is longer than {limit} bytes")]
    TooLong {
        /// Expression or time zone.
        what: &'static str,
        /// How long it may be.
        limit: usize,
    },
    /// A field cannot be read.
    #[error("{field} is {text:?}: {why}")]
    Field {
        /// Which.
        field: &'static str,
        /// The part that is wrong.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// No such day.
    #[error("no day ever matches this cron expression")]
    Never,
    /// No such zone.
    #[error("{zone:?} is no time zone; use an IANA name, such as UTC or Europe/Berlin")]
    Zone {
        /// What it was.
        zone: String,
    },
}

impl Cron {
    /// Reads an expression and the name of its time zone.
    ///
    /// # Errors
    /// [`CronError`] names the field that is wrong.
    pub fn parse(expression: &str, zone: &str) -> Result<Cron, CronError> {
        at_most("cron expression", expression, EXPRESSION_BYTES_MAX)?;
        at_most("time zone", zone, ZONE_BYTES_MAX)?;
        let fields: Vec<&str> = expression.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(CronError::Fields { found: fields.len() });
        };
        let weekdays = WEEKDAY.parse(weekday)?;
        let cron = Cron {
            minutes: MINUTE.parse(minute)?,
            hours: HOUR.parse(hour)?,
            days: DAY.parse(day)?,
            months: MONTH.parse(month)?,
            weekdays: weekdays | weekdays >> 7 & 1,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
            zone: TimeZoneDatabase::bundled()
                .get(zone)
                .map_err(|_| CronError::Zone { zone: zone.into() })?,
        };
        cron.next_after(Wall(0)).ok_or(CronError::Never)?;
        Ok(cron)
    }

    /// The first slot after an instant; `None` only beyond the calendar's end.
    pub fn next_after(&self, after: Wall) -> Option<Wall> {
        let from = self.civil(after)?;
        let days = self.days_from(from.date(), 1.day());
        let mut slots = days.flat_map(|day| self.times().filter_map(move |time| at(day, time)));
        slots.find_map(|civil| self.instant(civil).filter(|slot| *slot > after))
    }

    /// The newest slot at an instant or before it.
    pub fn last_until(&self, until: Wall) -> Option<Wall> {
        // Where the clock was set back, a slot's civil time may lie behind the instant's.
        let from = self.civil(until)?.date().checked_add(1.day()).ok()?;
        let days = self.days_from(from, -1.day());
        let mut slots =
            days.flat_map(|day| self.times().rev().filter_map(move |time| at(day, time)));
        slots.find_map(|civil| self.instant(civil).filter(|slot| *slot <= until))
    }

    /// The next slots, at most `count`.
    pub fn upcoming(&self, after: Wall, count: usize) -> Vec<Wall> {
        std::iter::successors(self.next_after(after), |slot| self.next_after(*slot))
            .take(count)
            .collect()
    }

    fn civil(&self, wall: Wall) -> Option<DateTime> {
        Some(self.zone.to_datetime(Timestamp::from_millisecond(wall.0).ok()?))
    }

    /// The instant a civil time stands for.
    fn instant(&self, civil: DateTime) -> Option<Wall> {
        let ambiguous = self.zone.to_ambiguous_timestamp(civil);
        let timestamp = match ambiguous.offset() {
            // Read with the offset from before the gap, the time lies behind it; the gap ends with the change of offset before that.
            AmbiguousOffset::Gap { before, .. } => {
                let behind = before.to_timestamp(civil).ok()?;
                let mut changes = self.zone.preceding(behind.checked_add(1.second()).ok()?);
                changes.next().map_or(behind, |change| change.timestamp())
            }
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
                ambiguous.earlier().ok()?
            }
        };
        Some(Wall(timestamp.as_millisecond()))
    }

    /// Matching days, each a step after the one before.
    fn days_from(&self, first: Date, step: Span) -> impl Iterator<Item = Date> + '_ {
        std::iter::successors(Some(first), move |day| day.checked_add(step).ok())
            .take(SEARCH_DAYS as usize)
            .filter(|day| self.has_day(*day))
    }

    fn has_day(&self, day: Date) -> bool {
        let by_day = has(self.days, day.day());
        let by_weekday = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        has(self.months, day.month())
            && if self.either_day { by_day || by_weekday } else { by_day && by_weekday }
    }

    /// Hours and minutes that match, ascending.
    fn times(&self) -> impl DoubleEndedIterator<Item = (i8, i8)> + '_ {
        let hours = (0..24).filter(|hour| has(self.hours, *hour));
        hours.flat_map(|hour| {
            (0..60).filter(|minute| has(self.minutes, *minute)).map(move |minute| (hour, minute))
        })
    }
}

/// What one field may hold.
struct Field {
    name: &'static str,
    min: u8,
    max: u8,
    /// Names, the first of which stands for `first_name`.
    names: &'static [&'static str],
    first_name: u8,
}

const MINUTE: Field = Field { name: "the minute", min: 0, max: 59, names: &[], first_name: 0 };
const HOUR: Field = Field { name: "the hour", min: 0, max: 23, names: &[], first_name: 0 };
const DAY: Field =
    Field { name: "the day of the month", min: 1, max: 31, names: &[], first_name: 0 };
const MONTH: Field = Field {
    name: "the month",
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    first_name: 1,
};
const WEEKDAY: Field = Field {
    name: "the day of the week",
    min: 0,
    max: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    first_name: 0,
};

impl Field {
    /// The values of a field, as bits.
    fn parse(&self, text: &str) -> Result<u64, CronError> {
        text.split(',').try_fold(0, |bits, part| Ok(bits | self.part(part)?))
    }

    /// One part of a list: a value, a range, or either with a step.
    fn part(&self, part: &str) -> Result<u64, CronError> {
        let wrong = |why: String| CronError::Field { field: self.name, text: part.into(), why };
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (self.value(part, first)?, self.value(part, last)?),
            None if range == "*" => (self.min, self.max),
            // `5/15` means: from 5 on, in steps of 15.
            None if step.is_some() => (self.value(part, range)?, self.max),
            None => (self.value(part, range)?, self.value(part, range)?),
        };
        // `SAT-SUN` ends with Sunday as the seventh day.
        let last = if self.max == 7 && last == 0 && first > 0 { 7 } else { last };
        if first > last {
            return Err(wrong("the range ends before it begins".into()));
        }
        let step = match step.map(number) {
            None => 1,
            Some(Some(step)) if step > 0 => step,
            Some(_) => return Err(wrong("a step is a number from 1".into())),
        };
        Ok((first..=last).step_by(usize::from(step)).fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, part: &str, text: &str) -> Result<u8, CronError> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = named.map(|at| at as u8 + self.first_name).or_else(|| number(text));
        value.filter(|value| (self.min..=self.max).contains(value)).ok_or_else(|| {
            let names = if self.names.is_empty() { "" } else { ", or a name of three letters" };
            CronError::Field {
                field: self.name,
                text: part.into(),
                why: format!("{text:?} is no number from {} to {}{names}", self.min, self.max),
            }
        })
    }
}

fn number(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn has(bits: u64, value: i8) -> bool {
    bits >> value & 1 == 1
}

fn at(day: Date, (hour, minute): (i8, i8)) -> Option<DateTime> {
    DateTime::new(day.year(), day.month(), day.day(), hour, minute, 0, 0).ok()
}

fn at_most(what: &'static str, text: &str, limit: usize) -> Result<(), CronError> {
    if text.len() > limit { Err(CronError::TooLong { what, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;

//! Picking one backup of a catalog: the newest, the newest of a time, or one by its id.
//!
//! Invariant: what is incomplete, damaged or forged is never picked, unless it is asked for by its id; neither is, as long as there is another,
//! what somebody without a key could have written, where encryption is configured. Newest means by epoch and log index; a time is compared with the stamp in the metadata, which is the maker's calendar and only as right as that.

use super::catalog::{Catalog, Entry, Standing};
use super::format::Plaintext;
use super::id::BackupId;
use super::metadata::{Metadata, rfc3339};
use crate::time::Wall;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// What to pick from a catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The newest complete backup.
    Latest,
    /// The newest complete backup that was begun at this time or before.
    At(Wall),
    /// An id, or the beginning of one.
    Prefix(String),
}

/// A text that selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text} is no time: write @2026-11-24T18:30:00Z, @2026-11-24T18:30 (UTC), @2026-11-24 (its first moment in UTC), or with an offset like +01:00"
)]
pub struct BadTime {
    /// What was asked for.
    pub text: String,
}

/// Why nothing can be picked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// There is no complete backup.
    #[error(
        "there is no complete backup in the store ({others} others are incomplete, damaged or forged)"
    )]
    NoneComplete {
        /// How many entries were passed over.
        others: usize,
    },
    /// Every complete backup is younger.
    #[error("there is no complete backup from {} or before: the oldest is {oldest} of {}", rfc3339(*.at), rfc3339(*.begun))]
    NoneBefore {
        /// What was asked for.
        at: Wall,
        /// The oldest complete backup.
        oldest: BackupId,
        /// When it was begun.
        begun: Wall,
    },
    /// No id begins like this.
    #[error("no backup has an id that begins with {prefix}")]
    Unknown {
        /// What was asked for.
        prefix: String,
    },
    /// Several ids begin like this.
    #[error("{count} backups have ids that begin with {prefix}: give more of the id")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many.
        count: usize,
    },
}

impl Selector {
    /// `latest`, `@TIME`, or an id or its beginning.
    ///
    /// # Errors
    /// [`BadTime`] for what follows an `@` and is no time.
    pub fn parse(text: &str) -> Result<Selector, BadTime> {
        match text.strip_prefix('@') {
            Some(time) => {
                let bad = || BadTime { text: text.to_owned() };
                moment(time).map(Selector::At).ok_or_else(bad)
            }
            None if text == "latest" => Ok(Selector::Latest),
            None => Ok(Selector::Prefix(text.to_owned())),
        }
    }
}

impl Catalog {
    /// Picks a backup; `plaintext` says whether those that are not encrypted count as ours. By id, an incomplete or damaged one can be picked,
    /// too: its standing tells.
    ///
    /// # Errors
    /// [`SelectError`]
    pub fn select(&self, selector: &Selector, plaintext: Plaintext) -> Result<&Entry, SelectError> {
        match selector {
            Selector::Latest => {
                let none = SelectError::NoneComplete { others: self.entries.len() };
                self.newest_first(plaintext).next().ok_or(none)
            }
            Selector::At(at) => self.select_at(*at, plaintext),
            Selector::Prefix(prefix) => self.select_prefix(prefix),
        }
    }

    /// The usable backup next to this one in age: what to fall back on when it turns out damaged. Never one of a cluster that has nothing to do
    /// with this one's.
    pub fn next_older(&self, id: BackupId, plaintext: Plaintext) -> Option<&Entry> {
        let place = self.entries.iter().position(|entry| entry.id == id)?;
        let this = self.entries[place].metadata.as_ref();
        let counts =
            |other: &Metadata| this.is_none_or(|this| !other.is_rival(this.cluster, this.epoch));
        let mut older = self.entries[..place].iter().rev();
        older.find(|entry| entry.genuine(plaintext).is_some_and(counts))
    }

    /// What is passed over when this entry is picked for the newest: backups that cannot be used and are newer, the newest first; then those
    /// that do not tell how old they are. Nobody shall take an old state for the newest without knowing of them.
    pub fn unusable_newer_than(
        &self,
        picked: BackupId,
        plaintext: Plaintext,
    ) -> impl Iterator<Item = &Entry> {
        let newer = self.entries.iter().rev().take_while(move |entry| entry.id != picked);
        unusable(newer, &self.entries, plaintext)
    }

    /// The newest backup that cannot be used, for when there is none that can.
    pub fn newest_unusable(&self, plaintext: Plaintext) -> Option<&Entry> {
        unusable(self.entries.iter().rev(), &self.entries, plaintext).next()
    }

    /// Those that can be used; if there are none, those of which reading tells why they cannot.
    fn newest_first(&self, plaintext: Plaintext) -> impl Iterator<Item = &Entry> {
        let is_genuine = move |entry: &&Entry| entry.genuine(plaintext).is_some();
        let has_genuine = self.entries.iter().any(|entry| is_genuine(&entry));
        let newest = self.entries.iter().rev().filter(|entry| entry.is_complete());
        newest.filter(move |entry| !has_genuine || is_genuine(entry))
    }

    fn select_at(&self, at: Wall, plaintext: Plaintext) -> Result<&Entry, SelectError> {
        let begun = |entry: &Entry| entry.metadata.as_ref().map(|metadata| metadata.timestamp);
        let found =
            self.newest_first(plaintext).find(|entry| begun(entry).is_some_and(|b| b <= at));
        found.ok_or_else(|| {
            let oldest = self.newest_first(plaintext).last();
            match oldest.and_then(|entry| Some((entry.id, begun(entry)?))) {
                Some((oldest, begun)) => SelectError::NoneBefore { at, oldest, begun },
                None => SelectError::NoneComplete { others: self.entries.len() },
            }
        })
    }

    fn select_prefix(&self, prefix: &str) -> Result<&Entry, SelectError> {
        let begins = |entry: &&Entry| entry.id.to_string().starts_with(prefix);
        let mut found = self.entries.iter().filter(begins);
        let prefix = prefix.to_owned();
        match (found.next(), found.count()) {
            (Some(entry), 0) if !prefix.is_empty() => Ok(entry),
            (None, _) => Err(SelectError::Unknown { prefix }),
            (Some(_), more) => Err(SelectError::Ambiguous { prefix, count: more + 1 }),
        }
    }
}

/// Of these those that cannot be used, and of all those that do not tell how old they are.
fn unusable<'a>(
    newer: impl Iterator<Item = &'a Entry>,
    all: &'a [Entry],
    plaintext: Plaintext,
) -> impl Iterator<Item = &'a Entry> {
    let newer = newer.filter(|entry| entry.point().is_some());
    let ageless = all.iter().filter(|entry| entry.point().is_none());
    newer.chain(ageless).filter(move |entry| match entry.standing {
        Standing::Complete(_) => entry.genuine(plaintext).is_none(),
        // Never was one, is none any more, or has only small objects left.
        Standing::NotWhole(_) | Standing::HalfRemoved => false,
        Standing::Incomplete => entry.data_bytes.is_some(),
        Standing::DataMissing(_)
        | Standing::Damaged(_)
        | Standing::Forged(_)
        | Standing::Unreadable(_) => true,
    })
}

/// A time with an offset, or one in UTC, or the first moment of a day in UTC.
fn moment(text: &str) -> Option<Wall> {
    let with_offset = text.parse::<jiff::Timestamp>().ok();
    let time = match with_offset {
        Some(time) => time,
        None => TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()?,
    };
    Some(Wall(time.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_unless_they_say_otherwise() {
        let at = |text| match Selector::parse(text).unwrap() {
            Selector::At(wall) => rfc3339(wall),
            other => panic!("{text} is {other:?}"),
        };
        assert_eq!(at("@2026-11-24T18:30:00.5Z"), "2026-11-24T18:30:00.500Z");
        assert_eq!(at("@2026-11-24T18:30+01:00"), "2026-11-24T17:30:00.000Z");
        assert_eq!(at("@2026-11-24T18:30"), "2026-11-24T18:30:00.000Z");
        assert_eq!(at("@2026-11-24"), "2026-11-24T00:00:00.000Z");
        for bad in ["@", "@yesterday", "@2026-13-01", "@1764009000"] {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Selector::parse("latest"), Ok(Selector::Latest));
        assert_eq!(Selector::parse("d90a"), Ok(Selector::Prefix("d90a".into())));
    }
}

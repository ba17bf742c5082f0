//! When nothing is pruned at all: clusters without a common order, and clocks that disagree with each other or with the backups.
//!
//! Invariant: whatever is doubtful about the order or the age of backups that count is an error, never a guess.

use super::{Clocks, DAY_MS, Good, minimum};
use crate::backup::config::Retention;
use crate::backup::id::BackupId;
use crate::backup::metadata::{Metadata, rfc3339};
use crate::ids::{ClusterId, Epoch};
use crate::time::Wall;
use std::collections::BTreeMap;
use std::ops::Bound;

/// How far clocks may differ before nothing is pruned.
pub const CLOCK_TOLERANCE_MS: i64 = 60 * 60 * 1000;

/// With an age limit, a time without backups that is longer than this, and than twice the limit, looks like a clock that jumped.
pub const MAX_GAP_DAYS: i64 = 90;

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// A backup is from the future.
    #[error(
        "nothing is pruned: backup {id} was made at {}, after now, which is {}: set this machine's clock right, or, if another was wrong then, delete that backup by its id", rfc3339(*.timestamp), rfc3339(*.now)
    )]
    Future {
        /// Which.
        id: BackupId,
        /// When it says that it was made.
        timestamp: Wall,
        /// By the clock of whoever asks.
        now: Wall,
    },
    /// Of the newest backups, a newer one has an older time.
    #[error(
        "nothing is pruned: backup {newer} is newer than {older} by log index, but {} ms older by its time: a node's clock was wrong, or {older} was made from the directory of a stopped node; \
         prune again when newer backups have been made, or delete one of the two by its id", .behind_ms
    )]
    Disorder {
        /// The one before.
        older: BackupId,
        /// The one after.
        newer: BackupId,
        /// How much.
        behind_ms: i64,
    },
    /// The clock, or that of the newest backups, is far from the rest.
    #[error(
        "nothing is pruned: {days} days lie between backup {id} and what follows it: a clock jumped, or no backup was made for so long; \
         prune again when newer backups have been made, or delete by id"
    )]
    Gap {
        /// The backup before the gap.
        id: BackupId,
        /// How long it is.
        days: i64,
    },
    /// The store's clock is another.
    #[error(
        "nothing is pruned: it is {} by this clock, but {} by the store's", rfc3339(*.now), rfc3339(*.store)
    )]
    StoreClock {
        /// By the clock of whoever asks.
        now: Wall,
        /// By the store's.
        store: Wall,
    },
    /// Two clusters that do not descend from each other keep backups in one place.
    #[error(
        "nothing is pruned: clusters {one} and {other} both keep backups of epoch {} here, and have no common order: give each a prefix of its own", .epoch.0
    )]
    TwoClusters {
        /// One cluster.
        one: ClusterId,
        /// The other.
        other: ClusterId,
        /// The epoch of both.
        epoch: Epoch,
    },
    /// A cluster that was restored and the one that it was restored from both keep backups in one place. The restored one's count as
    /// newer, so the other's would go as soon as they are made.
    #[error(
        "nothing is pruned: cluster {older} made backup {id} at {} though cluster {newer}, which was restored from it or from one before it, has kept backups here since {}: give each a prefix of its own, and delete what is not wanted", rfc3339(*.at), rfc3339(*.since)
    )]
    StillAlive {
        /// The cluster of the lower epoch.
        older: ClusterId,
        /// Its backup.
        id: BackupId,
        /// When it was made.
        at: Wall,
        /// The cluster of the higher epoch.
        newer: ClusterId,
        /// When its first backup here was made.
        since: Wall,
    },
}

/// Whether the order of these backups and their ages can be trusted. They are the ones that count, oldest first.
pub(super) fn check(
    good: &[Good],
    rules: &Retention,
    clocks: Clocks,
) -> Result<(), RetentionError> {
    check_lineage(good)?;
    check_clocks(good, rules, clocks)
}

fn check_lineage(good: &[Good]) -> Result<(), RetentionError> {
    for pair in good.windows(2) {
        let (one, other) = (pair[0].metadata, pair[1].metadata);
        if one.epoch == other.epoch && one.cluster != other.cluster {
            let (one, other, epoch) = (one.cluster, other.cluster, one.epoch);
            return Err(RetentionError::TwoClusters { one, other, epoch });
        }
    }
    check_ended(good)
}

/// Whether every cluster had ended when the next one's backups began.
fn check_ended(good: &[Good]) -> Result<(), RetentionError> {
    let mut first: BTreeMap<Epoch, &Metadata> = BTreeMap::new();
    for Good { metadata, .. } in good {
        let begun = first.entry(metadata.epoch).or_insert(metadata);
        if metadata.timestamp < begun.timestamp {
            *begun = metadata;
        }
    }
    for Good { metadata, entry } in good {
        let later = first.range((Bound::Excluded(metadata.epoch), Bound::Unbounded)).next();
        if let Some((_, next)) = later
            && metadata.timestamp.0 > next.timestamp.0.saturating_add(CLOCK_TOLERANCE_MS)
        {
            let (older, at, id) = (metadata.cluster, metadata.timestamp, entry.id);
            let (newer, since) = (next.cluster, next.timestamp);
            return Err(RetentionError::StillAlive { older, id, at, newer, since });
        }
    }
    Ok(())
}

/// Holds the clock against the store's and against the newest backups, as many as always stay and one more.
fn check_clocks(good: &[Good], rules: &Retention, clocks: Clocks) -> Result<(), RetentionError> {
    let now = clocks.now;
    if let Some(store) = clocks.store
        && now.0.abs_diff(store.0) > CLOCK_TOLERANCE_MS as u64
    {
        return Err(RetentionError::StoreClock { now, store });
    }
    let future = |one: &&Good| one.metadata.timestamp.0 > now.0.saturating_add(CLOCK_TOLERANCE_MS);
    if let Some(Good { entry, metadata }) = good.iter().find(future) {
        let timestamp = metadata.timestamp;
        return Err(RetentionError::Future { id: entry.id, timestamp, now });
    }
    let first = good.len().saturating_sub(minimum(rules) + 1);
    let newest = &good[first..];
    for pair in newest.windows(2) {
        let (older, newer) = (&pair[0], &pair[1]);
        let behind_ms = older.metadata.timestamp.0.saturating_sub(newer.metadata.timestamp.0);
        if behind_ms > CLOCK_TOLERANCE_MS {
            let (older, newer) = (older.entry.id, newer.entry.id);
            return Err(RetentionError::Disorder { older, newer, behind_ms });
        }
    }
    let times = newest.iter().map(|one| one.metadata.timestamp.0).chain([now.0]);
    let max_gap_days = MAX_GAP_DAYS.max(2 * i64::from(rules.retention_days));
    for (one, next) in newest.iter().zip(times.skip(1)) {
        let days = next.saturating_sub(one.metadata.timestamp.0) / DAY_MS;
        if rules.retention_days > 0 && days > max_gap_days {
            return Err(RetentionError::Gap { id: one.entry.id, days });
        }
    }
    Ok(())
}

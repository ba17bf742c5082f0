//! Backups that the cluster makes itself: the schedule, the run under way, how the last ones ended. Part of the replicated state.

use super::data::Revision;
use crate::backup::BackupId;
use crate::backup::retention::CLOCK_TOLERANCE_MS;
use crate::ids::NodeId;
use crate::time::Wall;
use serde::{Deserialize, Serialize};
use std::fmt;

/// When backups are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Five cron fields, see [`crate::backup::cron`].
    pub cron: String,
    /// An IANA time zone.
    pub timezone: String,
    /// Whether retention runs after each backup, by the rules of the node that made it.
    pub prune: bool,
}

/// Everything about backups that every replica knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backups {
    /// When they are made, if there is a schedule.
    pub schedule: Option<Schedule>,
    /// Nothing is begun on schedule.
    pub paused: bool,
    /// The newest slot that was taken up, or when the schedule was set or resumed: later slots are due.
    pub slot: Wall,
    /// How often the backup of this slot has failed.
    pub failures: u32,
    /// Nothing is begun on schedule before this log time.
    pub rest_until_ms: u64,
    /// The run under way.
    pub run: Option<Run>,
    /// How the last run ended.
    pub last: Option<Ended>,
    /// The newest run that ended with a complete backup of its own.
    pub complete: Option<Ended>,
}

/// A run under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Its number: the index of the entry that began it. The backup holds the state at that entry.
    pub number: u64,
    /// The backup it makes.
    pub id: BackupId,
    /// The slot it is for; `None`: it was asked for.
    pub slot: Option<Wall>,
    /// The node that makes it.
    pub node: NodeId,
    /// That node's life: another life of it must not go on with the run.
    pub life: u64,
    /// The revision of the state it holds.
    pub revision: Revision,
    /// The complete backup that holds the same revision, and the length of its data: if it is still there, nothing is made anew.
    pub same_as: Option<(BackupId, u64)>,
    /// When it began, by the leader's calendar.
    pub started: Wall,
    /// The log time at which it is given up, unless it is heard of.
    pub deadline_ms: u64,
    /// Its `metadata.json` may be written from now on.
    pub committing: bool,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Its number.
    pub number: u64,
    /// The backup it made, or was to make.
    pub id: BackupId,
    /// The slot it was for; `None`: it was asked for.
    pub slot: Option<Wall>,
    /// The node that made it.
    pub node: NodeId,
    /// The revision of the state it holds.
    pub revision: Revision,
    /// When it began, by the leader's calendar.
    pub started: Wall,
    /// When it ended, by the leader's calendar.
    pub ended: Wall,
    /// `metadata.json` may have been written: where the outcome is a bad one, the backup may be complete all the same, as the store tells.
    /// Otherwise it never can be.
    pub committing: bool,
    /// How.
    pub outcome: RunOutcome,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RunOutcome {
    /// A backup is complete.
    Complete {
        /// Length of its data.
        data_bytes: u64,
    },
    /// No key has changed since this backup, which is complete and still there; no other was made.
    Unchanged {
        /// Which.
        since: BackupId,
    },
    /// There is no backup.
    Failed {
        /// Why.
        why: String,
    },
    /// The node was not heard of in time.
    Abandoned,
}

/// What kept a run from making a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Somebody else makes backups in the store.
    Refused,
    /// The store.
    Store,
    /// Something else.
    Other,
}

/// What a node answers about backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupStatus {
    /// What every replica knows, as the asked node has applied it.
    pub backups: Backups,
    /// The asked node.
    pub node: NodeId,
    /// Whether that node could make a backup: it has a backup configuration, or is alone and tries things out.
    pub able: bool,
    /// Its calendar.
    pub wall: Wall,
    /// When the next runs are due.
    pub next: Vec<Wall>,
    /// The newest slot that is due and not begun.
    pub overdue: Option<Wall>,
    /// Bytes of the state read so far, if the asked node makes the run under way.
    pub done_bytes: Option<u64>,
    /// What came of pruning after the last backup for which the asked node did that, since it was started.
    pub pruned: Option<PruneReport>,
    /// What came of each store of copies, the last time that the asked node worked on it, since it was started. Nothing once another node
    /// has made the newest run, and keeps them.
    pub copies: Vec<CopyReport>,
    /// How the runs ended, wherever they were made, whose end the asked node has applied since it was started.
    pub totals: RunTotals,
}

/// How many runs ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTotals {
    /// With a complete backup.
    pub complete: u64,
    /// With one that was there before.
    pub unchanged: u64,
    /// Without one.
    pub failed: u64,
    /// Given up.
    pub abandoned: u64,
}

/// What came of pruning after a backup, as the node that did it remembers. It changes nothing of the run, so it is no part of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneReport {
    /// The backup that was made before.
    pub after: BackupId,
    /// Something that was to go is still there because the store failed, or nothing could be decided.
    pub failed: bool,
    /// For people.
    pub what: String,
}

/// What came of bringing a store of copies up to date, as the node that did it remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyReport {
    /// What the store is called.
    pub store: String,
    /// When that was over, by the node's calendar.
    pub at: Wall,
    /// Something is not there that should be.
    pub behind: bool,
    /// For people.
    pub what: String,
}

impl BackupStatus {
    /// When the newest state was taken that is in the store, as far as the cluster knows. Newest by its place in the log: one leader whose
    /// calendar was ahead must not hide how old everything after it has become.
    pub fn newest_state(&self) -> Option<Wall> {
        let Backups { last, complete, .. } = &self.backups;
        let good = last.iter().filter(|last| last.is_good()).chain(complete);
        good.max_by_key(|ended| ended.number).map(|ended| ended.started)
    }

    /// How old that state is. Nothing if there is none, or it was taken later than clocks may differ after now: one of the calendars is wrong then.
    pub fn lag_ms(&self) -> Option<i64> {
        let lag_ms = self.wall.0.saturating_sub(self.newest_state()?.0);
        (lag_ms >= -CLOCK_TOLERANCE_MS).then(|| lag_ms.max(0))
    }
}

impl Obstacle {
    /// What the words of a failure begin with: their form, which older builds read too, has no other place for it.
    fn mark(self) -> &'static str {
        match self {
            Obstacle::Refused => "refused: ",
            Obstacle::Store => "store: ",
            Obstacle::Other => "",
        }
    }
}

impl RunTotals {
    /// One more has ended.
    pub fn count(&mut self, outcome: &RunOutcome) {
        let total = match outcome {
            RunOutcome::Complete { .. } => &mut self.complete,
            RunOutcome::Unchanged { .. } => &mut self.unchanged,
            RunOutcome::Failed { .. } => &mut self.failed,
            RunOutcome::Abandoned => &mut self.abandoned,
        };
        *total += 1;
    }
}

impl RunOutcome {
    /// There is no backup, for this reason.
    pub fn failed(obstacle: Obstacle, why: impl fmt::Display) -> Self {
        RunOutcome::Failed { why: format!("{}{why}", obstacle.mark()) }
    }

    /// What was in the way, if it failed.
    pub fn obstacle(&self) -> Option<Obstacle> {
        let RunOutcome::Failed { why } = self else { return None };
        let told = [Obstacle::Refused, Obstacle::Store].into_iter();
        let mut told = told.filter(|obstacle| why.starts_with(obstacle.mark()));
        Some(told.next().unwrap_or(Obstacle::Other))
    }
}

impl Ended {
    /// How long it took. Nothing if it ended before it began: two leaders' calendars differ then.
    pub fn lasted_ms(&self) -> Option<i64> {
        Some(self.ended.0.saturating_sub(self.started.0)).filter(|lasted_ms| *lasted_ms >= 0)
    }

    /// Whether the state of this run is in the store, as far as the cluster knows.
    pub fn is_good(&self) -> bool {
        matches!(self.outcome, RunOutcome::Complete { .. } | RunOutcome::Unchanged { .. })
    }

    /// The backup of this run if it is none and never can be: what is there of it may go.
    pub fn orphan(&self) -> Option<BackupId> {
        (!self.is_good() && !self.committing).then_some(self.id)
    }
}

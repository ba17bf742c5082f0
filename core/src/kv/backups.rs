//! Backups as replicated state: what schedules, starts, goes on and ends, decided alike on every replica.
//!
//! Invariants: one run at a time, and one for a slot unless it failed; slots go up, except that a calendar which was ahead does not hold up
//! the schedule once it is set right; a slot that was taken up wants its backup until a run for it was good, a newer one is taken up, or
//! expression or time zone change; runs on schedule begin at least [`SPACING_MS`] of log time apart, so no calendar makes a storm of them; a run that was ended or abandoned never comes back: what its node says later is not heard.

use super::state::KvState;
use crate::api::backups::{Backups, Ended, Run, RunOutcome, Schedule};
use crate::api::{Error, Revision};
use crate::backup::BackupId;
use crate::backup::cron::{Cron, EXPRESSION_BYTES_MAX, ZONE_BYTES_MAX};
use crate::ids::NodeId;
use crate::planted::{self, Bug};
use crate::time::Wall;
use serde::{Deserialize, Serialize};

/// Between two runs on schedule, in log time.
pub const SPACING_MS: u64 = 50_000;
/// After the first failure at a slot; doubled with each further one.
pub const RETRY_MS: u64 = 60_000;
/// The longest rest after a failure.
pub const RETRY_MS_MAX: u64 = 3_600_000;
/// A slot this far ahead of the calendar was taken up by a clock that was wrong.
pub const AHEAD_MS: i64 = 300_000;
/// What is kept of an error.
const WHY_BYTES_MAX: usize = 512;

/// What is done about backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupOp {
    /// Set the schedule, or end it.
    Schedule(Option<Schedule>),
    /// Pause, or resume.
    Pause(bool),
    /// Begin a run; its number is the entry's index.
    Start {
        /// The backup's id.
        id: BackupId,
        /// The slot; `None`: asked for.
        slot: Option<Wall>,
        /// Who makes it.
        node: NodeId,
        /// In which of its lives.
        life: u64,
        /// How long it may go unheard.
        lease_ms: u64,
    },
    /// The node was heard of.
    Extend {
        /// Which run.
        number: u64,
        /// How long it may go unheard from now on.
        lease_ms: u64,
    },
    /// `metadata.json` is about to be written.
    Commit {
        /// Which run.
        number: u64,
        /// How long it may go unheard from now on.
        lease_ms: u64,
    },
    /// The node is done.
    End {
        /// Which run.
        number: u64,
        /// How it ended.
        outcome: RunOutcome,
    },
    /// The node was not heard of in time.
    Abandon {
        /// Which run.
        number: u64,
    },
}

impl KvState {
    /// What is known about backups.
    pub fn backups(&self) -> &Backups {
        &self.backups
    }

    /// The slot that is due by this calendar: the newest there is, so that missed ones are made up for by one run.
    pub fn due_slot(&self, wall: Wall) -> Option<Wall> {
        let backups = &self.backups;
        let schedule = backups.schedule.as_ref().filter(|_| !backups.paused)?;
        let slot = schedule.slots()?.last_until(wall)?;
        let is_new = slot > backups.slot || backups.slot.0 > wall.0.saturating_add(AHEAD_MS);
        (is_new || backups.may_repeat(slot)).then_some(slot)
    }

    /// Applies what an entry says about backups. Refusals are answers; to a node they mean that its run is over.
    pub(super) fn apply_backup(&mut self, index: u64, op: &BackupOp) -> Result<(), Error> {
        let revision = self.revision();
        let (log_time_ms, wall) = (self.log_time_ms, self.wall);
        let backups = &mut self.backups;
        match op {
            BackupOp::Schedule(schedule) => backups.set(schedule.clone(), wall),
            BackupOp::Pause(paused) => backups.pause(*paused, wall)?,
            BackupOp::Start { id, slot, node, life, lease_ms } => {
                if let Some(slot) = slot {
                    backups.take_up(*slot, wall, log_time_ms)?;
                }
                backups.check_free()?;
                let same_as = slot.and_then(|_| backups.same_as(revision));
                backups.run = Some(Run {
                    number: index,
                    id: *id,
                    slot: *slot,
                    node: *node,
                    life: *life,
                    revision,
                    same_as,
                    started: wall,
                    deadline_ms: log_time_ms.saturating_add(*lease_ms),
                    committing: false,
                });
            }
            BackupOp::Extend { number, lease_ms } => {
                backups.current(*number)?.deadline_ms = log_time_ms.saturating_add(*lease_ms);
            }
            BackupOp::Commit { number, lease_ms } => {
                let run = backups.current(*number)?;
                run.committing = true;
                run.deadline_ms = log_time_ms.saturating_add(*lease_ms);
            }
            BackupOp::End { number, outcome } => {
                backups.current(*number)?;
                backups.end(outcome.clone(), wall, log_time_ms);
            }
            BackupOp::Abandon { number } => {
                let run = backups.current(*number)?;
                if run.deadline_ms > log_time_ms {
                    return Err(Error::Conflict("the run was heard of in time".into()));
                }
                backups.end(RunOutcome::Abandoned, wall, log_time_ms);
            }
        }
        Ok(())
    }
}

impl Schedule {
    /// When it is due. `None` for what no leader lets in.
    pub fn slots(&self) -> Option<Cron> {
        Cron::parse(&self.cron, &self.timezone).ok()
    }
}

impl Backups {
    /// When the next runs are due by this calendar, at most `count`.
    pub fn upcoming(&self, wall: Wall, count: usize) -> Vec<Wall> {
        let cron = self.schedule.as_ref().filter(|_| !self.paused).and_then(Schedule::slots);
        cron.map(|cron| cron.upcoming(wall, count)).unwrap_or_default()
    }

    /// A pause outlasts a change of the schedule: only resuming ends it, or ending the schedule. A slot means the same as long as the calendar
    /// does, so that it keeps its backup that is due, or has failed, whatever else changes.
    fn set(&mut self, schedule: Option<Schedule>, wall: Wall) {
        let calendar = |it: &Option<Schedule>| it.clone().map(|it| (it.cron, it.timezone));
        let is_another = calendar(&self.schedule) != calendar(&schedule);
        self.paused &= schedule.is_some();
        self.schedule = schedule;
        if is_another {
            self.begin_anew(wall);
        }
    }

    fn pause(&mut self, paused: bool, wall: Wall) -> Result<(), Error> {
        if self.schedule.is_none() {
            return Err(Error::NotFound("a backup schedule was".into()));
        }
        if self.paused && !paused && !self.is_wanting() {
            self.begin_anew(wall);
        }
        self.paused = paused;
        Ok(())
    }

    /// Whether the newest slot that was taken up has no backup yet.
    fn is_wanting(&self) -> bool {
        let is_being_made = self.run.as_ref().is_some_and(|run| run.slot == Some(self.slot));
        is_being_made || self.failures > 0
    }

    /// Slots before this moment are nobody's business.
    fn begin_anew(&mut self, wall: Wall) {
        self.slot = wall;
        self.failures = 0;
        self.rest_until_ms = 0;
    }

    fn take_up(&mut self, slot: Wall, wall: Wall, log_time_ms: u64) -> Result<(), Error> {
        self.check_free()?;
        if self.schedule.is_none() || self.paused {
            return Err(Error::Refused("no backups are made on schedule".into()));
        }
        if self.rest_until_ms > log_time_ms {
            return Err(Error::Conflict("another backup on schedule was just begun".into()));
        }
        let again = self.may_repeat(slot);
        if slot <= self.slot && !again && self.slot.0 <= wall.0.saturating_add(AHEAD_MS) {
            return Err(Error::Refused("this slot was taken up before".into()));
        }
        if !again {
            self.failures = 0;
        }
        self.slot = slot;
        self.rest_until_ms = log_time_ms.saturating_add(SPACING_MS);
        Ok(())
    }

    /// Whether the backup of this slot was tried, and not made.
    fn may_repeat(&self, slot: Wall) -> bool {
        slot == self.slot && (self.failures > 0 || planted::is(Bug::SlotNeverSettled))
    }

    /// Whether a run may begin.
    pub(crate) fn check_free(&self) -> Result<(), Error> {
        match &self.run {
            Some(run) => {
                let Run { id, node, .. } = run;
                let what = format!("another backup is being made: {id}, by node {node}");
                Err(Error::Refused(what))
            }
            None => Ok(()),
        }
    }

    fn same_as(&self, revision: Revision) -> Option<(BackupId, u64)> {
        let complete = self.complete.as_ref().filter(|ended| ended.revision == revision)?;
        match complete.outcome {
            RunOutcome::Complete { data_bytes } => Some((complete.id, data_bytes)),
            _ => None,
        }
    }

    fn current(&mut self, number: u64) -> Result<&mut Run, Error> {
        let run = self.run.as_mut().filter(|run| run.number == number);
        run.ok_or_else(|| Error::NotFound(format!("backup run {number}")))
    }

    fn end(&mut self, outcome: RunOutcome, wall: Wall, log_time_ms: u64) {
        let Some(run) = self.run.take() else { return };
        let Run { number, id, slot, node, revision, started, committing, .. } = run;
        let outcome = match outcome {
            RunOutcome::Failed { why } => RunOutcome::Failed { why: cut(why) },
            outcome => outcome,
        };
        let ended =
            Ended { number, id, slot, node, revision, started, ended: wall, committing, outcome };
        if slot.is_some_and(|slot| slot == self.slot) {
            if ended.is_good() {
                self.failures = 0;
            } else {
                let rest_ms = RETRY_MS << self.failures.min(10);
                self.rest_until_ms = log_time_ms.saturating_add(rest_ms.min(RETRY_MS_MAX));
                self.failures = self.failures.saturating_add(1);
            }
        }
        if matches!(ended.outcome, RunOutcome::Complete { .. }) {
            self.complete = Some(ended.clone());
        }
        self.last = Some(ended);
    }
}

/// Whether such a thing can have come of commands, as far as memory and counting are concerned. A schedule is not read here: a zone that
/// later builds know no more must not make old snapshots unreadable.
pub(super) fn check_backups(backups: &Backups) -> Result<(), &'static str> {
    if *backups == Backups::default() {
        return Err("nothing is known about backups, and it says so");
    }
    let fits = |schedule: &Schedule| {
        schedule.cron.len() <= EXPRESSION_BYTES_MAX && schedule.timezone.len() <= ZONE_BYTES_MAX
    };
    if !backups.schedule.as_ref().is_none_or(fits) {
        return Err("its schedule is too long");
    }
    let ended = backups.last.iter().chain(&backups.complete);
    let is_long = |ended: &Ended| match &ended.outcome {
        RunOutcome::Failed { why } => why.len() > WHY_BYTES_MAX,
        _ => false,
    };
    if ended.into_iter().any(is_long) {
        return Err("an error in it is too long");
    }
    Ok(())
}

/// An error's words, cut at a character.
fn cut(mut why: String) -> String {
    why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
    why
}

#[cfg(test)]
mod tests;

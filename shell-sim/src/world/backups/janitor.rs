//! The retention job, which runs beside everything else: lists the store, plans which backups may go, and removes them. Its process can
//! die at any step, and its calendar may be years off.
//!
//! Invariant: it begins anew each time, from what the store shows then.

use super::options::BackupOptions;
use crate::model::store::{Answer, Call, Store};
use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::catalog::ReadCatalog;
use raftkv_core::backup::config::Retention;
use raftkv_core::backup::machine::{Action, ActionResult, Machine};
use raftkv_core::backup::read::Access;
use raftkv_core::backup::remove::{Fate, Force, Remove};
use raftkv_core::backup::retention::{self, Clocks, RetentionError};
use raftkv_core::rng::Rng;
use raftkv_core::time::{Span, Wall};
use std::collections::VecDeque;

/// Its sessions in the store are numbered from here on.
pub(super) const JANITOR_SESSIONS: u64 = 1 << 31;

/// It waits so long for the store's lock before it looks again.
const LOCKED_OUT: Span = Span::from_millis(1_000);

const DECADE_MS: i64 = 3_652 * 86_400_000;

/// The job.
#[derive(Debug)]
pub(super) struct Janitor {
    rng: Rng,
    rules: Retention,
    every: Option<Span>,
    kill: Ppm,
    session: u64,
    job: Job,
    next: SimTime,
    /// How far its calendar is off.
    offset_ms: i64,
    /// Inputs of the present job so far.
    steps: u64,
    found: VecDeque<Swept>,
    /// Something came in that its machine has not answered yet.
    has_input: bool,
}

#[derive(Debug)]
enum Job {
    None,
    Listing(Box<ReadCatalog>),
    Removing(Box<Remove>),
}

/// What came of a job, or of a part of it.
#[derive(Debug)]
pub(super) enum Swept {
    /// There is no plan, for this reason.
    Refused(RetentionError),
    /// These are to go.
    Planned(Vec<BackupId>),
    /// Of the backups that were to go, these are not listed any more.
    Removed(Vec<BackupId>),
    /// The store gave no list.
    Unlisted,
    /// Its process died.
    Died,
}

impl Janitor {
    pub(super) fn new(options: &BackupOptions, mut rng: Rng) -> Self {
        let every = options.prune_every;
        let next = every.map_or(SimTime::NEVER, |every| SimTime(0) + rng.tail(every));
        Janitor {
            rng,
            rules: options.rules.clone(),
            every,
            kill: options.kill,
            session: JANITOR_SESSIONS,
            job: Job::None,
            next,
            offset_ms: 0,
            steps: 0,
            found: VecDeque::new(),
            has_input: false,
        }
    }

    /// The rules it works by.
    pub(super) fn rules(&self) -> &Retention {
        &self.rules
    }

    /// Whether it runs by itself.
    pub(super) fn is_planned(&self) -> bool {
        self.every.is_some()
    }

    /// When to be polled again.
    pub(super) fn next_wake(&self) -> SimTime {
        match self.job {
            _ if self.has_input || !self.found.is_empty() => SimTime(0),
            Job::None => self.next,
            Job::Listing(_) | Job::Removing(_) => SimTime::NEVER,
        }
    }

    /// It runs no more.
    pub(super) fn rest(&mut self) {
        self.every = None;
        self.next = SimTime::NEVER;
    }

    /// Somebody else has the store's lock: nothing is begun for a while.
    pub(super) fn wait(&mut self, now: SimTime) {
        if matches!(self.job, Job::None) && self.next <= now {
            self.next = now + LOCKED_OUT;
        }
    }

    /// Run by these rules now, with a calendar that is so far off.
    pub(super) fn run_now(&mut self, now: SimTime, rules: Retention, offset_ms: i64) {
        (self.rules, self.offset_ms, self.next) = (rules, offset_ms, now);
    }

    /// How many inputs the present job has had, while there is one.
    pub(super) fn steps(&self) -> Option<u64> {
        (!matches!(self.job, Job::None)).then_some(self.steps)
    }

    /// The process ends in the middle of what it does.
    pub(super) fn die(&mut self, now: SimTime, store: &mut Store) {
        if !matches!(self.job, Job::None) {
            store.abandon(self.session);
            self.found.push_back(Swept::Died);
            self.end(now);
        }
    }

    /// Goes on with its job, or begins one. `access` is what the operator can open, `wall` the true calendar.
    pub(super) fn poll(
        &mut self,
        now: SimTime,
        wall: Wall,
        access: &Access,
        store: &mut Store,
    ) -> Option<Swept> {
        self.has_input = false;
        if matches!(self.job, Job::None) && self.next <= now {
            self.session += 1;
            self.steps = 0;
            self.job = Job::Listing(Box::new(ReadCatalog::new(access.keys.clone())));
        }
        loop {
            while let Some(action) = self.job.machine().and_then(Machine::poll_action) {
                match (action, self.job.machine()) {
                    (Action::Blob { op, action, .. }, _) => {
                        store.submit(now, Call { session: self.session, op }, action);
                    }
                    (Action::Work(work), Some(machine)) => {
                        machine.handle(ActionResult::Work(work.run()));
                    }
                    (Action::Work(_), None) => {}
                }
            }
            if !self.job.machine().is_some_and(|machine| machine.is_ended()) {
                return self.found.pop_front();
            }
            self.conclude(now, wall, access);
        }
    }

    /// The store's answer.
    pub(super) fn hear(&mut self, now: SimTime, call: Call, result: Answer, store: &mut Store) {
        let machine = self.job.machine().filter(|_| call.session == self.session);
        let Some(machine) = machine else { return };
        machine.handle(ActionResult::Blob { op: call.op, result });
        self.steps += 1;
        self.has_input = true;
        if self.rng.happens(self.kill) {
            self.die(now, store);
        }
    }

    fn conclude(&mut self, now: SimTime, wall: Wall, access: &Access) {
        let found = match std::mem::replace(&mut self.job, Job::None) {
            Job::Listing(machine) => match machine.outcome() {
                Some(Ok(catalog)) => {
                    let clocks = self.clocks(wall);
                    match retention::plan(&self.rules, access.plaintext, &catalog.entries, clocks) {
                        Ok(plan) => {
                            let going: Vec<BackupId> = plan.deletions().collect();
                            if !going.is_empty() {
                                let remove =
                                    Remove::new(going.iter().copied(), Force::Respect, wall);
                                let remove = remove.despite(plan.forgotten);
                                self.job = Job::Removing(Box::new(remove));
                            }
                            Swept::Planned(going)
                        }
                        Err(error) => Swept::Refused(error),
                    }
                }
                _ => Swept::Unlisted,
            },
            Job::Removing(machine) => {
                let is_gone = |fate: &Fate| matches!(fate, Fate::Removed | Fate::DataSpared(_));
                let fates = machine.outcome().into_iter().flatten();
                Swept::Removed(fates.filter(|(_, fate)| is_gone(fate)).map(|(id, _)| id).collect())
            }
            Job::None => return,
        };
        self.found.push_back(found);
        if matches!(self.job, Job::None) {
            self.end(now);
        }
    }

    /// Now and then its calendar is years off; and the store does not always say what time it is.
    fn clocks(&mut self, wall: Wall) -> Clocks {
        let drawn_ms = *self.rng.pick(&[0, 0, 0, 0, 0, 0, 0, 3_000_000, DECADE_MS, -DECADE_MS]);
        let offset_ms = if self.every.is_some() { drawn_ms } else { self.offset_ms };
        let store = self.every.filter(|_| self.rng.happens(Ppm::percent(50))).map(|_| wall);
        Clocks { now: Wall(wall.0 + offset_ms), store }
    }

    fn end(&mut self, now: SimTime) {
        self.job = Job::None;
        self.next = self.every.map_or(SimTime::NEVER, |every| now + self.rng.tail(every) + Span(1));
    }
}

impl Job {
    fn machine(&mut self) -> Option<&mut dyn Machine> {
        match self {
            Job::Listing(machine) => Some(machine.as_mut()),
            Job::Removing(machine) => Some(machine.as_mut()),
            Job::None => None,
        }
    }
}

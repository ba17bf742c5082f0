//! The operator's command line as a sans-IO machine: one job after another, each a process of its own that can die at any step. Which job
//! is next, [`begin`] says.

mod begin;
mod errands;

use super::found::Found;
use super::keys::Keys;
use super::mending::Mending;
use super::options::BackupOptions;
use super::pinning::Pinning;
use super::reading::Reading;
use super::rotating::Rotating;
use super::shelf::Shelf;
use super::taking::{self, Step, Taking};
use super::undoing::Undoing;
use super::wants::{self, Want};
use crate::check::Violation;
use crate::check::nonces::Nonces;
use crate::client::Sending;
use crate::model::store::{Answer, Call};
use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use bytes::Bytes;
use raftkv_core::api::{PutRequest, Request, Response, WriteOp};
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::create::Settings;
use raftkv_core::backup::machine::{Action, ActionResult, Machine};
use raftkv_core::rng::{Rng, Seed};
use raftkv_core::time::Span;
use std::collections::VecDeque;

/// A node's answer is awaited this long.
const PATIENCE: Span = Span::from_millis(3_000);
/// Between two attempts of something that must succeed; longer the more often it has failed.
const PAUSE: Span = Span::from_millis(200);
/// How often the pause is doubled at most.
const DOUBLINGS: u32 = 7;

/// The command line.
#[derive(Debug)]
pub(super) struct Console {
    rng: Rng,
    /// For what is not done every day.
    errands: Rng,
    /// A key was replaced, and its backups are to be given the new one.
    is_rotation_due: bool,
    options: BackupOptions,
    nodes: usize,
    keys: Keys,
    session: u64,
    attempts: u64,
    node: usize,
    job: Job,
    /// Until when a node's answer is awaited.
    asked: Option<SimTime>,
    /// The last word to a node whose answer is not awaited any more.
    farewell: Option<Sending>,
    /// When the next job begins, or the present one asks again.
    next: SimTime,
    wants: VecDeque<Want>,
    /// To be put back when the present job has ended.
    undo: Option<Undoing>,
    found: VecDeque<Found>,
    /// Inputs of the present job so far.
    steps: u64,
    /// Jobs in a row after which what is wanted was still not done.
    failures: u32,
    /// Something came in that its machine has not answered yet.
    has_input: bool,
    /// Somebody else has the lock that mending needs.
    is_locked_out: bool,
}

#[derive(Debug)]
enum Job {
    None,
    Planting,
    Taking(Box<Taking>),
    Reading(Box<Reading>),
    Rotating(Box<Rotating>),
    Mending(Box<Mending>),
    Pinning(Box<Pinning>),
    Undoing(Undoing),
}

impl Console {
    pub(super) fn new(options: BackupOptions, nodes: usize, seed: &Seed) -> Self {
        let mut rng = seed.fork("console");
        let keys = Keys::new(options.recipients, &mut rng);
        let wants = options.every.map(|_| Want::Plant).into_iter().collect();
        let next = if options.every.is_some() { SimTime(0) } else { SimTime::NEVER };
        Console {
            rng,
            errands: seed.fork("errands"),
            is_rotation_due: false,
            options,
            nodes,
            keys,
            session: 0,
            attempts: 0,
            node: 0,
            job: Job::None,
            asked: None,
            farewell: None,
            next,
            wants,
            undo: None,
            found: VecDeque::new(),
            steps: 0,
            failures: 0,
            has_input: false,
            is_locked_out: false,
        }
    }

    /// The keys.
    pub(super) fn keys(&mut self) -> &mut Keys {
        &mut self.keys
    }

    /// How a backup is made now.
    pub(super) fn settings(&self) -> Settings {
        taking::settings(&self.options, &self.keys)
    }

    /// Goes on with its job, or begins one. Says what to send to a node.
    pub(super) fn poll(
        &mut self,
        now: SimTime,
        stores: &mut Shelf<'_>,
        nonces: &mut Nonces,
    ) -> Result<Option<Sending>, Violation> {
        self.has_input = false;
        if self.asked.is_some_and(|until| until <= now) {
            self.leave();
            self.answer(now, None, stores);
        }
        if self.farewell.is_some() {
            return Ok(self.farewell.take());
        }
        if matches!(self.job, Job::None) && self.next <= now {
            self.begin(now, stores);
        }
        if let Job::Mending(mending) = &mut self.job {
            mending.tick(now);
        }
        self.work(now, stores, nonces)?;
        Ok(if self.asked.is_none() && self.next <= now { self.ask(now) } else { None })
    }

    /// A node's answer, or `None` for a broken connection.
    pub(super) fn handle(
        &mut self,
        now: SimTime,
        attempt: u64,
        response: Option<Response>,
        stores: &mut Shelf<'_>,
    ) {
        if attempt == self.attempts && self.asked.take().is_some() {
            self.answer(now, response, stores);
        }
    }

    /// The store's answer.
    pub(super) fn hear(
        &mut self,
        now: SimTime,
        call: Call,
        result: Answer,
        stores: &mut Shelf<'_>,
    ) {
        if call.session != self.session {
            return;
        }
        if let Some(machine) = self.machine() {
            machine.handle(ActionResult::Blob { op: call.op, result });
        }
        self.step(now, stores);
    }

    /// The next thing it found out.
    pub(super) fn found(&mut self) -> Option<Found> {
        self.found.pop_front()
    }

    /// When to be polled again.
    pub(super) fn next_wake(&self) -> SimTime {
        match (&self.farewell, self.asked) {
            _ if self.has_input => SimTime(0),
            (Some(_), _) => SimTime(0),
            (None, Some(until)) => until,
            (None, None) if self.waits_for_store() => match &self.job {
                Job::Mending(mending) => mending.next_tick(),
                _ => SimTime::NEVER,
            },
            (None, None) => self.next,
        }
    }

    /// Make a backup now.
    pub(super) fn back_up(&mut self, now: SimTime) {
        self.want(now, Want::Backup);
    }

    /// Try once to restore the newest backup in memory.
    pub(super) fn drill(&mut self, now: SimTime) {
        self.want(now, Want::Drill);
    }

    /// Restore this backup in memory.
    pub(super) fn drill_of(&mut self, now: SimTime, id: BackupId) {
        self.want(now, Want::DrillOf(id));
    }

    /// A backup is about to go: now and then, if there is nothing else to do, it is restored in memory just then.
    pub(super) fn read_before_it_goes(&mut self, now: SimTime, id: BackupId) {
        let is_idle = self.options.every.is_some() && self.is_done() && self.steps().is_none();
        if is_idle && self.rng.happens(Ppm::percent(50)) {
            self.want(now, Want::DrillOf(id));
        }
    }

    /// Put back what this backup has and the cluster has not.
    pub(super) fn undo(&mut self, now: SimTime, id: BackupId) {
        self.want(now, Want::Undo(id));
    }

    /// Make a backup and restore it in memory; nothing kills the operator any more.
    pub(super) fn prove(&mut self, now: SimTime) {
        self.options.kill = Ppm::NEVER;
        self.failures = 0;
        self.options.every = None;
        self.want(now, Want::Backup);
        self.want(now, Want::Proof(None));
    }

    /// Find a backup to start a cluster of so many nodes from, before anything else.
    pub(super) fn recover(&mut self, now: SimTime, nodes: usize, stores: &mut Shelf<'_>) {
        self.die(now, stores);
        self.failures = 0;
        self.nodes = nodes;
        self.wants.push_front(Want::Recovery);
        self.next = now + PAUSE;
    }

    /// Whether everything that must be done is done.
    pub(super) fn is_done(&self) -> bool {
        self.wants.is_empty()
    }

    /// Whether its present job is to take a backup.
    pub(super) fn is_taking(&self) -> bool {
        matches!(self.job, Job::Taking(_))
    }

    /// Which step of the present job was the last; `None` when there is no job.
    pub(super) fn steps(&self) -> Option<u64> {
        (!matches!(self.job, Job::None)).then_some(self.steps)
    }

    /// The process ends in the middle of what it does.
    pub(super) fn die(&mut self, now: SimTime, stores: &mut Shelf<'_>) {
        if matches!(self.job, Job::None) {
            return;
        }
        stores.abandon(self.session);
        if self.asked.is_some() {
            self.leave();
        }
        self.found.push_back(Found::Died);
        // What was begun with a new key may be begun again.
        self.is_rotation_due |= matches!(self.job, Job::Rotating(_));
        if let Job::Reading(reading) = &self.job {
            // Its holds stay. Now and then a day passes before retention sees them.
            let ages = self.rng.happens(Ppm::percent(50));
            let old = reading.holds().filter(|(store, hold)| ages && stores.age(*store, *hold));
            self.found.extend(old.map(|(_, hold)| Found::Forgotten(hold.backup)));
        }
        if let Job::Pinning(pinning) = &self.job
            && let Some(id) = pinning.marking()
        {
            self.found.push_back(Found::PinUnknown { store: pinning.store(), id });
        }
        self.undo = None;
        self.end(now);
    }

    fn want(&mut self, now: SimTime, want: Want) {
        self.wants.push_back(want);
        if matches!(self.job, Job::None) {
            self.next = now;
        }
    }

    fn leave(&mut self) {
        self.asked = None;
        self.farewell = Some(Sending::Leave { node: self.node, attempt: self.attempts });
    }

    fn machine(&mut self) -> Option<&mut dyn Machine> {
        match &mut self.job {
            Job::Taking(taking) => taking.machine().map(|machine| machine as &mut dyn Machine),
            Job::Reading(reading) => reading.machine(),
            Job::Rotating(rotating) => rotating.machine(),
            Job::Mending(mending) => Some(mending.as_mut()),
            Job::Pinning(pinning) => Some(pinning.as_mut()),
            Job::None | Job::Planting | Job::Undoing(_) => None,
        }
    }

    /// Carries out what the machine wants, and takes note of what has ended.
    fn work(
        &mut self,
        now: SimTime,
        stores: &mut Shelf<'_>,
        nonces: &mut Nonces,
    ) -> Result<(), Violation> {
        let session = self.session;
        loop {
            let store = self.store();
            let Some(machine) = self.machine() else { return Ok(()) };
            while let Some(action) = machine.poll_action() {
                match action {
                    Action::Blob { op, action, .. } => {
                        stores.submit(now, store, Call { session, op }, action);
                    }
                    Action::Work(work) => {
                        nonces.working(&work)?;
                        machine.handle(ActionResult::Work(work.run()));
                    }
                }
            }
            let Some(found) = self.conclude() else { return Ok(()) };
            self.plan_undoing(&found);
            self.fulfil(&found);
            self.found.push_back(found);
            if self.machine().is_none_or(|machine| machine.is_ended()) {
                match self.undo.take() {
                    Some(undoing) => (self.job, self.next) = (Job::Undoing(undoing), now),
                    None => self.end(now),
                }
            }
        }
    }

    /// The store with which it works just now.
    fn store(&self) -> StoreIndex {
        match &self.job {
            Job::Reading(reading) => reading.store(),
            Job::Rotating(rotating) => rotating.store(),
            Job::Mending(mending) => mending.store(),
            Job::Pinning(pinning) => pinning.store(),
            Job::None | Job::Planting | Job::Taking(_) | Job::Undoing(_) => StoreIndex::PRIMARY,
        }
    }

    fn conclude(&mut self) -> Option<Found> {
        match &mut self.job {
            Job::Taking(taking) => Some(Found::Taken(taking.outcome()?.clone())),
            Job::Reading(reading) => reading.conclude(&mut self.rng),
            Job::Rotating(rotating) => rotating.conclude(&mut self.errands),
            Job::Mending(mending) => mending.conclude(),
            Job::Pinning(pinning) => pinning.conclude(&mut self.errands),
            Job::None | Job::Planting | Job::Undoing(_) => None,
        }
    }

    /// A backup was read: keys of it are put back if that is wanted, and now and then some of them.
    fn plan_undoing(&mut self, found: &Found) {
        let Found::Restored { result: Ok(restored), .. } = found else { return };
        let most = match self.wants.front() {
            Some(Want::Undo(_)) => usize::MAX,
            None if self.options.every.is_some() && self.rng.happens(Ppm::percent(30)) => 6,
            _ => return,
        };
        self.undo = Some(Undoing::new(&restored.state, most, &mut self.rng));
    }

    /// Crosses off what was wanted and is done.
    fn fulfil(&mut self, found: &Found) {
        if wants::fulfil(&mut self.wants, found) {
            self.failures = 0;
        }
    }

    /// The job has ended.
    fn end(&mut self, now: SimTime) {
        self.job = Job::None;
        self.next = match self.options.every {
            _ if !self.wants.is_empty() => {
                self.failures += 1;
                now + Span(PAUSE.0 << self.failures.min(DOUBLINGS))
            }
            Some(every) => now + self.rng.tail(every),
            None => SimTime::NEVER,
        };
    }

    fn ask(&mut self, now: SimTime) -> Option<Sending> {
        let (request, same_node) = match &mut self.job {
            Job::Planting => (self.plant(), false),
            Job::Taking(taking) => match taking.next() {
                Step::Ask { request, same_node } => (request, same_node),
                Step::Wait => return None,
                Step::GiveUp => {
                    self.found.push_back(Found::NoView);
                    self.end(now);
                    return None;
                }
            },
            Job::Undoing(undoing) => match undoing.next(self.attempts + 1) {
                Some(request) => (request, undoing.is_served()),
                None => {
                    let Undoing { put_back, spared, .. } = *undoing;
                    let found = Found::Undone { put_back, spared };
                    self.fulfil(&found);
                    self.found.push_back(found);
                    self.end(now);
                    return None;
                }
            },
            Job::None | Job::Reading(_) | Job::Rotating(_) | Job::Mending(_) | Job::Pinning(_) => {
                return None;
            }
        };
        if !same_node {
            self.node = self.rng.below(self.nodes as u64) as usize;
        }
        self.attempts += 1;
        self.asked = Some(now + PATIENCE);
        Some(Sending::Ask { node: self.node, attempt: self.attempts, request })
    }

    /// A write of random bytes, others in each attempt: a value is never written twice.
    fn plant(&mut self) -> Request {
        let mark = |rng: &mut Rng| Bytes::copy_from_slice(&rng.bytes::<32>());
        let (key, value) = (mark(&mut self.rng), mark(&mut self.rng));
        self.found.extend([Found::Planted(key.clone()), Found::Planted(value.clone())]);
        let put = PutRequest { key, value, lease: 0, return_previous: false };
        Request::Write { session: None, op: WriteOp::Put(put) }
    }

    fn answer(&mut self, now: SimTime, response: Option<Response>, stores: &mut Shelf<'_>) {
        match &mut self.job {
            Job::Planting => {
                if matches!(response, Some(Response::Write(_))) {
                    self.wants.pop_front();
                    self.end(now);
                }
                self.next = self.next.max(now + PAUSE);
            }
            Job::Taking(taking) => {
                let is_good = matches!(
                    response,
                    Some(Response::Range(_) | Response::ViewOpened(_) | Response::ViewChunk { .. })
                );
                taking.handle(response, &mut self.rng);
                self.next = if is_good { now } else { now + PAUSE };
            }
            Job::Undoing(undoing) => {
                let is_good = undoing.handle(response.as_ref());
                self.next = if is_good { now } else { now + PAUSE };
            }
            Job::None | Job::Reading(_) | Job::Rotating(_) | Job::Mending(_) | Job::Pinning(_) => {}
        }
        self.step(now, stores);
    }

    /// One more input was taken in; now and then the process dies of it.
    fn step(&mut self, now: SimTime, stores: &mut Shelf<'_>) {
        self.steps += 1;
        self.has_input = true;
        if self.rng.happens(self.options.kill) {
            self.die(now, stores);
        }
    }

    fn waits_for_store(&self) -> bool {
        match &self.job {
            Job::Reading(_) | Job::Rotating(_) | Job::Mending(_) | Job::Pinning(_) => true,
            Job::Taking(taking) => taking.waits_for_store(),
            Job::None | Job::Planting | Job::Undoing(_) => false,
        }
    }
}

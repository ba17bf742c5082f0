//! One backup at a time: who makes backups in a store, and whether that one is still there.
//!
//! Locks are markers `locks/{number}.json`; the highest number counts. A lock is taken by writing the next number where nothing may be yet,
//! so of several that try, one succeeds; it is released by writing into it that it is, and the numbers go on. Nobody ever writes or
//! deletes a lock above its own, so a holder that was held up finds a higher number and knows that it lost, whatever it does.
//! The lock is a courtesy that saves work: backups never share a name, and stay whole even if two are made at once.
//!
//! Invariants: a lock is taken over only after [`ABANDONED_AFTER_MS`] in which the watcher itself saw no sign of life, by its own monotonic
//! clock; times of other machines are shown to people and never compared. A lock that cannot be read is in force.

use super::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp, Listing, ObjectName, Role};
use super::machine::{Action, ActionResult, Machine, Outbox};
use super::marker::{MAX_MARKER_BYTES, Marker, Owner};
use crate::api::Obstacle;
use bytes::Bytes;

/// How often a holder gives a sign of life.
pub const BEAT_EVERY_MS: u64 = 5_000;

/// After how long without one a holder counts as gone.
pub const ABANDONED_AFTER_MS: u64 = 60_000;

/// A lock that is held by this run. Renewed by [`Renew`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    number: u64,
    marker: Marker,
}

/// A lock that someone else holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its number.
    pub number: u64,
    /// What it says; `None` when it cannot be read.
    pub marker: Option<Marker>,
}

/// Why a lock was not taken or renewed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Someone else has it.
    #[error("the store's lock is held by {}", describe(.0))]
    Held(Held),
    /// It was taken over while this run gave no sign of life.
    #[error("the store's lock was taken over by somebody else")]
    Lost,
    /// The store failed.
    #[error("the store's lock: {0}")]
    Store(#[from] BlobError),
}

/// Watches a marker for signs of life.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// What was seen last, and when first.
    seen: Option<(ObjectName, Option<u64>, u64)>,
}

/// Whether whoever put a marker is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Not known yet.
    Unknown,
    /// It gave a sign of life under our eyes.
    Alive,
    /// It gave none for long enough.
    Abandoned,
}

impl Watch {
    /// Takes a look: the marker at `place` has counted `beats` (`None`: it cannot be read), and it is `now_ms` by a monotonic clock.
    pub fn see(&mut self, place: ObjectName, beats: Option<u64>, now_ms: u64) -> Liveness {
        match self.seen {
            Some((before, counted, since_ms)) if before == place && counted == beats => {
                match now_ms.saturating_sub(since_ms) >= ABANDONED_AFTER_MS {
                    true => Liveness::Abandoned,
                    false => Liveness::Unknown,
                }
            }
            before => {
                self.seen = Some((place, beats, now_ms));
                match before {
                    Some((before, ..)) if before == place => Liveness::Alive,
                    _ => Liveness::Unknown,
                }
            }
        }
    }
}

impl Held {
    /// Where it lies.
    pub fn place(&self) -> ObjectName {
        ObjectName::lock(self.number)
    }

    /// How often its holder gave a sign of life.
    pub fn beats(&self) -> Option<u64> {
        self.marker.as_ref().map(|marker| marker.beats)
    }
}

impl LockError {
    /// What was in the way.
    pub fn obstacle(&self) -> Obstacle {
        match self {
            LockError::Held(_) | LockError::Lost => Obstacle::Refused,
            LockError::Store(_) => Obstacle::Store,
        }
    }
}

fn describe(held: &Held) -> String {
    match &held.marker {
        Some(marker) => marker.to_string(),
        None => format!("whoever wrote {}, which cannot be read", held.place()),
    }
}

/// Takes the lock, if nobody has it.
#[derive(Debug)]
pub struct Acquire {
    outbox: Outbox<Purpose>,
    /// Who asks; its place is filled in when a number is known.
    marker: Marker,
    /// A holder that was watched and found gone.
    abandoned: Option<Held>,
    attempts: u32,
    outcome: Option<Result<Lock, LockError>>,
}

#[derive(Clone, Debug)]
enum Purpose {
    Look,
    Read(u64),
    Take(u64),
    Confirm(u64),
    /// Did anyone take a higher one meanwhile?
    LookAgain(u64),
    /// Who did?
    Meet(u64),
    CleanUp,
}

/// A lock that goes away between list and read is looked for again, this often.
const MAX_ATTEMPTS: u32 = 5;

impl Acquire {
    /// Begins. `marker` says who asks, made by [`marker`]; `abandoned` is a holder found gone by [`Watch`].
    pub fn new(marker: Marker, abandoned: Option<Held>) -> Self {
        let mut outbox = Outbox::new();
        outbox.blob(Purpose::Look, BlobOp::List);
        Acquire { outbox, marker, abandoned, attempts: 1, outcome: None }
    }

    /// The lock, or why not.
    pub fn outcome(&self) -> Option<&Result<Lock, LockError>> {
        self.outcome.as_ref().filter(|_| self.outbox.is_idle())
    }

    fn done(&mut self, purpose: Purpose, result: Result<BlobDone, BlobError>) {
        let result = match (purpose, result) {
            (Purpose::Look, Ok(BlobDone::Listing(listing))) => self.looked(&listing),
            // A store in which nothing was written yet.
            (Purpose::Look, Err(error)) if error.kind == BlobErrorKind::NotFound => {
                self.take(1);
                Ok(())
            }
            (Purpose::Read(number), result) => self.read(number, result),
            (Purpose::Take(number), Ok(_)) => self.taken(number),
            (Purpose::Take(number), Err(error)) => self.not_taken(number, error),
            (Purpose::Confirm(number), result) => self.confirmed(number, result),
            (Purpose::LookAgain(number), Ok(BlobDone::Listing(listing))) => {
                self.looked_again(number, &listing)
            }
            (Purpose::Meet(number), result) => Err(LockError::Held(match result {
                Ok(done) => held(number, done),
                Err(_) => Held { number, marker: None },
            })),
            (Purpose::CleanUp, _) | (_, Ok(_)) => Ok(()),
            (_, Err(error)) => Err(error.into()),
        };
        if let Err(error) = result {
            self.outcome = Some(Err(error));
        }
    }

    fn looked(&mut self, listing: &Listing) -> Result<(), LockError> {
        match highest(listing) {
            0 => self.take(1),
            number => self.ask(Purpose::Read, number),
        }
        Ok(())
    }

    fn read(&mut self, number: u64, result: Result<BlobDone, BlobError>) -> Result<(), LockError> {
        let held = match result {
            Ok(done) => held(number, done),
            Err(error) if error.kind == BlobErrorKind::NotFound && self.attempts < MAX_ATTEMPTS => {
                self.attempts += 1;
                self.outbox.blob(Purpose::Look, BlobOp::List);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let released = held.marker.as_ref().is_some_and(|marker| marker.released);
        if !released && self.abandoned.as_ref() != Some(&held) {
            return Err(LockError::Held(held));
        }
        self.take(number.saturating_add(1));
        Ok(())
    }

    fn take(&mut self, number: u64) {
        self.marker.place = ObjectName::lock(number);
        let bytes = self.marker.render().into();
        let put = BlobOp::Put { object: self.marker.place, bytes, if_absent: true };
        self.outbox.blob(Purpose::Take(number), put);
    }

    fn not_taken(&mut self, number: u64, error: BlobError) -> Result<(), LockError> {
        match error.kind {
            // Another one was faster, or it is our own, whose answer was lost.
            BlobErrorKind::Exists | BlobErrorKind::Unknown => self.ask(Purpose::Confirm, number),
            _ => return Err(error.into()),
        }
        Ok(())
    }

    fn confirmed(
        &mut self,
        number: u64,
        result: Result<BlobDone, BlobError>,
    ) -> Result<(), LockError> {
        let found = held(number, result?);
        match found.marker.as_ref() == Some(&self.marker) {
            true => self.taken(number),
            false => Err(LockError::Held(found)),
        }
    }

    fn taken(&mut self, number: u64) -> Result<(), LockError> {
        self.outbox.blob(Purpose::LookAgain(number), BlobOp::List);
        Ok(())
    }

    /// One that looked long ago may have taken a number that others are done with.
    fn looked_again(&mut self, number: u64, listing: &Listing) -> Result<(), LockError> {
        let highest = highest(listing);
        if highest != number {
            self.clean_up([number]);
            self.ask(Purpose::Meet, highest);
            return Ok(());
        }
        self.clean_up(numbers(listing).filter(|other| *other < number));
        self.outcome = Some(Ok(Lock { number, marker: self.marker.clone() }));
        Ok(())
    }

    fn clean_up(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let object = ObjectName::lock(number);
            self.outbox.blob(Purpose::CleanUp, BlobOp::Delete { object });
        }
    }

    fn ask(&mut self, purpose: impl Fn(u64) -> Purpose, number: u64) {
        self.outbox.blob(purpose(number), get(number));
    }
}

/// Says that the holder is still there, or that it has ended.
#[derive(Debug)]
pub struct Renew {
    outbox: Outbox<RenewPurpose>,
    lock: Lock,
    outcome: Option<Result<Lock, LockError>>,
}

#[derive(Clone, Copy, Debug)]
enum RenewPurpose {
    Look,
    Read,
    Write,
}

impl Renew {
    /// Gives a sign of life, and finds out whether the lock is still held.
    pub fn new(mut lock: Lock) -> Self {
        lock.marker.beats = lock.marker.beats.saturating_add(1);
        Renew::begin(lock)
    }

    /// Lets others have it.
    pub fn release(mut lock: Lock) -> Self {
        lock.marker.released = true;
        Renew::begin(lock)
    }

    fn begin(lock: Lock) -> Self {
        let mut outbox = Outbox::new();
        outbox.blob(RenewPurpose::Look, BlobOp::List);
        Renew { outbox, lock, outcome: None }
    }

    /// The lock as it is now, or why it is not held any more.
    pub fn outcome(&self) -> Option<&Result<Lock, LockError>> {
        self.outcome.as_ref()
    }

    fn done(
        &mut self,
        purpose: RenewPurpose,
        result: Result<BlobDone, BlobError>,
    ) -> Result<(), LockError> {
        let number = self.lock.number;
        match (purpose, result?) {
            (RenewPurpose::Look, BlobDone::Listing(listing)) if highest(&listing) != number => {
                return Err(LockError::Lost);
            }
            (RenewPurpose::Look, _) => drop(self.outbox.blob(RenewPurpose::Read, get(number))),
            (RenewPurpose::Read, done) => {
                // A store without conditional writes may have let someone else have the same number.
                let owner = held(number, done).marker.map(|marker| marker.owner);
                if owner != Some(self.lock.marker.owner) {
                    return Err(LockError::Lost);
                }
                let (object, bytes) = (self.lock.marker.place, self.lock.marker.render().into());
                let put = BlobOp::Put { object, bytes, if_absent: false };
                self.outbox.blob(RenewPurpose::Write, put);
            }
            (RenewPurpose::Write, _) => self.outcome = Some(Ok(self.lock.clone())),
        }
        Ok(())
    }
}

/// Who asks for a lock: `note` is for the people who are told that the store is locked.
pub fn marker(owner: Owner, note: &str, since: crate::time::Wall) -> Marker {
    Marker::new(ObjectName::lock(0), owner, note, since)
}

fn numbers(listing: &Listing) -> impl Iterator<Item = u64> + '_ {
    listing.objects.iter().filter_map(|(object, _)| match object.role {
        Role::Lock(number) => Some(number),
        _ => None,
    })
}

fn highest(listing: &Listing) -> u64 {
    numbers(listing).max().unwrap_or(0)
}

fn get(number: u64) -> BlobOp {
    let len_bytes = MAX_MARKER_BYTES as u64 + 1;
    BlobOp::Get { object: ObjectName::lock(number), offset: 0, len_bytes }
}

fn held(number: u64, done: BlobDone) -> Held {
    let bytes = match done {
        BlobDone::Bytes(bytes) => bytes,
        _ => Bytes::new(),
    };
    Held { number, marker: Marker::parse(ObjectName::lock(number), &bytes).ok() }
}

impl Machine for Acquire {
    fn poll_action(&mut self) -> Option<Action> {
        self.outbox.poll()
    }

    fn handle(&mut self, result: ActionResult) {
        let ActionResult::Blob { op, result } = result else { return };
        if let Some(purpose) = self.outbox.blob_done(op) {
            self.done(purpose, result);
        }
    }

    fn is_ended(&self) -> bool {
        self.outcome().is_some()
    }
}

impl Machine for Renew {
    fn poll_action(&mut self) -> Option<Action> {
        self.outbox.poll()
    }

    fn handle(&mut self, result: ActionResult) {
        let ActionResult::Blob { op, result } = result else { return };
        if let Some(purpose) = self.outbox.blob_done(op)
            && let Err(error) = self.done(purpose, result)
        {
            self.outcome = Some(Err(error));
        }
    }

    fn is_ended(&self) -> bool {
        self.outcome.is_some()
    }
}

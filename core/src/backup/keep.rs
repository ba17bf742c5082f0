//! Keeps the store's lock for as long as something runs: takes it, watches who has it, gives signs of life, lets it go.
//!
//! For a shell that has ticks instead of tasks; what the lock means is told in [`super::lock`]. Invariants: the lock of a run that the
//! cluster has given up is taken over at once, since nothing that its node does can complete it; any other one only
//! after it was watched; whoever lost the lock is told so and never writes to it again.

use super::blob::{BlobDone, BlobError, StoreIndex};
use super::lock::{
    ABANDONED_AFTER_MS, Acquire, BEAT_EVERY_MS, Held, Liveness, Lock, LockError, Renew, Watch,
};
use super::machine::{Action, Machine as _};
use super::marker::{Marker, Owner};
use super::numbered::Numbered;
use crate::ids::OpId;

/// The run before this one, in case it has left its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// Whose lock that would be.
    pub owner: Owner,
    /// It was given up. Otherwise it may be about to end, and is waited for, but not for ever.
    pub given_up: bool,
}

/// Whether the lock is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Not yet.
    NotYet,
    /// It is.
    Yes,
    /// Not any more, and it was let go.
    Released,
    /// It was not to be had, or was lost.
    No(LockError),
}

/// The machine.
#[derive(Debug)]
pub struct Keep {
    store: StoreIndex,
    marker: Marker,
    predecessor: Option<Predecessor>,
    watch: Watch,
    /// Since when the predecessor is waited for.
    waits_since_ms: Option<u64>,
    /// The highest number of an operation that was given out.
    given: u64,
    now_ms: u64,
    is_released: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Asking(Numbered<Acquire>),
    /// Someone has it, and is looked at again then.
    Watching {
        again_ms: u64,
    },
    Held {
        lock: Lock,
        beat_ms: u64,
    },
    Renewing {
        lock: Lock,
        machine: Numbered<Renew>,
    },
    Releasing(Numbered<Renew>),
    Ended(Holding),
}

impl Keep {
    /// Begins to ask for the lock of `store`. `marker` is made by [`super::lock::marker`]; operations are numbered from `base + 1`.
    pub fn new(
        store: StoreIndex,
        marker: Marker,
        predecessor: Option<Predecessor>,
        base: u64,
        now_ms: u64,
    ) -> Self {
        let machine = Numbered::in_store(Acquire::new(marker.clone(), None), store, base);
        Keep {
            store,
            marker,
            predecessor,
            watch: Watch::default(),
            waits_since_ms: None,
            given: base,
            now_ms,
            is_released: false,
            state: State::Asking(machine),
        }
    }

    /// Time has passed, by a monotonic clock.
    pub fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        match &self.state {
            State::Watching { again_ms } if *again_ms <= now_ms => self.ask(None),
            State::Held { lock, beat_ms } if *beat_ms <= now_ms => {
                let (lock, machine) = (lock.clone(), Renew::new(lock.clone()));
                let machine = Numbered::in_store(machine, self.store, self.given);
                self.state = State::Renewing { lock, machine };
            }
            _ => {}
        }
    }

    /// Lets the lock go, or gives up asking for it.
    pub fn release(&mut self) {
        self.is_released = true;
        self.let_go();
    }

    /// Whether it is held.
    pub fn holding(&self) -> Holding {
        match &self.state {
            State::Asking(_) | State::Watching { .. } => Holding::NotYet,
            State::Held { .. } | State::Renewing { .. } | State::Releasing(_) => Holding::Yes,
            State::Ended(holding) => holding.clone(),
        }
    }

    /// Whether nothing is left to do: it was let go, or was not to be had.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    /// The highest number of an operation that was given out.
    pub fn end(&self) -> u64 {
        match &self.state {
            State::Asking(machine) => machine.end(),
            State::Renewing { machine, .. } | State::Releasing(machine) => machine.end(),
            State::Watching { .. } | State::Held { .. } | State::Ended(_) => self.given,
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        match &mut self.state {
            State::Asking(machine) => machine.poll_action(),
            State::Renewing { machine, .. } | State::Releasing(machine) => machine.poll_action(),
            State::Watching { .. } | State::Held { .. } | State::Ended(_) => None,
        }
    }

    /// Takes the result of an operation, if it is one of this machine's; says whether it was.
    pub fn take(&mut self, op: OpId, result: &Result<BlobDone, BlobError>) -> bool {
        match &mut self.state {
            State::Asking(machine) => {
                if !machine.take(op, result) {
                    return false;
                }
                if let Some(outcome) = machine.get().outcome().cloned() {
                    self.given = machine.end();
                    self.asked(outcome);
                }
            }
            State::Renewing { lock, machine } => {
                if !machine.take(op, result) {
                    return false;
                }
                if machine.get().is_ended() {
                    let renewed = machine.get().outcome().cloned();
                    // The next sign of life makes up for one that was lost.
                    let outcome = match renewed {
                        Some(Err(LockError::Lost)) => Err(LockError::Lost),
                        Some(Ok(lock)) => Ok(lock),
                        _ => Ok(lock.clone()),
                    };
                    self.given = machine.end();
                    self.renewed(outcome);
                }
            }
            State::Releasing(machine) => {
                if !machine.take(op, result) {
                    return false;
                }
                // What could not be written is found without a sign of life.
                if machine.get().is_ended() {
                    self.given = machine.end();
                    self.state = State::Ended(Holding::Released);
                }
            }
            State::Watching { .. } | State::Held { .. } | State::Ended(_) => return false,
        }
        true
    }

    fn ask(&mut self, abandoned: Option<Held>) {
        let machine = Acquire::new(self.marker.clone(), abandoned);
        self.state = State::Asking(Numbered::in_store(machine, self.store, self.given));
    }

    fn asked(&mut self, outcome: Result<Lock, LockError>) {
        match outcome {
            Ok(lock) => self.hold(lock),
            Err(LockError::Held(held)) if !self.is_released => self.watch(held),
            Err(error) => self.state = State::Ended(Holding::No(error)),
        }
    }

    fn watch(&mut self, held: Held) {
        let owner = held.marker.as_ref().map(|marker| marker.owner);
        let predecessor = self.predecessor.filter(|it| Some(it.owner) == owner);
        if predecessor.is_some_and(|it| it.given_up) {
            return self.ask(Some(held));
        }
        let waits_since_ms = *self.waits_since_ms.get_or_insert(self.now_ms);
        let is_patient = predecessor.is_some() && self.now_ms - waits_since_ms < ABANDONED_AFTER_MS;
        match self.watch.see(held.place(), held.beats(), self.now_ms) {
            Liveness::Abandoned => self.ask(Some(held)),
            Liveness::Alive if !is_patient => {
                self.state = State::Ended(Holding::No(LockError::Held(held)));
            }
            Liveness::Alive | Liveness::Unknown => {
                self.state = State::Watching { again_ms: self.now_ms + BEAT_EVERY_MS };
            }
        }
    }

    fn renewed(&mut self, outcome: Result<Lock, LockError>) {
        match outcome {
            Ok(lock) => self.hold(lock),
            Err(error) => self.state = State::Ended(Holding::No(error)),
        }
    }

    fn hold(&mut self, lock: Lock) {
        self.state = State::Held { lock, beat_ms: self.now_ms + BEAT_EVERY_MS };
        if self.is_released {
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        match &self.state {
            State::Held { lock, .. } => {
                let machine = Renew::release(lock.clone());
                let machine = Numbered::in_store(machine, self.store, self.given);
                self.state = State::Releasing(machine);
            }
            State::Watching { .. } => self.state = State::Ended(Holding::Released),
            // When what is under way has ended.
            State::Asking(_) | State::Renewing { .. } => {}
            State::Releasing(_) | State::Ended(_) => {}
        }
    }
}

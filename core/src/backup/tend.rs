//! Keeps the stores that have copies up to date, in the background of a node: after a run of a backup, each of them gets what it lacks, and
//! older backups go there by the same rules as in the primary store.
//!
//! Stores take turns; each is worked on under its own lock. A store that fails is tried again after a rest that doubles each time. The
//! node stops all this when the next run begins: what was under way is taken back, and made up for after that run.
//!
//! Invariants: nothing is copied to a store, and nothing pruned, before its lock is held, and nothing is begun after it was lost; copies are
//! pruned only where everything is there that should be.

use super::blob::{BlobDone, BlobError, StoreIndex};
use super::catch_up::{CatchUp, CatchUpError, CaughtUp};
use super::copy::Route;
use super::keep::{Holding, Keep};
use super::machine::Action;
use super::marker::Marker;
use super::numbered::Numbered;
use super::prune::Pruning;
use super::read::Access;
use super::tidy::Tidy;
use crate::ids::OpId;
use crate::time::Now;
use std::collections::VecDeque;

/// The rest before a store that failed is tried again; doubled each time.
const REST_MS: u64 = 60_000;
/// The longest rest.
const REST_MS_MAX: u64 = 3_600_000;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Order {
    /// Stores that have copies.
    pub stores: Vec<StoreIndex>,
    /// Who does it, made by [`super::lock::marker`].
    pub marker: Marker,
    /// What tells genuine backups.
    pub access: Access,
    /// How many parts of an object each of these stores takes.
    pub max_parts: u32,
    /// What older backups go by, if they are to go.
    pub pruning: Option<Pruning>,
}

/// What came of a store's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Which store.
    pub store: StoreIndex,
    /// Something is not there that should be.
    pub behind: bool,
    /// Something failed. What the next run has broken off has not.
    pub failed: bool,
    /// For people.
    pub what: String,
}

/// The machine.
#[derive(Debug)]
pub struct Tend {
    order: Order,
    now: Now,
    waiting: VecDeque<StoreIndex>,
    failed: Vec<StoreIndex>,
    rest_ms: u64,
    stage: Stage,
    is_stopped: bool,
    news: VecDeque<News>,
    given: u64,
    given_locks: u64,
}

#[derive(Debug)]
enum Stage {
    Working(Box<Work>),
    /// Every store was tried, and some failed.
    Resting {
        until_ms: u64,
    },
    Over,
}

/// On one store.
#[derive(Debug)]
struct Work {
    store: StoreIndex,
    keep: Keep,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Locking,
    CatchingUp(Numbered<CatchUp>),
    Tidying(Numbered<Tidy>),
    Leaving,
}

impl Tend {
    /// Begins. Operations are numbered from the first of these numbers, those of locks from the second.
    pub fn new(order: Order, first_ops: (u64, u64), now: Now) -> Self {
        let mut tend = Tend {
            now,
            waiting: order.stores.iter().copied().collect(),
            failed: Vec::new(),
            rest_ms: REST_MS,
            stage: Stage::Over,
            is_stopped: false,
            news: VecDeque::new(),
            given: first_ops.0.saturating_sub(1),
            given_locks: first_ops.1.saturating_sub(1),
            order,
        };
        tend.stage = tend.next_store();
        tend
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) {
        self.now = now;
        match &mut self.stage {
            Stage::Working(work) => work.keep.tick(now.mono.as_millis()),
            Stage::Resting { until_ms } if *until_ms <= now.mono.as_millis() => {
                self.waiting = std::mem::take(&mut self.failed).into();
                self.rest_ms = (self.rest_ms * 2).min(REST_MS_MAX);
                self.stage = self.next_store();
            }
            Stage::Resting { .. } | Stage::Over => {}
        }
        self.advance();
    }

    /// Takes back what is under way, and begins nothing more.
    pub fn stop(&mut self) {
        self.is_stopped = true;
        match &mut self.stage {
            Stage::Working(work) => match &mut work.step {
                Step::Locking => work.leave(),
                Step::CatchingUp(catching_up) => catching_up.get_mut().stop(),
                Step::Tidying(tidy) => tidy.get_mut().stop(),
                Step::Leaving => {}
            },
            Stage::Resting { .. } => self.stage = Stage::Over,
            Stage::Over => {}
        }
        self.advance();
    }

    /// Whether nothing is left to do.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// What came of a store's turn, once it is known.
    pub fn take_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// The number the next operation would have, and the next one of a lock.
    pub fn next_ops(&self) -> (u64, u64) {
        (self.given + 1, self.given_locks + 1)
    }

    /// The next thing to do; `None` until more results arrive, or time passes.
    pub fn poll_action(&mut self) -> Option<Action> {
        let Stage::Working(work) = &mut self.stage else { return None };
        let Work { keep, step, .. } = work.as_mut();
        keep.poll_action().or_else(|| match step {
            Step::CatchingUp(catching_up) => catching_up.poll_action(),
            Step::Tidying(tidy) => tidy.poll_action(),
            Step::Locking | Step::Leaving => None,
        })
    }

    /// Takes the result of an operation, if it is one of this machine's; says whether it was.
    pub fn take(&mut self, op: OpId, result: &Result<BlobDone, BlobError>) -> bool {
        let Stage::Working(work) = &mut self.stage else { return false };
        let is_ours = work.keep.take(op, result)
            || match &mut work.step {
                Step::CatchingUp(catching_up) => catching_up.take(op, result),
                Step::Tidying(tidy) => tidy.take(op, result),
                Step::Locking | Step::Leaving => false,
            };
        self.advance();
        is_ours
    }

    fn advance(&mut self) {
        while let Stage::Working(work) = &mut self.stage {
            let store = work.store;
            match &mut work.step {
                Step::Locking => match work.keep.holding() {
                    Holding::NotYet => return,
                    Holding::Yes if !self.is_stopped => {
                        let route = Route { from: StoreIndex::PRIMARY, to: store };
                        let Order { access, max_parts, .. } = &self.order;
                        let catch_up = CatchUp::new(route, access.clone(), *max_parts);
                        work.step = Step::CatchingUp(Numbered::new(catch_up, self.given));
                        return;
                    }
                    Holding::Yes | Holding::Released => work.leave(),
                    Holding::No(error) => {
                        let what = error.to_string();
                        self.news.push_back(News { store, behind: true, failed: true, what });
                        self.failed.push(store);
                        work.leave();
                    }
                },
                Step::CatchingUp(catching_up) => {
                    if matches!(work.keep.holding(), Holding::No(_)) {
                        catching_up.get_mut().stop();
                    }
                    let Some(outcome) = catching_up.get().outcome() else { return };
                    let (is_whole, what) = told(outcome);
                    self.given = catching_up.end();
                    let failed = !is_whole && !self.is_stopped;
                    self.news.push_back(News { store, behind: !is_whole, failed, what });
                    if !is_whole {
                        self.failed.push(store);
                    }
                    let is_locked = work.keep.holding() == Holding::Yes;
                    if is_whole && is_locked && !self.is_stopped {
                        let tidy = Tidy::new(self.order.pruning.as_ref(), self.now.wall);
                        let tidy = Numbered::in_store(tidy, store, self.given);
                        work.step = Step::Tidying(tidy);
                        return;
                    }
                    work.leave();
                }
                Step::Tidying(tidy) => {
                    if work.keep.holding() != Holding::Yes {
                        tidy.get_mut().stop();
                    }
                    // What the sweep could not remove is left to the next time.
                    let Some(tidied) = tidy.get().outcome() else { return };
                    if let Some((failed, what)) = tidied.told() {
                        self.news.push_back(News { store, behind: false, failed, what });
                    }
                    self.given = tidy.end();
                    work.leave();
                }
                Step::Leaving if !work.keep.is_over() => return,
                Step::Leaving => {
                    self.given_locks = work.keep.end();
                    self.stage = self.next_store();
                }
            }
        }
    }

    fn next_store(&mut self) -> Stage {
        let now_ms = self.now.mono.as_millis();
        if self.is_stopped {
            return Stage::Over;
        }
        match self.waiting.pop_front() {
            Some(store) => {
                let marker = self.order.marker.clone();
                let keep = Keep::new(store, marker, None, self.given_locks, now_ms);
                Stage::Working(Box::new(Work { store, keep, step: Step::Locking }))
            }
            None if self.failed.is_empty() => Stage::Over,
            None => Stage::Resting { until_ms: now_ms + self.rest_ms },
        }
    }
}

/// Whether everything is there now, and what was done, for people.
fn told(outcome: Result<&CaughtUp, &CatchUpError>) -> (bool, String) {
    match outcome {
        Ok(done) => (done.is_whole(), done.to_string()),
        Err(error) => (false, error.to_string()),
    }
}

impl Work {
    fn leave(&mut self) {
        self.step = Step::Leaving;
        self.keep.release();
    }
}

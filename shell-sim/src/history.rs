//! What clients did and saw: the input of the checkers that know nothing about the inside.

use crate::time::SimTime;
use raftkv_core::api::{Error, Event, KeyRange, Request, Response, Revision};

/// Everything all clients did.
#[derive(Debug, Default)]
pub struct History {
    /// Requests, in the order they were first sent.
    pub operations: Vec<Operation>,
    /// Watches, each an unbroken stretch.
    pub watches: Vec<WatchRun>,
}

/// One request, from its first attempt to its answer.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who asked.
    pub client: u32,
    /// What was asked, the same in every attempt.
    pub request: Request,
    /// When it was first sent.
    pub call: SimTime,
    /// When the answer came; never, if none did.
    pub end: SimTime,
    /// How it ended.
    pub outcome: Outcome,
    /// How often it was sent.
    pub attempts: u32,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No answer (yet): it may have been done, or be done later.
    Unknown,
    /// Answered.
    Done(Response),
    /// Refused: certainly not done by any attempt.
    Refused(Error),
}

/// Events of one watch without a break.
#[derive(Clone, Debug)]
pub struct WatchRun {
    /// Who watches.
    pub watcher: u32,
    /// What is watched.
    pub range: KeyRange,
    /// Whether events carry the version before.
    pub with_previous: bool,
    /// The first revision whose events are due.
    pub from: Revision,
    /// Every event up to and including this revision has come, says the node.
    pub upto: Revision,
    /// The watcher was told before that what it wanted is compacted.
    pub after_compaction: bool,
    /// Events in the order they came.
    pub events: Vec<Event>,
    /// Each answer: the revision up to which it says everything has come, and how many events had come with it.
    pub answers: Vec<(Revision, usize)>,
}

impl History {
    /// How many requests were answered well.
    pub fn acknowledged(&self) -> usize {
        let done = |operation: &&Operation| matches!(operation.outcome, Outcome::Done(_));
        self.operations.iter().filter(done).count()
    }
}

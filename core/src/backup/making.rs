//! One run of a backup inside a node: looks whether there is anything new to keep, reads the frozen state, makes the backup.
//!
//! Invariants: the state is encoded one piece at a time, when [`Making::feed`] is called, and only while the pipeline has room, so that
//! neither memory nor the node's time is taken all at once; `metadata.json` is written only after [`Making::permit`], which the
//! node gives once the cluster has agreed that the run still counts; a backup that is named as holding the same state is looked up
//! before anyone relies on it.

use super::blob::{BlobDone, BlobError, BlobOp, ObjectName};
use super::create::{Create, Outcome, Settings, Source};
use super::id::BackupId;
use super::machine::{Action, ActionResult, Machine as _, Outbox, Progress};
use crate::api::RunOutcome;
use crate::rng::Rng;
use crate::snapshot::Encoder;
use crate::time::Wall;

/// What is to be made.
#[derive(Debug)]
pub struct Order {
    /// The backup's id.
    pub id: BackupId,
    /// Operations are numbered from here.
    pub first_op: u64,
    /// The state.
    pub source: Source,
    /// How.
    pub settings: Settings,
    /// When the run began.
    pub started: Wall,
    /// The backup that is complete and holds the same keys, and the length of its data.
    pub same_as: Option<(BackupId, u64)>,
    /// A backup that was given up and never can be complete: its data is deleted, if there is any.
    pub orphan: Option<BackupId>,
}

/// The machine.
#[derive(Debug)]
pub struct Making {
    order: Order,
    encoder: Encoder,
    rng: Rng,
    lookup: Outbox<Part>,
    create: Option<Box<Create>>,
    permitted: bool,
    ended: Option<RunOutcome>,
}

/// What is done about older backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Metadata,
    Data,
    Sweep,
}

impl Making {
    /// Begins. `rng` must be a cryptographic generator of this run's own.
    pub fn new(order: Order, encoder: Encoder, rng: Rng) -> Self {
        let mut lookup = Outbox::starting_at(order.first_op);
        let same_as = order.same_as;
        if let Some(orphan) = order.orphan {
            lookup.blob(Part::Sweep, BlobOp::Delete { object: ObjectName::data(orphan) });
        }
        if let Some((id, _)) = same_as {
            lookup.blob(Part::Metadata, BlobOp::Head { object: ObjectName::metadata(id) });
        }
        let mut making =
            Making { order, encoder, rng, lookup, create: None, permitted: false, ended: None };
        if same_as.is_none() {
            making.create();
        }
        making
    }

    /// The next thing to do; `None` until more results arrive.
    pub fn poll_action(&mut self) -> Option<Action> {
        let create = self.create.as_mut();
        self.lookup.poll().or_else(|| create.and_then(|create| create.poll_action()))
    }

    /// Takes the result of an action.
    pub fn handle(&mut self, result: ActionResult) {
        if let ActionResult::Blob { op, result } = &result
            && let Some(part) = self.lookup.blob_done(*op)
        {
            // What could not be swept is listed as incomplete, and harms nobody.
            if part != Part::Sweep {
                self.looked_up(part, result);
            }
            return;
        }
        if let Some(create) = &mut self.create {
            create.handle(result);
        }
    }

    /// Whether [`Making::feed`] has something to do.
    pub fn wants_feed(&self) -> bool {
        self.create.as_ref().is_some_and(|create| create.wants_input())
    }

    /// Reads one more piece of the state.
    pub fn feed(&mut self) {
        let Some(create) = self.create.as_mut().filter(|create| create.wants_input()) else {
            return;
        };
        match self.encoder.next_chunk() {
            Some(piece) => create.push(&piece),
            None => create.finish(),
        }
    }

    /// Whether everything but `metadata.json` is in the store.
    pub fn wants_permit(&self) -> bool {
        self.create.as_ref().is_some_and(|create| create.wants_permit())
    }

    /// The run counts: complete the backup.
    pub fn permit(&mut self) {
        if let Some(create) = &mut self.create {
            self.permitted = true;
            create.permit_commit();
        }
    }

    /// The run does not count any more. What was permitted goes on to its end.
    pub fn abandon(&mut self, why: &str) {
        match &mut self.create {
            _ if self.permitted || self.ended.is_some() => {}
            Some(create) => create.abandon(why),
            None => self.ended = Some(RunOutcome::Failed { why: why.into() }),
        }
    }

    /// How it ended, once it has and nothing is under way.
    pub fn outcome(&self) -> Option<RunOutcome> {
        let Some(create) = &self.create else { return self.ended.clone() };
        create.outcome().map(|outcome| match outcome {
            Outcome::Complete(metadata) => RunOutcome::Complete { data_bytes: metadata.data_bytes },
            Outcome::Failed(failure) => RunOutcome::Failed { why: failure.to_string() },
        })
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.create.as_ref().map(|create| create.progress()).unwrap_or_default()
    }

    /// The number the next operation would have.
    pub fn next_op(&self) -> u64 {
        let lookup = self.lookup.next_op();
        self.create.as_ref().map_or(lookup, |create| create.next_op())
    }

    /// Anything but a clear yes, and a new backup is made.
    fn looked_up(&mut self, part: Part, result: &Result<BlobDone, BlobError>) {
        let Some((id, data_bytes)) = self.order.same_as.filter(|_| self.ended.is_none()) else {
            return;
        };
        match (part, result) {
            (Part::Metadata, Ok(BlobDone::Length(_))) => {
                self.lookup.blob(Part::Data, BlobOp::Head { object: ObjectName::data(id) });
            }
            (Part::Data, Ok(BlobDone::Length(len_bytes))) if *len_bytes == data_bytes => {
                self.ended = Some(RunOutcome::Unchanged { since: id });
            }
            _ => self.create(),
        }
    }

    fn create(&mut self) {
        let Order { id, source, settings, started, .. } = &self.order;
        let (source, settings) = (source.clone(), settings.clone());
        let first_op = self.lookup.next_op();
        match Create::fenced(*id, first_op, source, settings, *started, &mut self.rng) {
            Ok(create) => self.create = Some(Box::new(create)),
            Err(error) => self.ended = Some(RunOutcome::Failed { why: error.to_string() }),
        }
    }
}

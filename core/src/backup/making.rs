//! One run of a backup inside a node: takes the lock of every store that the backup must be in before it counts, looks at what the primary one holds, reads the frozen state, makes
//! the backup, says in the store how it stands, and lets older ones go by the rules, or at least what is left of those that broke off.
//!
//! Invariants: nothing is written before all these locks are held, and nothing is pruned without it; the state is encoded one piece at a time, when
//! [`Making::feed`] is called, and only while the pipeline has room, so that neither memory nor the node's time is taken all at once;
//! `metadata.json` is written only after [`Making::permit`], which the node gives once the cluster has agreed that the run still
//! counts; a backup that is named as holding the same state is relied on only if it is there, and opens with every key that a new one would;
//! what the run before has left goes only where the store shows no metadata beside it; nothing is made where a cluster that was restored from
//! this one has its backups; what goes wrong after the backup is complete takes nothing back.

use super::admission;
use super::blob::{BlobDone, BlobError, BlobOp, ObjectName, StoreIndex};
use super::catalog::{Catalog, ReadCatalog};
use super::create::{Create, Outcome, Settings, Source};
use super::id::BackupId;
use super::keep::{Holding, Keep, Predecessor};
use super::lock;
use super::machine::{Action, ActionResult, Machine as _, Outbox, Progress};
use super::mark::Mark;
use super::marker::{Marker, Owner};
use super::numbered::Numbered;
use super::prune::{NO_RULES, Older};
use super::read::Access;
use super::tidy::Tidy;
use crate::api::{Ended, Obstacle, PruneReport, RunOutcome};
use crate::ids::OpId;
use crate::rng::Rng;
use crate::snapshot::Encoder;
use crate::time::{Now, Wall};

/// What is to be made.
#[derive(Debug)]
pub struct Order {
    /// The backup's id.
    pub id: BackupId,
    /// Operations are numbered from here; those of the locks from [`LOCK_OPS`].
    pub first_op: u64,
    /// The state.
    pub source: Source,
    /// How.
    pub settings: Settings,
    /// What tells genuine backups.
    pub access: Access,
    /// When the run began.
    pub started: Wall,
    /// The backup that is complete and holds the same keys, and the length of its data.
    pub same_as: Option<(BackupId, u64)>,
    /// The newest backup that the cluster has completed.
    pub newest: Option<BackupId>,
    /// The run before this one. What it has left, if it was given up, goes.
    pub previous: Option<Ended>,
    /// What becomes of older backups.
    pub older: Older,
}

/// The locks live beside the backup, so their operations have numbers of their own, a range for each store.
pub const LOCK_OPS: u64 = 1 << 63;
const LOCK_OPS_OF_ONE: u64 = 1 << 48;

/// The machine.
#[derive(Debug)]
pub struct Making {
    order: Order,
    encoder: Encoder,
    rng: Rng,
    now: Now,
    /// The locks of stores, the primary one's first. One is asked for when the one before is held, so that of several that want them
    /// one gets all.
    keeps: Vec<Keep>,
    /// What goes of the run before this one.
    leftovers: Outbox<()>,
    stage: Stage,
    create: Option<Box<Create>>,
    permitted: bool,
    ended: Option<RunOutcome>,
    /// Nothing is left in the store of [`Order::newest`].
    has_vanished: bool,
    pruned: Option<PruneReport>,
    /// Operations up to here have been numbered, but for those of the locks, of the leftovers and of `create`.
    given: u64,
}

#[derive(Debug)]
enum Stage {
    /// Waiting for the locks.
    Locking,
    /// Finding out what there is.
    Looking(Box<Numbered<ReadCatalog>>),
    /// Saying that it is being made.
    Announcing(Numbered<Mark>),
    Creating,
    /// Saying how it ended.
    Concluding(Numbered<Mark>),
    Tidying(Box<Numbered<Tidy>>),
    /// Letting the locks go.
    Leaving,
}

impl Making {
    /// Begins. `rng` must be a cryptographic generator of this run's own.
    pub fn new(order: Order, encoder: Encoder, rng: Rng, now: Now) -> Self {
        let mut making = Making {
            keeps: Vec::new(),
            leftovers: Outbox::starting_at(order.first_op),
            given: order.first_op.saturating_sub(1),
            order,
            encoder,
            rng,
            now,
            stage: Stage::Locking,
            create: None,
            permitted: false,
            ended: None,
            has_vanished: false,
            pruned: None,
        };
        making.ask_for_lock();
        making
    }

    /// The lock of the next store.
    fn ask_for_lock(&mut self) {
        let Order { id, started, previous, .. } = &self.order;
        let predecessor = previous.as_ref().map(|previous| Predecessor {
            owner: Owner::of(previous.id),
            given_up: previous.outcome == RunOutcome::Abandoned,
        });
        let marker = lock::marker(Owner::of(*id), &note(&self.order), *started);
        let store = StoreIndex(self.keeps.len() as u8);
        let base = LOCK_OPS + u64::from(store.0) * LOCK_OPS_OF_ONE;
        let now_ms = self.now.mono.as_millis();
        self.keeps.push(Keep::new(store, marker, predecessor, base, now_ms));
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) {
        self.now = now;
        self.keeps.iter_mut().for_each(|keep| keep.tick(now.mono.as_millis()));
        self.advance();
    }

    /// The next thing to do; `None` until more results arrive, or time passes.
    pub fn poll_action(&mut self) -> Option<Action> {
        let locks = self.keeps.iter_mut().find_map(Keep::poll_action);
        let beside = locks.or_else(|| self.leftovers.poll());
        beside.or_else(|| match &mut self.stage {
            Stage::Looking(reading) => reading.poll_action(),
            Stage::Announcing(mark) | Stage::Concluding(mark) => mark.poll_action(),
            Stage::Creating => self.create.as_mut().and_then(|create| create.poll_action()),
            Stage::Tidying(tidy) => tidy.poll_action(),
            Stage::Locking | Stage::Leaving => None,
        })
    }

    /// Takes the result of an action.
    pub fn handle(&mut self, result: ActionResult) {
        match &result {
            ActionResult::Blob { op, result }
                if self.keeps.iter_mut().any(|keep| keep.take(*op, result)) => {}
            ActionResult::Blob { op, result } => {
                // Leftovers that could not be removed are listed as incomplete, and harm nobody.
                if self.leftovers.blob_done(*op).is_none() {
                    self.take(*op, result);
                }
            }
            ActionResult::Work(done) => self.created(ActionResult::Work(done.clone())),
        }
        self.advance();
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
        create.pull(&mut self.encoder);
        self.advance();
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
            None => self.ended = Some(RunOutcome::failed(Obstacle::Other, why)),
        }
        self.advance();
    }

    /// How the run ended, once it has. Something may still be done in the store: see [`Making::is_over`].
    pub fn outcome(&self) -> Option<RunOutcome> {
        self.ended.clone()
    }

    /// What came of pruning, once it is known.
    pub fn pruned(&self) -> Option<PruneReport> {
        self.pruned.clone()
    }

    /// Whether nothing is left to do.
    pub fn is_over(&self) -> bool {
        let has_left = self.keeps.iter().all(Keep::is_over);
        matches!(self.stage, Stage::Leaving) && has_left && self.leftovers.is_idle()
    }

    /// What was to be made.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.create.as_ref().map(|create| create.progress()).unwrap_or_default()
    }

    /// The number the next operation would have.
    pub fn next_op(&self) -> u64 {
        self.leftovers.next_op().max(self.given.saturating_add(1))
    }

    /// Goes on as far as what has ended allows.
    fn advance(&mut self) {
        loop {
            let next = match &self.stage {
                Stage::Locking => self.locked(),
                Stage::Looking(reading) => match reading.get().outcome().cloned() {
                    None => None,
                    Some(catalog) => {
                        self.given = reading.end();
                        Some(self.looked(catalog.ok().as_ref()))
                    }
                },
                Stage::Announcing(mark) => match mark.get().outcome() {
                    None => None,
                    Some(outcome) => {
                        let failed = outcome.as_ref().err().map(ToString::to_string);
                        self.given = mark.end();
                        Some(self.announced(failed))
                    }
                },
                Stage::Creating => self.concluding(),
                Stage::Concluding(mark) if !mark.get().is_ended() => None,
                Stage::Concluding(mark) => {
                    self.given = mark.end();
                    Some(self.tidying())
                }
                Stage::Tidying(_) => self.tidied(),
                Stage::Leaving => None,
            };
            let Some(next) = next else { return };
            if matches!(next, Stage::Leaving) {
                self.keeps.iter_mut().for_each(Keep::release);
            }
            self.stage = next;
        }
    }

    fn locked(&mut self) -> Option<Stage> {
        if self.ended.is_some() {
            return Some(Stage::Leaving);
        }
        for keep in &self.keeps {
            match keep.holding() {
                Holding::Yes => {}
                Holding::NotYet => return None,
                Holding::No(error) => {
                    self.ended = Some(RunOutcome::failed(error.obstacle(), error));
                    return Some(Stage::Leaving);
                }
                Holding::Released => return Some(Stage::Leaving),
            }
        }
        if self.keeps.len() < usize::from(self.order.settings.stores) {
            self.ask_for_lock();
            return None;
        }
        let reading = ReadCatalog::new(self.order.access.keys.clone());
        Some(Stage::Looking(Box::new(Numbered::new(reading, self.given))))
    }

    /// Of a store that cannot be listed nothing is known, and the run goes on: if it is down, that will fail.
    fn looked(&mut self, catalog: Option<&Catalog>) -> Stage {
        if self.ended.is_some() {
            return Stage::Leaving;
        }
        let Order { source, settings, access, .. } = &self.order;
        let admitted = catalog.map(|it| admission::check(it, access.plaintext, source, settings));
        if let Some(Err(refusal)) = admitted {
            self.ended = Some(RunOutcome::failed(Obstacle::Refused, refusal));
            return Stage::Leaving;
        }
        self.has_vanished = catalog.zip(self.order.newest).is_some_and(|(catalog, newest)| {
            catalog.entries.iter().all(|entry| entry.id != newest)
        });
        self.remove_leftovers(catalog);
        if let Some(since) = catalog.and_then(|catalog| self.same(catalog)) {
            self.ended = Some(RunOutcome::Unchanged { since });
            return Stage::Leaving;
        }
        self.announcing()
    }

    /// The newest backup that the cluster had completed, if nothing of it was left in the store when this run looked.
    pub fn vanished(&self) -> Option<BackupId> {
        self.order.newest.filter(|_| self.has_vanished)
    }

    /// The backup that holds the same state, if it is there and would be restored with each of the keys that new ones are sealed for.
    fn same(&self, catalog: &Catalog) -> Option<BackupId> {
        let (id, data_bytes) = self.order.same_as?;
        let entry = catalog.entries.iter().find(|entry| entry.id == id)?;
        let metadata = entry.genuine(self.order.access.plaintext)?;
        let is_for_all = entry.is_sealed_for(&self.order.settings.recipients);
        (is_for_all && metadata.data_bytes == data_bytes).then_some(id)
    }

    /// The data of the run before this one was whole if its maker died late enough, and somebody may have made a backup of it since. Where
    /// that cannot be told, it stays, too.
    fn remove_leftovers(&mut self, catalog: Option<&Catalog>) {
        self.leftovers = Outbox::starting_at(self.given + 1);
        let orphan = self.order.previous.as_ref().and_then(Ended::orphan);
        let orphan = orphan.filter(|id| catalog.is_some_and(|it| it.lacks_metadata(*id)));
        if let Some((orphan, status)) = orphan.zip(self.failure()) {
            for store in StoreIndex::first(self.order.settings.stores) {
                let object = ObjectName::data(orphan);
                self.leftovers.blob_in(store, (), BlobOp::Delete { object });
            }
            self.leftovers.blob((), status);
        }
    }

    /// Says of the run before this one why it failed, since its node may not have.
    fn failure(&self) -> Option<BlobOp> {
        let previous = self.order.previous.as_ref()?;
        let why = match &previous.outcome {
            RunOutcome::Failed { why } => why.clone(),
            _ => format!("node {} was not heard of in time", previous.node),
        };
        let status = status(previous.id, &why, previous.started, true);
        let bytes = status.render().into();
        Some(BlobOp::Put { object: status.place, bytes, if_absent: false })
    }

    fn announcing(&self) -> Stage {
        let Order { id, started, .. } = &self.order;
        let status = status(*id, &note(&self.order), *started, false);
        let base = self.leftovers.next_op() - 1;
        Stage::Announcing(Numbered::new(Mark::write(&status), base))
    }

    fn announced(&mut self, failed: Option<String>) -> Stage {
        if let Some(why) = failed.filter(|_| self.ended.is_none()) {
            self.ended = Some(RunOutcome::failed(Obstacle::Store, why));
        }
        if self.ended.is_none() {
            let Order { id, source, settings, started, .. } = &self.order;
            let (source, settings) = (source.clone(), settings.clone());
            let first_op = self.given + 1;
            match Create::fenced(*id, first_op, source, settings, *started, &mut self.rng) {
                Ok(create) => {
                    self.create = Some(Box::new(create));
                    return Stage::Creating;
                }
                Err(error) => self.ended = Some(RunOutcome::failed(Obstacle::Other, error)),
            }
        }
        self.conclude()
    }

    fn take(&mut self, op: OpId, result: &Result<BlobDone, BlobError>) {
        match &mut self.stage {
            Stage::Looking(reading) => {
                reading.take(op, result);
            }
            Stage::Announcing(mark) | Stage::Concluding(mark) => {
                mark.take(op, result);
            }
            Stage::Tidying(tidy) => {
                tidy.take(op, result);
            }
            _ => self.created(ActionResult::Blob { op, result: result.clone() }),
        }
    }

    fn created(&mut self, result: ActionResult) {
        if let Some(create) = &mut self.create {
            create.handle(result);
        }
    }

    fn concluding(&mut self) -> Option<Stage> {
        let create = self.create.as_ref()?;
        let outcome = match create.outcome()? {
            Outcome::Complete(metadata) => RunOutcome::Complete { data_bytes: metadata.data_bytes },
            Outcome::Failed(failure) => RunOutcome::failed(failure.obstacle(), failure),
        };
        self.given = create.next_op() - 1;
        self.ended = Some(outcome);
        Some(self.conclude())
    }

    /// A complete backup needs no status; of any other the status tells why.
    fn conclude(&self) -> Stage {
        let Order { id, started, .. } = &self.order;
        let mark = match &self.ended {
            Some(RunOutcome::Failed { why }) => Mark::write(&status(*id, why, *started, true)),
            _ => Mark::remove(ObjectName::status(*id)),
        };
        Stage::Concluding(Numbered::new(mark, self.given))
    }

    /// After a backup that is complete, and under the lock.
    fn tidying(&mut self) -> Stage {
        let is_complete = matches!(self.ended, Some(RunOutcome::Complete { .. }));
        if !is_complete || !self.is_locked() {
            return Stage::Leaving;
        }
        if let Older::NoRules = self.order.older {
            let (after, what) = (self.order.id, NO_RULES.into());
            self.pruned = Some(PruneReport { after, failed: true, what });
        }
        let tidy = Tidy::new(self.order.older.pruning(), self.now.wall);
        Stage::Tidying(Box::new(Numbered::new(tidy, self.given)))
    }

    /// Without the lock nothing more is begun.
    fn tidied(&mut self) -> Option<Stage> {
        let is_locked = self.is_locked();
        let Stage::Tidying(tidy) = &mut self.stage else { return None };
        if !is_locked {
            tidy.get_mut().stop();
        }
        let told = tidy.get().outcome()?.told();
        self.given = tidy.end();
        if let Some((failed, what)) = told {
            self.pruned = Some(PruneReport { after: self.order.id, failed, what });
        }
        Some(Stage::Leaving)
    }

    fn is_locked(&self) -> bool {
        self.keeps.iter().all(|keep| keep.holding() == Holding::Yes)
    }
}

/// What a backup that is not complete has beside it: who makes it, or, `failed`, why it is none.
pub fn status(id: BackupId, note: &str, since: Wall, failed: bool) -> Marker {
    let status = Marker::new(ObjectName::status(id), Owner::of(id), note, since);
    Marker { released: failed, ..status }
}

/// Who makes it, for people.
fn note(order: &Order) -> String {
    let Source { node, cluster, .. } = &order.source;
    format!("backup {} by node {node} of cluster {cluster}", order.id)
}

//! This node makes a backup: begins it at its entry, drives it, and tells the leader how it goes.
//!
//! Invariants: only the life of the node that the run names makes it, and from the state at the run's own entry; `metadata.json` is
//! permitted only after this node has applied that the run commits; when the run is over without this node having said so, what
//! was uploaded is taken back; a node that still prunes, or lets a store's lock go, is not ready for another run.

use super::Node;
use super::backups::Ability;
use crate::api::{PruneReport, Run, RunOutcome, RunTotals};
use crate::backup::BackupId;
use crate::backup::create::{Settings, Source};
use crate::backup::machine::{Action, ActionResult, WorkDone};
use crate::backup::making::{Making, Order};
use crate::backup::prune::{Older, Pruning};
use crate::backup::read::Access;
use crate::ids::OpId;
use crate::io::Output;
use crate::log::Level;
use crate::rng::{Rng, Seed};
use crate::snapshot::Encoder;
use crate::time::{Mono, Span};
use crate::wire::peer::BackupReport as Report;
use std::collections::BTreeSet;

/// Between two words to the leader.
const REPORT_EVERY: Span = Span::from_millis(1_000);

/// What this node can make, and makes.
#[derive(Debug)]
pub(super) struct Maker {
    settings: Option<(Settings, Access)>,
    /// The node may only try backups; those that it made in earlier lives.
    pub(super) trial: Option<Vec<BackupId>>,
    /// What was seen to end in this life, wherever it was made.
    pub(super) totals: RunTotals,
    pruning: Option<Pruning>,
    rng: Rng,
    life: u64,
    /// The run's number, and its machine.
    making: Option<(u64, Making)>,
    /// What came of pruning, the last time.
    pruned: Option<PruneReport>,
    work: BTreeSet<OpId>,
    next_op: u64,
    next_report: Mono,
    /// How far the leader was told that the run has come.
    told: Milestone,
}

/// What the leader is told of at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Milestone {
    /// It goes on.
    Working,
    /// It asks to count.
    WantsCommit,
    /// It has ended, with everything that comes behind it: the next one finds this node free, and no lock. Where that takes long, the next
    /// word to the leader says that it has ended all the same: whether there is a backup must not depend on how pruning goes on.
    Ended,
}

impl Milestone {
    fn of(making: &Making) -> Self {
        match making.outcome() {
            Some(_) if making.is_over() => Milestone::Ended,
            None if making.wants_permit() => Milestone::WantsCommit,
            _ => Milestone::Working,
        }
    }
}

impl Maker {
    /// A node that makes no backups until it is told how.
    pub(super) fn new(seed: &Seed) -> Self {
        let mut rng = seed.fork("backups");
        Maker {
            settings: None,
            trial: None,
            totals: RunTotals::default(),
            pruning: None,
            life: rng.next_u64(),
            rng,
            making: None,
            pruned: None,
            work: BTreeSet::new(),
            next_op: 1,
            next_report: Mono(0),
            told: Milestone::Working,
        }
    }

    /// Randomness for what concerns backups.
    pub(super) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// Bytes of the state read, if this run is being made here.
    pub(super) fn done_bytes(&self, run: &Run) -> Option<u64> {
        let (number, making) = self.making.as_ref()?;
        (*number == run.number).then(|| making.progress().done_bytes)
    }

    /// What came of pruning after the last backup that was followed by it.
    pub(super) fn pruned(&self) -> Option<PruneReport> {
        self.pruned.clone()
    }

    /// Whether a piece of the state should be read as soon as there is time.
    pub(super) fn wants_feed(&self) -> bool {
        self.making.as_ref().is_some_and(|(_, making)| making.wants_feed())
    }
}

impl Node {
    /// Lets this node make backups for the cluster, like this. `access` tells which of those in the store are genuine.
    pub fn make_backups(&mut self, settings: Settings, access: Access) {
        self.maker.settings = Some((settings, access));
    }

    /// Whether this node has a backup configuration, or may do without.
    pub fn can_make_backups(&self) -> bool {
        let Maker { settings, trial, .. } = &self.maker;
        settings.is_some() && trial.as_ref().is_none_or(|made| self.may_try(made))
    }

    /// This life of the node, if it can begin a backup now.
    pub(super) fn ready_to_make(&self) -> Option<u64> {
        (self.can_make_backups() && self.maker.making.is_none()).then_some(self.maker.life)
    }

    /// What this node says when it is asked for a backup.
    pub(super) fn ability(&self) -> Ability {
        match self.ready_to_make() {
            Some(life) => Ability::Ready(life),
            None if self.can_make_backups() => Ability::Busy,
            None => Ability::None,
        }
    }

    /// Lets older backups go by these rules, after one that this node has made: on schedule if the schedule says so, asked for if the
    /// rules do. Without rules none go.
    pub fn prune_backups(&mut self, pruning: Pruning) {
        self.maker.pruning = Some(pruning);
    }

    /// An entry that began a run was applied, and is the newest one applied.
    pub(super) fn begin_making(&mut self) {
        let Some(run) = self.state.backups().run.clone() else { return };
        let ours = run.number == self.applied.0
            && run.node == self.identity.node
            && self.ready_to_make() == Some(run.life);
        let Some((settings, access)) = self.maker.settings.clone().filter(|_| ours) else { return };
        let header = self.snapshot_header();
        let members = self.state.members().cloned().collect();
        let order = Order {
            id: run.id,
            first_op: self.maker.next_op,
            source: Source::new(&header, self.identity.node, members),
            settings,
            access,
            started: run.started,
            same_as: run.same_as,
            newest: self.state.backups().complete.as_ref().map(|complete| complete.id),
            previous: self.state.backups().last.clone(),
            older: self.older_after(&run),
        };
        let encoder = Encoder::new(header, self.state.items());
        let rng = Seed::from_bytes(self.maker.rng.bytes()).fork("backup");
        self.log(Level::Info, format!("making backup {} of index {}", run.id, run.number));
        self.maker.making = Some((run.number, Making::new(order, encoder, rng, self.now)));
        self.maker.next_report = self.now.mono + REPORT_EVERY;
        self.maker.told = Milestone::Working;
        self.drive_making();
    }

    /// Whether older backups are to go is said by the schedule, or, where the run was asked for, by this node's rules; by which rules, only
    /// by these.
    fn older_after(&self, run: &Run) -> Older {
        let schedule = self.state.backups().schedule.as_ref();
        let rules = self.maker.pruning.as_ref();
        let is_wanted = match run.slot {
            Some(_) => schedule.is_some_and(|schedule| schedule.prune),
            None => rules.is_some_and(|pruning| pruning.rules.prune_on_backup),
        };
        Older::by(rules.cloned(), is_wanted)
    }

    /// An operation in the store, or work, has ended.
    pub(super) fn on_making_result(&mut self, result: ActionResult) {
        let is_copys = match &result {
            ActionResult::Blob { op, result } => self.copier.take(*op, result),
            ActionResult::Work(_) => false,
        };
        if !is_copys && let Some((_, making)) = &mut self.maker.making {
            making.handle(result);
        }
        self.drive_making();
    }

    /// Work has ended.
    pub(super) fn on_work_done(&mut self, op: OpId, done: WorkDone) {
        if self.maker.work.remove(&op) {
            self.on_making_result(ActionResult::Work(done));
        }
    }

    /// There is time to read a piece of the state.
    pub(super) fn feed_making(&mut self) {
        if let Some((_, making)) = &mut self.maker.making
            && making.wants_feed()
        {
            making.feed();
            self.drive_making();
        }
    }

    /// Gives out what is to be done, and goes on where the run allows it.
    pub(super) fn drive_making(&mut self) {
        self.drive_copies();
        let Some((number, mut making)) = self.maker.making.take() else { return };
        let current = self.state.backups().run.as_ref().filter(|run| run.number == number);
        match current {
            Some(run) if run.committing && making.wants_permit() => making.permit(),
            Some(_) => {}
            None => making.abandon("the run is over for the cluster"),
        }
        let is_current = current.is_some();
        while let Some(action) = making.poll_action() {
            self.give_out(action);
        }
        match making.outcome() {
            Some(outcome) if !is_current && making.is_over() => {
                self.maker.next_op = making.next_op();
                let is_good =
                    matches!(outcome, RunOutcome::Complete { .. } | RunOutcome::Unchanged { .. });
                let level = |is_good| if is_good { Level::Info } else { Level::Warn };
                self.log(level(is_good), format!("backup run {number} ended: {outcome:?}"));
                if let Some(id) = making.vanished() {
                    let what = format!(
                        "backup {id}, the newest that this cluster had completed, is not in the store any more: if nobody has deleted it on purpose, find out what did"
                    );
                    self.log(Level::Warn, what);
                }
                if let Some(pruned) = making.pruned() {
                    self.log(
                        level(!pruned.failed),
                        format!("after backup {}: {}", pruned.after, pruned.what),
                    );
                    self.maker.pruned = Some(pruned);
                }
                self.begin_copies(number, making.order(), is_good);
            }
            _ => {
                let come = Milestone::of(&making);
                self.maker.making = Some((number, making));
                if come != std::mem::replace(&mut self.maker.told, come)
                    && come != Milestone::Working
                {
                    self.tell_leader();
                }
            }
        }
    }

    pub(super) fn give_out(&mut self, action: Action) {
        let output = match action {
            Action::Blob { store, op, action } => Output::Blob { store, op, action },
            Action::Work(work) => {
                let op = self.name_op();
                self.maker.work.insert(op);
                Output::Work { op, work }
            }
        };
        self.outbox.push_back(output);
    }

    /// On a tick: keeps the leader informed.
    pub(super) fn report_making(&mut self) {
        if let Some((_, making)) = &mut self.maker.making {
            making.tick(self.now);
        }
        self.copier.tick(self.now);
        self.drive_making();
        if self.now.mono >= self.maker.next_report {
            self.tell_leader();
        }
    }

    fn tell_leader(&mut self) {
        let Some(run) = &self.state.backups().run else { return };
        if run.node != self.identity.node {
            return;
        }
        let number = run.number;
        let report = match &self.maker.making {
            Some((making, machine)) if *making == number => match machine.outcome() {
                Some(outcome) => Report::Ended(outcome),
                None if machine.wants_permit() => Report::WantsCommit,
                None => Report::Alive,
            },
            _ => Report::Ended(RunOutcome::Failed {
                why: "the node was started again, or fell behind, before the backup was complete"
                    .into(),
            }),
        };
        self.maker.next_report = self.now.mono + REPORT_EVERY;
        self.send_report(number, report);
    }
}

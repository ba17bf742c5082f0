//! Carries retention out: reads what there is, decides by [`super::retention`], removes what goes.
//!
//! For whoever holds the store's lock: only then does the catalog tell the store's clock, and is what broke off known to be no
//! backup that is being made.

use super::blob::BlobError;
use super::catalog::{Catalog, ReadCatalog};
use super::config::Retention;
use super::format::Plaintext;
use super::id::BackupId;
use super::machine::{Action, ActionResult, Machine};
use super::numbered::Numbered;
use super::read::Access;
use super::remove::{Fate, Force, Remove};
use super::retention::{Clocks, Plan, RetentionError, plan};
use crate::time::Wall;
use std::collections::BTreeMap;
use std::fmt;

/// What retention goes by.
#[derive(Clone, Debug)]
pub struct Pruning {
    /// The rules.
    pub rules: Retention,
    /// The keys that tell genuine backups, and whether plain ones are ours.
    pub access: Access,
}

/// What becomes of older backups after one that is complete.
#[derive(Clone, Debug)]
pub enum Older {
    /// They stay, but for what is left of those that broke off.
    Stay,
    /// They go by rules.
    Prune(Pruning),
    /// They were to go, but nobody has said by which rules.
    NoRules,
}

/// What is reported where there are no rules.
pub const NO_RULES: &str =
    "older backups were not pruned: the backup configuration of this node has no `retention`";

/// Why nothing was pruned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PruneError {
    /// The store cannot be listed.
    #[error("the backup store: {0}")]
    Store(#[from] BlobError),
    /// There is no plan.
    #[error(transparent)]
    Retention(#[from] RetentionError),
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// What became of each backup that was to go.
    pub fates: BTreeMap<BackupId, Fate>,
}

/// The machine.
#[derive(Debug)]
pub struct Prune {
    rules: Retention,
    plaintext: Plaintext,
    now: Wall,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Reading(Box<Numbered<ReadCatalog>>),
    Removing(Numbered<Remove>),
    Ended(Result<Pruned, PruneError>),
}

impl Older {
    /// If they are to go, they go by these rules.
    pub fn by(rules: Option<Pruning>, are_to_go: bool) -> Self {
        match rules {
            _ if !are_to_go => Older::Stay,
            Some(pruning) => Older::Prune(pruning),
            None => Older::NoRules,
        }
    }

    /// The rules by which they go, if they do.
    pub fn pruning(&self) -> Option<&Pruning> {
        match self {
            Older::Prune(pruning) => Some(pruning),
            Older::Stay | Older::NoRules => None,
        }
    }
}

impl Prune {
    /// Begins; it is `now` by the calendar of whoever asks.
    pub fn new(pruning: &Pruning, now: Wall) -> Self {
        let Pruning { rules, access } = pruning.clone();
        let stage = Stage::Reading(Box::new(Numbered::new(ReadCatalog::new(access.keys), 0)));
        Prune { rules, plaintext: access.plaintext, now, stage }
    }

    /// What was done, once it has ended.
    pub fn outcome(&self) -> Option<&Result<Pruned, PruneError>> {
        match &self.stage {
            Stage::Ended(outcome) => Some(outcome),
            Stage::Reading(_) | Stage::Removing(_) => None,
        }
    }

    fn advance(&mut self) {
        let next = match &self.stage {
            Stage::Reading(reading) => match reading.get().outcome() {
                None => return,
                Some(Err(error)) => Stage::Ended(Err(error.clone().into())),
                Some(Ok(catalog)) => self.decided(catalog, reading.end()),
            },
            Stage::Removing(removing) => {
                let Some(fates) = removing.get().outcome() else { return };
                let fates = fates.map(|(id, fate)| (id, fate.clone())).collect();
                Stage::Ended(Ok(Pruned { fates }))
            }
            Stage::Ended(_) => return,
        };
        self.stage = next;
    }

    fn decided(&self, catalog: &Catalog, base: u64) -> Stage {
        match self.plan(catalog) {
            Err(error) => Stage::Ended(Err(error.into())),
            Ok(plan) if plan.deletions().next().is_none() => Stage::Ended(Ok(Pruned::default())),
            Ok(plan) => {
                let remove = Remove::new(plan.deletions(), Force::Respect, self.now);
                let remove = remove.despite(plan.forgotten);
                Stage::Removing(Numbered::new(remove, base))
            }
        }
    }

    fn plan(&self, catalog: &Catalog) -> Result<Plan, RetentionError> {
        let clocks = Clocks { now: self.now, store: catalog.lock_written };
        plan(&self.rules, self.plaintext, &catalog.entries, clocks)
    }
}

impl Machine for Prune {
    fn poll_action(&mut self) -> Option<Action> {
        match &mut self.stage {
            Stage::Reading(reading) => reading.poll_action(),
            Stage::Removing(removing) => removing.poll_action(),
            Stage::Ended(_) => None,
        }
    }

    fn handle(&mut self, result: ActionResult) {
        let ActionResult::Blob { op, result } = result else { return };
        let is_ours = match &mut self.stage {
            Stage::Reading(reading) => reading.take(op, &result),
            Stage::Removing(removing) => removing.take(op, &result),
            Stage::Ended(_) => false,
        };
        if is_ours {
            self.advance();
        }
    }

    fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }
}

impl Pruned {
    /// Whether the store failed for a backup that was to go. One that is pinned or in use may stay.
    pub fn has_failed(&self) -> bool {
        self.fates.values().any(|fate| matches!(fate, Fate::Failed(_)))
    }
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let removed = self.fates.values().filter(|fate| **fate == Fate::Removed).count();
        write!(f, "{removed} of {} older backups that were to go are gone", self.fates.len())?;
        let others = self.fates.iter().filter(|(_, fate)| **fate != Fate::Removed);
        others.take(3).try_for_each(|(id, fate)| write!(f, "; {id}: {fate}"))
    }
}

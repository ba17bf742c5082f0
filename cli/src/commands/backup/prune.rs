//! `backup prune`: let old backups go by the retention rules, in every store by itself. `--dry-run` shows the plan.

use super::confirm::Confirmation;
use super::setup::{ConfigFile, Setup, now};
use super::stores::{Place, Round, confirm};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{Report, table};
use crate::say::say;
use clap::Args;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::catalog::Catalog;
use raftkv_core::backup::metadata::rfc3339;
use raftkv_core::backup::prune::{Older, Pruning};
use raftkv_core::backup::remove::{Fate, Force, Remove};
use raftkv_core::backup::retention::{Clocks, Plan, Verdict, plan};
use raftkv_core::backup::tidy::Tidy;
use raftkv_core::time::Wall;
use raftkv_node::backup::lock::Guard;
use raftkv_node::blob::drive;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What is said where the file has no rules.
const NO_RULES: &str = "this file does not say what may go: write a block like \
    `retention: {retention_days: 30, max_backups: 10, min_backups: 3}` into it";

/// What becomes of a backup that is to go since the question was asked.
const NOT_SHOWN: &str = "stays until the next time: it was not shown";

/// Arguments.
#[derive(Debug, Args)]
pub struct Prune {
    #[command(flatten)]
    config: ConfigFile,
    /// Only show what would go, and why everything else stays
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    confirmation: Confirmation,
}

#[derive(Debug, Serialize)]
struct Pruned {
    dry_run: bool,
    backups: Vec<PrunedBackup>,
}

#[derive(Debug, Serialize)]
struct PrunedBackup {
    /// In which store, if there are several.
    store: Option<String>,
    id: String,
    timestamp: Option<String>,
    epoch: Option<u64>,
    raft_index: Option<u64>,
    /// `keep` or `delete`.
    action: &'static str,
    reason: String,
    /// What came of the deletion; nothing when there was none.
    outcome: Option<String>,
}

/// Runs it. Every store is pruned by itself, the primary one first: what goes there is copied nowhere again.
pub async fn run(context: &Context, prune: Prune) -> Result<(), Failure> {
    let mut setup = prune.config.open()?;
    rules(&setup)?;
    let mut round = Round::begin(&setup).await?;
    let mut report = Pruned { dry_run: prune.dry_run, backups: Vec::new() };
    let mut looked = false;
    if prune.dry_run {
        for place in std::mem::take(&mut round.places) {
            match decide(&place.setup, &place.catalog, None) {
                Ok(plan) => {
                    looked = true;
                    report.add(&place, &place.catalog, &plan, &BTreeMap::new());
                }
                Err(failure) => round.failed(place.name.as_deref(), failure),
            }
        }
    } else {
        let agreed = match prune.confirmation.yes {
            true => None,
            false => Some(ask(&mut round, prune.confirmation).await?),
        };
        for mut place in std::mem::take(&mut round.places) {
            let agreed = agreed.as_ref().map(|agreed| &agreed[&place.store]);
            match prune_one(&mut setup, &mut place, agreed).await {
                Ok((catalog, plan, fates)) => {
                    looked = true;
                    report.add(&place, &catalog, &plan, &fates);
                    if let Err(failure) = first_failure(&fates) {
                        round.failed(place.name.as_deref(), failure);
                    }
                }
                Err(failure) => round.failed(place.name.as_deref(), failure),
            }
        }
    }
    if looked {
        context.print(&report)?;
    }
    round.end(None)
}

/// What is to go from each store.
type Agreed = BTreeMap<StoreIndex, BTreeSet<BackupId>>;

/// Shows what is to go from all stores, and asks. Whoever is asked may take all night, and has no lock meanwhile.
async fn ask(round: &mut Round, confirmation: Confirmation) -> Result<Agreed, Failure> {
    let (mut agreed, mut reasons) = (Agreed::new(), String::new());
    for mut place in std::mem::take(&mut round.places) {
        let plan = match plan_once(&mut place.setup).await {
            Ok(plan) => plan,
            Err(failure) => {
                round.failed(place.name.as_deref(), failure);
                continue;
            }
        };
        let label = place.label();
        let going = plan.decisions.iter().filter(|it| matches!(it.verdict, Verdict::Delete(_)));
        reasons.extend(going.map(|it| format!("{label}{}: {}\n", it.id, it.verdict)));
        agreed.insert(place.store, plan.deletions().collect());
        round.places.push(place);
    }
    let count: usize = agreed.values().map(BTreeSet::len).sum();
    if count > 0 {
        confirmation.ask(&format!("{reasons}Delete these {count} backups?"))?;
    }
    Ok(agreed)
}

async fn plan_once(setup: &mut Setup) -> Result<Plan, Failure> {
    let lock = setup.lock("backup prune").await?;
    let planned = plan_locked(setup).await;
    lock.release().await;
    Ok(planned?.1)
}

/// With the lock, the store tells its clock, and what is unfinished stays unfinished.
async fn plan_locked(setup: &mut Setup) -> Result<(Catalog, Plan), Failure> {
    let catalog = setup.catalog().await?;
    let plan = decide(setup, &catalog, catalog.lock_written)?;
    Ok((catalog, plan))
}

/// What was in a store, what was to go, and what became of it.
type Outcome = (Catalog, Plan, BTreeMap<BackupId, Fate>);

/// Removes what is to go from one store, as far as it was agreed upon. `all` names the stores.
async fn prune_one(
    all: &mut Setup,
    place: &mut Place,
    agreed: Option<&BTreeSet<BackupId>>,
) -> Result<Outcome, Failure> {
    let lock = place.setup.lock("backup prune").await?;
    let pruned = prune_locked(&mut place.setup, agreed).await;
    if pruned.is_ok() {
        tidy(all, place.store, &lock, &Older::Stay).await;
    }
    lock.release().await;
    pruned
}

async fn prune_locked(
    setup: &mut Setup,
    agreed: Option<&BTreeSet<BackupId>>,
) -> Result<Outcome, Failure> {
    let (catalog, plan) = plan_locked(setup).await?;
    let is_agreed = |id: &BackupId| agreed.is_none_or(|agreed| agreed.contains(id));
    let going: Vec<BackupId> = plan.deletions().filter(is_agreed).collect();
    let mut fates = BTreeMap::new();
    if !going.is_empty() {
        let machine = Remove::new(going, Force::Respect, now()).despite(plan.forgotten.clone());
        fates = carry_out(setup, machine).await;
    }
    Ok((catalog, plan, fates))
}

/// What the configuration says; what nobody has said is not made up.
fn rules(setup: &Setup) -> Result<Pruning, Failure> {
    setup.loaded.pruning().ok_or_else(|| Failure::new(Exit::Usage, NO_RULES))
}

/// What the configuration's rules come to.
fn decide(setup: &Setup, catalog: &Catalog, store: Option<Wall>) -> Result<Plan, Failure> {
    let Pruning { rules, access } = rules(setup)?;
    let clocks = Clocks { now: now(), store };
    plan(&rules, access.plaintext, &catalog.entries, clocks)
        .map_err(|error| Failure::new(Exit::Refused, error))
}

/// Lets older backups in one of the stores go, if they are to, and then what is left of backups and removals that broke off. Done under that
/// store's lock, after something that counts already, so whatever goes wrong here is only said.
pub async fn tidy(setup: &mut Setup, store: StoreIndex, lock: &Guard, older: &Older) {
    if let Err(failure) = confirm(lock).await {
        let name = setup.name(store);
        return say!(
            "store {name} was not tidied up, which the next backup makes up for: {failure}"
        );
    }
    let mut machine = Tidy::new(older.pruning(), now());
    let place = setup.stores.get(store).expect("the configuration names this store");
    drive(&mut machine, place, |_| {}).await;
    let tidied = machine.outcome().expect("a driven machine has an outcome");
    let name = setup.name(store);
    let failed = match &tidied.pruned {
        Some(Ok(pruned)) => first_failure(&pruned.fates).err().map(|failure| failure.to_string()),
        Some(Err(error)) => Some(error.to_string()),
        None => matches!(older, Older::NoRules).then(|| NO_RULES.to_owned()),
    };
    if let Some(failure) = failed {
        say!("the backup is complete, but older ones in store {name} were not pruned: {failure}");
    }
    if let Some(Err(error)) = &tidied.swept {
        say!("what is left of other backups in store {name} was not removed: {error}");
    }
}

/// Removes backups, and says what became of each.
pub async fn remove(
    setup: &mut Setup,
    ids: Vec<BackupId>,
    force: Force,
) -> BTreeMap<BackupId, Fate> {
    carry_out(setup, Remove::new(ids, force, now())).await
}

async fn carry_out(setup: &mut Setup, mut machine: Remove) -> BTreeMap<BackupId, Fate> {
    drive(&mut machine, &mut setup.stores, |_| {}).await;
    let fates = machine.outcome().expect("a driven machine has an outcome");
    fates.map(|(id, fate)| (id, fate.clone())).collect()
}

/// The first backup that the store would not let go.
pub fn first_failure(fates: &BTreeMap<BackupId, Fate>) -> Result<(), Failure> {
    for (id, fate) in fates {
        if let Fate::Failed(error) = fate {
            let what = format!("backup {id} was not removed, or not all of it: {error}");
            return Err(Failure::new(Exit::Storage, what));
        }
    }
    Ok(())
}

impl Pruned {
    fn add(
        &mut self,
        place: &Place,
        catalog: &Catalog,
        plan: &Plan,
        fates: &BTreeMap<BackupId, Fate>,
    ) {
        let dry_run = self.dry_run;
        let backup = |decision: &raftkv_core::backup::retention::Decision| {
            let entry = catalog.entries.iter().find(|entry| entry.id == decision.id);
            let is_to_go = matches!(decision.verdict, Verdict::Delete(_));
            let untouched = (is_to_go && !dry_run).then(|| NOT_SHOWN.to_owned());
            let metadata = entry.and_then(|entry| entry.metadata.as_ref());
            PrunedBackup {
                store: place.name.clone(),
                id: decision.id.to_string(),
                timestamp: metadata.map(|metadata| rfc3339(metadata.timestamp)),
                epoch: metadata.map(|metadata| metadata.epoch.0),
                raft_index: metadata.map(|metadata| metadata.index),
                action: if is_to_go { "delete" } else { "keep" },
                reason: decision.verdict.to_string(),
                outcome: fates.get(&decision.id).map(ToString::to_string).or(untouched),
            }
        };
        self.backups.extend(plan.decisions.iter().map(backup));
    }
}

impl Report for Pruned {
    fn table(&self) -> String {
        let mut columns = vec!["ID", "TIME", "INDEX", "ACTION", "REASON", "OUTCOME"];
        if self.backups.iter().any(|backup| backup.store.is_some()) {
            columns.insert(0, "STORE");
        }
        let mut rows = table::new(&columns);
        for backup in &self.backups {
            let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
            let mut row: Vec<String> = backup.store.iter().cloned().collect();
            row.extend([
                backup.id.clone(),
                or_dash(&backup.timestamp),
                backup.raft_index.map_or("-".into(), |index| index.to_string()),
                backup.action.to_owned(),
                backup.reason.clone(),
                or_dash(&backup.outcome),
            ]);
            rows.add_row(row);
        }
        table::text(&rows)
    }
}

//! `backup catalog`: find what is wrong in the store, and put it right.

use super::confirm::Confirmation;
use super::progress::Meter;
use super::prune::{first_failure, remove};
use super::setup::{ConfigFile, Setup, pick, read_failure};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{Report, table};
use clap::{Args, Subcommand};
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::ObjectName;
use raftkv_core::backup::fsck::{Finding, Making, Remedy, examine};
use raftkv_core::backup::lock::{BEAT_EVERY_MS, Liveness, Watch};
use raftkv_core::backup::mark::Mark;
use raftkv_core::backup::marker::Owner;
use raftkv_core::backup::rebuild::RebuildMetadata;
use raftkv_core::backup::remove::Force;
use raftkv_node::blob::drive;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What becomes of something that is found since the question was asked.
const NOT_SHOWN: &str = "left to the next time: it was not shown";

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Catalog {
    /// Rebuild lost metadata from the data of the backups
    Rebuild(Rebuild),
    /// Find what is wrong in the store
    Fsck(Fsck),
}

/// Arguments of `rebuild`.
#[derive(Debug, Args)]
pub struct Rebuild {
    #[command(flatten)]
    config: ConfigFile,
    /// Only this one: an id, or the beginning of one
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    /// Accept unencrypted backups although encryption is configured
    #[arg(long)]
    allow_plaintext: bool,
}

/// Arguments of `fsck`.
#[derive(Debug, Args)]
pub struct Fsck {
    #[command(flatten)]
    config: ConfigFile,
    /// Put right what can be: rebuild lost metadata, remove what broke off and what nobody holds any more
    #[arg(long)]
    repair: bool,
    /// With --repair: remove data that has lost its metadata instead of rebuilding that
    #[arg(long, requires = "repair")]
    remove_orphans: bool,
    /// Accept unencrypted backups although encryption is configured
    #[arg(long)]
    allow_plaintext: bool,
    #[command(flatten)]
    confirmation: Confirmation,
}

#[derive(Debug, Serialize)]
struct Examined {
    findings: Vec<FindingView>,
}

#[derive(Debug, Serialize)]
struct FindingView {
    backup: Option<String>,
    finding: String,
    remedy: &'static str,
    /// What was done; nothing without --repair.
    outcome: Option<String>,
}

/// Runs it.
pub async fn run(context: &Context, catalog: Catalog) -> Result<(), Failure> {
    match catalog {
        Catalog::Rebuild(rebuild) => run_rebuild(context, rebuild).await,
        Catalog::Fsck(fsck) => run_fsck(context, fsck).await,
    }
}

async fn run_rebuild(context: &Context, asked: Rebuild) -> Result<(), Failure> {
    let mut setup = asked.config.open()?;
    let guard = setup.lock("backup catalog rebuild").await?;
    let result = rebuild_all(context, &mut setup, &asked).await;
    guard.release().await;
    result
}

async fn rebuild_all(context: &Context, setup: &mut Setup, asked: &Rebuild) -> Result<(), Failure> {
    let catalog = setup.catalog().await?;
    let asked_plaintext = asked.allow_plaintext;
    let only = match &asked.backup {
        Some(asked) => {
            let plaintext = setup.loaded.access(asked_plaintext).plaintext;
            Some(pick(&catalog, asked, plaintext)?.id)
        }
        None => None,
    };
    let findings = examine(&catalog, Making::Excluded).into_iter().filter(
        |finding| matches!(finding, Finding::Orphan(id) if only.is_none_or(|only| only == *id)),
    );
    let (mut views, mut first) = (Vec::new(), None);
    for finding in findings {
        let Some(id) = finding.backup() else { continue };
        let result = rebuild(context, setup, id, asked.allow_plaintext).await;
        let outcome = describe(&result);
        first = first.or(result.err());
        views.push(FindingView { outcome: Some(outcome), ..FindingView::new(&finding) });
    }
    context.print(&Examined { findings: views })?;
    first.map_or(Ok(()), Err)
}

async fn rebuild(
    context: &Context,
    setup: &mut Setup,
    id: BackupId,
    allow_plaintext: bool,
) -> Result<(), Failure> {
    let mut machine = RebuildMetadata::new(id, setup.loaded.access(allow_plaintext));
    let meter = Meter::new(context);
    drive(&mut machine, &mut setup.stores, |progress| meter.show(progress)).await;
    meter.finish_and_clear();
    let outcome = machine.outcome().expect("a driven machine has an outcome");
    outcome.as_ref().map(|_| ()).map_err(read_failure)
}

fn describe(result: &Result<(), Failure>) -> String {
    match result {
        Ok(()) => "rebuilt".into(),
        Err(failure) => format!("not rebuilt: {failure}"),
    }
}

async fn run_fsck(context: &Context, fsck: Fsck) -> Result<(), Failure> {
    let mut setup = fsck.config.open()?;
    if !fsck.repair {
        let findings = examine(&setup.catalog().await?, Making::Possible);
        let is_harmless = |it: &Finding| matches!(it, Finding::Hold(..) | Finding::Failed(..));
        let is_sound = findings.iter().all(is_harmless);
        context.print(&Examined { findings: findings.iter().map(FindingView::new).collect() })?;
        return match is_sound {
            true => Ok(()),
            false => Err(Failure::new(Exit::Verification, "the store is not as it should be")),
        };
    }
    let agreed = match fsck.confirmation.yes {
        true => None,
        false => Some(ask(&mut setup, fsck.confirmation).await?),
    };
    let guard = setup.lock("backup catalog fsck").await?;
    let result = repair(context, &mut setup, &fsck, agreed.as_deref()).await;
    guard.release().await;
    result
}

/// With the lock, nobody is making a backup: what is unfinished stays unfinished.
async fn examine_locked(setup: &mut Setup) -> Result<Vec<Finding>, Failure> {
    Ok(examine(&setup.catalog().await?, Making::Excluded))
}

/// Shows what is wrong, and asks. Whoever is asked may take all night, and has no lock meanwhile.
async fn ask(setup: &mut Setup, confirmation: Confirmation) -> Result<Vec<Finding>, Failure> {
    let guard = setup.lock("backup catalog fsck").await?;
    let findings = examine_locked(setup).await;
    guard.release().await;
    let findings = findings?;
    if findings.iter().any(|finding| finding.remedy() != Remedy::None) {
        let line = |finding: &Finding| format!("{}: {finding}\n", backup_name(finding));
        let lines: String = findings.iter().map(line).collect();
        confirmation.ask(&format!("{lines}Put right what can be?"))?;
    }
    Ok(findings)
}

/// Puts right what can be, as far as it was agreed upon.
async fn repair(
    context: &Context,
    setup: &mut Setup,
    fsck: &Fsck,
    agreed: Option<&[Finding]>,
) -> Result<(), Failure> {
    let abandoned = abandoned_holds(setup).await?;
    let findings = examine_locked(setup).await?;
    let is_agreed = |finding: &Finding| agreed.is_none_or(|agreed| agreed.contains(finding));
    let (mut views, mut first) = (Vec::new(), None);
    for finding in &findings {
        let outcome = match (finding, finding.remedy()) {
            (_, Remedy::None) => Ok("left alone".to_owned()),
            (finding, _) if !is_agreed(finding) => Ok(NOT_SHOWN.to_owned()),
            (Finding::Hold(id, owner), _) if !abandoned.contains(&(*id, *owner)) => {
                Ok("in use".to_owned())
            }
            (Finding::Hold(id, owner), _) => {
                let withdrawn = withdraw(setup, ObjectName::hold(*id, *owner)).await;
                withdrawn.map(|()| "abandoned: removed".to_owned())
            }
            (Finding::Unremoved(id), _) => {
                withdraw(setup, ObjectName::removal(*id)).await.map(|()| "it stays".to_owned())
            }
            (Finding::Orphan(id), _) if !fsck.remove_orphans => {
                let rebuilt = rebuild(context, setup, *id, fsck.allow_plaintext).await;
                rebuilt.map(|()| "rebuilt".to_owned())
            }
            (finding, _) => remove_one(setup, finding).await,
        };
        let text = outcome.as_ref().map_or_else(|failure| failure.to_string(), Clone::clone);
        first = first.or(outcome.err());
        views.push(FindingView { outcome: Some(text), ..FindingView::new(finding) });
    }
    context.print(&Examined { findings: views })?;
    first.map_or(Ok(()), Err)
}

async fn withdraw(setup: &mut Setup, marker: ObjectName) -> Result<(), Failure> {
    let mut machine = Mark::remove(marker);
    drive(&mut machine, &mut setup.stores, |_| {}).await;
    let outcome = machine.outcome().expect("a driven machine has an outcome");
    outcome.clone().map_err(|error| Failure::new(Exit::Storage, error))
}

async fn remove_one(setup: &mut Setup, finding: &Finding) -> Result<String, Failure> {
    let Some(id) = finding.backup() else { return Ok("left alone".into()) };
    // Markers without a backup keep nothing.
    let force = match finding {
        Finding::Leftover(_) => Force::Override,
        _ => Force::Respect,
    };
    let fates = remove(setup, vec![id], force).await;
    first_failure(&fates)?;
    Ok(fates.get(&id).map(ToString::to_string).unwrap_or_default())
}

/// Watches every hold until it gave a sign of life, or long enough none.
async fn abandoned_holds(setup: &mut Setup) -> Result<Vec<(BackupId, Owner)>, Failure> {
    let start = Instant::now();
    let mut watches: BTreeMap<(BackupId, Owner), (Watch, Liveness)> = BTreeMap::new();
    loop {
        let catalog = setup.catalog().await?;
        let now_ms = start.elapsed().as_millis() as u64;
        let mut undecided = false;
        let holds = catalog.entries.iter();
        for (id, hold) in holds.flat_map(|e| e.holds.iter().map(|hold| (e.id, hold))) {
            let key = (id, hold.owner);
            let (watch, liveness) =
                watches.entry(key).or_insert_with(|| (Watch::default(), Liveness::Unknown));
            if *liveness == Liveness::Unknown {
                *liveness = watch.see(ObjectName::hold(id, hold.owner), hold.beats, now_ms);
            }
            undecided |= *liveness == Liveness::Unknown;
        }
        if !undecided {
            let gone = |(_, liveness): &(Watch, Liveness)| *liveness == Liveness::Abandoned;
            return Ok(watches.into_iter().filter(|(_, w)| gone(w)).map(|(key, _)| key).collect());
        }
        sleep(Duration::from_millis(BEAT_EVERY_MS)).await;
    }
}

fn backup_name(finding: &Finding) -> String {
    finding.backup().map_or_else(|| "-".into(), |id| id.to_string())
}

impl FindingView {
    fn new(finding: &Finding) -> Self {
        FindingView {
            backup: finding.backup().map(|id| id.to_string()),
            finding: finding.to_string(),
            remedy: match finding.remedy() {
                Remedy::RebuildOrRemove => "rebuild or remove",
                Remedy::Keep => "keep",
                Remedy::Remove => "remove",
                Remedy::Watch => "watch",
                Remedy::None => "none",
            },
            outcome: None,
        }
    }
}

impl Report for Examined {
    fn table(&self) -> String {
        if self.findings.is_empty() {
            return "nothing is wrong".into();
        }
        let mut rows = table::new(&["BACKUP", "FINDING", "REMEDY", "OUTCOME"]);
        for found in &self.findings {
            rows.add_row([
                found.backup.clone().unwrap_or_else(|| "-".into()),
                found.finding.clone(),
                found.remedy.to_owned(),
                found.outcome.clone().unwrap_or_else(|| "-".into()),
            ]);
        }
        table::text(&rows)
    }
}

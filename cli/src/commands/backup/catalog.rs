//! `backup catalog`: find what is wrong in the stores, and put it right.

mod mend;
mod view;

use super::confirm::Confirmation;
use super::setup::ConfigFile;
use super::stores::{Place, Round};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use clap::{Args, Subcommand};
use mend::{Mended, examine_locked, rebuild_all, repair};
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::fsck::{Finding, Making, Remedy, examine};
use std::collections::BTreeMap;
use view::{Examined, FindingView};

/// What becomes of what nothing can be done about.
const LEFT_ALONE: &str = "left alone";

/// What to do about what is left alone.
const ADVICE: &str = "something is not as it should be, and was left alone: where metadata.json is damaged and data.db whole, take \
    that metadata.json away, and it can be rebuilt; what belongs to no backup is yours to remove";

/// What to do about what was found.
const NOT_SOUND: &str = "something is not as it should be: --repair puts right what has a remedy, and leaves the rest alone";

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Catalog {
    /// Rebuild lost metadata from the data of the backups
    Rebuild(Rebuild),
    /// Find what is wrong in the stores, by their lists and metadata; verify reads the contents
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

/// Runs it.
pub async fn run(context: &Context, catalog: Catalog) -> Result<(), Failure> {
    match catalog {
        Catalog::Rebuild(rebuild) => run_rebuild(context, rebuild).await,
        Catalog::Fsck(fsck) if fsck.repair => run_repair(context, fsck).await,
        Catalog::Fsck(fsck) => run_fsck(context, fsck).await,
    }
}

async fn run_rebuild(context: &Context, asked: Rebuild) -> Result<(), Failure> {
    let mut round = Round::begin(&asked.config.open()?).await?;
    let only = asked.backup.as_deref().map(|id| round.select(id)).transpose()?;
    let mut report = Mending::default();
    for mut place in std::mem::take(&mut round.places) {
        let Some(guard) = round.lock(&place, "backup catalog rebuild").await else { continue };
        let mended = rebuild_all(context, &mut place, only, asked.allow_plaintext).await;
        guard.release().await;
        report.add(&mut round, &place, mended);
    }
    report.end(context, round)
}

async fn run_fsck(context: &Context, fsck: Fsck) -> Result<(), Failure> {
    let round = Round::begin(&fsck.config.open()?).await?;
    let (mut views, mut is_sound) = (Vec::new(), true);
    for place in &round.places {
        let findings = examine(&place.catalog, Making::Possible);
        let is_harmless = |it: &Finding| matches!(it, Finding::Hold(..) | Finding::Failed(..));
        is_sound &= findings.iter().all(is_harmless);
        let view = |finding| FindingView::new(place.name.clone(), finding, None);
        views.extend(findings.iter().map(view));
    }
    context.print(&Examined { findings: views, heard_all: round.heard_all() })?;
    let wrong = || Failure::new(Exit::Verification, NOT_SOUND);
    round.end((!is_sound).then(wrong))
}

async fn run_repair(context: &Context, fsck: Fsck) -> Result<(), Failure> {
    let mut round = Round::begin(&fsck.config.open()?).await?;
    let agreed = match fsck.confirmation.yes {
        true => None,
        false => Some(ask(&mut round, fsck.confirmation).await?),
    };
    let mut report = Mending::default();
    for mut place in std::mem::take(&mut round.places) {
        let Some(guard) = round.lock(&place, "backup catalog fsck").await else { continue };
        let agreed = agreed.as_ref().map(|agreed| agreed[&place.store].as_slice());
        let mended = repair(context, &mut place, &fsck, agreed).await;
        guard.release().await;
        report.add(&mut round, &place, mended);
    }
    report.end(context, round)
}

/// What each store is to be put right in.
type Agreed = BTreeMap<StoreIndex, Vec<Finding>>;

/// Shows what is wrong in all stores, and asks. Whoever is asked may take all night, and has no lock meanwhile.
async fn ask(round: &mut Round, confirmation: Confirmation) -> Result<Agreed, Failure> {
    let (mut agreed, mut lines) = (Agreed::new(), String::new());
    for mut place in std::mem::take(&mut round.places) {
        match examine_once(&mut place).await {
            Ok(findings) => {
                let label = place.label();
                let line =
                    |finding: &Finding| format!("{label}{}: {finding}\n", backup_name(finding));
                lines.extend(findings.iter().map(line));
                agreed.insert(place.store, findings);
                round.places.push(place);
            }
            Err(failure) => round.failed(place.name.as_deref(), failure),
        }
    }
    if agreed.values().flatten().any(|finding| finding.remedy() != Remedy::None) {
        confirmation.ask(&format!("{lines}Put right what can be?"))?;
    }
    Ok(agreed)
}

async fn examine_once(place: &mut Place) -> Result<Vec<Finding>, Failure> {
    let guard = place.setup.lock("backup catalog fsck").await?;
    let findings = examine_locked(&mut place.setup).await;
    guard.release().await;
    findings
}

/// What came of all stores.
#[derive(Default)]
struct Mending {
    views: Vec<FindingView>,
    left_alone: bool,
    /// Whether any store could be looked at under its lock.
    looked: bool,
}

impl Mending {
    fn add(&mut self, round: &mut Round, place: &Place, mended: Result<Mended, Failure>) {
        match mended {
            Ok(mended) => {
                self.looked = true;
                self.left_alone |= mended.left_alone;
                self.views.extend(mended.views);
                if let Some(failure) = mended.first {
                    round.failed(place.name.as_deref(), failure);
                }
            }
            Err(failure) => round.failed(place.name.as_deref(), failure),
        }
    }

    fn end(self, context: &Context, round: Round) -> Result<(), Failure> {
        if self.looked {
            let heard_all = round.heard_all();
            context.print(&Examined { findings: self.views, heard_all })?;
        }
        let wrong = self.left_alone.then(|| Failure::new(Exit::Verification, ADVICE));
        round.end(wrong)
    }
}

fn backup_name(finding: &Finding) -> String {
    finding.backup().map_or_else(|| "-".into(), |id| id.to_string())
}

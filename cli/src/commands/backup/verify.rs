//! `backup verify`: find out now, not on the day of the disaster.

use super::load::{described, two_clusters, unusable};
use super::progress::Meter;
use super::setup::{ConfigFile, Setup, read_failure, store_failure};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{Report, table};
use clap::Args;
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::catalog::{Catalog, Entry, Standing};
use raftkv_core::backup::choose::Doubt;
use raftkv_core::backup::format::Suite;
use raftkv_core::backup::read::{ReadBounds, ReadError};
use raftkv_core::backup::replicas::Replicas;
use raftkv_core::backup::verify::{BadLevel, Level, Verify as Machine};
use raftkv_core::backup::{BackupId, Metadata};
use raftkv_node::blob::drive;
use serde::Serialize;

/// Arguments.
#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    config: ConfigFile,
    /// Which: an id, the beginning of one, latest, the newest of a time, or all
    #[arg(long, value_name = "ID|latest|@TIME|all")]
    backup: String,
    /// How far: exists, checksum, decrypt, or restore (in memory)
    #[arg(long, value_name = "LEVEL", default_value = "decrypt", value_parser = level)]
    level: Level,
    /// Check it in every store that has it; otherwise in the first where it is good
    #[arg(long)]
    every_store: bool,
    /// Accept unencrypted backups although encryption is configured
    #[arg(long)]
    allow_plaintext: bool,
}

#[derive(Debug, Serialize)]
struct Verified {
    level: String,
    /// Of those that are good: what was found to be so.
    checked: &'static str,
    /// And what was not looked at. Of others, nothing behind what is wrong was.
    not_checked: &'static str,
    backups: Vec<VerifiedBackup>,
}

#[derive(Debug, Serialize)]
struct VerifiedBackup {
    id: String,
    /// Whether it is good in some store.
    ok: bool,
    /// In which, of those that were tried, if there are several.
    stores: Option<Vec<String>>,
    /// Whether a key has proved that nobody without one wrote it; not known, where nothing was decrypted.
    authentic: Option<bool>,
    /// What is wrong with it in others.
    error: Option<String>,
}

fn level(text: &str) -> Result<Level, BadLevel> {
    text.parse()
}

/// Runs it. Every backup is checked even when an earlier one fails; the first failure decides the exit code, also when another store
/// makes up for it.
pub async fn run(context: &Context, verify: Verify) -> Result<(), Failure> {
    let mut setup = verify.config.open()?;
    let replicas = setup.replicas().await?;
    let catalog = replicas.merged().map_err(|error| store_failure(&error))?;
    let plaintext = setup.loaded.access(verify.allow_plaintext).plaintext;
    let (mut backups, mut first) = (Vec::new(), None);
    let ids = match verify.backup.as_str() {
        "all" => all(&replicas, &catalog)?,
        asked => {
            let picked = setup.choice(&replicas, &catalog, asked, plaintext)?;
            for doubt in picked.doubts {
                if let Doubt::Unusable(newer) = doubt {
                    let what = newer.standing.objection();
                    backups.push(VerifiedBackup::new(newer.id, None, vec![what]));
                }
                // What is in the others is checked nevertheless.
                first = first.or(Some(doubtful(&setup, picked.entry, doubt)));
            }
            vec![picked.entry.id]
        }
    };
    if verify.backup == "all" || verify.every_store {
        first = first.or(unheard(&setup, &replicas));
    }
    for id in ids {
        let (mut errors, mut good, mut authentic) = (Vec::new(), Vec::new(), None);
        for store in lacking(&setup, &replicas, id).filter(|_| verify.every_store) {
            let what = format!("backup {id} is not there");
            let failure = setup.in_store(store, Failure::new(Exit::Verification, what));
            errors.push(failure.to_string());
            first = first.or(Some(failure));
        }
        for store in places(&setup, &replicas, id, verify.every_store) {
            let checked = check(context, &mut setup, &verify, store, id).await?;
            let checked = checked.map_err(|error| read_failure(&error));
            match checked.and_then(|metadata| unobjected(&replicas, store, metadata)) {
                Ok(metadata) => {
                    let is_sealed = metadata.suite != Suite::Plain;
                    authentic = (verify.level >= Level::Decrypt).then_some(is_sealed);
                    good.push(setup.name(store).to_owned());
                }
                Err(failure) => {
                    let failure = setup.in_store(store, failure);
                    errors.push(failure.to_string());
                    first = first.or(Some(failure));
                }
            }
            if !good.is_empty() && !verify.every_store {
                break;
            }
        }
        let stores = setup.has_several().then_some(good.clone());
        backups.push(VerifiedBackup {
            ok: !good.is_empty(),
            authentic,
            ..VerifiedBackup::new(id, stores, errors)
        });
    }
    context.print(&Verified::new(verify.level, backups))?;
    // Not finding what was to be checked is a failed check too.
    first.map_or(Ok(()), |failure| {
        let exit = match failure.exit() {
            Exit::NotFound => Exit::Verification,
            exit => exit,
        };
        Err(Failure::new(exit, failure))
    })
}

/// Why what was picked may not be the newest.
fn doubtful(setup: &Setup, picked: &Entry, doubt: Doubt<'_>) -> Failure {
    match doubt {
        Doubt::Unusable(newer) => {
            let what = format!("backup {}: {}", newer.id, newer.standing.objection());
            Failure::new(unusable(newer), what)
        }
        Doubt::OtherCluster(other) => {
            Failure::new(Exit::Refused, two_clusters(other, &described(picked)))
        }
        Doubt::Silent(store, why) => {
            let name = setup.name(store);
            let what =
                format!("store {name} may have a newer backup, but could not be listed: {why}");
            Failure::new(Exit::Storage, what)
        }
    }
}

/// Every backup that is, or was, complete.
fn all(replicas: &Replicas, catalog: &Catalog) -> Result<Vec<BackupId>, Failure> {
    let whole =
        |entry: &&Entry| !matches!(entry.standing, Standing::NotWhole(_) | Standing::HalfRemoved);
    let ids: Vec<_> = catalog.entries.iter().filter(whole).map(|entry| entry.id).collect();
    match ids.is_empty() && replicas.silent().next().is_none() {
        true => Err(Failure::new(Exit::NotFound, "there is no backup to verify in the store")),
        false => Ok(ids),
    }
}

/// A store in which nothing was checked, if there is one.
fn unheard(setup: &Setup, replicas: &Replicas) -> Option<Failure> {
    let (store, why) = replicas.silent().next()?;
    let name = setup.name(store);
    let what = format!("store {name} could not be listed, and nothing in it was checked: {why}");
    Some(Failure::new(Exit::Storage, what))
}

/// The stores that were heard, and have nothing of a backup.
fn lacking(setup: &Setup, replicas: &Replicas, id: BackupId) -> impl Iterator<Item = StoreIndex> {
    let silent: Vec<StoreIndex> = replicas.silent().map(|(store, _)| store).collect();
    let has_nothing = move |store: &StoreIndex| replicas.entry(*store, id).is_none();
    setup.all().filter(has_nothing).filter(move |store| !silent.contains(store))
}

/// Where to look: wherever the backup is complete; with `every`, wherever there is anything of it.
fn places(setup: &Setup, replicas: &Replicas, id: BackupId, every: bool) -> Vec<StoreIndex> {
    match every {
        true => setup.all().filter(|store| replicas.entry(*store, id).is_some()).collect(),
        false => replicas.places(id),
    }
}

impl Verified {
    fn new(level: Level, backups: Vec<VerifiedBackup>) -> Self {
        let (checked, not_checked) = (level.checked(), level.not_checked());
        Verified { level: level.to_string(), checked, not_checked, backups }
    }
}

impl VerifiedBackup {
    fn new(id: BackupId, stores: Option<Vec<String>>, errors: Vec<String>) -> Self {
        let error = (!errors.is_empty()).then(|| errors.join("; "));
        VerifiedBackup { id: id.to_string(), ok: false, stores, authentic: None, error }
    }
}

/// What a list objects to is not good, though a check of a low level does not look at that.
fn unobjected(
    replicas: &Replicas,
    store: StoreIndex,
    metadata: Metadata,
) -> Result<Metadata, Failure> {
    let standing = replicas.entry(store, metadata.id).map(|entry| &entry.standing);
    match standing {
        Some(
            standing @ (Standing::Forged(_) | Standing::Damaged(_) | Standing::DataMissing(_)),
        ) => {
            let what = format!("backup {}: {}", metadata.id, standing.objection());
            Err(Failure::new(Exit::Verification, what))
        }
        _ => Ok(metadata),
    }
}

/// Checks it in one store.
async fn check(
    context: &Context,
    setup: &mut Setup,
    verify: &Verify,
    store: StoreIndex,
    id: BackupId,
) -> Result<Result<Metadata, ReadError>, Failure> {
    let hold = setup.hold(store, id, "backup verify").await?;
    let access = setup.loaded.access(verify.allow_plaintext);
    let mut machine = Machine::new(id, verify.level, access, ReadBounds::default());
    let meter = Meter::new(context);
    let place = setup.stores.get(store).expect("places are stores of the configuration");
    drive(&mut machine, place, |progress| meter.show(progress)).await;
    meter.finish_and_clear();
    if let Some(hold) = hold {
        hold.release().await;
    }
    Ok(machine.report().expect("a driven machine has an outcome").result)
}

impl Report for Verified {
    fn table(&self) -> String {
        let mut rows = table::new(&["ID", "RESULT"]);
        for backup in &self.backups {
            let good = match &backup.stores {
                _ if !backup.ok => String::new(),
                Some(stores) => format!("good in {}", stores.join(" and ")),
                None => "good".to_owned(),
            };
            let parts = [good, backup.error.clone().unwrap_or_default()];
            let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            rows.add_row([backup.id.clone(), parts.join("; ")]);
        }
        let mut text = table::text(&rows);
        if self.backups.iter().any(|backup| backup.ok) {
            let Verified { level, checked, not_checked, .. } = self;
            text += &format!("\ngood at level {level}: {checked}; {not_checked}");
        }
        if self.backups.iter().any(|backup| backup.authentic == Some(false)) {
            text += "\nwhat is not encrypted could have been replaced by anybody who can write to the store: no key proves otherwise";
        }
        if self.backups.iter().any(|backup| backup.error.is_some()) {
            text += "\nwhere something is wrong, nothing behind it was checked";
        }
        text
    }
}

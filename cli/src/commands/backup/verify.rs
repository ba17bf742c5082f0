//! `backup verify`: find out now, not on the day of the disaster.

use super::load::is_the_stores;
use super::progress::Meter;
use super::setup::{ConfigFile, Setup, pick, read_failure, store_failure};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{Report, table};
use clap::Args;
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::read::{ReadBounds, ReadError};
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
    /// Accept unencrypted backups although encryption is configured
    #[arg(long)]
    allow_plaintext: bool,
}

#[derive(Debug, Serialize)]
struct Verified {
    level: String,
    not_checked: &'static str,
    backups: Vec<VerifiedBackup>,
}

#[derive(Debug, Serialize)]
struct VerifiedBackup {
    id: String,
    /// Whether it is good in some store.
    ok: bool,
    /// In which, if there are several.
    store: Option<String>,
    /// What is wrong with it in the stores that were tried before.
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
    let ids: Vec<BackupId> = match verify.backup.as_str() {
        "all" => catalog.entries.iter().map(|entry| entry.id).collect(),
        asked => vec![pick(&catalog, asked)?.id],
    };
    let has_several = setup.loaded.config.stores().count() > 1;
    let mut first = None;
    let mut backups = Vec::new();
    for id in ids {
        let (mut errors, mut good) = (Vec::new(), None);
        for store in replicas.places(id) {
            let name = setup.name(store).to_owned();
            let Err(error) = check(context, &mut setup, &verify, store, id).await? else {
                good = Some(name);
                break;
            };
            let is_final = !is_the_stores(&error);
            first = first.or_else(|| Some(read_failure(&error)));
            errors.push(if has_several { format!("{name}: {error}") } else { error.to_string() });
            if is_final {
                break;
            }
        }
        backups.push(VerifiedBackup {
            id: id.to_string(),
            ok: good.is_some(),
            store: good.filter(|_| has_several),
            error: (!errors.is_empty()).then(|| errors.join("; ")),
        });
    }
    let level = verify.level.to_string();
    context.print(&Verified { level, not_checked: verify.level.not_checked(), backups })?;
    // Not finding what was to be checked is a failed check too.
    first.map_or(Ok(()), |failure| {
        let exit = match failure.exit() {
            Exit::NotFound => Exit::Verification,
            exit => exit,
        };
        Err(Failure::new(exit, failure))
    })
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
            let good = match (&backup.store, backup.ok) {
                (Some(store), _) => format!("good in {store}"),
                (None, true) => "good".to_owned(),
                (None, false) => String::new(),
            };
            let parts = [good, backup.error.clone().unwrap_or_default()];
            let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            rows.add_row([backup.id.clone(), parts.join("; but in ")]);
        }
        format!("{}\nlevel {}: {}", table::text(&rows), self.level, self.not_checked)
    }
}

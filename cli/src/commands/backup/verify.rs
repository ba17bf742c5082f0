//! `backup verify`: find out now, not on the day of the disaster.

use super::progress::Meter;
use super::setup::{ConfigFile, read_failure};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{Report, table};
use clap::Args;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::read::ReadBounds;
use raftkv_core::backup::verify::{BadLevel, Level, Verify as Machine};
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
    ok: bool,
    error: Option<String>,
}

fn level(text: &str) -> Result<Level, BadLevel> {
    text.parse()
}

/// Runs it. Every backup is checked even when an earlier one fails; the first failure decides the exit code.
pub async fn run(context: &Context, verify: Verify) -> Result<(), Failure> {
    let mut setup = verify.config.open()?;
    let ids: Vec<BackupId> = match verify.backup.as_str() {
        "all" => setup.catalog().await?.entries.iter().map(|entry| entry.id).collect(),
        asked => vec![setup.select(asked).await?.id],
    };
    let mut first = None;
    let mut backups = Vec::new();
    for id in ids {
        let hold = setup.hold(id, "backup verify").await?;
        let access = setup.loaded.access(verify.allow_plaintext);
        let mut machine = Machine::new(id, verify.level, access, ReadBounds::default());
        let meter = Meter::new(context);
        drive(&mut machine, setup.store.as_mut(), |progress| meter.show(progress)).await;
        meter.finish_and_clear();
        if let Some(hold) = hold {
            hold.release().await;
        }
        let report = machine.report().expect("a driven machine has an outcome");
        let error = report.result.err();
        backups.push(VerifiedBackup {
            id: id.to_string(),
            ok: error.is_none(),
            error: error.as_ref().map(ToString::to_string),
        });
        first = first.or_else(|| error.as_ref().map(read_failure));
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

impl Report for Verified {
    fn table(&self) -> String {
        let mut rows = table::new(&["ID", "RESULT"]);
        for backup in &self.backups {
            let result = backup.error.clone().unwrap_or_else(|| "good".into());
            rows.add_row([backup.id.clone(), result]);
        }
        format!("{}\nlevel {}: {}", table::text(&rows), self.level, self.not_checked)
    }
}

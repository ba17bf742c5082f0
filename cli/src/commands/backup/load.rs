//! A backup's state, read into memory and verified as a whole: what restoring, browsing and comparing begin with.
//!
//! Invariant: a state comes back only when every byte of the backup was there and agreed; otherwise nothing of it is used. Which backup
//! was read instead of the one that was asked for, or from which other store, and why, is said on stderr.

use super::progress::Meter;
use super::setup::{ConfigFile, Setup, pick, read_failure, store_failure};
use crate::context::Context;
use crate::failure::Failure;
use clap::Args;
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::catalog::{Catalog, Entry, Standing};
use raftkv_core::backup::metadata::rfc3339;
use raftkv_core::backup::read::{ReadBounds, ReadError, ReadTrouble};
use raftkv_core::backup::restore::{Restore, Restored};
use raftkv_node::backup::lock::Guard;
use raftkv_node::blob::drive;

/// How backups are read.
#[derive(Debug, Args)]
pub struct Loading {
    #[command(flatten)]
    pub config: ConfigFile,
    /// When the backup turns out damaged, go on with the next older complete one
    #[arg(long)]
    pub or_older: bool,
    /// Accept an unencrypted backup although encryption is configured
    #[arg(long)]
    pub allow_plaintext: bool,
}

impl Loading {
    /// Reads the backup that `asked` selects.
    pub async fn load(&self, context: &Context, asked: &str) -> Result<Restored, Failure> {
        let mut setup = self.config.open()?;
        let replicas = setup.replicas().await?;
        let catalog = replicas.merged().map_err(|error| store_failure(&error))?;
        let mut entry = pick(&catalog, asked)?;
        warn_of_newer(&catalog, entry, asked);
        loop {
            let places = replicas.places(entry.id);
            let error = match self.read_from(context, &mut setup, &places, entry).await? {
                Ok(restored) => return Ok(restored),
                Err(error) => error,
            };
            let older = catalog.next_older(entry.id).filter(|_| is_beyond_repair(&error));
            match older {
                Some(older) if self.or_older => {
                    let (failed, older_one) = (read_failure(&error), described(older));
                    eprintln!(
                        "raftkv-cli: {failed}; going on with the next older one, {older_one}"
                    );
                    entry = older;
                }
                older => return Err(nothing_read(&error, older)),
            }
        }
    }

    /// Reads it from the first of these stores that has it whole; fails as the first one did.
    async fn read_from(
        &self,
        context: &Context,
        setup: &mut Setup,
        places: &[StoreIndex],
        entry: &Entry,
    ) -> Result<Result<Restored, ReadError>, Failure> {
        let mut first = None;
        for (at, &store) in places.iter().enumerate() {
            let hold = setup.hold(store, entry.id, "a restore").await?;
            let error = match self.read(context, setup, store, entry, hold).await {
                Ok(restored) => return Ok(Ok(restored)),
                Err(error) => error,
            };
            let next = places.get(at + 1).filter(|_| is_the_stores(&error));
            if let Some(next) = next {
                let (name, next) = (setup.name(store), setup.name(*next));
                let failed = read_failure(&error);
                eprintln!(
                    "raftkv-cli: in store {name}: {failed}; going on with the copy in {next}"
                );
            }
            first = first.or(Some(error));
            if next.is_none() {
                break;
            }
        }
        Ok(Err(first.expect("a backup that was picked is in some store")))
    }

    async fn read(
        &self,
        context: &Context,
        setup: &mut Setup,
        store: StoreIndex,
        entry: &Entry,
        hold: Option<Guard>,
    ) -> Result<Restored, ReadError> {
        let access = setup.loaded.access(self.allow_plaintext);
        let mut machine = Restore::new(entry.id, access, ReadBounds::default());
        let meter = Meter::new(context);
        let place = setup.stores.get(store).expect("places are stores of the configuration");
        drive(&mut machine, place, |progress| meter.show(progress)).await;
        meter.finish_and_clear();
        if let Some(hold) = hold {
            hold.release().await;
        }
        machine.take().expect("a driven machine has an outcome")
    }
}

/// Whether another store's copy may be better.
pub fn is_the_stores(error: &ReadError) -> bool {
    match error.trouble() {
        ReadTrouble::Verification | ReadTrouble::NotFound | ReadTrouble::Store => true,
        ReadTrouble::Key | ReadTrouble::Refused => false,
    }
}

/// Whether another backup is the way out: this one will not become better.
fn is_beyond_repair(error: &ReadError) -> bool {
    match error.trouble() {
        ReadTrouble::Verification | ReadTrouble::NotFound => true,
        ReadTrouble::Store | ReadTrouble::Key | ReadTrouble::Refused => false,
    }
}

fn nothing_read(error: &ReadError, older: Option<&Entry>) -> Failure {
    let failure = read_failure(error);
    let advice = match older {
        Some(older) => format!(
            "the next older complete backup is {}: ask for it, or repeat with --or-older",
            described(older)
        ),
        None if is_beyond_repair(error) => "backup list shows what else there is".to_owned(),
        None => return failure,
    };
    Failure::new(failure.exit(), format!("{failure}; nothing of it was used; {advice}"))
}

/// Says which newer backups `latest` passed over, so that nobody takes an old state for the newest.
fn warn_of_newer(catalog: &Catalog, entry: &Entry, asked: &str) {
    if asked != "latest" {
        return;
    }
    let newer = catalog.entries.iter().rev().take_while(|other| other.id != entry.id);
    for other in newer {
        let what = match &other.standing {
            Standing::Complete(_) | Standing::Incomplete | Standing::NotWhole(_) => continue,
            Standing::DataMissing => "its data is missing or cut off",
            Standing::Damaged(what) | Standing::Forged(what) | Standing::Unreadable(what) => what,
        };
        let chosen = described(entry);
        eprintln!(
            "raftkv-cli: backup {} is newer, but not usable: {what}; using {chosen}",
            other.id
        );
    }
}

fn described(entry: &Entry) -> String {
    match &entry.metadata {
        Some(metadata) => format!(
            "{} of {} (revision {}, {} keys)",
            entry.id,
            rfc3339(metadata.timestamp),
            metadata.revision,
            metadata.keys
        ),
        None => entry.id.to_string(),
    }
}

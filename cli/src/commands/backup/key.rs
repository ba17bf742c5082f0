//! `backup key`: keys for encryption.

mod rotate;

use super::setup::{ConfigFile, Setup, rng};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{Report, table};
use clap::Subcommand;
use raftkv_core::backup::catalog::{Entry, Proof, Standing};
use raftkv_core::backup::{self, KeyId};
use raftkv_node::partial::{Partial, Replace, Unpublished};
use rotate::rotate;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key file. Keep a copy away from the backups: without it they are lost
    Generate {
        /// Where to; must not exist
        file: PathBuf,
    },
    /// List the keys that the configuration names
    List {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Say which backups each key opens
    Check {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Give a new key the old one's place in every backup, without touching their data. May be repeated
    Rotate {
        #[command(flatten)]
        config: ConfigFile,
        /// Id of the key whose place is taken
        #[arg(long, value_name = "KEY_ID")]
        old: KeyId,
        /// Id of the key that takes it; the configuration names it
        #[arg(long, value_name = "KEY_ID")]
        new: KeyId,
    },
}

#[derive(Debug, Serialize)]
struct Generated {
    key_id: String,
    file: PathBuf,
}

#[derive(Debug, Serialize)]
struct Keys {
    keys: Vec<KeyView>,
}

#[derive(Debug, Serialize)]
struct KeyView {
    key_id: String,
    source: String,
    /// Whether new backups are sealed for it.
    seals: bool,
}

#[derive(Debug, Serialize)]
struct Checked {
    backups: Vec<CheckedBackup>,
}

#[derive(Debug, Serialize)]
struct CheckedBackup {
    id: String,
    /// In which store, if there are several.
    store: Option<String>,
    status: &'static str,
    encrypted: Option<bool>,
    /// Whether the keys were tried on it: what has no readable front beside its metadata is left out.
    tried: bool,
    /// The keys that count for it.
    key_ids: Vec<String>,
    /// The keys at hand that open it, each tried alone.
    opened_by: Vec<String>,
}

/// Runs it.
pub async fn run(context: &Context, key: Key) -> Result<(), Failure> {
    match key {
        Key::Generate { file } => generate(context, file),
        Key::List { config } => list(context, &config.open()?),
        Key::Check { config } => check(context, &config.open()?).await,
        Key::Rotate { config, old, new } => rotate(context, &config.open()?, old, new).await,
    }
}

/// An existing file is never replaced: it may be the only copy of a key that backups need.
fn generate(context: &Context, path: PathBuf) -> Result<(), Failure> {
    let key = backup::Key::draw(&mut rng("backup key")?);
    write(&path, key.to_file().as_bytes()).map_err(|error| match error {
        Unpublished::Exists => Failure::new(
            Exit::Refused,
            format!("{} exists: it is not replaced, since backups may need it", path.display()),
        ),
        error => Failure::file("written", &path, error),
    })?;
    context.print(&Generated { key_id: key.id().to_string(), file: path })
}

/// All of it or nothing: a part of a key would be in the way of the next try.
fn write(path: &Path, content: &[u8]) -> Result<(), Unpublished> {
    if path.symlink_metadata().is_ok() {
        return Err(Unpublished::Exists);
    }
    let file = Partial::begin(path).map_err(Unpublished::Failed)?;
    file.write_at(0, content).map_err(Unpublished::Failed)?;
    file.publish(content.len() as u64, Replace::No)
}

fn list(context: &Context, setup: &Setup) -> Result<(), Failure> {
    let keys = &setup.loaded.keys;
    let views = keys.named().map(|(key, source, seals)| KeyView {
        key_id: key.id().to_string(),
        source: source.to_string(),
        seals,
    });
    context.print(&Keys { keys: views.collect() })
}

/// What keys do not open weighs most, then what was not heard, then what could not be tried.
async fn check(context: &Context, setup: &Setup) -> Result<(), Failure> {
    let (mut backups, mut first, mut untried) = (Vec::new(), None, None);
    for (name, mut place) in setup.each()? {
        let store = setup.has_several().then(|| name.clone());
        match place.catalog().await {
            Ok(catalog) => {
                for entry in &catalog.entries {
                    let checked = CheckedBackup::new(store.clone(), entry);
                    if !checked.tried && entry.data_bytes.is_some() {
                        untried = untried.or_else(|| Some(untried_failure(entry)));
                    }
                    backups.push(checked);
                }
            }
            Err(failure) => first = first.or(Some(unheard(setup, &name, &failure))),
        }
    }
    let locked = backups.iter().filter(|b| !b.key_ids.is_empty() && b.opened_by.is_empty());
    let locked = locked.count();
    context.print(&Checked { backups })?;
    if locked > 0 {
        let what = format!("{locked} backups are opened by none of the keys at hand");
        return Err(Failure::new(Exit::Key, what));
    }
    first.or(untried).map_or(Ok(()), Err)
}

/// A store whose backups are not known. That it is not there does not say that nothing is in it.
fn unheard(setup: &Setup, name: &str, failure: &Failure) -> Failure {
    match setup.has_several() {
        true => {
            let exit = match failure.exit() {
                Exit::NotFound => Exit::Storage,
                exit => exit,
            };
            Failure::new(exit, format!("store {name}: {failure}"))
        }
        false => Failure::new(failure.exit(), failure),
    }
}

fn untried_failure(entry: &Entry) -> Failure {
    let exit = match entry.standing {
        Standing::Unreadable(_) => Exit::Storage,
        _ => Exit::Verification,
    };
    let what = format!(
        "keys could not be tried on backup {}, which is {}: backup catalog fsck tells what to do about it",
        entry.id, entry.standing
    );
    Failure::new(exit, what)
}

impl CheckedBackup {
    fn new(store: Option<String>, entry: &Entry) -> Self {
        let names = |ids: &[KeyId]| ids.iter().map(ToString::to_string).collect();
        CheckedBackup {
            id: entry.id.to_string(),
            store,
            status: entry.standing.word(),
            encrypted: match entry.standing {
                Standing::Complete(Proof::Plain) => Some(false),
                Standing::Complete(_) => Some(true),
                _ => None,
            },
            tried: entry.is_complete() || !entry.key_ids.is_empty(),
            key_ids: names(&entry.key_ids),
            opened_by: names(&entry.opened_by),
        }
    }
}

impl Report for Generated {
    fn table(&self) -> String {
        format!("key {} in {}", self.key_id, self.file.display())
    }
}

impl Report for Keys {
    fn table(&self) -> String {
        let mut rows = table::new(&["KEY", "FROM", "NEW BACKUPS"]);
        for key in &self.keys {
            let seals = if key.seals { "sealed for it" } else { "-" };
            rows.add_row([key.key_id.clone(), key.source.clone(), seals.to_owned()]);
        }
        table::text(&rows)
    }
}

impl Report for Checked {
    fn table(&self) -> String {
        let mut rows = table::new(&["ID", "STATUS", "SEALED FOR", "OPENED BY"]);
        for backup in &self.backups {
            let place = backup.store.as_ref().map_or(String::new(), |name| format!(" in {name}"));
            let (sealed_for, opened_by) = (backup.key_ids.join(" "), backup.opened_by.join(" "));
            let status = format!("{}{place}", backup.status);
            rows.add_row([backup.id.clone(), status, sealed_for, opened_by]);
        }
        table::text(&rows)
    }
}

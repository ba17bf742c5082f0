//! `backup key rotate`: a new key in the old one's place.
//!
//! Invariant: success means that no backup in any of the stores needs the old key, and that no new one will: whoever reads it destroys that key.

use crate::commands::backup::setup::{Setup, read_failure, rng};
use crate::commands::backup::stores::{Place, Round, confirm};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{Report, table};
use raftkv_core::backup::catalog::{Entry, Standing};
use raftkv_core::backup::read::ReadError;
use raftkv_core::backup::rotate::{Rotate, Rotated};
use raftkv_core::backup::{BackupId, Key, KeyId, KeyRing};
use raftkv_node::blob::drive;
use serde::Serialize;

/// What is said when something may be opened by the old key only.
const KEEP_OLD: &str = "keep the old key until this is put right and the keys were rotated again";

/// Who it is that has the lock.
const COMMAND: &str = "backup key rotate";

#[derive(Debug, Serialize)]
struct RotatedView {
    old: String,
    new: String,
    backups: Vec<RotatedBackup>,
}

#[derive(Debug, Serialize)]
struct RotatedBackup {
    id: String,
    /// In which store, if there are several.
    store: Option<String>,
    /// `changed`, `already`, `not sealed for the old key`, `not encrypted`, `skipped` or `failed`.
    outcome: &'static str,
    error: Option<String>,
}

/// The keys of one rotation.
struct Keys {
    old: KeyId,
    new: Key,
    ring: KeyRing,
}

/// Runs it. Every backup is tried even when one fails. Each store's lock is held meanwhile, so that nobody brings a backup there that is sealed
/// as it was before.
pub async fn rotate(
    context: &Context,
    setup: &Setup,
    old: KeyId,
    new: KeyId,
) -> Result<(), Failure> {
    let keys = keys(setup, old, new)?;
    let mut backups = Vec::new();
    let done = rotate_all(setup, &keys, &mut backups).await;
    let unknown = keys.ring.get(old).is_none() && !is_known(&backups);
    context.print(&RotatedView { old: old.to_string(), new: new.to_string(), backups })?;
    let done = done.and_then(|()| match unknown {
        true => Err(never_seen(old)),
        false => Ok(()),
    });
    done.map_err(|failure| Failure::new(failure.exit(), format!("{failure}; {KEEP_OLD}")))
}

/// The old key must not be in use any more, and the new one must be.
fn keys(setup: &Setup, old: KeyId, new: KeyId) -> Result<Keys, Failure> {
    if old == new {
        return Err(Failure::new(Exit::Usage, "--old and --new are the same key"));
    }
    let ring = setup.loaded.ring();
    let Some(new_key) = ring.get(new).cloned() else {
        let what = format!("the configuration names no key {new}: backup key list shows them");
        return Err(Failure::new(Exit::Key, what));
    };
    let seals = |id: KeyId| {
        let mut named = setup.loaded.keys.named();
        named.find(|(key, _, seals)| *seals && key.id() == id).map(|(_, source, _)| source)
    };
    if let Some(source) = seals(old) {
        let what = format!(
            "new backups are sealed for --old {old} ({source}): if the two ids are not swapped, name that under old_keys and the new key as key_file, key_env or key_command"
        );
        return Err(Failure::new(Exit::Usage, what));
    }
    if seals(new).is_none() {
        let what = format!(
            "new backups are not sealed for --new {new}, which stands under old_keys: name it as key_file, key_env or key_command"
        );
        return Err(Failure::new(Exit::Usage, what));
    }
    Ok(Keys { old, new: new_key, ring })
}

/// Whether it shows that the old key's id is one: what is sealed for others than the new key may be sealed for a key that was misspelt.
fn is_known(backups: &[RotatedBackup]) -> bool {
    let any = |outcome: &str| backups.iter().any(|backup| backup.outcome == outcome);
    any(CHANGED) || (any(ALREADY) && !any(NOT_CONCERNED))
}

fn never_seen(old: KeyId) -> Failure {
    let what = format!(
        "nothing shows that there is a key {old}: the configuration does not name it, and in no backup its place was taken; \
         backup key list and backup key check show which there are"
    );
    Failure::new(Exit::Key, what)
}

async fn rotate_all(
    setup: &Setup,
    keys: &Keys,
    backups: &mut Vec<RotatedBackup>,
) -> Result<(), Failure> {
    let mut round = Round::begin(setup).await?;
    for mut place in std::mem::take(&mut round.places) {
        let Some(guard) = round.lock(&place, COMMAND).await else { continue };
        let rotated = rotate_in(&mut place, keys, backups).await;
        let kept = confirm(&guard).await;
        guard.release().await;
        if let Err(failure) = rotated.and(kept) {
            round.failed(place.name.as_deref(), failure);
        }
    }
    round.end_all()
}

/// In one store, also what is no complete backup, since it may be made one again: only the front of the data is needed. The first failure
/// counts.
async fn rotate_in(
    place: &mut Place,
    keys: &Keys,
    backups: &mut Vec<RotatedBackup>,
) -> Result<(), Failure> {
    let catalog = place.setup.catalog().await?;
    let mut first = None;
    for entry in catalog.entries.iter().filter(|entry| entry.data_bytes.is_some()) {
        let store = place.name.clone();
        // Who put it together is not known, nor what a new key would open with it.
        if let Standing::Forged(_) = entry.standing {
            let what = format!("backup {} was skipped: {}", entry.id, entry.standing);
            first = first.or(Some(Failure::new(Exit::Verification, what)));
            backups.push(RotatedBackup::skipped(entry, store));
            continue;
        }
        let (new, ring) = (keys.new.clone(), keys.ring.clone());
        let mut machine = Rotate::new(entry.id, keys.old, new, ring, rng("key rotation")?);
        drive(&mut machine, &mut place.setup.stores, |_| {}).await;
        let rotated = machine.outcome().expect("a driven machine has an outcome");
        first = first.or_else(|| rotated.as_ref().err().map(read_failure));
        backups.push(RotatedBackup::new(entry.id, store, rotated));
    }
    first.map_or(Ok(()), Err)
}

const CHANGED: &str = "changed";
const ALREADY: &str = "already";
const NOT_CONCERNED: &str = "not sealed for the old key";

impl RotatedBackup {
    fn new(id: BackupId, store: Option<String>, rotated: &Result<Rotated, ReadError>) -> Self {
        let outcome = match rotated {
            Ok(Rotated::Changed) => CHANGED,
            Ok(Rotated::Already) => ALREADY,
            Ok(Rotated::NotConcerned) => NOT_CONCERNED,
            Ok(Rotated::Plain) => "not encrypted",
            Err(_) => "failed",
        };
        let error = rotated.as_ref().err().map(ToString::to_string);
        RotatedBackup { id: id.to_string(), store, outcome, error }
    }

    fn skipped(entry: &Entry, store: Option<String>) -> Self {
        let error = Some(format!("skipped: {}", entry.standing));
        RotatedBackup { id: entry.id.to_string(), store, outcome: "skipped", error }
    }
}

impl Report for RotatedView {
    fn table(&self) -> String {
        let mut rows = table::new(&["ID", "RESULT"]);
        for backup in &self.backups {
            let result = backup.error.clone().unwrap_or_else(|| backup.outcome.to_owned());
            let place = backup.store.as_ref().map_or(String::new(), |name| format!("in {name}: "));
            rows.add_row([backup.id.clone(), format!("{place}{result}")]);
        }
        table::text(&rows)
    }
}

//! What the command line finds out: told, counted, and judged.

use super::found::{Found, Means};
use super::{Recovery, World};
use crate::check::{Violation, backup_listing};
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::{BlobErrorKind, StoreIndex};
use raftkv_core::backup::create::{Cause, Outcome};
use raftkv_core::backup::read::{ReadError, ReadTrouble};
use raftkv_core::backup::restore::Restored;
use raftkv_core::backup::verify::Level;

impl World {
    pub(super) fn on_found(&mut self, found: Found) -> Result<(), Violation> {
        match found {
            Found::Planted(mark) => {
                if self.backups.console.keys().encrypt() {
                    self.backups.canaries.plant(mark);
                }
            }
            Found::Taken(outcome) => self.on_taken(&outcome)?,
            Found::NoView => self.tell("no view", format_args!("")),
            Found::Died => {
                self.sometimes("operator died during a job");
                self.tell("died", format_args!(""));
            }
            Found::Listed(store, catalog) => {
                let entries = catalog.entries.len();
                self.tell("listed", format_args!("{entries} backups in store {}", store.0));
                backup_listing::check(&catalog, self.backups.truth(store).0)?;
            }
            Found::Unlisted(store, error) => {
                self.tell("unlisted", format_args!("store {}: {error}", store.0));
            }
            Found::Held(id) => self.tell("held", format_args!("{id}")),
            Found::NotHeld { id, error } => self.tell("not held", format_args!("{id} {error}")),
            Found::Forgotten(id) => self.tell("forgotten", format_args!("a hold of {id}")),
            Found::Released => self.tell("released", format_args!("")),
            Found::Verified { report, means } => {
                let (id, level) = (report.id, report.level);
                let wrong =
                    report.result.as_ref().err().map(ToString::to_string).unwrap_or_default();
                self.tell("verified", format_args!("{id} {level} {wrong}"));
                if level >= Level::Decrypt {
                    let result = report.result.as_ref().map(|metadata| (metadata, None));
                    self.backups.judge(id, result, &means)?;
                }
            }
            Found::Restored { id, result, means } => {
                self.on_restored(id, result.as_deref(), &means)?;
            }
            Found::Undone { put_back, spared } => {
                if put_back > 0 {
                    self.sometimes("a deletion was undone from a backup");
                }
                self.tell("undone", format_args!("{put_back} put back, {spared} were there"));
            }
            Found::Recovered { restored, skipped, means } => {
                let id = restored.metadata.id;
                self.on_restored(id, Ok(restored.as_ref()), &means)?;
                self.backups.judge_newest(&restored.metadata, &means)?;
                if means.store != StoreIndex::PRIMARY {
                    self.sometimes("a cluster restored from a copy");
                }
                if !means.silent.is_empty() {
                    self.sometimes("a cluster restored although a store did not answer");
                }
                let skipped = skipped.len();
                self.tell("recovered", format_args!("{id}, {skipped} newer ones do not restore"));
                self.on_recovered(Recovery { restored, skipped })?;
            }
            Found::Lost { skipped } => {
                self.tell("lost", format_args!("none of {} restores", skipped.len()));
            }
            errand => self.on_errand(errand)?,
        }
        Ok(())
    }

    fn on_errand(&mut self, found: Found) -> Result<(), Violation> {
        match found {
            Found::Rotated { id, old, new, result, means } => {
                self.on_rotated(id, (old, &new), &result, &means)?;
            }
            Found::Rebuilt { id, result, means } => self.on_rebuilt(id, result.as_ref(), &means)?,
            Found::Left(store) => self.tell("left", format_args!("store {}", store.0)),
            Found::Pinning { store, id } => self.backups.pins.begin(store, id),
            Found::Pinned { store, id, is_pin, result } => {
                let what = if is_pin { "pinned" } else { "unpinned" };
                self.tell(what, format_args!("{id} in store {}: {result:?}", store.0));
                self.backups.pins.end(store, id, is_pin, result.is_ok());
            }
            Found::PinUnknown { store, id } => self.backups.pins.end(store, id, false, false),
            // All others are no errands.
            _ => {}
        }
        Ok(())
    }

    fn on_taken(&mut self, outcome: &Outcome) -> Result<(), Violation> {
        match outcome {
            Outcome::Complete(metadata) => {
                self.sometimes("backup complete");
                if self.peers.has_cuts() {
                    self.sometimes("backup complete during a partition");
                }
                self.tell("backup", format_args!("{} at index {}", metadata.id, metadata.index));
                if !self.backups.commits.was_complete(metadata.id) {
                    let detail = format!("{} is called complete, and is not", metadata.id);
                    return Err(Violation::new("backup commit", detail));
                }
            }
            Outcome::Failed(failure) => {
                self.sometimes("backup failed");
                self.tell("failed", format_args!("{failure}"));
                if matches!(&failure.cause, Cause::Unknown(error) if error.kind == BlobErrorKind::NotFound)
                {
                    self.sometimes("backup's commit unknown");
                }
                let id = failure.metadata.id;
                if self.backups.commits.was_complete(id) && !failure.left_behind {
                    let detail = format!("{id} is complete, but said to be gone");
                    return Err(Violation::new("backup commit", detail));
                }
            }
        }
        Ok(())
    }

    fn on_restored(
        &mut self,
        id: BackupId,
        result: Result<&Restored, &ReadError>,
        means: &Means,
    ) -> Result<(), Violation> {
        self.backups.last_trouble = result.err().map(ReadError::trouble);
        match result {
            Ok(restored) => {
                self.sometimes("backup restored in memory");
                self.tell("restored", format_args!("{id} {}", restored.state.hash()));
            }
            Err(error) => {
                self.tell("unrestored", format_args!("{id} {error}"));
                if error.trouble() == ReadTrouble::Verification {
                    self.sometimes("damaged backup refused");
                }
                if matches!(error.trouble(), ReadTrouble::Key | ReadTrouble::Refused) {
                    self.sometimes("restore without the right key refused");
                }
            }
        }
        let said = result.map(|restored| (&restored.metadata, Some(restored.state.hash())));
        self.backups.judge(id, said, means)
    }

    pub(super) fn tell(&mut self, what: &str, details: std::fmt::Arguments) {
        self.trace.line(self.now, "backup", what, details);
    }
}

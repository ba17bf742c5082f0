//! Brings one store up to date from another: what is complete in the one and missing in the other is copied, the newest first.
//!
//! Invariants: nothing is copied that is not complete and genuine, and nothing plain where only what is encrypted counts; a copy that is damaged
//! is replaced, but only by one that is not; what is forged in the target is left alone and told; one backup that cannot be copied does not hold
//! up the others. For whoever holds the target's lock.

use super::blob::{BlobError, BlobErrorKind};
use super::catalog::{Catalog, Entry, Judged, Proof, ReadCatalog, Standing};
use super::copy::{Copied, CopyBackup, CopyError, Present, Route};
use super::format::Plaintext;
use super::id::BackupId;
use super::machine::{Action, ActionResult, Machine, Progress};
use super::numbered::Numbered;
use super::read::Access;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;

/// Why nothing could be copied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatchUpError {
    /// The store to copy from cannot be listed.
    #[error("the store to copy from: {0}")]
    From(BlobError),
    /// The store to copy to cannot be listed.
    #[error("the store to copy to: {0}")]
    To(BlobError),
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaughtUp {
    /// What was copied, or could not be.
    pub copies: Vec<(BackupId, Result<Copied, CopyError>)>,
    /// What has been there before.
    pub already: usize,
    /// What the target has, but forged: it stays as it is.
    pub forged: Vec<BackupId>,
    /// Of these the target could not tell how they stand.
    pub unreadable: Vec<BackupId>,
    /// What is not encrypted and would have to be: it stays where it is, and is not missed.
    pub plain: Vec<BackupId>,
    /// What was not even tried, when it was stopped. Nothing if it was stopped before anything was known.
    pub left: usize,
    is_stopped: bool,
}

/// What is to be copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing<'a> {
    /// These, the newest first.
    pub absent: Vec<&'a Entry>,
    /// Of those, what lies damaged in the target and is replaced.
    pub damaged: BTreeSet<BackupId>,
    /// These are forged in the target.
    pub forged: Vec<BackupId>,
    /// Of these the target could not tell how they stand.
    pub unreadable: Vec<BackupId>,
    /// These are not there, and not encrypted as they would have to be.
    pub plain: Vec<BackupId>,
    /// So many are there.
    pub already: usize,
}

/// Compares two stores.
pub fn missing<'a>(from: &'a Catalog, to: &Catalog, plaintext: Plaintext) -> Missing<'a> {
    let mut missing = Missing::default();
    for entry in from.entries.iter().rev().filter(|entry| entry.is_complete()) {
        let there = to.entries.iter().find(|other| other.id == entry.id);
        let counts = counts(entry, plaintext);
        match there.map(|there| &there.standing) {
            Some(Standing::Complete(_)) if !counts => missing.already += 1,
            _ if !counts => missing.plain.push(entry.id),
            Some(Standing::Complete(Proof::Plain)) if plaintext == Plaintext::Refused => {
                missing.forged.push(entry.id);
            }
            Some(Standing::Complete(_)) => missing.already += 1,
            Some(Standing::Forged(_)) => missing.forged.push(entry.id),
            // Perhaps it is whole: who cannot tell must neither replace it nor count on it.
            Some(Standing::Unreadable(_)) => missing.unreadable.push(entry.id),
            Some(Standing::Damaged(_) | Standing::DataMissing(_)) => {
                missing.damaged.insert(entry.id);
                missing.absent.push(entry);
            }
            Some(Standing::Incomplete | Standing::NotWhole(_) | Standing::HalfRemoved) | None => {
                missing.absent.push(entry);
            }
        }
    }
    missing
}

/// Whether a complete backup is one of ours, as far as anybody can tell: with the keys of another time it may be.
fn counts(entry: &Entry, plaintext: Plaintext) -> bool {
    let is_locked = matches!(entry.standing, Standing::Complete(Proof::KeyMissing(_)));
    is_locked || entry.genuine(plaintext).is_some()
}

fn order(entry: &Entry, damaged: &BTreeSet<BackupId>) -> (BackupId, Judged, Present) {
    let present = if damaged.contains(&entry.id) { Present::Replace } else { Present::Keep };
    (entry.id, entry.judged.clone(), present)
}

/// The machine.
#[derive(Debug)]
pub struct CatchUp {
    route: Route,
    plaintext: Plaintext,
    max_parts: u32,
    stage: Stage,
    waiting: VecDeque<(BackupId, Judged, Present)>,
    done: CaughtUp,
    is_stopped: bool,
}

#[derive(Debug)]
enum Stage {
    Reading(Box<(Numbered<ReadCatalog>, Numbered<ReadCatalog>)>),
    Copying(BackupId, Box<Numbered<CopyBackup>>),
    Ended(Result<(), CatchUpError>),
}

/// Two catalogs are read side by side, so the second one's operations have numbers from here.
const SECOND_OPS: u64 = 1 << 32;

impl CatchUp {
    /// Begins. `access` tells genuine backups from others; copies are made without keys. The target takes `max_parts` parts of an object.
    pub fn new(route: Route, access: Access, max_parts: u32) -> Self {
        let Access { keys, plaintext } = access;
        let from = Numbered::in_store(ReadCatalog::new(keys.clone()), route.from, 0);
        let to = Numbered::in_store(ReadCatalog::new(keys), route.to, SECOND_OPS);
        CatchUp {
            route,
            plaintext,
            max_parts,
            stage: Stage::Reading(Box::new((from, to))),
            waiting: VecDeque::new(),
            done: CaughtUp::default(),
            is_stopped: false,
        }
    }

    /// Gives up what is under way, and begins nothing more.
    pub fn stop(&mut self) {
        self.is_stopped = true;
        match &mut self.stage {
            Stage::Copying(_, copy) => copy.get_mut().abandon(),
            Stage::Reading(_) | Stage::Ended(_) => {}
        }
        // What had nothing under way has ended by that, and no result will come to say so.
        self.advance();
    }

    /// What was done, once it has ended.
    pub fn outcome(&self) -> Option<Result<&CaughtUp, &CatchUpError>> {
        match &self.stage {
            Stage::Ended(ended) => Some(ended.as_ref().map(|()| &self.done)),
            _ => None,
        }
    }

    fn advance(&mut self) {
        let next = match &self.stage {
            Stage::Reading(reading) => {
                let (from, to) = reading.as_ref();
                let (Some(have), Some(has)) = (from.get().outcome(), to.get().outcome()) else {
                    return;
                };
                let (have, has, base) = (have.clone(), has.clone(), from.end().max(to.end()));
                self.read(have, has, base)
            }
            Stage::Copying(id, copy) => {
                let Some(outcome) = copy.get().outcome() else { return };
                let (copied, base) = ((*id, outcome.clone()), copy.end());
                self.done.copies.push(copied);
                self.next_copy(base)
            }
            Stage::Ended(_) => return,
        };
        self.stage = next;
    }

    fn read(
        &mut self,
        have: Result<Catalog, BlobError>,
        has: Result<Catalog, BlobError>,
        base: u64,
    ) -> Stage {
        let have = match have {
            Ok(catalog) => catalog,
            Err(error) => return Stage::Ended(Err(CatchUpError::From(error))),
        };
        let has = match has {
            Ok(catalog) => catalog,
            // A store in which nothing was written yet.
            Err(error) if error.kind == BlobErrorKind::NotFound => Catalog::default(),
            Err(error) => return Stage::Ended(Err(CatchUpError::To(error))),
        };
        let missing = missing(&have, &has, self.plaintext);
        self.waiting = missing.absent.iter().map(|entry| order(entry, &missing.damaged)).collect();
        self.done = CaughtUp {
            already: missing.already,
            forged: missing.forged,
            unreadable: missing.unreadable,
            plain: missing.plain,
            ..CaughtUp::default()
        };
        self.next_copy(base)
    }

    fn next_copy(&mut self, base: u64) -> Stage {
        let next = if self.is_stopped { None } else { self.waiting.pop_front() };
        match next {
            Some((id, judged, present)) => {
                let copy = CopyBackup::new(id, judged, self.route, present, self.max_parts);
                Stage::Copying(id, Box::new(Numbered::new(copy, base)))
            }
            None => {
                self.done.left = self.waiting.len();
                self.done.is_stopped = self.is_stopped;
                Stage::Ended(Ok(()))
            }
        }
    }
}

impl Machine for CatchUp {
    fn poll_action(&mut self) -> Option<Action> {
        match &mut self.stage {
            Stage::Reading(reading) => {
                let (from, to) = reading.as_mut();
                from.poll_action().or_else(|| to.poll_action())
            }
            Stage::Copying(_, copy) => copy.poll_action(),
            Stage::Ended(_) => None,
        }
    }

    fn handle(&mut self, result: ActionResult) {
        let ActionResult::Blob { op, result } = result else { return };
        let is_ours = match &mut self.stage {
            Stage::Reading(reading) => {
                let (from, to) = reading.as_mut();
                from.take(op, &result) || to.take(op, &result)
            }
            Stage::Copying(_, copy) => copy.take(op, &result),
            Stage::Ended(_) => false,
        };
        if is_ours {
            self.advance();
        }
    }

    fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    fn progress(&self) -> Progress {
        match &self.stage {
            Stage::Copying(_, copy) => copy.get().progress(),
            _ => Progress::default(),
        }
    }
}

impl CaughtUp {
    /// Whether everything that is complete in the one store, and may leave it, is in the other now.
    pub fn is_whole(&self) -> bool {
        let is_known = self.forged.is_empty() && self.unreadable.is_empty();
        !self.is_stopped && is_known && self.failures().next().is_none()
    }

    /// Whether it was stopped before everything was done.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// What could not be copied.
    pub fn failures(&self) -> impl Iterator<Item = (BackupId, &CopyError)> {
        self.copies.iter().filter_map(|(id, copied)| Some((*id, copied.as_ref().err()?)))
    }
}

impl fmt::Display for CaughtUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let copied = self.copies.iter().filter(|(_, copied)| copied.is_ok()).count();
        write!(f, "{copied} copied, {} had been there", self.already)?;
        for (id, error) in self.failures().take(3) {
            write!(f, "; {id}: {error}")?;
        }
        if self.is_stopped {
            write!(f, "; stopped before {} more", self.left)?;
        }
        for id in self.forged.iter().take(3) {
            write!(f, "; {id}: forged there, and left alone")?;
        }
        for id in self.unreadable.iter().take(3) {
            write!(f, "; {id}: there, but cannot be read")?;
        }
        for id in self.plain.iter().take(3) {
            write!(f, "; {id}: not encrypted, and not copied")?;
        }
        Ok(())
    }
}

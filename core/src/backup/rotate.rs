//! Changes the keys of one backup: a new `keys.bin`, while front and chunks of `data.db` stay as they are.
//!
//! Invariants: what is written was made from a data key that the header commits to; the change counts as done only after it was read
//! back and opened with the new key alone; doing it again changes nothing, so a rotation over many backups can be repeated after any failure.

use super::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp, ObjectName};
use super::format::{FormatError, MAX_PREAMBLE_BYTES, Plaintext, Preamble, Suite};
use super::id::BackupId;
use super::keys::{Key, KeyId, KeyRing};
use super::machine::{Action, ActionResult, Machine, Outbox};
use super::read_error::ReadError;
use super::slots::MAX_KEYS_BYTES;
use crate::rng::Rng;
use bytes::Bytes;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// The new key has taken the old one's place.
    Changed,
    /// It had already.
    Already,
    /// The backup is not sealed for the old key.
    NotConcerned,
    /// The backup is not encrypted.
    Plain,
}

/// The machine.
#[derive(Debug)]
pub struct Rotate {
    id: BackupId,
    old: KeyId,
    new: Key,
    keys: KeyRing,
    rng: Rng,
    outbox: Outbox<Purpose>,
    front: Option<Bytes>,
    later: Option<Option<Bytes>>,
    /// The write's answer was lost.
    lost_answer: Option<BlobError>,
    outcome: Option<Result<Rotated, ReadError>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Front,
    Later,
    Write,
    ReadBack,
}

impl Rotate {
    /// Begins. `keys` must open the backup: usually the old key is among them. `rng` must be a cryptographic generator with a secret seed.
    pub fn new(id: BackupId, old: KeyId, new: Key, keys: KeyRing, rng: Rng) -> Self {
        let mut outbox = Outbox::new();
        let (object, len_bytes) = (ObjectName::data(id), MAX_PREAMBLE_BYTES as u64);
        outbox.blob(Purpose::Front, BlobOp::Get { object, offset: 0, len_bytes });
        outbox.blob(Purpose::Later, get_keys(id));
        Rotate {
            id,
            old,
            new,
            keys,
            rng,
            outbox,
            front: None,
            later: None,
            lost_answer: None,
            outcome: None,
        }
    }

    /// What was done, or why not.
    pub fn outcome(&self) -> Option<&Result<Rotated, ReadError>> {
        self.outcome.as_ref().filter(|_| self.outbox.is_idle())
    }

    fn done(
        &mut self,
        purpose: Purpose,
        result: Result<BlobDone, BlobError>,
    ) -> Result<(), ReadError> {
        let bytes = result.map(|done| match done {
            BlobDone::Bytes(bytes) => bytes,
            _ => Bytes::new(),
        });
        match (purpose, bytes) {
            (Purpose::Front, Ok(bytes)) => self.front = Some(bytes),
            (Purpose::Later, Ok(bytes)) => self.later = Some(Some(bytes)),
            (Purpose::Later, Err(error)) if error.kind == BlobErrorKind::NotFound => {
                self.later = Some(None);
            }
            // Whether a lost answer meant success, reading back tells.
            (Purpose::Write, Ok(_)) => return self.read_back(),
            (Purpose::Write, Err(error)) if error.kind == BlobErrorKind::Unknown => {
                self.lost_answer = Some(error);
                return self.read_back();
            }
            (Purpose::ReadBack, Ok(bytes)) => return self.check(&bytes),
            (Purpose::ReadBack, Err(error)) if error.kind == BlobErrorKind::NotFound => {
                let error = self.lost_answer.take().unwrap_or(error);
                return Err(ReadError::Store { object: ObjectName::keys(self.id), error });
            }
            (purpose, Err(error)) => {
                let object = match purpose {
                    Purpose::Front => ObjectName::data(self.id),
                    _ => ObjectName::keys(self.id),
                };
                return Err(ReadError::Store { object, error });
            }
        }
        match (&self.front, &self.later) {
            (Some(front), Some(later)) => self.rotate(&front.clone(), later.clone()),
            _ => Ok(()),
        }
    }

    fn rotate(&mut self, front: &[u8], later: Option<Bytes>) -> Result<(), ReadError> {
        let preamble = self.preamble(front, later.as_deref())?;
        if preamble.header.suite == Suite::Plain {
            self.outcome = Some(Ok(Rotated::Plain));
            return Ok(());
        }
        let current = preamble.current_key_ids();
        if !current.contains(&self.old) {
            let has_new = current.contains(&self.new.id());
            let outcome = if has_new { Rotated::Already } else { Rotated::NotConcerned };
            self.outcome = Some(Ok(outcome));
            return Ok(());
        }
        let rotated = preamble.rotate(&self.keys, self.old, &self.new, &mut self.rng);
        let bytes = rotated.map_err(|error| self.header_error(error))?.into();
        let put = BlobOp::Put { object: ObjectName::keys(self.id), bytes, if_absent: false };
        self.outbox.blob(Purpose::Write, put);
        Ok(())
    }

    fn read_back(&mut self) -> Result<(), ReadError> {
        self.outbox.blob(Purpose::ReadBack, get_keys(self.id));
        Ok(())
    }

    fn check(&mut self, written: &[u8]) -> Result<(), ReadError> {
        let front = self.front.clone().unwrap_or_default();
        let preamble = self.preamble(&front, Some(written))?;
        // What was there before still is: nothing is wrong with it, and the new key is not to be missed.
        if let Some(error) = self.lost_answer.take()
            && !preamble.current_key_ids().contains(&self.new.id())
        {
            return Err(ReadError::Store { object: ObjectName::keys(self.id), error });
        }
        let unlocked = preamble.unlock(&KeyRing::new([self.new.clone()]), Plaintext::Refused);
        unlocked.map_err(|error| self.header_error(error))?;
        self.outcome = Some(Ok(Rotated::Changed));
        Ok(())
    }

    fn preamble(&self, front: &[u8], later: Option<&[u8]>) -> Result<Preamble, ReadError> {
        let preamble = Preamble::decode(front).map_err(|error| self.header_error(error))?;
        if preamble.header.id != *self.id.as_bytes() {
            let found = preamble.header.backup_id().map_err(|error| self.header_error(error))?;
            return Err(ReadError::Misplaced { object: ObjectName::data(self.id), found });
        }
        match later {
            Some(later) if preamble.header.suite != Suite::Plain => {
                preamble.with_later_slots(later).map_err(|error| self.header_error(error))
            }
            _ => Ok(preamble),
        }
    }

    fn header_error(&self, error: FormatError) -> ReadError {
        ReadError::Header { id: self.id, error }
    }
}

fn get_keys(id: BackupId) -> BlobOp {
    let len_bytes = MAX_KEYS_BYTES as u64 + 1;
    BlobOp::Get { object: ObjectName::keys(id), offset: 0, len_bytes }
}

impl Machine for Rotate {
    fn poll_action(&mut self) -> Option<Action> {
        self.outbox.poll()
    }

    fn handle(&mut self, result: ActionResult) {
        let ActionResult::Blob { op, result } = result else { return };
        let Some(purpose) = self.outbox.blob_done(op) else { return };
        if self.outcome.is_some() {
            return;
        }
        if let Err(error) = self.done(purpose, result) {
            self.outcome = Some(Err(error));
        }
    }

    fn is_ended(&self) -> bool {
        self.outcome().is_some()
    }
}

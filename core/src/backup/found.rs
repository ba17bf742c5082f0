//! What a list found of one backup, and how the backup stands by that.

use super::blob::{BlobError, BlobErrorKind, ObjectName, Role};
use super::catalog::{Entry, Hold, Judged, Proof, Standing};
use super::format::{FormatError, Plaintext, Preamble, Suite};
use super::id::BackupId;
use super::keys::{KeyId, KeyRing};
use super::marker::{Marker, Owner};
use super::metadata::{Signed, Status};
use super::slots::KeysError;
use crate::ids::Epoch;
use crate::planted::{self, Bug};
use crate::time::Wall;
use bytes::Bytes;
use std::collections::BTreeMap;

/// What is known of one backup so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Length of `data.db`, if it was listed.
    pub data_bytes: Option<u64>,
    /// When anything but pins and holds was last written.
    written: Option<Wall>,
    run: Option<Marker>,
    is_leaving: bool,
    metadata: Option<Result<Bytes, BlobError>>,
    front: Option<Result<Bytes, BlobError>>,
    later_slots: Option<Result<Bytes, BlobError>>,
    pin: Option<String>,
    holds: Vec<Hold>,
    /// When each hold was last written.
    holds_written: BTreeMap<Owner, Wall>,
}

impl Found {
    /// Takes when an object was last written, by the store's clock, where it tells.
    pub fn listed(&mut self, object: ObjectName, written: Option<Wall>) {
        match object.role {
            Role::Pin => {}
            Role::Removal => self.is_leaving = true,
            Role::Hold(owner) => self.holds_written.extend(written.map(|at| (owner, at))),
            _ => self.written = self.written.max(written),
        }
    }

    /// Takes what was read of an object: its beginning, or why not.
    pub fn read(&mut self, object: ObjectName, bytes: Result<Bytes, BlobError>) {
        let is_gone = bytes.as_ref().is_err_and(|error| error.kind == BlobErrorKind::NotFound);
        match object.role {
            Role::Data => self.front = Some(bytes),
            Role::Metadata => self.metadata = Some(bytes),
            // Gone since the list was made.
            _ if is_gone => {}
            Role::Keys => self.later_slots = Some(bytes),
            Role::Pin => {
                self.pin = Some(marker(object, bytes).map_or_else(|what| what, |pin| pin.note));
            }
            // One that cannot be read says nothing.
            Role::Status => self.run = marker(object, bytes).ok(),
            Role::Hold(owner) => {
                let marker = marker(object, bytes);
                let beats = marker.as_ref().ok().map(|hold| hold.beats);
                let note = marker.map_or_else(|what| what, |hold| hold.to_string());
                let written = self.holds_written.get(&owner).copied();
                self.holds.push(Hold { owner, note, beats, written });
            }
            Role::Removal | Role::Lock(_) => {}
        }
    }

    /// How the backup stands.
    pub fn entry(mut self, id: BackupId, keys: &KeyRing) -> Entry {
        self.holds.sort_by_key(|hold| hold.owner);
        let signed = match &self.metadata {
            Some(Ok(bytes)) => Some(Signed::parse(bytes)),
            _ => None,
        };
        let metadata = match &signed {
            Some(Ok(signed)) => Some(signed.claims().clone()),
            _ => None,
        };
        let preamble = self.preamble();
        let front = match &preamble {
            Ok(preamble) if metadata.is_none() => point(preamble, keys),
            _ => None,
        };
        let (key_ids, opened_by) = match &preamble {
            Ok(preamble) => (preamble.current_key_ids(), opened_by(preamble, keys)),
            Err(_) => Default::default(),
        };
        let standing = match &self.metadata {
            Some(Err(error)) if error.kind != BlobErrorKind::NotFound => {
                Standing::Unreadable(error.to_string())
            }
            Some(Err(_)) | None if self.is_leaving => Standing::HalfRemoved,
            Some(Err(_)) | None => self.run.as_ref().map_or(Standing::Incomplete, not_whole),
            Some(Ok(_)) => signed
                .unwrap_or_else(|| Signed::parse(&[]))
                .map_err(|error| Standing::Damaged(error.to_string()))
                .and_then(|signed| self.judge(id, signed, preamble, keys))
                .unwrap_or_else(|standing| standing),
        };
        let judged = self.judged();
        let Found { data_bytes, is_leaving, written, run, pin, holds, .. } = self;
        let run = run.filter(|_| matches!(standing, Standing::NotWhole(_)));
        Entry {
            id,
            standing,
            metadata,
            data_bytes,
            front,
            is_leaving,
            run,
            written,
            pin,
            holds,
            key_ids,
            opened_by,
            judged,
        }
    }

    fn judged(&self) -> Judged {
        let objects = [(Role::Metadata, &self.metadata), (Role::Keys, &self.later_slots)];
        let read = objects.into_iter().filter_map(|(role, bytes)| match bytes {
            Some(Ok(bytes)) => Some((role, &bytes[..])),
            _ => None,
        });
        Judged::by(read)
    }

    /// The front of the data, with the slots that came later.
    fn preamble(&self) -> Result<Preamble, Standing> {
        let unreadable = |error: &BlobError| Standing::Unreadable(error.to_string());
        let damaged = |error: FormatError| Standing::Damaged(format!("data.db: {error}"));
        let front = self.front.as_ref().ok_or_else(|| data_missing(None, None))?;
        let preamble = Preamble::decode(front.as_ref().map_err(unreadable)?).map_err(damaged)?;
        match &self.later_slots {
            Some(later) if preamble.header.suite != Suite::Plain => {
                let later = later.as_ref().map_err(unreadable)?;
                preamble.with_later_slots(later).map_err(|error| unusable_slots(&error))
            }
            _ => Ok(preamble),
        }
    }

    /// Holds metadata and front against each other.
    fn judge(
        &self,
        id: BackupId,
        signed: Signed,
        preamble: Result<Preamble, Standing>,
        keys: &KeyRing,
    ) -> Result<Standing, Standing> {
        let claims = signed.claims();
        if claims.id != id {
            let what = format!("its metadata.json belongs to backup {}", claims.id);
            return Err(Standing::Forged(what));
        }
        if claims.status != Status::Complete {
            return Err(Standing::NotWhole(claims.status));
        }
        if self.data_bytes != Some(claims.data_bytes) && !planted::is(Bug::CatalogIgnoresLength) {
            return Err(data_missing(self.data_bytes, Some(claims.data_bytes)));
        }
        let preamble = preamble?;
        if preamble.header.id != *id.as_bytes() {
            return Err(Standing::Forged("its data.db belongs to another backup".into()));
        }
        let suite = preamble.header.suite;
        if suite != claims.suite {
            let what = "metadata.json and data.db disagree on encryption";
            return Err(Standing::Forged(what.into()));
        }
        let unlocked = match preamble.unlock(keys, Plaintext::Allowed) {
            Ok(unlocked) => unlocked,
            Err(FormatError::KeyMissing { wanted, .. }) => {
                return Ok(Standing::Complete(Proof::KeyMissing(wanted)));
            }
            Err(error) => return Err(Standing::Forged(format!("data.db: {error}"))),
        };
        match (signed.verify(&unlocked.metadata), suite) {
            (Err(error), _) => Err(Standing::Forged(error.to_string())),
            (Ok(_), Suite::Plain) => Ok(Standing::Complete(Proof::Plain)),
            (Ok(_), Suite::Aes256Gcm) => Ok(Standing::Complete(Proof::Authentic)),
        }
    }
}

/// What `keys.bin` makes of a backup when it cannot be used. Rot is no forgery; newer software may know what this one does not.
fn unusable_slots(error: &FormatError) -> Standing {
    let what = error.to_string();
    match error {
        FormatError::Keys(KeysError::Damaged { .. }) => Standing::Damaged(what),
        FormatError::Keys(KeysError::UnknownVersion { .. }) => Standing::Unreadable(what),
        _ => Standing::Forged(what),
    }
}

/// What a status says of a backup that has no metadata.
fn not_whole(run: &Marker) -> Standing {
    Standing::NotWhole(if run.released { Status::Failed } else { Status::InProgress })
}

/// Epoch and log index, if nobody without a key could have written them. Who may write a plain backup may write any.
fn point(preamble: &Preamble, keys: &KeyRing) -> Option<(Epoch, u64)> {
    preamble.unlock(keys, Plaintext::Allowed).ok()?;
    Some((preamble.header.epoch, preamble.header.index))
}

/// The keys at hand that open it, each tried alone.
fn opened_by(preamble: &Preamble, keys: &KeyRing) -> Vec<KeyId> {
    if preamble.header.suite == Suite::Plain {
        return Vec::new();
    }
    let alone = |id: &KeyId| keys.get(*id).map(|key| KeyRing::new([key.clone()]));
    let opens =
        |id: &KeyId| alone(id).is_some_and(|key| preamble.unlock(&key, Plaintext::Refused).is_ok());
    keys.ids().filter(opens).collect()
}

fn marker(object: ObjectName, bytes: Result<Bytes, BlobError>) -> Result<Marker, String> {
    let bytes = bytes.map_err(|error| error.to_string())?;
    Marker::parse(object, &bytes).map_err(|error| error.to_string())
}

/// There is no data, or it has so many bytes instead of those that metadata claims.
fn data_missing(bytes: Option<u64>, claimed: Option<u64>) -> Standing {
    Standing::DataMissing(match bytes.zip(claimed) {
        Some((bytes, claimed)) => {
            format!("data.db has {bytes} bytes, and metadata.json says {claimed}")
        }
        None => "data.db is missing".into(),
    })
}

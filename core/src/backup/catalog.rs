//! Which backups there are, from the objects alone: nothing else keeps a list.
//!
//! Every entry is judged by what its objects say: metadata that sits beside the data it describes, an id that matches the path, a
//! MAC that matches the header where the key is at hand. Invariant: what is incomplete, damaged or forged is shown, never counted as
//! complete, and never selected. Order is by epoch and log index, not by clocks; the timestamp only breaks ties.

use super::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp, Listing, ObjectName, Role};
use super::format::{FormatError, MAX_PREAMBLE_BYTES, Plaintext, Preamble, Suite};
use super::id::BackupId;
use super::keys::{KeyId, KeyRing};
use super::machine::{Action, ActionResult, Machine, Outbox, Progress};
use super::metadata::{MAX_METADATA_BYTES, Metadata, MetadataError, Signed, Status};
use crate::planted::{self, Bug};
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

/// One backup as the store shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: BackupId,
    /// How it stands.
    pub standing: Standing,
    /// What its metadata says, if it can be read.
    pub metadata: Option<Metadata>,
    /// Length of `data.db`, if it is there.
    pub data_bytes: Option<u64>,
}

/// How a backup stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Complete, as far as a list can tell.
    Complete(Proof),
    /// Data without metadata: being made, or broken off.
    Incomplete,
    /// Its metadata says that it failed or is in progress.
    NotWhole(Status),
    /// Metadata without data, or with data of another length.
    DataMissing,
    /// Metadata or header cannot be read, or do not agree.
    Damaged(String),
    /// It was altered, or put together from several backups.
    Forged(String),
    /// The store would not give its objects.
    Unreadable(String),
}

/// How far a complete backup's metadata can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Its MAC was checked with a key at hand.
    Authentic,
    /// It is encrypted for keys that are not at hand.
    KeyMissing(Vec<KeyId>),
    /// It is not encrypted: anyone who can write to the store could have made it.
    Plain,
}

/// All that is in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Every backup, oldest first; those without readable metadata come first of all.
    pub entries: Vec<Entry>,
    /// Paths that belong to no backup.
    pub strangers: Vec<String>,
}

impl Entry {
    /// Whether it is a complete backup, as far as a list can tell.
    pub fn is_complete(&self) -> bool {
        matches!(self.standing, Standing::Complete(_))
    }

    fn order(&self, other: &Entry) -> Ordering {
        let key = |entry: &Entry| {
            let place = entry.metadata.as_ref().map(|m| (m.epoch, m.index, m.timestamp));
            (place, entry.id)
        };
        key(self).cmp(&key(other))
    }
}

/// Makes a [`Catalog`]: lists the store, reads every metadata document and the header beside it.
#[derive(Debug)]
pub struct ReadCatalog {
    keys: KeyRing,
    outbox: Outbox<Purpose>,
    waiting: VecDeque<BackupId>,
    found: BTreeMap<BackupId, Found>,
    strangers: Vec<String>,
    outcome: Option<Result<Catalog, BlobError>>,
}

/// What is known of one backup so far.
#[derive(Debug, Default)]
struct Found {
    metadata_listed: bool,
    data_bytes: Option<u64>,
    metadata: Option<Result<Bytes, BlobError>>,
    front: Option<Result<Bytes, BlobError>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    List,
    Metadata(BackupId),
    Front(BackupId),
}

/// Reads under way at once.
const READS_IN_FLIGHT: usize = 16;

impl ReadCatalog {
    /// Begins. `keys` may be empty; then encrypted entries are listed without proof.
    pub fn new(keys: KeyRing) -> Self {
        let mut outbox = Outbox::new();
        outbox.blob(Purpose::List, BlobOp::List);
        ReadCatalog {
            keys,
            outbox,
            waiting: VecDeque::new(),
            found: BTreeMap::new(),
            strangers: Vec::new(),
            outcome: None,
        }
    }

    /// What there is, once everything was read; an error only if the store cannot be listed.
    pub fn outcome(&self) -> Option<&Result<Catalog, BlobError>> {
        self.outcome.as_ref()
    }

    fn listed(&mut self, result: Result<BlobDone, BlobError>) {
        let listing = match result {
            Ok(BlobDone::Listing(listing)) => listing,
            Ok(_) => Listing::default(),
            Err(error) => {
                self.outcome = Some(Err(error));
                return;
            }
        };
        self.strangers = listing.strangers;
        for (object, len_bytes) in listing.objects {
            let found = self.found.entry(object.backup).or_default();
            match object.role {
                Role::Data => found.data_bytes = Some(len_bytes),
                Role::Metadata => {
                    found.metadata_listed = true;
                    self.waiting.push_back(object.backup);
                }
            }
        }
    }

    fn advance(&mut self) {
        while self.outbox.count(|_| true) < READS_IN_FLIGHT
            && let Some(id) = self.waiting.pop_front()
        {
            let object = ObjectName::metadata(id);
            let len_bytes = MAX_METADATA_BYTES as u64 + 1;
            self.outbox.blob(Purpose::Metadata(id), BlobOp::Get { object, offset: 0, len_bytes });
            if self.found.get(&id).is_some_and(|found| found.data_bytes.is_some()) {
                let object = ObjectName::data(id);
                let len_bytes = MAX_PREAMBLE_BYTES as u64;
                self.outbox.blob(Purpose::Front(id), BlobOp::Get { object, offset: 0, len_bytes });
            }
        }
        if self.outbox.is_idle() && self.outcome.is_none() {
            let found = std::mem::take(&mut self.found);
            let mut entries: Vec<_> =
                found.into_iter().map(|(id, found)| found.entry(id, &self.keys)).collect();
            entries.sort_by(Entry::order);
            let strangers = std::mem::take(&mut self.strangers);
            self.outcome = Some(Ok(Catalog { entries, strangers }));
        }
    }
}

impl Machine for ReadCatalog {
    fn poll_action(&mut self) -> Option<Action> {
        self.outbox.poll()
    }

    fn handle(&mut self, result: ActionResult) {
        let ActionResult::Blob { op, result } = result else { return };
        let bytes = |result: Result<BlobDone, BlobError>| match result? {
            BlobDone::Bytes(bytes) => Ok(bytes),
            _ => Ok(Bytes::new()),
        };
        match self.outbox.blob_done(op) {
            Some(Purpose::List) => self.listed(result),
            Some(Purpose::Metadata(id)) => {
                self.found.entry(id).or_default().metadata = Some(bytes(result));
            }
            Some(Purpose::Front(id)) => {
                self.found.entry(id).or_default().front = Some(bytes(result));
            }
            None => return,
        }
        self.advance();
    }

    fn is_ended(&self) -> bool {
        self.outcome.is_some()
    }

    fn progress(&self) -> Progress {
        Progress::default()
    }
}

impl Found {
    fn entry(self, id: BackupId, keys: &KeyRing) -> Entry {
        let data_bytes = self.data_bytes;
        let signed = match &self.metadata {
            Some(Ok(bytes)) => Some(Signed::parse(bytes)),
            _ => None,
        };
        let metadata = match &signed {
            Some(Ok(signed)) => Some(signed.claims().clone()),
            _ => None,
        };
        let standing = self.standing(id, signed, keys).unwrap_or_else(|standing| standing);
        Entry { id, standing, metadata, data_bytes }
    }

    fn standing(
        self,
        id: BackupId,
        signed: Option<Result<Signed, MetadataError>>,
        keys: &KeyRing,
    ) -> Result<Standing, Standing> {
        match self.metadata {
            Some(Err(error)) if error.kind != BlobErrorKind::NotFound => {
                return Err(Standing::Unreadable(error.to_string()));
            }
            Some(Err(_)) | None => return Err(Standing::Incomplete),
            Some(Ok(_)) => {}
        }
        let Some(signed) = signed else { return Err(Standing::Incomplete) };
        let signed = signed.map_err(|error| Standing::Damaged(error.to_string()))?;
        let claims = signed.claims();
        if claims.id != id {
            let what = format!("its metadata.json belongs to backup {}", claims.id);
            return Err(Standing::Forged(what));
        }
        if claims.status != Status::Complete {
            return Err(Standing::NotWhole(claims.status));
        }
        if self.data_bytes != Some(claims.data_bytes) && !planted::is(Bug::CatalogIgnoresLength) {
            return Err(Standing::DataMissing);
        }
        match self.front {
            Some(Ok(front)) => judge(id, signed, &front, keys),
            Some(Err(error)) => Err(Standing::Unreadable(error.to_string())),
            None => Err(Standing::DataMissing),
        }
    }
}

/// Holds metadata and header against each other.
fn judge(id: BackupId, signed: Signed, front: &[u8], keys: &KeyRing) -> Result<Standing, Standing> {
    let damaged = |error: FormatError| Standing::Damaged(format!("data.db: {error}"));
    let preamble = Preamble::decode(front).map_err(damaged)?;
    let header = &preamble.header;
    if header.id != *id.as_bytes() {
        return Err(Standing::Forged("its data.db belongs to another backup".into()));
    }
    let (suite, key_ids) = (header.suite, preamble.key_ids());
    if suite != signed.claims().suite {
        return Err(Standing::Forged("metadata.json and data.db disagree on encryption".into()));
    }
    let unlocked = match preamble.unlock(keys, Plaintext::Allowed) {
        Ok(unlocked) => unlocked,
        Err(FormatError::KeyMissing { .. }) => {
            return Ok(Standing::Complete(Proof::KeyMissing(key_ids)));
        }
        Err(error) => return Err(Standing::Forged(format!("data.db: {error}"))),
    };
    match (signed.verify(&unlocked.metadata), suite) {
        (Err(error), _) => Err(Standing::Forged(error.to_string())),
        (Ok(_), Suite::Plain) => Ok(Standing::Complete(Proof::Plain)),
        (Ok(_), Suite::Aes256Gcm) => Ok(Standing::Complete(Proof::Authentic)),
    }
}

//! Which backups there are, from the objects alone: nothing else keeps a list.
//!
//! Every entry is judged by what its objects say: metadata that sits beside the data it describes, an id that matches the path, a
//! MAC that matches the header where the key is at hand. Invariant: what is incomplete, damaged or forged is shown, never counted as
//! complete, and never selected. Order is by epoch and log index, not by clocks; the timestamp only breaks ties. A pin or a hold that
//! cannot be read counts as one; what a hold is worth when nobody renews it is in [`super::hold`].

use super::blob::{BlobDone, BlobError, BlobOp, Listing, ObjectName, Role};
use super::format::{MAX_PREAMBLE_BYTES, Plaintext};
use super::found::Found;
pub use super::hold::Hold;
use super::id::BackupId;
use super::keys::{Key, KeyId, KeyRing};
use super::lock::Held;
use super::machine::{Action, ActionResult, Machine, Outbox};
use super::marker::{MAX_MARKER_BYTES, Marker};
use super::metadata::{Checksum, MAX_METADATA_BYTES, Metadata, Status};
use super::retention::CLOCK_TOLERANCE_MS;
use super::slots::MAX_KEYS_BYTES;
use crate::ids::{ClusterId, Epoch};
use crate::time::Wall;
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

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
    /// Epoch and log index by the front of `data.db`, where it has no metadata that tell them and a key at hand opens that.
    pub front: Option<(Epoch, u64)>,
    /// Whether something says that it is being removed.
    pub is_leaving: bool,
    /// What whoever makes it says of it, while it is not complete.
    pub run: Option<Marker>,
    /// When anything but pins and holds was last written, by the store's clock, where it tells.
    pub written: Option<Wall>,
    /// Why it is pinned, if it is.
    pub pin: Option<String>,
    /// Who uses it just now.
    pub holds: Vec<Hold>,
    /// The keys that count for it now. None when it is not encrypted, or its front cannot be read.
    pub key_ids: Vec<KeyId>,
    /// The keys at hand that open it: what was tried, not what is written.
    pub opened_by: Vec<KeyId>,
    /// What it was judged by.
    pub judged: Judged,
}

/// The small objects that a backup was judged by, each by its SHA-256: whoever reads one again can tell whether it is still the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged(BTreeMap<Role, Checksum>);

/// How a backup stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Complete, as far as a list can tell.
    Complete(Proof),
    /// Data without metadata, and nothing that says why: the metadata were lost.
    Incomplete,
    /// It has no metadata, for it is being removed, or its removal broke off.
    HalfRemoved,
    /// It has no metadata, and its status says that it failed or is in progress; or its metadata says so.
    NotWhole(Status),
    /// Metadata without data, or with data of another length: what there is instead.
    DataMissing(String),
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
    /// Uploads that have not ended, where the store shows them.
    pub uploads: Vec<ObjectName>,
    /// Paths that belong to no backup.
    pub strangers: Vec<String>,
    /// Who makes backups here, or did last.
    pub lock: Option<Held>,
    /// When that was last written, by the store's clock, where it tells. Whoever holds the lock has just done it.
    pub lock_written: Option<Wall>,
}

impl Catalog {
    /// Whether somebody has the store's lock, as far as a list can tell.
    pub fn is_locked(&self) -> bool {
        let released = |held: &Held| held.marker.as_ref().is_some_and(|marker| marker.released);
        self.lock.as_ref().is_some_and(|held| !released(held))
    }

    /// Whether there is no `metadata.json` of this backup, readable or not.
    pub fn lacks_metadata(&self, id: BackupId) -> bool {
        let entry = self.entries.iter().find(|entry| entry.id == id);
        entry.is_none_or(|entry| match entry.standing {
            Standing::Incomplete | Standing::HalfRemoved => true,
            Standing::NotWhole(_) => entry.metadata.is_none(),
            _ => false,
        })
    }

    /// The newest genuine backup that a cluster made until `now`, or little more than a clock may be wrong; and one that it made after.
    pub fn newest_by(
        &self,
        cluster: ClusterId,
        plaintext: Plaintext,
        now: Wall,
    ) -> (Option<(&Entry, &Metadata)>, Option<&Metadata>) {
        let genuine = |entry| Some((entry, Entry::genuine(entry, plaintext)?));
        let own = self.entries.iter().filter_map(genuine);
        let own = own.filter(|(_, metadata)| metadata.cluster == cluster);
        let (past, future): (Vec<_>, Vec<_>) =
            own.partition(|(_, it)| it.timestamp.0 <= now.0.saturating_add(CLOCK_TOLERANCE_MS));
        let newest = past.into_iter().max_by_key(|(_, it)| it.timestamp);
        (newest, future.into_iter().next().map(|(_, metadata)| metadata))
    }

    /// The newest genuine backup of another cluster than this one, with the same restore epoch: nothing tells whose are newer.
    pub fn rival(&self, cluster: ClusterId, epoch: Epoch, plaintext: Plaintext) -> Option<&Entry> {
        let is_rival = |metadata: &Metadata| metadata.is_rival(cluster, epoch);
        self.entries.iter().rev().find(|entry| entry.genuine(plaintext).is_some_and(is_rival))
    }
}

impl Entry {
    /// Whether it is a complete backup, as far as a list can tell.
    pub fn is_complete(&self) -> bool {
        matches!(self.standing, Standing::Complete(_))
    }

    /// What it says of itself, if it is complete and no one without a key could have written that, or plain ones count as ours.
    pub fn genuine(&self, plaintext: Plaintext) -> Option<&Metadata> {
        let counts = match &self.standing {
            Standing::Complete(Proof::Authentic) => true,
            Standing::Complete(Proof::Plain) => plaintext == Plaintext::Allowed,
            _ => false,
        };
        self.metadata.as_ref().filter(|_| counts)
    }

    /// Whether each of these keys counts for it now, and opens it: they must have been at hand.
    pub fn is_sealed_for(&self, recipients: &[Key]) -> bool {
        let is_for = |id| self.key_ids.contains(&id) && self.opened_by.contains(&id);
        recipients.iter().map(Key::id).all(is_for)
    }

    /// Older first, by epoch and log index.
    pub(super) fn order(&self, other: &Entry) -> Ordering {
        let key = |entry: &Entry| {
            let timestamp = entry.metadata.as_ref().map(|metadata| metadata.timestamp);
            (entry.point(), timestamp, entry.id)
        };
        key(self).cmp(&key(other))
    }

    /// Epoch and log index, where it tells them.
    pub(super) fn point(&self) -> Option<(Epoch, u64)> {
        self.metadata.as_ref().map(|metadata| (metadata.epoch, metadata.index)).or(self.front)
    }
}

impl Judged {
    /// By these.
    pub fn by<'a>(objects: impl IntoIterator<Item = (Role, &'a [u8])>) -> Self {
        Judged(objects.into_iter().map(|(role, bytes)| (role, Checksum::of(bytes))).collect())
    }

    /// Whether an object is what it was: absent, if it was not there.
    pub fn is_same(&self, role: Role, bytes: Option<&[u8]>) -> bool {
        self.0.get(&role).copied() == bytes.map(Checksum::of)
    }
}

/// Makes a [`Catalog`]: lists the store, reads every metadata document and the header beside it.
#[derive(Debug)]
pub struct ReadCatalog {
    keys: KeyRing,
    outbox: Outbox<Purpose>,
    waiting: VecDeque<ObjectName>,
    found: BTreeMap<BackupId, Found>,
    uploads: Vec<ObjectName>,
    strangers: Vec<String>,
    lock: Option<Held>,
    lock_written: Option<Wall>,
    outcome: Option<Result<Catalog, BlobError>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    List,
    Read(ObjectName),
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
            uploads: Vec::new(),
            strangers: Vec::new(),
            lock: None,
            lock_written: None,
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
        if let Some(lock) = highest(&listing) {
            self.lock_written = listing.written.get(&lock).copied();
            self.waiting.push_back(lock);
        }
        self.uploads = listing.uploads.into_iter().map(|(object, _)| object).collect();
        self.strangers = listing.strangers;
        for (object, len_bytes) in listing.objects {
            if object.is_lock() {
                continue;
            }
            let written = listing.written.get(&object).copied();
            let found = self.found.entry(object.backup).or_default();
            found.listed(object, written);
            match object.role {
                Role::Data => {
                    found.data_bytes = Some(len_bytes);
                    self.waiting.push_back(object);
                }
                Role::Metadata | Role::Keys | Role::Pin | Role::Status | Role::Hold(_) => {
                    self.waiting.push_back(object);
                }
                // That it is there says all.
                Role::Removal | Role::Lock(_) => {}
            }
        }
    }

    fn advance(&mut self) {
        while self.outbox.count(|_| true) < READS_IN_FLIGHT
            && let Some(object) = self.waiting.pop_front()
        {
            let len_bytes = match object.role {
                Role::Data => MAX_PREAMBLE_BYTES as u64,
                Role::Metadata => MAX_METADATA_BYTES as u64 + 1,
                Role::Keys => MAX_KEYS_BYTES as u64 + 1,
                _ => MAX_MARKER_BYTES as u64 + 1,
            };
            self.outbox.blob(Purpose::Read(object), BlobOp::Get { object, offset: 0, len_bytes });
        }
        if self.outbox.is_idle() && self.outcome.is_none() {
            let found = std::mem::take(&mut self.found);
            let mut entries: Vec<_> =
                found.into_iter().map(|(id, found)| found.entry(id, &self.keys)).collect();
            entries.sort_by(Entry::order);
            let uploads = std::mem::take(&mut self.uploads);
            let strangers = std::mem::take(&mut self.strangers);
            let (lock, lock_written) = (self.lock.take(), self.lock_written);
            self.outcome = Some(Ok(Catalog { entries, uploads, strangers, lock, lock_written }));
        }
    }
}

/// The lock that counts.
fn highest(listing: &Listing) -> Option<ObjectName> {
    listing.objects.iter().map(|(object, _)| *object).filter(ObjectName::is_lock).max()
}

impl Machine for ReadCatalog {
    fn poll_action(&mut self) -> Option<Action> {
        self.outbox.poll()
    }

    fn handle(&mut self, result: ActionResult) {
        let ActionResult::Blob { op, result } = result else { return };
        match self.outbox.blob_done(op) {
            Some(Purpose::List) => self.listed(result),
            Some(Purpose::Read(object)) => {
                let bytes = result.map(|done| match done {
                    BlobDone::Bytes(bytes) => bytes,
                    _ => Bytes::new(),
                });
                match object.role {
                    Role::Lock(number) => {
                        let marker = bytes.ok().and_then(|it| Marker::parse(object, &it).ok());
                        self.lock = Some(Held { number, marker });
                    }
                    _ => self.found.entry(object.backup).or_default().read(object, bytes),
                }
            }
            None => return,
        }
        self.advance();
    }

    fn is_ended(&self) -> bool {
        self.outcome.is_some()
    }
}

impl Standing {
    /// In one word.
    pub fn word(&self) -> &'static str {
        match self {
            Standing::Complete(_) => "complete",
            Standing::Incomplete => "incomplete",
            Standing::HalfRemoved => "half_removed",
            Standing::NotWhole(Status::Failed) => "failed",
            Standing::NotWhole(_) => "in_progress",
            Standing::DataMissing(_) | Standing::Damaged(_) => "damaged",
            Standing::Forged(_) => "forged",
            Standing::Unreadable(_) => "unreadable",
        }
    }

    /// Why it is not taken for one of ours that can be used.
    pub fn objection(&self) -> String {
        match self {
            Standing::Complete(Proof::KeyMissing(_)) => "its key is not at hand".into(),
            Standing::Complete(Proof::Plain) => {
                "it is not encrypted, although encryption is configured".into()
            }
            standing => standing.to_string(),
        }
    }

    /// What is wrong; empty when nothing is, or when the metadata says it.
    pub fn fault(&self) -> &str {
        match self {
            Standing::Complete(_) | Standing::NotWhole(_) => "",
            Standing::Incomplete => "it has no metadata.json",
            Standing::HalfRemoved => "it is being removed, or its removal broke off",
            Standing::DataMissing(what)
            | Standing::Damaged(what)
            | Standing::Forged(what)
            | Standing::Unreadable(what) => what,
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault() {
            "" => f.write_str(self.word()),
            fault => write!(f, "{}: {fault}", self.word()),
        }
    }
}

//! What is really in a store: objects, unfinished uploads, and what a lagging listing may still show.

use super::{Answer, Call};
use crate::model::clock::START_WALL_MS;
use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use bytes::Bytes;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::{
    BlobDone, BlobError, BlobErrorKind, BlobOp, Listing, ObjectName, UNFINISHED,
};
use raftkv_core::ids::OpId;
use raftkv_core::rng::Rng;
use raftkv_core::time::{Span, Wall};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The content of a store.
#[derive(Debug, Default)]
pub struct Bucket {
    objects: BTreeMap<ObjectName, Bytes>,
    /// When each was written last.
    written: BTreeMap<ObjectName, SimTime>,
    uploads: BTreeMap<Call, Upload>,
    /// Past changes, oldest first: when, which object, and its length before.
    changes: VecDeque<(SimTime, ObjectName, Option<u64>)>,
    tampered: BTreeMap<BackupId, SimTime>,
    /// Objects that pass for a day and a bit older than they are.
    aged: BTreeSet<ObjectName>,
    /// Objects that were deleted though nobody asked for it.
    deleted: BTreeSet<ObjectName>,
    /// What each of them was, also when it was written once more.
    lost: BTreeMap<ObjectName, Bytes>,
    /// Backups whose only trouble was a deleted object, which is there again as it was: since when.
    put_back: BTreeMap<BackupId, SimTime>,
    /// Backups whose deleted object was written once more: by a retry, or by a write that the store did late.
    written_again: BTreeSet<BackupId>,
    facts: VecDeque<Fact>,
}

#[derive(Debug)]
struct Upload {
    object: ObjectName,
    begun: SimTime,
    if_absent: bool,
    parts: BTreeMap<u32, Bytes>,
}

/// Something that happened to what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// An upload was begun.
    Begun(ObjectName),
    /// Bytes have left for the store, visible or not.
    Written(ObjectName, Bytes),
    /// An object became visible.
    Appeared(ObjectName),
    /// An object was deleted as asked.
    Removed(ObjectName),
}

/// What the nemesis can do to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// A bit flips.
    Flip,
    /// It ends early.
    Truncate,
    /// It is gone.
    Delete,
    /// It changes places with the same object of another backup.
    Swap,
    /// It becomes the same object of another backup.
    RollBack,
}

/// What a listing shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// What is there.
    Fresh,
    /// Each change that is younger than this may be missing.
    Stale(Span),
}

impl Damage {
    /// Every kind.
    pub const ALL: [Damage; 5] =
        [Damage::Flip, Damage::Truncate, Damage::Delete, Damage::Swap, Damage::RollBack];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Damage::Flip => "object corrupted",
            Damage::Truncate => "object truncated",
            Damage::Delete => "object deleted",
            Damage::Swap => "objects swapped",
            Damage::RollBack => "object rolled back",
        }
    }
}

impl Bucket {
    /// An object's bytes.
    pub fn get(&self, object: ObjectName) -> Option<&Bytes> {
        self.objects.get(&object)
    }

    /// When an object was written last.
    pub fn written(&self, object: ObjectName) -> Option<SimTime> {
        self.written.get(&object).copied().filter(|_| self.objects.contains_key(&object))
    }

    /// All objects.
    pub fn objects(&self) -> impl Iterator<Item = (&ObjectName, &Bytes)> {
        self.objects.iter()
    }

    /// Uploads that were neither finished nor given up.
    pub fn open_uploads(&self) -> usize {
        self.uploads.len()
    }

    /// Whether something was done to a backup that no operation asked for.
    pub fn is_tampered(&self, backup: BackupId) -> bool {
        self.tampered.contains_key(&backup)
    }

    /// Whether that is so, or was at this moment or later.
    pub fn is_tampered_since(&self, backup: BackupId, since: SimTime) -> bool {
        self.is_tampered(backup) || self.put_back.get(&backup).is_some_and(|at| *at >= since)
    }

    /// Whether an object that somebody had deleted is there again as it was, and nothing else is wrong with the backup.
    pub fn is_put_back(&self, backup: BackupId) -> bool {
        self.put_back.contains_key(&backup) && !self.is_tampered(backup)
    }

    /// What an object was when somebody deleted it though nobody asked for that.
    pub fn lost(&self, object: ObjectName) -> Option<&Bytes> {
        self.lost.get(&object)
    }

    /// Whether that was so before this moment, and has not been undone since.
    pub fn was_tampered(&self, backup: BackupId, before: SimTime) -> bool {
        let is_undone = self.written_again.contains(&backup);
        !is_undone && self.tampered.get(&backup).is_some_and(|at| *at < before)
    }

    /// Whether the data or the metadata of a backup was written once more after something was done to it that no operation asked for.
    pub fn is_mended(&self, backup: BackupId) -> bool {
        let objects = [ObjectName::data(backup), ObjectName::metadata(backup)];
        let written = objects.into_iter().filter_map(|object| self.written(object)).max();
        let tampered = self.tampered.get(&backup);
        tampered.zip(written).is_some_and(|(tampered, written)| written > *tampered)
    }

    /// From now on an object that is there passes for a day and a bit older.
    pub(super) fn age(&mut self, object: ObjectName) -> bool {
        self.objects.contains_key(&object) && self.aged.insert(object)
    }

    /// Whether an object of a backup passes for older than it is.
    pub fn has_aged(&self, backup: BackupId) -> bool {
        self.aged.iter().any(|object| object.backup == backup && self.objects.contains_key(object))
    }

    pub(super) fn poll_fact(&mut self) -> Option<Fact> {
        self.facts.pop_front()
    }

    pub(super) fn read(&self, now: SimTime, op: &BlobOp, sight: Sight, rng: &mut Rng) -> Answer {
        let object = match op {
            BlobOp::Get { object, .. } | BlobOp::Head { object } => *object,
            _ => return Ok(BlobDone::Listing(self.list(now, sight, rng))),
        };
        let bytes = self.objects.get(&object).ok_or_else(|| missing(object.path()))?;
        let BlobOp::Get { offset, len_bytes, .. } = op else {
            return Ok(BlobDone::Length(bytes.len() as u64));
        };
        let start = bytes.len().min(*offset as usize);
        let end = bytes.len().min(start.saturating_add(*len_bytes as usize));
        Ok(BlobDone::Bytes(bytes.slice(start..end)))
    }

    pub(super) fn write(&mut self, now: SimTime, call: Call, op: BlobOp) -> Answer {
        match op {
            BlobOp::Put { object, bytes, if_absent } => {
                self.facts.push_back(Fact::Written(object, bytes.clone()));
                self.show(now, object, bytes, if_absent)?;
            }
            BlobOp::PutStart { object, if_absent } => {
                if if_absent && self.objects.contains_key(&object) {
                    return Err(exists(object));
                }
                self.facts.push_back(Fact::Begun(object));
                self.uploads
                    .insert(call, Upload { object, begun: now, if_absent, parts: BTreeMap::new() });
            }
            BlobOp::PutPart { upload, number, bytes } => {
                let upload = self.upload(call, upload)?;
                let object = upload.object;
                upload.parts.insert(number, bytes.clone());
                self.facts.push_back(Fact::Written(object, bytes));
            }
            BlobOp::PutFinish { upload } => self.finish(now, call, upload)?,
            BlobOp::PutAbort { upload } => {
                self.uploads.remove(&Call { op: upload, ..call });
            }
            BlobOp::Delete { object } => {
                self.uploads.retain(|_, upload| upload.object != object);
                if self.replace(now, object, None) {
                    self.facts.push_back(Fact::Removed(object));
                }
            }
            BlobOp::Get { .. } | BlobOp::Head { .. } | BlobOp::List => {}
        }
        Ok(BlobDone::Done)
    }

    pub(super) fn damage(
        &mut self,
        now: SimTime,
        object: ObjectName,
        damage: Damage,
        rng: &mut Rng,
    ) -> Option<String> {
        if self.is_tampered(object.backup) {
            // A second damage could undo the first.
            return None;
        }
        let bytes = self.objects.get(&object)?.clone();
        let other = self.another_like(object, rng);
        let altered = match damage {
            Damage::Flip => {
                let mut altered = bytes.to_vec();
                let at = rng.below(altered.len().max(1) as u64) as usize;
                *altered.get_mut(at)? ^= 1 << rng.below(8);
                Some(altered.into())
            }
            Damage::Truncate => Some(bytes.slice(..rng.below(bytes.len().max(1) as u64) as usize)),
            Damage::Delete => {
                self.deleted.insert(object);
                self.lost.insert(object, bytes.clone());
                None
            }
            Damage::Swap | Damage::RollBack => Some(self.objects.get(&other?)?.clone()),
        };
        if let (Damage::Swap, Some(other)) = (damage, other) {
            self.replace(now, other, Some(bytes));
            self.tampered.entry(other.backup).or_insert(now);
        }
        self.replace(now, object, altered);
        self.tampered.entry(object.backup).or_insert(now);
        let with = other.filter(|_| matches!(damage, Damage::Swap | Damage::RollBack));
        Some(match with {
            Some(other) => format!("{object}: {} with {other}", damage.name()),
            None => format!("{object}: {}", damage.name()),
        })
    }

    /// Everything is gone.
    pub(super) fn lose_all(&mut self, now: SimTime) {
        let objects: Vec<ObjectName> = self.objects.keys().copied().collect();
        for object in objects {
            self.replace(now, object, None);
            self.deleted.insert(object);
            self.tampered.entry(object.backup).or_insert(now);
        }
    }

    /// The same object of some other backup.
    fn another_like(&self, object: ObjectName, rng: &mut Rng) -> Option<ObjectName> {
        let like = |name: &&ObjectName| {
            let is_other = name.role == object.role && name.backup != object.backup;
            is_other && !self.is_tampered(name.backup)
        };
        let others: Vec<ObjectName> = self.objects.keys().filter(like).copied().collect();
        (!others.is_empty()).then(|| *rng.pick(&others))
    }

    fn list(&self, now: SimTime, sight: Sight, rng: &mut Rng) -> Listing {
        let length = |bytes: &Bytes| bytes.len() as u64;
        let mut lengths: BTreeMap<ObjectName, u64> =
            self.objects.iter().map(|(name, bytes)| (*name, length(bytes))).collect();
        if let Sight::Stale(staleness) = sight {
            // Backwards through what is too young to be certain: each change is seen, or not.
            let young = self.changes.iter().rev().take_while(|(at, _, _)| now - *at < staleness);
            for (_, object, before) in young {
                if rng.happens(Ppm::percent(50)) {
                    match before {
                        Some(length) => lengths.insert(*object, *length),
                        None => lengths.remove(object),
                    };
                }
            }
        }
        let partial = |upload: &Upload| {
            (format!("{}{UNFINISHED}", upload.object), 0, Some(calendar(upload.begun)))
        };
        let age_ms = |object| if self.aged.contains(object) { AGED_MS } else { 0 };
        let written = |object| {
            let at = self.written.get(object).copied().map(calendar)?;
            Some(Wall(at.0 - age_ms(object)))
        };
        let paths =
            lengths.iter().map(|(object, length)| (object.path(), *length, written(object)));
        Listing::of(paths.chain(self.uploads.values().map(partial)))
    }

    fn upload(&mut self, call: Call, upload: OpId) -> Result<&mut Upload, BlobError> {
        let gone = || missing(format!("upload {}", upload.0));
        self.uploads.get_mut(&Call { op: upload, ..call }).ok_or_else(gone)
    }

    fn finish(&mut self, now: SimTime, call: Call, upload: OpId) -> Result<(), BlobError> {
        let Upload { object, if_absent, parts, .. } = self.upload(call, upload)?;
        let (object, if_absent) = (*object, *if_absent);
        let is_whole = parts.keys().copied().eq(1..=parts.len() as u32);
        if !is_whole {
            let message = format!("{object}: a part is missing");
            return Err(BlobError { kind: BlobErrorKind::Failed, message });
        }
        let bytes = parts.values().flat_map(|part| part.iter().copied()).collect();
        self.uploads.remove(&Call { op: upload, ..call });
        self.show(now, object, bytes, if_absent)
    }

    fn show(
        &mut self,
        now: SimTime,
        object: ObjectName,
        bytes: Bytes,
        if_absent: bool,
    ) -> Result<(), BlobError> {
        if if_absent && self.objects.contains_key(&object) {
            return Err(exists(object));
        }
        if self.deleted.remove(&object) {
            self.written_again(now, object, &bytes);
        }
        self.replace(now, object, Some(bytes));
        self.facts.push_back(Fact::Appeared(object));
        Ok(())
    }

    /// A deleted object is written once more.
    fn written_again(&mut self, now: SimTime, object: ObjectName, bytes: &Bytes) {
        let backup = object.backup;
        let is_all = !self.deleted.iter().any(|other| other.backup == backup);
        if is_all && self.lost.get(&object) == Some(bytes) {
            self.tampered.remove(&backup);
            self.put_back.insert(backup, now);
        } else {
            self.written_again.insert(backup);
        }
    }

    /// Puts bytes in the place of an object, or nothing. Says whether something was there.
    fn replace(&mut self, now: SimTime, object: ObjectName, bytes: Option<Bytes>) -> bool {
        let before = match bytes {
            Some(bytes) => {
                self.written.insert(object, now);
                self.aged.remove(&object);
                self.objects.insert(object, bytes)
            }
            None => self.objects.remove(&object),
        };
        let length = before.as_ref().map(|bytes| bytes.len() as u64);
        self.changes.push_back((now, object, length));
        before.is_some()
    }
}

/// By so much an object is aged.
const AGED_MS: i64 = 25 * 60 * 60 * 1000;

/// The store's calendar, which is right.
fn calendar(at: SimTime) -> Wall {
    Wall(START_WALL_MS + (at.0 / 1_000_000) as i64)
}

fn missing(what: String) -> BlobError {
    BlobError { kind: BlobErrorKind::NotFound, message: format!("{what}: there is no such object") }
}

fn exists(object: ObjectName) -> BlobError {
    BlobError { kind: BlobErrorKind::Exists, message: format!("{object}: it is there already") }
}

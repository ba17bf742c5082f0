//! What backup machines ask of an object store, and what comes back.
//!
//! Invariants: objects are named by backup and role (locks by a number), never by text from inside an object; every [`BlobOp`] is answered by exactly
//! one completion with the same `OpId`. Retrying what is transient, with backoff, is the shell's part: an error that arrives here is
//! final, but its effect may be unknown ([`BlobErrorKind::Unknown`]).

use super::id::BackupId;
use super::marker::Owner;
use crate::ids::OpId;
use crate::time::Wall;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;

/// What an object is within its backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The sealed state.
    Data,
    /// What the backup is; its presence makes the backup complete.
    Metadata,
    /// Key slots that replace those in the front of the data.
    Keys,
    /// Retention spares the backup.
    Pin,
    /// It is being made, or was given up: what whoever makes it says of that.
    Status,
    /// The backup is being removed: whoever finds this without metadata finishes it.
    Removal,
    /// Something reads the backup, or writes it, just now.
    Hold(Owner),
    /// Who makes backups in this store. Belongs to no backup; the highest number counts.
    Lock(u64),
}

/// Where locks are below the prefix.
const LOCKS: &str = "locks";

/// Names an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// The backup.
    pub backup: BackupId,
    /// Which of its objects.
    pub role: Role,
}

/// Names a store: the primary one, or one of those that have copies, in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreIndex(pub u8);

impl StoreIndex {
    /// The store that backups are made in, and that says which ones there are.
    pub const PRIMARY: StoreIndex = StoreIndex(0);

    /// The first so many stores.
    pub fn first(count: u8) -> impl DoubleEndedIterator<Item = StoreIndex> {
        (0..count).map(StoreIndex)
    }
}

/// Something to be done in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobOp {
    /// Write a whole small object, atomically. Done with [`BlobDone::Done`].
    Put {
        /// Which object.
        object: ObjectName,
        /// Its bytes.
        bytes: Bytes,
        /// Fail with [`BlobErrorKind::Exists`] when it is there already, if the store can tell.
        if_absent: bool,
    },
    /// Begin to write a large object; nothing is visible before [`BlobOp::PutFinish`]. The upload is named by this operation's id.
    PutStart {
        /// Which object.
        object: ObjectName,
        /// As in [`BlobOp::Put`].
        if_absent: bool,
    },
    /// Write a part of it. Parts are given in order, the next before this one is done. Done means taken over: a failure may be told by a
    /// later part, or by [`BlobOp::PutFinish`].
    PutPart {
        /// Which upload.
        upload: OpId,
        /// From 1, without gaps.
        number: u32,
        /// The part's bytes. All parts but the last have the same length.
        bytes: Bytes,
    },
    /// Make the object visible, whole, on stable storage. Given when every part is done.
    PutFinish {
        /// Which upload.
        upload: OpId,
    },
    /// Give an upload up and leave nothing of it; done also when there is no such upload. Parts under way still get their
    /// completions.
    PutAbort {
        /// Which upload.
        upload: OpId,
    },
    /// Read up to `len_bytes` from `offset`; fewer only at the end of the object. Done with [`BlobDone::Bytes`].
    Get {
        /// Which object.
        object: ObjectName,
        /// From where.
        offset: u64,
        /// At most how much.
        len_bytes: u64,
    },
    /// Ask for an object's length. Done with [`BlobDone::Length`].
    Head {
        /// Which object.
        object: ObjectName,
    },
    /// List everything under the store's prefix. Done with [`BlobDone::Listing`].
    List,
    /// Remove an object, and every upload of it that has not ended; done also when nothing was there.
    Delete {
        /// Which object.
        object: ObjectName,
    },
}

/// How an operation ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobDone {
    /// It is done.
    Done,
    /// To [`BlobOp::Get`].
    Bytes(Bytes),
    /// To [`BlobOp::Head`].
    Length(u64),
    /// To [`BlobOp::List`].
    Listing(Listing),
}

/// What is in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Objects of backups, with their lengths.
    pub objects: Vec<(ObjectName, u64)>,
    /// When each was written, by the store's clock, where the store tells.
    pub written: BTreeMap<ObjectName, Wall>,
    /// Uploads that have begun and not ended, by the object they would make, and when they began, where the store tells. A store need
    /// not show them.
    pub uploads: Vec<(ObjectName, Option<Wall>)>,
    /// Paths below the prefix that are not objects of backups.
    pub strangers: Vec<String>,
}

/// Behind the path of an object stands this in a listing when it is an upload that has not ended.
pub const UNFINISHED: &str = ".partial";

/// How an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct BlobError {
    /// What kind of failure.
    pub kind: BlobErrorKind,
    /// The store's words, with the object's path and without credentials.
    pub message: String,
}

/// Kinds of failure that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobErrorKind {
    /// No such object, or no such bucket.
    NotFound,
    /// The object is there already.
    Exists,
    /// Credentials are missing, wrong, expired or not enough.
    Denied,
    /// No room.
    Full,
    /// Certainly not done, and a later try may work.
    Transient,
    /// The answer was lost: it may or may not have been done.
    Unknown,
    /// Anything else.
    Failed,
}

impl ObjectName {
    /// The metadata of a backup.
    pub fn metadata(backup: BackupId) -> Self {
        ObjectName { backup, role: Role::Metadata }
    }

    /// The data of a backup.
    pub fn data(backup: BackupId) -> Self {
        ObjectName { backup, role: Role::Data }
    }

    /// The later key slots of a backup.
    pub fn keys(backup: BackupId) -> Self {
        ObjectName { backup, role: Role::Keys }
    }

    /// The pin of a backup.
    pub fn pin(backup: BackupId) -> Self {
        ObjectName { backup, role: Role::Pin }
    }

    /// What is said of a backup that is not complete.
    pub fn status(backup: BackupId) -> Self {
        ObjectName { backup, role: Role::Status }
    }

    /// What says that a backup is being removed.
    pub fn removal(backup: BackupId) -> Self {
        ObjectName { backup, role: Role::Removal }
    }

    /// A hold on a backup.
    pub fn hold(backup: BackupId, owner: Owner) -> Self {
        ObjectName { backup, role: Role::Hold(owner) }
    }

    /// A lock on the store.
    pub fn lock(number: u64) -> Self {
        ObjectName { backup: BackupId::NONE, role: Role::Lock(number) }
    }

    /// Whether it is a lock on the store, and belongs to no backup.
    pub fn is_lock(&self) -> bool {
        matches!(self.role, Role::Lock(_))
    }

    /// Where the object is below the store's prefix (usually `backups/`): `{uuid}/data.db`, `{uuid}/metadata.json` and so on, or
    /// `locks/{number}.json`.
    pub fn path(&self) -> String {
        match self.role {
            Role::Lock(_) => format!("{LOCKS}/{}", self.role),
            _ => format!("{}/{}", self.backup, self.role),
        }
    }

    /// The object that is at this path below the prefix, if any.
    pub fn from_path(path: &str) -> Option<ObjectName> {
        let (folder, name) = path.split_once('/')?;
        let object = match (folder, Role::from_name(name)?) {
            (LOCKS, role) => ObjectName { backup: BackupId::NONE, role },
            (backup, role) => ObjectName { backup: backup.parse().ok()?, role },
        };
        // One object has one name.
        (object.path() == path).then_some(object)
    }
}

impl Role {
    fn from_name(name: &str) -> Option<Role> {
        let plain =
            [Role::Data, Role::Metadata, Role::Keys, Role::Pin, Role::Status, Role::Removal];
        if let Some(role) = plain.into_iter().find(|role| role.to_string() == name) {
            return Some(role);
        }
        let stem = name.strip_suffix(".json")?;
        match stem.strip_prefix("hold-") {
            Some(owner) => owner.parse().ok().map(Role::Hold),
            None => stem.parse().ok().map(Role::Lock),
        }
    }
}

impl Listing {
    /// Sorts out what a store has below its prefix: paths relative to the prefix, with lengths, and when each was written, if the store
    /// tells. A path that ends in [`UNFINISHED`] is an upload.
    pub fn of(paths: impl IntoIterator<Item = (String, u64, Option<Wall>)>) -> Self {
        let mut listing = Listing::default();
        for (path, len_bytes, written) in paths {
            let upload = path.strip_suffix(UNFINISHED).and_then(ObjectName::from_path);
            match (ObjectName::from_path(&path), upload) {
                (Some(object), _) => {
                    listing.objects.push((object, len_bytes));
                    listing.written.extend(written.map(|at| (object, at)));
                }
                (None, Some(object)) => listing.uploads.push((object, written)),
                (None, None) => listing.strangers.push(path),
            }
        }
        listing.objects.sort_unstable();
        listing.uploads.sort_unstable();
        listing.strangers.sort_unstable();
        listing
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Data => f.write_str("data.db"),
            Role::Metadata => f.write_str("metadata.json"),
            Role::Keys => f.write_str("keys.bin"),
            Role::Pin => f.write_str("pin.json"),
            Role::Status => f.write_str("status.json"),
            Role::Removal => f.write_str("removal.json"),
            Role::Hold(owner) => write!(f, "hold-{owner}.json"),
            Role::Lock(number) => write!(f, "{number:020}.json"),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

impl fmt::Display for BlobErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BlobErrorKind::NotFound => "not found",
            BlobErrorKind::Exists => "exists already",
            BlobErrorKind::Denied => "access denied",
            BlobErrorKind::Full => "no space left",
            BlobErrorKind::Transient => "store unavailable",
            BlobErrorKind::Unknown => "outcome not known",
            BlobErrorKind::Failed => "store failed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_of_backups_and_locks_have_names() {
        let id = "d90ad4b2-5a96-475e-85f1-329ec2662b35";
        let owner = "ab".repeat(16);
        let ours = [
            format!("{id}/data.db"),
            format!("{id}/metadata.json"),
            format!("{id}/keys.bin"),
            format!("{id}/pin.json"),
            format!("{id}/status.json"),
            format!("{id}/removal.json"),
            format!("{id}/hold-{owner}.json"),
            "locks/00000000000000000007.json".to_string(),
        ];
        let strange = [
            format!("{id}/data.db.tmp"),
            format!("{id}/data.db.partial.partial"),
            format!("{id}/../data.db"),
            format!("{id}/00000000000000000007.json"),
            format!("{id}/hold-{}.json", owner.to_uppercase()),
            "00000000-0000-0000-0000-000000000000/data.db".to_string(),
            "locks/7.json".to_string(),
            "locks/+0000000000000000007.json".to_string(),
            "locks/data.db".to_string(),
            "README".to_string(),
        ];
        let upload = format!("{id}/data.db.partial");
        let all = ours.iter().chain(&strange).chain([&upload]);
        let listing = Listing::of(all.map(|path| (path.clone(), 7, Some(Wall(3)))));
        let paths: Vec<_> = listing.objects.iter().map(|(object, _)| object.path()).collect();
        assert_eq!((paths.len(), listing.written.len()), (ours.len(), ours.len()));
        assert!(ours.iter().all(|path| paths.contains(path)), "{paths:?}");
        assert_eq!(listing.strangers.len(), strange.len());
        let object = ObjectName::data(id.parse().unwrap());
        assert_eq!(listing.uploads, [(object, Some(Wall(3)))]);
    }
}

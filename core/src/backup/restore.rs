//! From a backup back to a state: all of it, or nothing; and from that state to the start of a new cluster.
//!
//! Invariants: [`Restore::take`] yields a state only after metadata, header, every chunk, the snapshot's own checks, counts and the
//! recomputed state hash agreed. A restored cluster is a new one: [`Rebased`] tells what changes and why.

use super::id::BackupId;
use super::machine::{Action, ActionResult, Machine, Progress};
use super::metadata::Metadata;
use super::read::{Access, ReadBounds, ReadError, Reader, Sink};
use super::verify::Level;
use crate::boot::GenesisBase;
use crate::ids::{ClusterId, Epoch};
use crate::kv::KvState;
use crate::planted::{self, Bug};
use crate::snapshot::{Header, Loader, Sum, Summed};
use bytes::Bytes;

/// Revisions and log indexes of a restored cluster begin at its epoch times this, or later: far above any that the old cluster can
/// have given out after the backup was taken.
pub const GAP: u64 = 1_000_000_000_000;

/// The highest epoch of a restored cluster: above it, log indexes do not fit into 63 bits with a [`GAP`] to count on.
pub const EPOCH_MAX: Epoch = Epoch(i64::MAX as u64 / GAP - 1);

/// Nothing above what the lost cluster gave out is left to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the new cluster's epoch would be above {}, the highest there is: was the right --lost-epoch given?", EPOCH_MAX.0)]
pub struct EpochsExhausted;

/// A state that was restored and verified.
#[derive(Debug)]
pub struct Restored {
    /// What the backup is; authentic.
    pub metadata: Metadata,
    /// What the snapshot in it says about itself.
    pub header: Header,
    /// The state.
    pub state: KvState,
}

/// The machine.
#[derive(Debug)]
pub struct Restore(Box<Reader<Rebuild>>);

impl Restore {
    /// Begins to restore a backup.
    pub fn new(id: BackupId, access: Access, bounds: ReadBounds) -> Self {
        Restore(Box::new(Reader::new(id, Level::Restore, access, bounds, Rebuild::default())))
    }

    /// The verified state, or why there is none. `None` while the machine has not ended.
    pub fn take(self) -> Option<Result<Restored, ReadError>> {
        let (result, rebuild) = self.0.into_parts()?;
        Some(result.map(|metadata| {
            let (header, state) = rebuild.rebuilt.expect("a finished stream made a state");
            Restored { metadata, header, state }
        }))
    }
}

impl Machine for Restore {
    fn poll_action(&mut self) -> Option<Action> {
        self.0.poll_action()
    }

    fn handle(&mut self, result: ActionResult) {
        self.0.handle(result);
    }

    fn is_ended(&self) -> bool {
        self.0.is_ended()
    }

    fn progress(&self) -> Progress {
        self.0.progress()
    }
}

/// What a restored cluster starts from.
///
/// It is a new cluster, so that nothing of the old one can be mistaken for it: a new id, and the next epoch. What changes in the state:
/// - The revision moves up to the next multiple of [`GAP`], so it is above every revision that the old cluster acknowledged,
///   the lost ones included; and everything before is compacted, so that a watch from an old revision is told to list again
///   instead of missing events in silence. Keys keep the revisions that they were written at.
/// - The log index moves up in the same way. Sessions and leases are named by the index of the entry that made
///   them: a name that the old cluster gave out and that was lost is never given to somebody else.
/// - Sessions end. A client that retries a write from before the disaster must learn that its outcome is not known, rather than have it
///   answered from a state that may lack it.
/// - Leases keep their keys and start their time to live anew: nobody could renew them while the cluster was gone.
/// - Members and their incarnations go: the new cluster brings its own.
#[derive(Debug)]
pub struct Rebased {
    /// The new cluster's id.
    pub cluster: ClusterId,
    /// Its epoch: one above the old cluster's, and above that of every lost one.
    pub epoch: Epoch,
    /// Where its log and state begin: far above the index of the backup, in its term.
    pub base: GenesisBase,
}

/// Makes the start of a new cluster from a restored state. `cluster` is a fresh, random id. `lost` is the epoch of the cluster that was
/// lost, which the backup does not know when that cluster was itself restored and left no backup: what it gave out is passed over, too.
///
/// # Errors
/// When the epoch, or what begins at its multiple of [`GAP`], would be above [`EPOCH_MAX`].
pub fn rebase(
    restored: &Restored,
    cluster: ClusterId,
    lost: Epoch,
) -> Result<Rebased, EpochsExhausted> {
    let Restored { header, state, .. } = restored;
    let next = u64::from(!planted::is(Bug::RestoreKeepsEpoch));
    let epoch = Epoch(header.epoch.max(lost).0.saturating_add(next));
    let beyond = |number: u64| {
        let gaps = (number / GAP + 1).max(epoch.0);
        if gaps > EPOCH_MAX.0 { Err(EpochsExhausted) } else { Ok(gaps * GAP) }
    };
    let (revision, index) = (beyond(state.revision())?, beyond(header.meta.index)?);
    let revision = if planted::is(Bug::RestoreKeepsRevision) { state.revision() } else { revision };
    let base = GenesisBase {
        index,
        term: header.meta.term.max(1),
        state: state.clone().rebased(revision),
    };
    Ok(Rebased { cluster, epoch, base })
}

/// Rebuilds the state from a snapshot stream.
#[derive(Debug)]
pub struct Rebuild {
    loader: Loader,
    rebuilt: Option<(Header, KvState)>,
}

impl Default for Rebuild {
    fn default() -> Self {
        Rebuild { loader: Loader::summed_elsewhere(), rebuilt: None }
    }
}

impl Sink for Rebuild {
    fn push(&mut self, plain: Bytes) -> Result<(), String> {
        self.loader.push(&plain).map_err(|error| error.to_string())
    }

    fn poll_sum(&mut self) -> Option<Sum> {
        self.loader.poll_sum()
    }

    fn take_sum(&mut self, sum: Summed) {
        self.loader.take_sum(sum);
    }

    fn is_backlogged(&self) -> bool {
        self.loader.is_backlogged()
    }

    fn sha256(&self) -> [u8; 32] {
        self.loader.sha256()
    }

    fn finish(&mut self, metadata: &Metadata) -> Result<(), String> {
        let (header, state) =
            std::mem::take(&mut self.loader).finish().map_err(|error| error.to_string())?;
        agree("cluster", metadata.cluster, header.cluster)?;
        agree("epoch", metadata.epoch.0, header.epoch.0)?;
        agree("log index", metadata.index, header.meta.index)?;
        agree("term", metadata.term, header.meta.term)?;
        agree("revision", metadata.revision, state.revision())?;
        agree("number of keys", metadata.keys, state.keys())?;
        agree("state hash", metadata.state_hash, state.hash())?;
        self.rebuilt = Some((header, state));
        Ok(())
    }
}

fn agree<T: PartialEq + ToString>(what: &str, expected: T, found: T) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (expected.to_string(), found.to_string());
    Err(format!("its {what} is {found}, but {expected} by the metadata"))
}

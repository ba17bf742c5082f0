//! What the operator's command line is after: done again and again until it succeeds.

use super::found::Found;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::create::Outcome;
use raftkv_core::backup::read::ReadTrouble;
use std::collections::VecDeque;

/// Something that is done again and again until it succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Plant,
    Backup,
    /// One attempt to restore the newest backup in memory.
    Drill,
    /// One attempt to restore this one.
    DrillOf(BackupId),
    /// Lost metadata is looked for in this store.
    Mend(StoreIndex),
    /// Keys of this one are put back.
    Undo(BackupId),
    /// The backup made before it restores in memory.
    Proof(Option<BackupId>),
    Recovery,
}

/// Crosses off what is done; says whether something was.
pub(super) fn fulfil(wants: &mut VecDeque<Want>, found: &Found) -> bool {
    let is_done = match (wants.front(), found) {
        (Some(Want::Backup), Found::Taken(Outcome::Complete(metadata))) => {
            if let Some(Want::Proof(id)) = wants.get_mut(1) {
                *id = Some(metadata.id);
            }
            true
        }
        (Some(Want::Proof(Some(wanted))), Found::Restored { id, result: Ok(_), .. }) => {
            wanted == id
        }
        (
            Some(Want::Drill | Want::DrillOf(_)),
            Found::Restored { .. } | Found::Unlisted(..) | Found::NotHeld { .. },
        ) => true,
        (Some(Want::Mend(wanted)), Found::Left(store)) => wanted == store,
        (Some(Want::Recovery), Found::Recovered { .. })
        | (Some(Want::Undo(_)), Found::Undone { .. }) => true,
        _ => false,
    };
    if is_done {
        wants.pop_front();
    } else if let (Some(Want::Proof(proof)), Found::Restored { result: Err(error), .. }) =
        (wants.front_mut(), found)
        && error.trouble() == ReadTrouble::Verification
    {
        // It was damaged while it was being made, before everything was mended.
        *proof = None;
        wants.push_front(Want::Backup);
    }
    is_done
}

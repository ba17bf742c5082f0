//! Damage to one machine's files, within the atlas: bits that flip, writes that were reported done and never were, writes that went to
//! another place, files that vanish. It must end in a refusal or be overcome; what the node promised must not be forgotten in silence.
//!
//! A node reads its log only when it starts, so a write that is undone now is one that never reached the drive.

use super::World;
use super::options::FaultKind;
use crate::model::disk::{Crash, CrashPolicy};
use crate::random::{Draw, Ppm};
use raftkv_core::io::FileName;
use raftkv_core::rng::{Rng, Seed};
use std::ops::Range;

/// So often is drawn for a place of a kind.
const PLACES_DRAWN: usize = 200;

/// A place in a file that may be damaged: damage there is noticed or does not matter.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) file: FileName,
    pub(super) range: Range<usize>,
    /// What lies there, for the count.
    pub(super) what: &'static str,
}

impl World {
    /// Damages a machine's files and cuts its power, if the cluster can do without that disk.
    pub(super) fn damage(&mut self, kind: FaultKind, at: usize) {
        if !self.is_member(at) || !self.can_spare(at) {
            return;
        }
        let mut rng = Seed::from_number(self.nemesis_rng().next_u64()).fork("damage");
        let done = match kind {
            FaultKind::LostFile => self.lose_file(at, &mut rng),
            FaultKind::MisdirectedWrite => self.misdirect(at, &mut rng),
            _ => self.change_bytes(kind, at, &mut rng),
        };
        if let Some((what, detail)) = done {
            self.damaged(at, what, &detail);
        }
    }

    /// Flips a bit in a place of this kind and cuts the machine's power. Says whether there was one, and the cluster can do without that disk.
    pub(super) fn rot(&mut self, at: usize, kind: &str) -> bool {
        if !self.is_member(at) || !self.can_spare(at) {
            return false;
        }
        let mut rng = Seed::from_number(self.nemesis_rng().next_u64()).fork("rot");
        let slot = &mut self.slots[at];
        let mut draw = || match kind {
            "snapshot" => slot.some_snapshot(&mut rng),
            _ => slot.log_map.some_place(&mut rng),
        };
        let place = (0..PLACES_DRAWN).find_map(|_| draw().filter(|place| place.what == kind));
        let Some(Place { file, range, what }) = place else { return false };
        let Some(offset) = slot.disk.rot(file, range) else { return false };
        self.damaged(at, rot_in(what), &format!("{} at {offset}", file.path()));
        true
    }

    fn damaged(&mut self, at: usize, what: &'static str, detail: &str) {
        let slot = &mut self.slots[at];
        slot.damaged = true;
        self.atlas.lose(slot.identity.node);
        self.count(what);
        self.note(at, "damage", &format!("{what}: {detail}"));
        let until = self.now + self.some_downtime();
        self.crash(at, Crash::Power(CrashPolicy::DropAll), until);
    }

    fn change_bytes(
        &mut self,
        kind: FaultKind,
        at: usize,
        rng: &mut Rng,
    ) -> Option<(&'static str, String)> {
        let slot = &mut self.slots[at];
        let place = match rng.below(10) {
            0 => slot.identity_place(),
            1..=4 => slot.some_snapshot(rng),
            _ => slot.log_map.some_place(rng),
        }?;
        let Place { file, range, what } = place;
        if kind == FaultKind::LostWrite {
            slot.disk.undo_write(file, range.clone())?;
            return Some(("lost write", format!("{what} {} at {}", file.path(), range.start)));
        }
        let offset = slot.disk.rot(file, range)?;
        Some((rot_in(what), format!("{} at {offset}", file.path())))
    }

    /// A write lands where another one had been, and is missing where it should be.
    fn misdirect(&mut self, at: usize, rng: &mut Rng) -> Option<(&'static str, String)> {
        let slot = &mut self.slots[at];
        let (from, to) = (slot.log_map.some_place(rng)?, slot.log_map.some_place(rng)?);
        let fits = from.range.len() <= to.range.len();
        if !fits || (from.file, from.range.start) == (to.file, to.range.start) {
            return None;
        }
        slot.disk.misdirect((from.file, from.range.clone()), (to.file, to.range.start))?;
        let detail = format!("{} at {} to {}", from.file.path(), from.range.start, to.range.start);
        Some(("misdirected write", detail))
    }

    /// A file vanishes. The newest segment of the log is spared: nothing else says that it was there.
    fn lose_file(&mut self, at: usize, rng: &mut Rng) -> Option<(&'static str, String)> {
        let slot = &mut self.slots[at];
        let listing = slot.disk.listing();
        let newest = listing.iter().rev().find(|(file, _)| matches!(file, FileName::Wal(_)));
        let newest = newest.map(|(file, _)| *file);
        let files: Vec<FileName> = listing
            .into_iter()
            .map(|(file, _)| file)
            .filter(|file| Some(*file) != newest)
            .filter(|file| {
                matches!(file, FileName::Wal(_) | FileName::Snapshot(_) | FileName::Identity)
            })
            .collect();
        if files.is_empty() {
            return None;
        }
        let file = *rng.pick(&files);
        slot.disk.lose_file(file);
        let what = match file {
            FileName::Wal(_) => "lost segment",
            FileName::Snapshot(_) => "lost snapshot",
            _ => "lost identity",
        };
        Some((what, file.path()))
    }

    /// Kills a node again and again, often while it still recovers.
    pub(super) fn restart_storm(&mut self, at: usize) {
        let mut when = self.now;
        for _ in 0..self.nemesis_rng().between(3, 12) {
            when = when
                + self.nemesis_rng().span(
                    raftkv_core::time::Span(100_000),
                    raftkv_core::time::Span::from_millis(400),
                );
            let power = self.nemesis_rng().happens(Ppm::percent(50));
            self.crash_at(when, at, power);
        }
        self.count("restart storm");
    }
}

/// What bit rot in a place of this kind is counted as.
fn rot_in(what: &str) -> &'static str {
    match what {
        "log, middle" => "bit rot in the log's middle",
        "log, tail" => "bit rot in the log's tail",
        "hard state" => "bit rot in a hard state",
        "snapshot" => "bit rot in a snapshot",
        _ => "bit rot in the identity",
    }
}

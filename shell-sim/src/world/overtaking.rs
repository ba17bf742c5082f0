//! A leader that is overtaken: cut off with entries that nobody else has, it is replaced; the new leader makes a snapshot at once and
//! cuts its log, so that the old one, heard again, must take that snapshot, and loses power while its disk still holds both.
//!
//! What the old leader wrote beyond the end of the snapshot must not outlive it. By chance all of this comes together too seldom.

use super::World;
use crate::time::SimTime;
use raftkv_core::api::{Request, Role};
use raftkv_core::ids::ReqId;
use raftkv_core::io::{DiskOp, Input};
use raftkv_core::time::Span;
use raftkv_core::wal::record;

/// After this long without success it is given up.
const PATIENCE: Span = Span::from_millis(15_000);

/// How far it has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Overtaking {
    old: usize,
    until: SimTime,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Until another than the leader of this term leads.
    CutOff { term: u64 },
    /// Until the new leader has applied an entry of its own term, the first of which is this.
    Elected { heir: usize, first: u64 },
    /// Until it has a snapshot of that.
    Saving { heir: usize, first: u64 },
    /// Until the old leader writes down that it has installed it.
    Heard,
}

impl World {
    /// Cuts the leader off, to be overtaken.
    pub(super) fn overtake_leader(&mut self) {
        let Some(old) = self.leading() else { return };
        let term = self.slots[old].status.as_deref().map_or(0, |status| status.term);
        let until = self.now + PATIENCE;
        self.cut_off(old, true, true, until);
        self.overtaking = Some(Overtaking { old, until, stage: Stage::CutOff { term } });
        self.count("leader to be overtaken");
        self.note(old, "partition", "leader, to be overtaken");
    }

    /// A node has said how it is: the story may go on.
    pub(super) fn go_on_overtaking(&mut self, at: usize) {
        let Some(Overtaking { old, until, stage }) = self.overtaking else { return };
        if until <= self.now {
            self.overtaking = None;
            return;
        }
        let Some(status) = self.slots[at].status.as_deref() else { return };
        let (applied, snapshot) = (status.applied_index, status.snapshot_index);
        let next = match stage {
            Stage::CutOff { term }
                if at != old && status.role == Role::Leader && status.term > term =>
            {
                Stage::Elected { heir: at, first: status.last_index }
            }
            Stage::Elected { heir, first } if at == heir && applied >= first => {
                self.ask_at(at, Request::SnapshotSave);
                Stage::Saving { heir, first }
            }
            Stage::Saving { heir, first } if at == heir && snapshot >= first => {
                self.peers.heal_links();
                Stage::Heard
            }
            stage => stage,
        };
        self.overtaking = Some(Overtaking { old, until, stage: next });
    }

    /// A node asks its disk for something. When the overtaken one writes down that a snapshot is installed, its power fails.
    pub(super) fn on_installing(&mut self, at: usize, action: &DiskOp) {
        let is_due = self.overtaking.is_some_and(|overtaking| {
            overtaking.old == at && matches!(overtaking.stage, Stage::Heard)
        });
        let installs = || record::carried_by(action).is_some_and(|it| it.snapshot.is_some());
        if is_due && installs() {
            self.overtaking = None;
            self.count("power cut at a snapshot's installation");
            let sync_mean = self.options.disk.sync_mean;
            let soon = Span(self.nemesis_rng().below(sync_mean.0 + 1));
            self.crash_at(self.now + soon, at, true);
        }
    }

    /// Somebody asks a node for something at its own machine, and does not wait for the answer.
    pub(super) fn ask_at(&mut self, at: usize, request: Request) {
        let slot = &mut self.slots[at];
        let req = ReqId(slot.next_request);
        slot.next_request += 1;
        slot.inbox.push_back(Input::Client { req, request });
    }
}

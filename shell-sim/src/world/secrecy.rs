//! Where data and keys must not be. With backups encrypted, random marks are written as keys and values (`backups/console.rs`); they may
//! travel in entries, in snapshots and in answers, and must be nowhere else: not in the object store, in what nodes tell each other
//! beside, or in log lines. The keys that open backups are the operator's, and must not be in anything that leaves a process.
//!
//! Between hosts everything is inside TLS, so what the simulated network carries in the clear is no finding. What a client may see is judged
//! by the check of answers: only keys that it asked for.

use super::World;
use crate::check::Violation;
use raftkv_core::api::Response;
use raftkv_core::wire::frame;
use raftkv_core::wire::peer::PeerFrame;

impl World {
    /// A node tells another something.
    pub(super) fn overhear_peer(&self, frame: &PeerFrame) -> Result<(), Violation> {
        if !self.overhears() {
            return Ok(());
        }
        let bytes = frame::to_bytes(frame);
        let canaries = &self.backups.canaries;
        match frame {
            PeerFrame::Raft(message) if !message.entries.is_empty() => {
                canaries.carried("entries between nodes", &bytes)
            }
            PeerFrame::SnapshotChunk { .. } => canaries.carried("a snapshot", &bytes),
            _ => canaries.seen("what nodes tell each other", &bytes),
        }
    }

    /// A node answers a client.
    pub(super) fn overhear_answer(&self, response: &Response) -> Result<(), Violation> {
        if !self.overhears() {
            return Ok(());
        }
        self.backups.canaries.carried("an answer", &frame::to_bytes(response))
    }

    /// A node writes a line into its log.
    pub(super) fn overhear_line(&self, line: &str) -> Result<(), Violation> {
        self.backups.canaries.seen("a log line", line.as_bytes())
    }

    /// Looking into every frame is slow, so not on every seed.
    fn overhears(&self) -> bool {
        self.options.with_reference
    }
}

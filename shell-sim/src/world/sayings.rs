//! Disk operations and frames in a few words, for the trace.

use raftkv_core::io::DiskOp;
use raftkv_core::wire::peer::PeerFrame;

/// What is done, to which file.
pub(super) fn describe(action: &DiskOp) -> String {
    let path = action.file().path();
    match action {
        DiskOp::Create { bytes, reserve_bytes, .. } => {
            format!("create {path} {} of {reserve_bytes}", bytes.len())
        }
        DiskOp::Write { offset, bytes, sync, .. } => {
            let sync = if *sync { " sync" } else { "" };
            format!("write {path} at {offset} {} bytes{sync}", bytes.len())
        }
        DiskOp::Publish { to, .. } => format!("publish {path} as {}", to.path()),
        DiskOp::Sync { .. } => format!("sync {path}"),
        DiskOp::Read { offset, len_bytes, .. } => format!("read {path} at {offset} {len_bytes}"),
        DiskOp::Remove { .. } => format!("remove {path}"),
    }
}

/// What a node says to another.
pub(super) fn summary(frame: &PeerFrame) -> String {
    match frame {
        PeerFrame::Raft(message) => format!(
            "{:?} term {} index {} of {} entries {} commit {}{}",
            message.kind,
            message.term,
            message.index,
            message.log_term,
            message.entries.len(),
            message.commit,
            if message.reject { " rejected" } else { "" }
        ),
        PeerFrame::SnapshotChunk { snapshot, offset, total_bytes, bytes, .. } => {
            format!("SnapshotChunk {} at {offset} {} of {total_bytes}", snapshot.index, bytes.len())
        }
        PeerFrame::Removed => "Removed".into(),
        PeerFrame::MayLeave => "MayLeave".into(),
        PeerFrame::BackupAsk { round } => format!("BackupAsk {round}"),
        PeerFrame::BackupAnswer { round, life } => {
            format!("BackupAnswer {round} {}", if life.is_some() { "able" } else { "not able" })
        }
        PeerFrame::BackupBusy { round } => format!("BackupBusy {round}"),
        PeerFrame::BackupReport { number, report } => format!("BackupReport {number} {report:?}"),
        PeerFrame::SnapshotAck { index, next_offset } => {
            format!("SnapshotAck {index} next {next_offset}")
        }
        PeerFrame::SnapshotRefused { index, reason } => {
            format!("SnapshotRefused {index}: {reason}")
        }
    }
}

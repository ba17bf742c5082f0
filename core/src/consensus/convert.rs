//! Between raft's types and ours. Names ending in `_in` make raft's, `_out` ours.

use super::membership::{self, ConfChange};
use crate::ids::NodeId;
use crate::log::{ConfState, Entry, EntryKind, HardState};
use crate::wire::peer::{RaftKind, RaftMessage, SnapshotMeta};
use raft::prelude as r;
use raft::prelude::{EntryType, MessageType};

/// An entry whose data was checked before. One that raft filed as a membership change keeps our encoding outside and raft's inside.
pub fn entry_in(entry: &Entry) -> r::Entry {
    let mut raft = r::Entry { index: entry.index, term: entry.term, ..Default::default() };
    match (entry.kind, ConfChange::decode(&entry.data)) {
        (EntryKind::Membership, Some(change)) => {
            raft.set_entry_type(EntryType::EntryConfChangeV2);
            raft.data = membership::to_raft_bytes(&change);
        }
        // Damaged membership data is refused before it gets here (`guard`); as an ordinary entry it would fail loudly at apply.
        (EntryKind::Membership | EntryKind::Normal, _) => raft.data = entry.data.clone(),
    }
    raft
}

pub fn entries_out(entries: Vec<r::Entry>) -> Vec<Entry> {
    entries.into_iter().map(entry_out).collect()
}

fn entry_out(entry: r::Entry) -> Entry {
    let (index, term) = (entry.index, entry.term);
    match entry.get_entry_type() {
        EntryType::EntryNormal => Entry { index, term, kind: EntryKind::Normal, data: entry.data },
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => Entry {
            index,
            term,
            kind: EntryKind::Membership,
            data: membership::from_raft_bytes(&entry.data).encode(),
        },
    }
}

pub fn hard_state_in(hard_state: &HardState) -> r::HardState {
    let HardState { term, vote, commit } = *hard_state;
    r::HardState { term, vote: vote.0, commit, ..Default::default() }
}

pub fn hard_state_out(raft: &r::HardState) -> HardState {
    HardState { term: raft.term, vote: NodeId(raft.vote), commit: raft.commit }
}

pub fn conf_state_in(conf: &ConfState) -> r::ConfState {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
    r::ConfState {
        voters: ids(&conf.voters),
        learners: ids(&conf.learners),
        voters_outgoing: ids(&conf.voters_outgoing),
        learners_next: ids(&conf.learners_next),
        auto_leave: conf.auto_leave,
        ..Default::default()
    }
}

/// Sorted, so that equal configurations have equal bytes on every replica.
pub fn conf_state_out(raft: &r::ConfState) -> ConfState {
    let nodes = |ids: &[u64]| {
        let mut nodes: Vec<NodeId> = ids.iter().copied().map(NodeId).collect();
        nodes.sort_unstable();
        nodes
    };
    ConfState {
        voters: nodes(&raft.voters),
        learners: nodes(&raft.learners),
        voters_outgoing: nodes(&raft.voters_outgoing),
        learners_next: nodes(&raft.learners_next),
        auto_leave: raft.auto_leave,
    }
}

pub fn snapshot_in(meta: &SnapshotMeta) -> r::Snapshot {
    let mut raft = r::Snapshot::default();
    raft.mut_metadata().index = meta.index;
    raft.mut_metadata().term = meta.term;
    raft.mut_metadata().set_conf_state(conf_state_in(&meta.conf));
    raft
}

pub fn snapshot_meta_out(raft: &r::SnapshotMetadata) -> SnapshotMeta {
    SnapshotMeta { index: raft.index, term: raft.term, conf: conf_state_out(raft.get_conf_state()) }
}

pub fn messages_out(messages: Vec<r::Message>) -> Vec<RaftMessage> {
    messages.into_iter().filter_map(message_out).collect()
}

/// `None` for kinds that are never sent to peers.
fn message_out(mut raft: r::Message) -> Option<RaftMessage> {
    let kind = kind_out(raft.get_msg_type())?;
    let entries: Vec<r::Entry> = raft.take_entries().into();
    let snapshot =
        (kind == RaftKind::Snapshot).then(|| snapshot_meta_out(raft.get_snapshot().get_metadata()));
    Some(RaftMessage {
        kind,
        to: NodeId(raft.to),
        from: NodeId(raft.from),
        term: raft.term,
        log_term: raft.log_term,
        index: raft.index,
        entries: entries_out(entries),
        commit: raft.commit,
        commit_term: raft.commit_term,
        snapshot,
        request_snapshot: raft.request_snapshot,
        reject: raft.reject,
        reject_hint: raft.reject_hint,
        context: raft.context,
        priority: raft.priority,
    })
}

/// A message that `guard` has looked at.
pub fn message_in(message: RaftMessage) -> r::Message {
    r::Message {
        msg_type: kind_in(message.kind),
        to: message.to.0,
        from: message.from.0,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: message.entries.iter().map(entry_in).collect::<Vec<_>>().into(),
        commit: message.commit,
        commit_term: message.commit_term,
        snapshot: message.snapshot.as_ref().map(snapshot_in).into(),
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        priority: message.priority,
        ..Default::default()
    }
}

fn kind_out(kind: MessageType) -> Option<RaftKind> {
    Some(match kind {
        MessageType::MsgAppend => RaftKind::Append,
        MessageType::MsgAppendResponse => RaftKind::AppendResponse,
        MessageType::MsgRequestVote => RaftKind::RequestVote,
        MessageType::MsgRequestVoteResponse => RaftKind::RequestVoteResponse,
        MessageType::MsgSnapshot => RaftKind::Snapshot,
        MessageType::MsgHeartbeat => RaftKind::Heartbeat,
        MessageType::MsgHeartbeatResponse => RaftKind::HeartbeatResponse,
        MessageType::MsgTimeoutNow => RaftKind::TimeoutNow,
        MessageType::MsgReadIndex => RaftKind::ReadIndex,
        MessageType::MsgReadIndexResp => RaftKind::ReadIndexResponse,
        MessageType::MsgRequestPreVote => RaftKind::RequestPreVote,
        MessageType::MsgRequestPreVoteResponse => RaftKind::RequestPreVoteResponse,
        MessageType::MsgTransferLeader => RaftKind::TransferLeader,
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum => return None,
    })
}

fn kind_in(kind: RaftKind) -> MessageType {
    match kind {
        RaftKind::Append => MessageType::MsgAppend,
        RaftKind::AppendResponse => MessageType::MsgAppendResponse,
        RaftKind::RequestVote => MessageType::MsgRequestVote,
        RaftKind::RequestVoteResponse => MessageType::MsgRequestVoteResponse,
        RaftKind::Snapshot => MessageType::MsgSnapshot,
        RaftKind::Heartbeat => MessageType::MsgHeartbeat,
        RaftKind::HeartbeatResponse => MessageType::MsgHeartbeatResponse,
        RaftKind::TimeoutNow => MessageType::MsgTimeoutNow,
        RaftKind::ReadIndex => MessageType::MsgReadIndex,
        RaftKind::ReadIndexResponse => MessageType::MsgReadIndexResp,
        RaftKind::RequestPreVote => MessageType::MsgRequestPreVote,
        RaftKind::RequestPreVoteResponse => MessageType::MsgRequestPreVoteResponse,
        RaftKind::TransferLeader => MessageType::MsgTransferLeader,
    }
}

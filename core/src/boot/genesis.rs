//! How a data directory is born.
//!
//! Invariants: the identity's name appears last, so a directory whose making was cut short holds no identity, and [`super::Boot`]
//! empties it; the temporary identity appears first, which tells such a directory from one that lost its identity. The
//! first snapshot's bytes follow from the arguments alone, so every first member of a cluster makes the same one.

use super::identity::{self, Standing};
use crate::api::{MemberInfo, MemberRole};
use crate::ids::{Identity, NodeId};
use crate::io::{DiskDone, DiskOp, FileName};
use crate::kv::{KvState, MemberChange};
use crate::log::{ConfState, HardState};
use crate::planted::{self, Bug};
use crate::snapshot::{Encoder, Header, Writer, WriterStep};
use crate::wal::{WalRecord, WalWriter};
use crate::wire::peer::SnapshotMeta;
use std::collections::VecDeque;

/// What a new cluster starts from.
#[derive(Clone, Debug)]
pub struct GenesisBase {
    /// Index of the log's imagined last entry, at least 1.
    pub index: u64,
    /// Its term, at least 1.
    pub term: u64,
    /// The state at that point; its members are replaced.
    pub state: KvState,
}

impl GenesisBase {
    /// An empty store.
    pub fn empty() -> Self {
        GenesisBase { index: 1, term: 1, state: KvState::new() }
    }
}

/// The operations that make a member's data directory, in order, each to be done before the next is begun; they may be made ahead. Holds one chunk at a time.
#[derive(Debug)]
pub struct Genesis {
    header: Header,
    writer: Option<Writer>,
    ready: VecDeque<DiskOp>,
    last: VecDeque<DiskOp>,
}

/// The making of a member of a new cluster, or of a restored one: same `members` and `base` on each.
pub fn genesis(identity: Identity, members: Vec<MemberInfo>, base: GenesisBase) -> Genesis {
    let GenesisBase { index, term, mut state } = base;
    let conf = conf_of(&members);
    let stays = |node: &NodeId| members.iter().any(|member| member.node == *node);
    let remove = state.members().map(|member| member.node).filter(|node| !stays(node)).collect();
    state.apply_members(&MemberChange { remove, upsert: members });
    let meta = SnapshotMeta { index, term, conf };
    let header = Header::of(&identity, meta.clone(), &state);
    let (writer, first) = Writer::new(Encoder::new(header.clone(), state.items()));

    let [create, publish] = identity::replace(&identity, &Standing::Member);
    let hard_state = HardState { term, vote: NodeId::NONE, commit: index };
    let mut last = first_segment(identity, hard_state, Some(meta));
    let mut ready = VecDeque::from([create, first]);
    match planted::is(Bug::IdentityPublishedFirst) {
        true => ready.insert(1, publish),
        false => last.push_back(publish),
    }
    Genesis { header, writer: Some(writer), ready, last }
}

/// The operations that make the data directory of a node that will join a cluster, in order. `peers` is whom it can reach before its
/// first snapshot tells it.
pub fn joining(identity: Identity, peers: Vec<MemberInfo>) -> Vec<DiskOp> {
    let [create, publish] = identity::replace(&identity, &Standing::Joining(peers));
    let mut ops = vec![create];
    ops.extend(first_segment(identity, HardState::default(), None));
    ops.push(publish);
    ops
}

/// The operations that turn a joining node's identity into a member's, in order, once its first snapshot is published; if the node
/// stops before, the next boot does them. All of the log lane.
pub fn joined(identity: Identity) -> Vec<DiskOp> {
    identity::replace(&identity, &Standing::Member).into()
}

impl Genesis {
    /// What the first snapshot says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }
}

impl Iterator for Genesis {
    type Item = DiskOp;

    fn next(&mut self) -> Option<DiskOp> {
        if let Some(op) = self.ready.pop_front() {
            return Some(op);
        }
        // Whoever carries them out stops at the first that fails.
        match self.writer.as_mut().map(|writer| writer.handle(Ok(DiskDone::Done))) {
            Some(WriterStep::Disk(op)) => Some(op),
            Some(WriterStep::Done(_) | WriterStep::Failed(_)) | None => {
                self.writer = None;
                self.last.pop_front()
            }
        }
    }
}

/// The log's first segment, just long enough for its record: the running node begins one of the length it is configured for.
fn first_segment(
    identity: Identity,
    hard_state: HardState,
    snapshot: Option<SnapshotMeta>,
) -> VecDeque<DiskOp> {
    let mut wal = WalWriter::new(identity);
    wal.set_segment_bytes(0);
    wal.append(&WalRecord { hard_state: Some(hard_state), snapshot, entries: Vec::new() }).into()
}

fn conf_of(members: &[MemberInfo]) -> ConfState {
    let of = |voter: bool| {
        let role = move |member: &&MemberInfo| (member.role == MemberRole::Voter) == voter;
        let mut nodes: Vec<NodeId> =
            members.iter().filter(role).map(|member| member.node).collect();
        nodes.sort_unstable();
        nodes
    };
    ConfState { voters: of(true), learners: of(false), ..ConfState::default() }
}

/// Whether the files are those of a directory whose making was cut short.
pub(super) fn is_unfinished(files: &[FileName]) -> bool {
    !files.contains(&FileName::Identity) && files.contains(&FileName::IdentityTemp)
}

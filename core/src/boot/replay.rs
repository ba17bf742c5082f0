//! The state of a stopped node: its newest snapshot, and the committed log behind it applied.
//!
//! Invariant: everything the node ever acknowledged on its own authority is in it. Alone in its cluster, a node acknowledges what is
//! on its disk, so all of its log counts; with others, only what the disk says is committed, which may be a little behind.

use super::Image;
use crate::api::MemberRole;
use crate::consensus::{ConfChange, is_command};
use crate::kv::{Command, KvState, MemberChange};
use crate::log::{ConfState, Entry, EntryKind};
use crate::wire::peer::SnapshotMeta;

/// A state, and the point in the log at which it stands.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// Index, term and membership.
    pub meta: SnapshotMeta,
    /// The state.
    pub state: KvState,
}

/// A committed entry that does not decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} of the log is not readable by this version: {what}")]
pub struct ReplayError {
    /// Which entry.
    pub index: u64,
    /// Why.
    pub what: String,
}

/// Applies what is committed.
pub fn replay(image: Image) -> Result<Replayed, ReplayError> {
    let Image { identity, hard_state, snapshot, mut state, entries, .. } = image;
    let alone = snapshot.conf.voters == [identity.node]
        && snapshot.conf.voters_outgoing.is_empty()
        && !entries.iter().any(|entry| entry.kind == EntryKind::Membership);
    let commit = if alone { u64::MAX } else { hard_state.commit };
    let (mut index, mut term) = (snapshot.index, snapshot.term);
    for entry in entries.into_iter().take_while(|entry| entry.index <= commit) {
        apply(&mut state, &entry).map_err(|what| ReplayError { index: entry.index, what })?;
        (index, term) = (entry.index, entry.term);
    }
    let meta = SnapshotMeta { index, term, conf: conf_of(&state) };
    Ok(Replayed { meta, state })
}

fn apply(state: &mut KvState, entry: &Entry) -> Result<(), String> {
    match entry.kind {
        EntryKind::Normal if is_command(entry) => {
            let command = Command::decode(&entry.data).map_err(|error| error.to_string())?;
            state.apply(entry.index, &command);
        }
        EntryKind::Normal => {}
        EntryKind::Membership => {
            let change = ConfChange::decode(&entry.data).ok_or("a damaged membership change")?;
            if !change.change.is_empty() {
                let change =
                    MemberChange::decode(&change.change).map_err(|error| error.to_string())?;
                state.apply_members(&change);
            }
        }
    }
    Ok(())
}

fn conf_of(state: &KvState) -> ConfState {
    let (voters, learners): (Vec<_>, Vec<_>) =
        state.members().partition(|member| member.role == MemberRole::Voter);
    let nodes = |members: Vec<&crate::api::MemberInfo>| {
        members.into_iter().map(|member| member.node).collect()
    };
    ConfState { voters: nodes(voters), learners: nodes(learners), ..ConfState::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{MemberInfo, PutRequest, WriteOp};
    use crate::ids::{ClusterId, Epoch, Identity, NodeId};
    use crate::kv::Action;
    use crate::log::HardState;
    use crate::time::Wall;
    use crate::wal::WalWriter;

    fn put(index: u64) -> Entry {
        let put = PutRequest {
            key: vec![index as u8].into(),
            value: "v".into(),
            lease: 0,
            return_previous: false,
        };
        let action = Action::Write { session: None, op: WriteOp::Put(put) };
        let command = Command { log_time_ms: index, wall: Wall(0), action };
        Entry { index, term: 3, kind: EntryKind::Normal, data: command.encode() }
    }

    fn image(voters: &[u32], commit: u64) -> Image {
        let node = NodeId::new(1, 0);
        let identity = Identity { cluster: ClusterId([1; 16]), epoch: Epoch(0), node };
        let voters: Vec<NodeId> = voters.iter().map(|number| NodeId::new(*number, 0)).collect();
        let mut state = KvState::new();
        let member = |node: &NodeId| MemberInfo {
            node: *node,
            address: "a:1".into(),
            role: MemberRole::Voter,
        };
        let upsert = voters.iter().map(member).collect();
        state.apply_members(&MemberChange { upsert, remove: Vec::new() });
        let conf = ConfState { voters, ..ConfState::default() };
        Image {
            identity,
            joining: false,
            peers: Vec::new(),
            hard_state: HardState { term: 3, vote: NodeId::NONE, commit },
            snapshot: SnapshotMeta { index: 4, term: 2, conf },
            state,
            snapshots: Vec::new(),
            entries: (5..=9).map(put).collect(),
            wal: WalWriter::new(identity),
            leftovers: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn one_of_many_knows_only_what_is_committed() {
        let replayed = replay(image(&[1, 2, 3], 7)).unwrap();
        assert_eq!((replayed.meta.index, replayed.meta.term), (7, 3));
        assert_eq!(replayed.state.keys(), 3);
        assert_eq!(replayed.meta.conf.voters.len(), 3);
    }

    #[test]
    fn a_node_alone_has_acknowledged_all_of_its_log() {
        let replayed = replay(image(&[1], 7)).unwrap();
        assert_eq!((replayed.meta.index, replayed.state.keys()), (9, 5));
    }

    #[test]
    fn without_a_log_it_is_the_snapshot() {
        let image = Image { entries: Vec::new(), ..image(&[1, 2, 3], 4) };
        let replayed = replay(image).unwrap();
        assert_eq!((replayed.meta.index, replayed.meta.term), (4, 2));
    }

    #[test]
    fn unreadable_entries_are_named() {
        let mut image = image(&[1], 9);
        image.entries[1].data = b"\xff\xff\xff".as_slice().into();
        assert_eq!(replay(image).unwrap_err().index, 6);
    }
}

//! Nodes, members and snapshots as data.

use super::{Report, table};
use raftkv_core::api::{MemberInfo, MemberRole, NodeStatus, Role, SnapshotInfo};
use serde::Serialize;

/// The cluster as far as it answered.
#[derive(Debug, Serialize)]
pub struct StatusView {
    cluster_id: String,
    epoch: u64,
    nodes: Vec<NodeView>,
}

#[derive(Debug, Serialize)]
struct NodeView {
    id: u32,
    incarnation: u32,
    address: String,
    role: Role,
    leader: Option<u32>,
    term: u64,
    last_index: u64,
    commit_index: u64,
    applied_index: u64,
    revision: u64,
    compacted: u64,
    state_hash: String,
    keys: u64,
    bytes: u64,
    leases: u64,
    watches: u64,
    snapshot_index: u64,
    log_bytes: u64,
    version: String,
}

/// The members.
#[derive(Debug, Serialize)]
pub struct MembersView {
    members: Vec<MemberView>,
}

#[derive(Debug, Serialize)]
struct MemberView {
    id: u32,
    incarnation: u32,
    address: String,
    role: MemberRole,
}

/// Snapshots of one node.
#[derive(Debug, Serialize)]
pub struct SnapshotsView {
    address: String,
    snapshots: Vec<SnapshotView>,
}

/// One snapshot.
#[derive(Debug, Serialize)]
pub struct SnapshotView {
    index: u64,
    term: u64,
    revision: u64,
    keys: u64,
    bytes: u64,
    state_hash: String,
}

impl StatusView {
    /// From at least one answer. All are of one cluster: the first one's.
    pub fn new(statuses: &[NodeStatus]) -> Option<Self> {
        let identity = statuses.first()?.identity;
        let mut nodes: Vec<NodeView> = statuses.iter().map(NodeView::new).collect();
        nodes.sort_by_key(|node| node.id);
        Some(StatusView {
            cluster_id: identity.cluster.to_string(),
            epoch: identity.epoch.0,
            nodes,
        })
    }
}

impl NodeView {
    fn new(status: &NodeStatus) -> Self {
        NodeView {
            id: status.identity.node.member(),
            incarnation: status.identity.node.incarnation(),
            address: status.address.clone(),
            role: status.role,
            leader: status.leader.map(|leader| leader.member()),
            term: status.term,
            last_index: status.last_index,
            commit_index: status.commit_index,
            applied_index: status.applied_index,
            revision: status.revision,
            compacted: status.compacted,
            state_hash: status.state_hash.to_string(),
            keys: status.keys,
            bytes: status.bytes,
            leases: status.leases,
            watches: status.watches,
            snapshot_index: status.snapshot_index,
            log_bytes: status.log_bytes,
            version: status.version.clone(),
        }
    }
}

impl Report for StatusView {
    fn table(&self) -> String {
        let mut rows = table::new(&[
            "ID", "ADDRESS", "ROLE", "TERM", "APPLIED", "COMMIT", "LAST", "REVISION", "KEYS",
            "BYTES", "SNAPSHOT", "LOG", "HASH",
        ]);
        for node in &self.nodes {
            rows.add_row([
                node.id.to_string(),
                node.address.clone(),
                name(node.role),
                node.term.to_string(),
                node.applied_index.to_string(),
                node.commit_index.to_string(),
                node.last_index.to_string(),
                node.revision.to_string(),
                node.keys.to_string(),
                table::size(node.bytes),
                node.snapshot_index.to_string(),
                table::size(node.log_bytes),
                node.state_hash.chars().take(12).collect(),
            ]);
        }
        format!("cluster {} epoch {}\n{}", self.cluster_id, self.epoch, table::text(&rows))
    }
}

impl MembersView {
    /// As the leader answered.
    pub fn new(members: &[MemberInfo]) -> Self {
        let members = members.iter().map(|member| MemberView {
            id: member.node.member(),
            incarnation: member.node.incarnation(),
            address: member.address.clone(),
            role: member.role,
        });
        MembersView { members: members.collect() }
    }
}

impl Report for MembersView {
    fn table(&self) -> String {
        let mut rows = table::new(&["ID", "ADDRESS", "ROLE"]);
        for member in &self.members {
            rows.add_row([member.id.to_string(), member.address.clone(), name(member.role)]);
        }
        table::text(&rows)
    }
}

impl SnapshotsView {
    /// As the node at `address` answered.
    pub fn new(address: String, snapshots: &[SnapshotInfo]) -> Self {
        SnapshotsView { address, snapshots: snapshots.iter().map(SnapshotView::new).collect() }
    }
}

impl SnapshotView {
    /// As a node answered.
    pub fn new(info: &SnapshotInfo) -> Self {
        SnapshotView {
            index: info.index,
            term: info.term,
            revision: info.revision,
            keys: info.keys,
            bytes: info.bytes,
            state_hash: info.state_hash.to_string(),
        }
    }
}

impl Report for SnapshotsView {
    fn table(&self) -> String {
        let mut rows = table::new(&["INDEX", "TERM", "REVISION", "KEYS", "SIZE", "HASH"]);
        for snapshot in &self.snapshots {
            rows.add_row([
                snapshot.index.to_string(),
                snapshot.term.to_string(),
                snapshot.revision.to_string(),
                snapshot.keys.to_string(),
                table::size(snapshot.bytes),
                snapshot.state_hash.chars().take(12).collect(),
            ]);
        }
        table::text(&rows)
    }
}

impl Report for SnapshotView {
    fn table(&self) -> String {
        format!(
            "snapshot of index {} (term {}, revision {}): {} keys, {}",
            self.index,
            self.term,
            self.revision,
            self.keys,
            table::size(self.bytes)
        )
    }
}

/// The name serde gives a unit variant.
fn name(role: impl Serialize) -> String {
    match serde_json::to_value(role) {
        Ok(serde_json::Value::String(name)) => name,
        _ => unreachable!("roles serialize to their names"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;
    use raftkv_core::ids::{ClusterId, Epoch, Identity, NodeId};
    use raftkv_core::kv::StateHash;

    #[test]
    fn the_json_of_status_is_what_is_documented() {
        let node = NodeId::new(2, 1);
        let status = NodeStatus {
            identity: Identity { cluster: ClusterId([7; 16]), epoch: Epoch(1), node },
            address: "127.0.0.1:7402".into(),
            role: Role::PreCandidate,
            leader: Some(NodeId::new(1, 0)),
            term: 3,
            last_index: 12,
            commit_index: 11,
            applied_index: 10,
            revision: 9,
            compacted: 1,
            state_hash: StateHash::default(),
            keys: 4,
            bytes: 100,
            leases: 0,
            watches: 0,
            snapshot_index: 8,
            log_bytes: 4096,
            version: "0.1.0".into(),
        };
        let view = StatusView::new(&[status]).unwrap();
        assert_eq!(
            Format::Json.render(&view),
            format!(
                concat!(
                    r#"{{"cluster_id":"{}","epoch":1,"nodes":[{{"id":2,"incarnation":1,"address":"127.0.0.1:7402","#,
                    r#""role":"pre-candidate","leader":1,"term":3,"last_index":12,"commit_index":11,"applied_index":10,"#,
                    r#""revision":9,"compacted":1,"state_hash":"{}","keys":4,"bytes":100,"leases":0,"watches":0,"#,
                    r#""snapshot_index":8,"log_bytes":4096,"version":"0.1.0"}}]}}"#
                ),
                "07".repeat(16),
                "0".repeat(64)
            )
        );
        assert!(view.table().contains("pre-candidate"));
        assert!(StatusView::new(&[]).is_none());
    }
}

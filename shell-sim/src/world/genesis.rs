//! The data directories of a new cluster's founding members.

use raftkv_core::api::{MemberInfo, MemberRole};
use raftkv_core::boot::{self, GenesisBase};
use raftkv_core::ids::Identity;
use raftkv_core::io::DiskOp;
use raftkv_core::kv::KvState;

/// What makes one founding member's data directory.
pub(super) fn operations(
    identity: Identity,
    members: Vec<MemberInfo>,
) -> impl Iterator<Item = DiskOp> {
    let base = GenesisBase { index: 1, term: 1, state: KvState::new() };
    boot::genesis(identity, members, base)
}

/// A founding member.
pub(super) fn founder(identity: Identity, address: String, role: MemberRole) -> MemberInfo {
    MemberInfo { node: identity.node, address, role }
}

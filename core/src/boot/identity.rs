//! The identity file: whose directory this is, and whether it has its first snapshot yet.
//!
//! ```text
//! 0   8 bytes  "RAFTKVID"
//! 8   u32      format version: 1
//! 12  u32      CRC-32C over everything else
//! 16  16 bytes cluster id
//! 32  u64      restore epoch
//! 40  u64      node id
//! 48  u8       1 joining: waits for its first snapshot; 2 member: has one, and never goes without
//! 49  7 x 0
//! 56  while joining: postcard of the list of peers
//! ```
//! Invariant: it is only ever replaced whole, through a temporary name.

use crate::api::MemberInfo;
use crate::buffer;
use crate::ids::{ClusterId, Epoch, Identity, NodeId};
use crate::io::{DiskOp, FileName};
use bytes::{BufMut, Bytes, BytesMut};

/// Length of the fixed part.
const FIXED_BYTES: usize = 56;
/// The version this build writes and reads.
pub const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"RAFTKVID";

/// How far a directory has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits for its first snapshot, from one of these.
    Joining(Vec<MemberInfo>),
    /// It has a snapshot. A member without any has lost files, and is never taken for a new one.
    Member,
}

/// The file's bytes.
pub fn encode(identity: &Identity, standing: &Standing) -> Bytes {
    let mut out = BytesMut::with_capacity(FIXED_BYTES);
    out.put_slice(MAGIC);
    out.put_u32_le(VERSION);
    out.put_u32_le(0);
    out.put_slice(&identity.cluster.0);
    out.put_u64_le(identity.epoch.0);
    out.put_u64_le(identity.node.0);
    match standing {
        Standing::Joining(peers) => {
            out.put_u64_le(1);
            buffer::append(peers, &mut out);
        }
        Standing::Member => out.put_u64_le(2),
    }
    let crc = checksum(&out);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    out.freeze()
}

/// Reads the file. The error says what is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<(Identity, Standing), String> {
    let Some((file, peers)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return Err(format!("it has {} bytes, at least {FIXED_BYTES} are right", bytes.len()));
    };
    if &file[..8] != MAGIC {
        return Err("it does not start as an identity".into());
    }
    let word = |at: usize| u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    if word(12) != checksum(bytes) {
        return Err("its checksum does not match".into());
    }
    if word(8) != VERSION {
        return Err(format!("version {} is not known; this build reads {VERSION}", word(8)));
    }
    let standing = match long(48) {
        1 => match postcard::take_from_bytes(peers) {
            Ok((peers, [])) => Standing::Joining(peers),
            _ => return Err("its list of peers does not decode".into()),
        },
        2 if peers.is_empty() => Standing::Member,
        other => return Err(format!("standing {other} is not known")),
    };
    let mut cluster = [0; 16];
    cluster.copy_from_slice(&file[16..32]);
    let (epoch, node) = (Epoch(long(32)), NodeId(long(40)));
    Ok((Identity { cluster: ClusterId(cluster), epoch, node }, standing))
}

/// The operations that replace the identity file, in order.
pub(super) fn replace(identity: &Identity, standing: &Standing) -> [DiskOp; 2] {
    let bytes = encode(identity, standing);
    [
        DiskOp::Create { file: FileName::IdentityTemp, reserve_bytes: 0, bytes },
        DiskOp::Publish { from: FileName::IdentityTemp, to: FileName::Identity },
    ]
}

fn checksum(file: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&file[..12]), &file[16..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::MemberRole;
    use proptest::prelude::*;

    const IDENTITY: Identity =
        Identity { cluster: ClusterId([3; 16]), epoch: Epoch(5), node: NodeId::new(7, 1) };

    fn joining() -> Standing {
        let (node, address) = (NodeId::new(1, 0), "127.0.0.1:7400".into());
        Standing::Joining(vec![MemberInfo { node, address, role: MemberRole::Voter }])
    }

    #[test]
    fn what_is_written_is_read() {
        for standing in [joining(), Standing::Member] {
            assert_eq!(decode(&encode(&IDENTITY, &standing)), Ok((IDENTITY, standing)));
        }
    }

    proptest! {
        #[test]
        fn no_flipped_bit_passes(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut file = encode(&IDENTITY, &joining()).to_vec();
            let at = at.index(file.len());
            file[at] ^= 1u8 << bit;
            prop_assert!(decode(&file).is_err());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }
}

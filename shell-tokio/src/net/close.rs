//! Application error codes with which connections are closed. Part of the protocol: numbers never change their meaning.

use quinn::VarInt;

/// The node is stopping.
pub const STOPPING: VarInt = VarInt::from_u32(1);
/// Bytes that are no frames, or too long ones.
pub const MALFORMED: VarInt = VarInt::from_u32(2);
/// The handshake between nodes was refused.
pub const REFUSED: VarInt = VarInt::from_u32(3);
/// A certificate without the mark of a node spoke the peer protocol.
pub const NOT_A_NODE: VarInt = VarInt::from_u32(4);
/// Too many connections.
pub const BUSY: VarInt = VarInt::from_u32(5);
/// The client does not read its answers.
pub const SLOW: VarInt = VarInt::from_u32(6);
/// A newer connection to the same peer took over.
pub const REPLACED: VarInt = VarInt::from_u32(7);
/// The caller was silent when it had to speak.
pub const TIMEOUT: VarInt = VarInt::from_u32(8);

//! Application error codes with which connections are closed. Part of the protocol: numbers never change their meaning.

use quinn::{Endpoint, VarInt};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The answers given last get this long to leave.
const LINGER: Duration = Duration::from_millis(50);
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Ends all connections of a node that stops, so that nobody has to wait for a timeout to learn of it.
pub async fn all(endpoint: &Endpoint) {
    sleep(LINGER).await;
    endpoint.close(STOPPING, b"the node is stopping");
    // Whether all have heard it is their business.
    let _ = timeout(FAREWELL_TIMEOUT, endpoint.wait_idle()).await;
}

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

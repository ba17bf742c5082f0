//! Frames between a client and a node. One bidirectional stream carries any number of requests at once; answers come in any
//! order and name the request they belong to.

use crate::api::{Request, Response};
use serde::{Deserialize, Serialize};

/// The protocol's name in the TLS handshake (ALPN).
pub const ALPN: &[u8] = b"raftkv-client/1";

/// Client to node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFrame {
    /// Drawn by the client, unique on its connection among requests not yet answered.
    pub id: u64,
    /// The request.
    pub request: Request,
}

/// Node to client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseFrame {
    /// The request's id.
    pub id: u64,
    /// The answer.
    pub response: Response,
}

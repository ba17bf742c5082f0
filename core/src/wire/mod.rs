//! The bytes between nodes and clients: postcard frames with a version and a bound on size.

pub mod client;
pub mod frame;
pub mod handshake;
pub mod peer;

//! The RaftKV server: tokio, QUIC and files around the core.

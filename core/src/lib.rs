//! The deterministic core of RaftKV: one machine made of small machines, without I/O, clock or global randomness.
//!
//! # The contract
//! One rule: **handle the inputs that have arrived, drain [`node::Node::poll_output`] to `None`, then wait until the next
//! input or [`node::Node::poll_timeout`].** Everything the machine wants done is an [`io::Output`]; everything that
//! happened is an [`io::Input`]. Outputs that must wait for the disk are held inside until the disk's completion
//! arrives, so a shell cannot get durability order wrong. Same inputs and seed, same outputs, byte for byte.
//!
//! # Where things are
//! [`io`] is the whole boundary on one screen. [`node`] routes between the machines: `consensus` (raft),
//! [`wal`] (the log on disk), [`kv`] (the state), [`snapshot`] and [`backup`]. [`api`] is what clients say,
//! [`wire`] the bytes that carry it.

pub mod api;
pub mod backup;
pub mod boot;
pub(crate) mod buffer;
pub mod config;
pub mod consensus;
pub mod ids;
pub mod io;
pub mod kv;
pub mod log;
pub mod node;
pub mod planted;
pub mod rng;
pub mod snapshot;
pub mod time;
pub mod wal;
pub mod wire;

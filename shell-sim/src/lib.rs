//! RaftKV's simulation: the production core in a deterministic world of bad disks, networks and clocks.
//!
//! [`model`] holds the fault models, [`world`] the event loop around `raftkv_core::node::Node`, [`check`] one property a
//! file. Nothing here reads a clock, a thread or the operating system: a run is a function of its options and seed.

pub mod check;
pub mod client;
pub mod fingerprint;
pub mod history;
pub mod model;
pub mod random;
pub mod reference;
#[cfg(madsim)]
mod ring1;
pub mod time;
pub mod world;

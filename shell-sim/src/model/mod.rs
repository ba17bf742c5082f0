//! Fault models: sans-IO machines with a written contract each, usable from any event loop.
//!
//! Every model is given its generator and its fault rates; it draws from nothing else. The shape is the same for all:
//! `submit(now, what)` takes something in, `poll(now)` gives out what is due, `next_wake()` says when the next thing will be.

pub mod clock;
pub mod disk;
pub mod network;
pub mod store;

//! The backup pipeline as a shell sees it: whole backups made and read back through an object store in memory, and every way of
//! tampering with one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admission;
mod catalog;
mod catching_up;
mod copies;
mod create;
mod frozen;
mod largest;
mod limits;
mod lock;
mod remove;
mod replicas;
mod restore;
mod retention;
mod rotate;
mod sample;
mod store;
mod sweep;
mod tamper;
mod tend;

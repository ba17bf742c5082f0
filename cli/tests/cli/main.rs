//! The command line as a process: its output, its exit codes, and what it does to real nodes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod backup;
mod certified;
mod cluster;
mod copies;
mod gate;
mod keys;
mod largest;
mod members;
mod metrics;
mod offline;
mod online;
mod points;
mod reads;
mod recovery;
mod restore_keys;
mod retention;
mod rotation;
mod s3;
#[path = "../../../shell-tokio/tests/s3_server/mod.rs"]
mod s3_server;
mod schedule;
mod stop;
mod terminal;
mod trial;
mod turns;
mod untouched;

//! The command line as a process: its output, its exit codes, and what it does to real nodes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod backup;
mod cluster;
mod copies;
mod offline;
mod online;
mod recovery;
mod retention;
mod schedule;

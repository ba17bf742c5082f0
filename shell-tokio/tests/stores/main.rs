//! Every kind of object store against a server that speaks its protocol, with one suite for all of them: what a store must do,
//! what it must survive, and whole backups made, listed, verified and restored.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod answers;
mod azure;
mod backup;
mod credentials;
mod faults;
mod gcs;
mod gcs_server;
mod local;
mod proxy;
mod s3;
#[path = "../s3_server/mod.rs"]
mod s3_server;
mod secrets;
mod suite;

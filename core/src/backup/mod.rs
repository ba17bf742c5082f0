//! Backups: the whole state at one log index, compressed, sealed and carried to an object store, and back.
//!
//! A backup is two objects. `data.db` holds a header ([`mod@format`]) and sealed chunks ([`seal`], [`open`]) of a snapshot stream;
//! `metadata.json` ([`metadata`]) is written last, and its presence alone makes the backup complete. Small markers beside them ([`marker`])
//! keep retention away. Everything is decided here: [`create`], [`catalog`], [`restore`], [`verify`] and [`remove`] are machines that ask a
//! shell for object store operations ([`blob`]) and for pure work on chunks that may run on any thread ([`machine`]).
//! Further stores ([`stores`]) get copies ([`mod@copy`], [`catch_up`], [`tend`]), and [`replicas`] sees them all as one.
//!
//! Invariants: a complete backup restores to exactly its state hash; what is incomplete is never listed as complete; what was
//! altered yields nothing at all; no pair of key and nonce is used twice; when encryption is asked for, no plain byte leaves.

pub mod admission;
pub mod blob;
pub mod bounds;
pub mod catalog;
pub mod catch_up;
pub mod choose;
pub mod compare;
pub mod compress;
pub mod config;
pub mod copy;
pub mod create;
pub mod cron;
pub mod decompress;
pub mod epochs;
pub mod format;
mod found;
pub mod fsck;
pub mod hold;
pub mod id;
pub mod keep;
mod key_source;
pub mod keys;
mod label;
pub mod lock;
pub mod machine;
pub mod making;
pub mod mark;
pub mod marker;
pub mod metadata;
mod numbered;
pub mod open;
pub mod outcome;
mod pipe;
pub mod provider;
pub mod prune;
pub mod read;
mod read_error;
pub mod rebuild;
pub mod recall;
pub mod remove;
pub mod replicas;
pub mod restore;
pub mod retention;
pub mod retry;
pub mod rotate;
pub mod seal;
pub mod select;
mod settings;
pub mod sidecar;
mod sink;
pub mod slots;
pub mod stores;
pub mod sweep;
pub mod tend;
pub mod tidy;
pub mod verify;

pub use id::BackupId;
pub use keys::{Key, KeyId, KeyRing};
pub use metadata::Metadata;

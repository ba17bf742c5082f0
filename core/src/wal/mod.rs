//! The write-ahead log: numbered segments of checked records, the writer that fills them and the recovery that reads them back.
//!
//! # What it promises
//! - A record is accepted only at its own place: its CRC-32C is seeded with the cluster, epoch, node, segment number and offset,
//!   and it carries its sequence number. Bytes of an older use, of another directory, or written to a wrong place never pass.
//! - A *torn tail* is cut: what was being written when the machine stopped. Damage in the *middle* is refused, never cut.
//!   Several writes may be under way at once and a power failure may keep any of them, so "something valid follows" does
//!   not tell the two apart. What does: each record says up to which sequence number everything was already on stable storage when it
//!   was made. Damage at a number that any later record, or segment header, calls durable is damage in the middle.
//! - Bytes behind a cut are never taken for records later: unless every byte behind the last record is zero, the writer goes on in a
//!   new segment, whose header names the sequence number at which it takes over. What older segments hold from there on is void.
//!
//! Source: Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018 (crash or corruption); Raft paper §5, figure 2.

pub mod record;
pub mod recover;
pub mod segment;
pub mod writer;

#[cfg(test)]
mod tests;

pub use record::WalRecord;
pub use recover::{Recovered, Recovery, WalDamage, WalDamageCause, recover};
pub use writer::WalWriter;

/// A segment's size unless the node is configured otherwise.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;

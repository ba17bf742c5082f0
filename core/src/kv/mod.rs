//! The replicated key-value state: revisions, transactions, leases, sessions, members, and the hash over all of it.

pub mod command;
pub mod hash;
pub mod item;

pub use command::{Command, MemberChange};
pub use hash::StateHash;
pub use item::Item;

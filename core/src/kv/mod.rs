//! The replicated key-value state: revisions, transactions, leases, sessions, members, and the hash over all of it.

pub mod command;
pub mod hash;
pub mod item;
mod key;
mod lease;
mod members;
pub mod read;
pub mod session;
pub mod state;
mod store;
pub mod txn;

pub use command::{Action, Command, MemberChange};
pub use hash::StateHash;
pub use item::Item;
pub use read::Cursor;
pub use state::{KvState, Outcome};

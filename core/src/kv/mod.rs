//! The replicated key-value state: revisions, transactions, leases, sessions, members, and the hash over all of it.

mod backups;
pub mod builder;
mod changes;
pub mod command;
pub mod hash;
pub mod item;
pub mod items;
mod key;
mod lease;
mod members;
pub mod read;
mod rebase;
pub mod session;
pub mod state;
mod store;
mod tree;
pub mod txn;
pub mod unsummed;
pub mod validate;
pub mod watch;

pub use backups::{AHEAD_MS, BackupOp};
pub use builder::{BadItem, Builder};
pub use command::{Action, Command, MemberChange};
pub use hash::StateHash;
pub use item::Item;
pub use items::Items;
pub use read::Cursor;
pub use state::{KvState, Outcome};
pub use unsummed::Unsummed;
pub use validate::validate;
pub use watch::Watches;

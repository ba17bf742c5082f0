//! Object stores: where backups go. A store carries out [`BlobOp`]s; what they are for is decided in core.
//!
//! [`local`] is a directory; `remote` are the stores reached over a network, in parts (`upload`), through one client (`http`);
//! `provider` opens what the configuration names. [`leaf`] is the store as a node's driver uses it.

mod credentials;
pub mod drive;
mod http;
pub mod leaf;
pub mod local;
mod provider;
mod remote;
mod upload;

pub use drive::{Piece, drive, drive_create};
pub use leaf::Uploads;
pub use provider::{OpenError, open_provider};

use raftkv_core::backup::blob::{BlobDone, BlobError, BlobOp};
use raftkv_core::backup::config::Config;
use raftkv_core::backup::retry::Policy;
use raftkv_core::ids::OpId;
use std::future::Future;
use std::pin::Pin;

/// An operation under way.
pub type Pending = Pin<Box<dyn Future<Output = Result<BlobDone, BlobError>> + Send>>;

/// An object store.
pub trait BlobStore: Send {
    /// Starts an operation. Order is that of the calls where it matters: parts of one upload. The operation goes on only while its
    /// future is polled or finished; dropping it leaves its effect unknown.
    fn submit(&mut self, op: OpId, action: BlobOp) -> Pending;
}

/// The store of a configuration.
pub fn open(config: &Config) -> Result<Box<dyn BlobStore>, OpenError> {
    open_provider(&config.provider, &config.backup.prefix, Policy::default())
}

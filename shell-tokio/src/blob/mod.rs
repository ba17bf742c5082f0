//! Object stores: where backups go. A store carries out [`BlobOp`]s; what they are for is decided in core.
//!
//! [`local`] is a directory. Stores reached over a network are further implementations of [`BlobStore`], behind [`open`].

pub mod drive;
pub mod leaf;
pub mod local;

pub use drive::{Piece, drive, drive_create};
pub use leaf::Uploads;

use local::LocalStore;
use raftkv_core::backup::blob::{BlobDone, BlobError, BlobOp};
use raftkv_core::backup::config::{Config, Provider};
use raftkv_core::ids::OpId;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;

/// An operation under way.
pub type Pending = Pin<Box<dyn Future<Output = Result<BlobDone, BlobError>> + Send>>;

/// An object store.
pub trait BlobStore: Send {
    /// Starts an operation. Order is that of the calls where it matters: parts of one upload. The operation goes on only while its
    /// future is polled or finished; dropping it leaves its effect unknown.
    fn submit(&mut self, op: OpId, action: BlobOp) -> Pending;
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kind of store is configured, but not built in.
    #[error("provider.type {kind} is not built into this version; use local")]
    NotBuilt {
        /// As in the configuration.
        kind: &'static str,
    },
}

/// The store of a configuration.
pub fn open(config: &Config) -> Result<Box<dyn BlobStore>, OpenError> {
    let kind = match &config.provider {
        Provider::Local { local_path } => {
            let root = Path::new(local_path).join(&config.backup.prefix);
            return Ok(Box::new(LocalStore::new(root)));
        }
        Provider::S3(_) => "s3",
        Provider::Minio(_) => "minio",
        Provider::Gcs { .. } => "gcs",
        Provider::Azure { .. } => "azure",
    };
    Err(OpenError::NotBuilt { kind })
}

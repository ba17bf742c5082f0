//! Object stores: where backups go. A store carries out [`BlobOp`]s; what they are for is decided in core.
//!
//! A machine works in one store, or in several that it names by number ([`Storage`]): a [`BlobStore`] is one, [`Stores`] are all that a
//! configuration names.
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
mod unfinished;
mod upload;

pub use drive::{Piece, drive, drive_create, drive_fenced, drive_until};
pub use leaf::Uploads;
pub use provider::{OpenError, open_provider};

use raftkv_core::backup::blob::{BlobDone, BlobError, BlobErrorKind, BlobOp, StoreIndex};
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

/// What a machine's operations are carried out in.
pub trait Storage: Send {
    /// Starts an operation in one of the stores, as [`BlobStore::submit`] does.
    fn submit_in(&mut self, store: StoreIndex, op: OpId, action: BlobOp) -> Pending;
}

/// The stores of a configuration, the primary one first.
pub struct Stores(Vec<Box<dyn BlobStore>>);

/// One store of a configuration.
pub fn open_one(config: &Config, store: StoreIndex) -> Result<Box<dyn BlobStore>, OpenError> {
    let named = config.stores().nth(usize::from(store.0));
    let (_, provider) = named.ok_or_else(|| OpenError::Client(no_store(store).message))?;
    open_provider(provider, &config.backup.prefix, Policy::default())
}

impl Stores {
    /// Opens all stores that a configuration names.
    pub fn open(config: &Config) -> Result<Stores, OpenError> {
        let count = config.stores().count() as u8;
        let open = |store| open_one(config, store);
        StoreIndex::first(count).map(open).collect::<Result<_, _>>().map(Stores)
    }

    /// One of them.
    pub fn get(&mut self, store: StoreIndex) -> Option<&mut (dyn BlobStore + 'static)> {
        self.0.get_mut(usize::from(store.0)).map(Box::as_mut)
    }
}

impl Storage for Stores {
    fn submit_in(&mut self, store: StoreIndex, op: OpId, action: BlobOp) -> Pending {
        match self.get(store) {
            Some(store) => store.submit(op, action),
            None => Box::pin(std::future::ready(Err(no_store(store)))),
        }
    }
}

impl<S: BlobStore + ?Sized> Storage for S {
    fn submit_in(&mut self, store: StoreIndex, op: OpId, action: BlobOp) -> Pending {
        match store {
            StoreIndex::PRIMARY => self.submit(op, action),
            other => Box::pin(std::future::ready(Err(no_store(other)))),
        }
    }
}

fn no_store(store: StoreIndex) -> BlobError {
    let message = format!("there is no store number {}", store.0);
    BlobError { kind: BlobErrorKind::Failed, message }
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stores").field(&self.0.len()).finish()
    }
}

//! The production shell of RaftKV: QUIC, files and clocks around the pure core, and the binary `raftkv-node`.
//!
//! Invariant: no decision of the store is made here. The shell moves bytes, keeps bounds, and hands results back.
//! Without the feature `production` only what the simulation shares is built: the driver loop and its leaf traits.

#[cfg(all(planted_bugs, feature = "production"))]
compile_error!(
    "bugs are planted for the simulation only: build the server without --cfg planted_bugs"
);
#[cfg(all(madsim, feature = "production"))]
compile_error!("with --cfg madsim time is the simulation's: build the server without it");

pub mod driver;
pub mod leaf;

#[cfg(feature = "production")]
pub mod args;
#[cfg(feature = "production")]
pub mod backup;
#[cfg(feature = "production")]
pub mod blob;
#[cfg(feature = "production")]
pub mod certs;
#[cfg(feature = "production")]
pub mod client;
#[cfg(feature = "production")]
pub mod clock;
#[cfg(feature = "production")]
pub mod config;
#[cfg(feature = "production")]
pub mod disk;
#[cfg(feature = "production")]
pub mod exit;
#[cfg(feature = "production")]
pub mod join;
#[cfg(feature = "production")]
pub mod memory;
#[cfg(feature = "production")]
pub mod metrics;
#[cfg(feature = "production")]
pub mod net;
#[cfg(feature = "production")]
pub mod partial;
#[cfg(feature = "production")]
pub mod run;
#[cfg(feature = "production")]
pub mod start;
#[cfg(feature = "production")]
pub mod tls;

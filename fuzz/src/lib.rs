//! What the fuzz targets share. `cargo +nightly fuzz run TARGET` from the repository's root, with a target of [`targets::ALL`].

pub mod seal;
pub mod seeds;
pub mod targets;

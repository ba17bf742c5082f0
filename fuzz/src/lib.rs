//! What the fuzz targets share: [`targets::ALL`] names them, and docs/SIMULATION.md says how they are run.

pub mod backups;
pub mod seal;
pub mod seeds;
pub mod store;
pub mod targets;

//! How the process ends. The numbers are documented and never change their meaning.

use crate::config::ConfigError;
use crate::disk::DirectoryError;
use crate::join::JoinError;
use crate::net::NetError;
use crate::start::StartError;
use raftkv_core::boot::BootError;
use raftkv_core::io::{DiskError, Halt};

/// Why the process could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The backup configuration.
    #[error("`backup_config`: {0}")]
    Backup(String),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The data directory, or what to do with it.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The core stopped, not as asked.
    #[error("{0}")]
    Halted(Halt),
    /// The operating system.
    #[error("the operating system refused: {0}")]
    System(#[from] std::io::Error),
}

impl Failure {
    /// The process's exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::System(_) => 1,
            Failure::Config(_) | Failure::Backup(_) | Failure::Net(NetError::Tls(_)) => 2,
            Failure::Net(NetError::Listen { .. }) => 4,
            Failure::Start(error) => match error {
                StartError::Directory(DirectoryError::Io { .. }) | StartError::Disk(_) => 6,
                StartError::Boot(BootError::Unreadable { .. }) => 6,
                StartError::Join(JoinError::Tls(_)) => 2,
                StartError::Join(_) => 5,
                _ => 3,
            },
            Failure::Halted(halt) => match halt {
                Halt::Stopped => 0,
                Halt::DiskFailed { .. } => 6,
                Halt::Unreadable { .. } => 1,
                Halt::Removed { .. } => 7,
                Halt::RolledBack { .. } => 8,
            },
        }
    }
}

impl From<DirectoryError> for Failure {
    fn from(error: DirectoryError) -> Self {
        Failure::Start(StartError::Directory(error))
    }
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        Failure::Start(StartError::Disk(error))
    }
}

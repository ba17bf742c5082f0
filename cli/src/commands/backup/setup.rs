//! What the configuration file comes to: a store, keys, settings.

use crate::failure::{Exit, Failure};
use clap::Args;
use raftkv_core::backup::blob::{BlobError, BlobErrorKind};
use raftkv_core::backup::catalog::{Catalog, Entry, ReadCatalog};
use raftkv_core::backup::config::ConfigError;
use raftkv_core::backup::read::{ReadError, ReadTrouble};
use raftkv_core::backup::select::{SelectError, Selector};
use raftkv_core::rng::{Rng, Seed};
use raftkv_node::backup::{BackupConfig, LoadError};
use raftkv_node::blob::{self, BlobStore, drive};
use std::path::PathBuf;

/// Names the configuration.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The backup configuration (YAML): the store, and how backups are made
    #[arg(long, env = "RAFTKV_BACKUP_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
}

/// An opened configuration.
pub struct Setup {
    /// What it says, and its keys.
    pub loaded: BackupConfig,
    /// The store it names.
    pub store: Box<dyn BlobStore>,
}

impl ConfigFile {
    /// Reads the file and what it points to. Nothing is written anywhere.
    pub fn open(&self) -> Result<Setup, Failure> {
        let loaded = BackupConfig::load(&self.config).map_err(|error| load_failure(&error))?;
        for warning in &loaded.keys.warnings {
            eprintln!("raftkv-cli: {warning}");
        }
        let store = blob::open(&loaded.config).map_err(|error| Failure::new(Exit::Usage, error))?;
        Ok(Setup { loaded, store })
    }
}

impl Setup {
    /// All that is in the store.
    pub async fn catalog(&mut self) -> Result<Catalog, Failure> {
        let mut machine = ReadCatalog::new(self.loaded.ring());
        drive(&mut machine, self.store.as_mut(), |_| {}).await;
        match machine.outcome() {
            Some(Ok(catalog)) => Ok(catalog.clone()),
            Some(Err(error)) => Err(store_failure(error)),
            None => unreachable!("a driven machine has an outcome"),
        }
    }

    /// The backup that was asked for.
    pub async fn select(&mut self, asked: &str) -> Result<Entry, Failure> {
        pick(&self.catalog().await?, asked).cloned()
    }
}

/// Picks the backup that was asked for: by id, `latest` or `@TIME`.
pub fn pick<'a>(catalog: &'a Catalog, asked: &str) -> Result<&'a Entry, Failure> {
    let selector = Selector::parse(asked).map_err(|error| Failure::new(Exit::Usage, error))?;
    catalog.select(&selector).map_err(|error| {
        let exit = match error {
            SelectError::Ambiguous { .. } => Exit::Usage,
            SelectError::NoneComplete { .. }
            | SelectError::NoneBefore { .. }
            | SelectError::Unknown { .. } => Exit::NotFound,
        };
        Failure::new(exit, error)
    })
}

/// A store that failed.
pub fn store_failure(error: &BlobError) -> Failure {
    let exit = match error.kind {
        BlobErrorKind::NotFound => Exit::NotFound,
        _ => Exit::Storage,
    };
    Failure::new(exit, format!("the backup store: {error}"))
}

/// A backup that cannot be read.
pub fn read_failure(error: &ReadError) -> Failure {
    let exit = match error.trouble() {
        ReadTrouble::Verification => Exit::Verification,
        ReadTrouble::Store => Exit::Storage,
        ReadTrouble::NotFound => Exit::NotFound,
        ReadTrouble::Key => Exit::Key,
        ReadTrouble::Refused => Exit::Refused,
    };
    Failure::new(exit, error)
}

/// A generator whose seed is the operating system's.
pub fn rng(purpose: &str) -> Result<Rng, Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| {
        Failure::new(Exit::Failed, format!("the operating system gives no random bytes: {error}"))
    })?;
    Ok(Seed::from_bytes(seed).fork(purpose))
}

fn load_failure(error: &LoadError) -> Failure {
    let exit = match error {
        LoadError::NotFound { .. } => Exit::NotFound,
        LoadError::Read { .. } => Exit::Storage,
        LoadError::Key(_) | LoadError::Config { error: ConfigError::NoKey, .. } => Exit::Key,
        LoadError::Yaml { .. } | LoadError::Config { .. } => Exit::Usage,
    };
    Failure::new(exit, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_cannot_be_used_has_its_exit_code() {
        let local = "provider:\n  type: local\n  local_path: /nowhere\n";
        let cases = [
            (format!("{local}retention:\n  max_backup: 3\n"), Exit::Usage),
            (format!("{local}backup:\n  encryption:\n    enabled: true\n"), Exit::Key),
            (
                format!(
                    "{local}backup:\n  encryption: {{enabled: true, key_file: /nowhere/key}}\n"
                ),
                Exit::Key,
            ),
            ("provider:\n  type: gcs\n  gcs_bucket: b\n".into(), Exit::Usage),
        ];
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("backup.yaml");
        let open = || ConfigFile { config: config.clone() }.open().err().map(|error| error.exit());
        assert_eq!(open(), Some(Exit::NotFound));
        for (yaml, exit) in cases {
            std::fs::write(&config, &yaml).unwrap();
            assert_eq!(open(), Some(exit), "{yaml}");
        }
    }
}

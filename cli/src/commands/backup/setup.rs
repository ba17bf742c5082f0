//! What the configuration file comes to: stores, keys, settings.

use super::load::unusable;
use crate::failure::{Exit, Failure};
use crate::say::say;
use crate::stop::Stop;
use clap::Args;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::{BlobError, BlobErrorKind, ObjectName, StoreIndex};
use raftkv_core::backup::catalog::{Catalog, Entry, ReadCatalog};
use raftkv_core::backup::choose::{Choice, choose};
use raftkv_core::backup::config::{Config, ConfigError};
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::mark::MarkError;
use raftkv_core::backup::marker::{Marker, Owner};
use raftkv_core::backup::prune::Older;
use raftkv_core::backup::read::{ReadError, ReadTrouble};
use raftkv_core::backup::replicas::Replicas;
use raftkv_core::backup::select::{SelectError, Selector};
use raftkv_core::rng::{Rng, Seed};
use raftkv_core::time::Wall;
use raftkv_node::backup::lock::Guard;
use raftkv_node::backup::{BackupConfig, LoadError};
use raftkv_node::blob::{self, BlobStore, OpenError, Stores, drive};
use std::future::pending;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The variable that names the configuration.
pub const CONFIG: &str = "RAFTKV_BACKUP_CONFIG";

/// Names the configuration.
#[derive(Clone, Debug, Args)]
pub struct ConfigFile {
    /// The backup configuration (YAML): the store, and how backups are made
    #[arg(long, env = CONFIG, value_name = "FILE")]
    pub config: PathBuf,
    /// Only this store: primary, or the name of one under copies
    #[arg(long, value_name = "NAME")]
    pub store: Option<String>,
}

/// An opened configuration.
pub struct Setup {
    /// What it says, and its keys.
    pub loaded: BackupConfig,
    /// The stores that it names.
    pub stores: Stores,
    /// Whether older backups are to go after each that is made.
    pub prunes: bool,
}

impl ConfigFile {
    /// Reads the file and what it points to. Nothing is written anywhere.
    pub fn open(&self) -> Result<Setup, Failure> {
        let mut loaded = BackupConfig::load(&self.config).map_err(|error| load_failure(&error))?;
        for warning in &loaded.keys.warnings {
            say!("{warning}");
        }
        if let Some(name) = &self.store {
            let alone = loaded.config.alone(name);
            loaded.config = alone.ok_or_else(|| unknown_store(&loaded.config, name))?;
        }
        Setup::new(loaded)
    }
}

impl Setup {
    fn new(loaded: BackupConfig) -> Result<Setup, Failure> {
        let stores = Stores::open(&loaded.config).map_err(cannot_open)?;
        let prunes = loaded.config.prunes_on_backup();
        Ok(Setup { loaded, stores, prunes })
    }

    /// What becomes of older backups after one that is complete.
    pub fn older(&self) -> Older {
        Older::by(self.loaded.pruning(), self.prunes)
    }

    /// Each store by itself, with its name, as if there were no other.
    pub fn each(&self) -> Result<Vec<(String, Setup)>, Failure> {
        let alone = |(name, _)| {
            let config = self.loaded.config.alone(name).expect("stores are found by their names");
            let loaded = BackupConfig { config, keys: self.loaded.keys.clone() };
            Ok((name.to_owned(), Setup::new(loaded)?))
        };
        self.loaded.config.stores().map(alone).collect()
    }

    /// A failure in one of several stores says in which.
    pub fn in_store(&self, store: StoreIndex, failure: Failure) -> Failure {
        match self.has_several() {
            true => Failure::new(failure.exit(), format!("store {}: {failure}", self.name(store))),
            false => failure,
        }
    }

    /// Whether the configuration names more than one store.
    pub fn has_several(&self) -> bool {
        !self.loaded.config.copies.is_empty()
    }

    /// All stores, the primary one first.
    pub fn all(&self) -> impl Iterator<Item = StoreIndex> + use<> {
        StoreIndex::first(1 + self.loaded.config.copies.len() as u8)
    }

    /// The store of this name.
    pub fn find(&self, name: &str) -> Result<StoreIndex, Failure> {
        let found = self.all().find(|store| self.name(*store) == name);
        found.ok_or_else(|| unknown_store(&self.loaded.config, name))
    }

    /// What a store is called.
    pub fn name(&self, store: StoreIndex) -> &str {
        self.loaded.config.store_name(store)
    }

    /// All that is in the primary store.
    pub async fn catalog(&mut self) -> Result<Catalog, Failure> {
        let mut machine = ReadCatalog::new(self.loaded.ring());
        drive(&mut machine, &mut self.stores, |_| {}).await;
        match machine.outcome() {
            Some(Ok(catalog)) => Ok(catalog.clone()),
            Some(Err(error)) => Err(store_failure(error)),
            None => unreachable!("a driven machine has an outcome"),
        }
    }

    /// All that is in any of the stores. A store that does not answer is named on stderr, and passed over.
    pub async fn replicas(&self) -> Result<Replicas, Failure> {
        let mut catalogs = vec![Err(late()); self.all().count()];
        let mut reading = JoinSet::new();
        for store in self.all() {
            let mut place = self.open(store)?;
            let mut machine = ReadCatalog::new(self.loaded.ring());
            reading.spawn(async move {
                drive(&mut machine, place.as_mut(), |_| {}).await;
                let outcome = machine.outcome().expect("a driven machine has an outcome");
                (store, outcome.clone())
            });
        }
        let mut patience = MAX_PATIENCE;
        while let Ok(Some(Ok((store, catalog)))) = timeout(patience, reading.join_next()).await {
            if catalog.is_ok() {
                patience = PATIENCE;
            }
            catalogs[usize::from(store.0)] = catalog;
        }
        let replicas = Replicas::new(catalogs);
        for (store, error) in replicas.silent().filter(|_| self.has_several()) {
            say!("store {} is left out: {error}", self.name(store));
        }
        Ok(replicas)
    }

    /// The backup that was asked for, in the primary store.
    pub async fn select(&mut self, asked: &str) -> Result<Entry, Failure> {
        let plaintext = self.loaded.access(false).plaintext;
        pick(&self.catalog().await?, asked, plaintext).cloned()
    }

    /// Takes the primary store's lock, so that no backup is made beside this command.
    pub async fn lock(&self, command: &str) -> Result<Guard, Failure> {
        let lock = self.lock_until(StoreIndex::PRIMARY, command, pending()).await?;
        Ok(lock.expect("nobody says stop"))
    }

    /// Takes the locks of the first so many stores: all of them, or none. None also when the process is told to stop meanwhile.
    pub async fn lock_first(
        &self,
        count: u8,
        command: &str,
        stop: &Stop,
    ) -> Result<Option<Vec<Guard>>, Failure> {
        let mut locks = Vec::new();
        for store in StoreIndex::first(count) {
            let none = match self.lock_until(store, command, stop.told()).await {
                Ok(Some(lock)) => {
                    locks.push(lock);
                    match stop.was_told() {
                        true => Ok(None),
                        false => continue,
                    }
                }
                Ok(None) => Ok(None),
                Err(failure) => Err(failure),
            };
            for lock in locks {
                lock.release().await;
            }
            return none;
        }
        Ok(Some(locks))
    }

    /// Takes the lock of a store; when `stop` ends while somebody else has it, this ends as well, with nothing.
    pub async fn lock_until(
        &self,
        at: StoreIndex,
        command: &str,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<Guard>, Failure> {
        let owner = Owner::draw(&mut rng("lock")?);
        let store = self.open(at)?;
        let lock = Guard::lock(store, owner, &who(command), now(), stop).await;
        lock.map_err(|error| self.in_store(at, Failure::new(error.obstacle().into(), error)))
    }

    /// Picks the backup that was asked for in all stores that were heard, and tells why it may not be the newest; `plaintext` says whether those
    /// that are not encrypted count.
    pub fn choice<'a>(
        &self,
        replicas: &'a Replicas,
        merged: &'a Catalog,
        asked: &str,
        plaintext: Plaintext,
    ) -> Result<Choice<'a>, Failure> {
        choose(replicas, merged, &selector(asked)?, plaintext).map_err(|error| {
            let newest = merged.newest_unusable(plaintext);
            let newest = newest.filter(|_| matches!(error, SelectError::NoneComplete { .. }));
            let is_not_there = !matches!(error, SelectError::Ambiguous { .. });
            let failure = match newest {
                Some(newest) => {
                    let what = newest.standing.objection();
                    let what = format!("{error}; the newest of them is {}: {what}", newest.id);
                    Failure::new(unusable(newest), what)
                }
                None => select_failure(error),
            };
            match replicas.silent().next() {
                Some((store, why)) if is_not_there => {
                    let name = self.name(store);
                    let what = format!(
                        "{failure}; store {name} may have it, but could not be listed: {why}"
                    );
                    Failure::new(Exit::Storage, what)
                }
                _ => failure,
            }
        })
    }

    /// Keeps a backup from being removed while this command reads it. Reading does not depend on it: a store may be read-only, or full.
    pub async fn hold(
        &self,
        store: StoreIndex,
        id: BackupId,
        command: &str,
    ) -> Result<Option<Guard>, Failure> {
        let owner = Owner::draw(&mut rng("hold")?);
        let hold = Marker::new(ObjectName::hold(id, owner), owner, &who(command), now());
        match Guard::hold(self.open(store)?, hold).await {
            Ok(guard) => return Ok(Some(guard)),
            // What is wrong with it, reading it will tell.
            Err(MarkError::Gone { .. } | MarkError::Leaving { .. }) => {}
            Err(MarkError::Store { error, .. }) if error.kind == BlobErrorKind::Denied => {}
            Err(error) => say!("nothing keeps others from removing it: {error}"),
        }
        Ok(None)
    }

    /// A connection of its own to a store.
    fn open(&self, store: StoreIndex) -> Result<Box<dyn BlobStore>, Failure> {
        blob::open_one(&self.loaded.config, store).map_err(cannot_open)
    }
}

/// Once one store has answered, the others are waited for so long: what they have may be newer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Before, every store has its own bounds.
const MAX_PATIENCE: Duration = Duration::from_secs(3600);

fn unknown_store(config: &Config, name: &str) -> Failure {
    let names: Vec<_> = config.stores().map(|(name, _)| name).collect();
    let what = format!("there is no store {name}: there are {}", names.join(", "));
    Failure::new(Exit::Usage, what)
}

fn late() -> BlobError {
    let message = "it has not answered in time".into();
    BlobError { kind: BlobErrorKind::Transient, message }
}

fn cannot_open(error: OpenError) -> Failure {
    Failure::new(Exit::Usage, error)
}

/// Who a marker is from, for people.
pub fn who(command: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{command}, process {} on {}", std::process::id(), host.trim())
}

/// The time, for people and for retention.
pub fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(since.as_millis() as i64)
}

/// Picks the backup that was asked for: by id, `latest` or `@TIME`.
pub fn pick<'a>(
    catalog: &'a Catalog,
    asked: &str,
    plaintext: Plaintext,
) -> Result<&'a Entry, Failure> {
    catalog.select(&selector(asked)?, plaintext).map_err(select_failure)
}

fn selector(asked: &str) -> Result<Selector, Failure> {
    Selector::parse(asked).map_err(|error| Failure::new(Exit::Usage, error))
}

fn select_failure(error: SelectError) -> Failure {
    let exit = match error {
        SelectError::Ambiguous { .. } => Exit::Usage,
        SelectError::NoneComplete { .. }
        | SelectError::NoneBefore { .. }
        | SelectError::Unknown { .. } => Exit::NotFound,
    };
    Failure::new(exit, error)
}

/// A store that failed.
pub fn store_failure(error: &BlobError) -> Failure {
    match error.kind {
        BlobErrorKind::NotFound => {
            let what = format!(
                "the backup store is not there: nothing was backed up there yet, or the configuration names another place ({error})"
            );
            Failure::new(Exit::NotFound, what)
        }
        _ => Failure::new(Exit::Storage, format!("the backup store: {error}")),
    }
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
            ("provider:\n  type: minio\n  s3_bucket: b\n".into(), Exit::Usage),
        ];
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("backup.yaml");
        let open = || {
            ConfigFile { config: config.clone(), store: None }
                .open()
                .err()
                .map(|error| error.exit())
        };
        assert_eq!(open(), Some(Exit::NotFound));
        for (yaml, exit) in cases {
            std::fs::write(&config, &yaml).unwrap();
            assert_eq!(open(), Some(exit), "{yaml}");
        }
        // A slip in the schedule keeps nobody from a restore.
        let slip = format!("{local}schedule:\n  timezone: Europe/Nowhere\n");
        std::fs::write(&config, slip).unwrap();
        assert_eq!(open(), None);
    }
}

//! What the configuration file comes to: a store, keys, settings.

use crate::context::Context;
use crate::failure::{Exit, Failure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use raftkv_core::backup::blob::{BlobError, BlobErrorKind};
use raftkv_core::backup::catalog::{Catalog, Entry, ReadCatalog};
use raftkv_core::backup::config::{Config, ConfigError};
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::machine::Progress;
use raftkv_core::backup::read::{Access, ReadError, ReadTrouble};
use raftkv_core::backup::select::{SelectError, Selector};
use raftkv_core::backup::{Key, KeyRing};
use raftkv_core::rng::{Rng, Seed};
use raftkv_node::blob::{self, BlobStore, drive};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Names the configuration.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The backup configuration (YAML): the store, and how backups are made
    #[arg(long, env = "RAFTKV_BACKUP_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
}

/// An opened configuration.
pub struct Setup {
    /// As in the file.
    pub config: Config,
    /// Every key it names: the one for new backups first.
    pub keys: Vec<Key>,
    /// The store it names.
    pub store: Box<dyn BlobStore>,
}

impl ConfigFile {
    /// Reads the file and what it points to. Nothing is written anywhere.
    pub fn open(&self) -> Result<Setup, Failure> {
        let config = parse(&self.config)?;
        let encryption = &config.backup.encryption;
        let mut keys = Vec::new();
        if encryption.enabled {
            let files = encryption.key_file.iter().chain(&encryption.more_key_files);
            keys = files.map(|file| read_key(Path::new(file))).collect::<Result<_, _>>()?;
        }
        let store = blob::open(&config).map_err(|error| Failure::new(Exit::Usage, error))?;
        Ok(Setup { config, keys, store })
    }
}

impl Setup {
    /// With what backups may be read: where encryption is configured, a plain backup is not one of ours.
    pub fn access(&self, allow_plaintext: bool) -> Access {
        let encrypted = self.config.backup.encryption.enabled;
        let plaintext = match encrypted && !allow_plaintext {
            true => Plaintext::Refused,
            false => Plaintext::Allowed,
        };
        Access { keys: KeyRing::new(self.keys.iter().cloned()), plaintext }
    }

    /// All that is in the store.
    pub async fn catalog(&mut self) -> Result<Catalog, Failure> {
        let mut machine = ReadCatalog::new(KeyRing::new(self.keys.iter().cloned()));
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

/// A bar for a long job, drawn only for people.
pub fn progress_bar(context: &Context) -> ProgressBar {
    if !context.shows_progress() {
        return ProgressBar::hidden();
    }
    let template = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::no_length().with_style(style)
}

/// Moves the bar.
pub fn show(bar: &ProgressBar, progress: Progress) {
    if let Some(total) = progress.total_bytes {
        bar.set_length(total);
    }
    bar.set_position(progress.done_bytes);
}

fn parse(path: &Path) -> Result<Config, Failure> {
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            Failure::new(Exit::NotFound, format!("{} does not exist", path.display()))
        }
        _ => Failure::file("read", path, error),
    })?;
    let bad = |what: String| Failure::new(Exit::Usage, format!("{}: {what}", path.display()));
    let config: Config = serde_saphyr::from_str(&text).map_err(|error| bad(one_line(&error)))?;
    config.check().map_err(|error| {
        let failure = bad(error.to_string());
        match error {
            ConfigError::NoKey => Failure::new(Exit::Key, failure),
            _ => failure,
        }
    })?;
    Ok(config)
}

/// The parser's message with its place, without the excerpt of the file: that may hold credentials.
fn one_line(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let what = text.lines().next().unwrap_or_default().to_owned();
    match error.location() {
        Some(place) if !what.contains("line") => {
            format!("line {}, column {}: {what}", place.line(), place.column())
        }
        _ => what,
    }
}

fn read_key(path: &Path) -> Result<Key, Failure> {
    let failed =
        |what: String| Failure::new(Exit::Key, format!("key file {}: {what}", path.display()));
    let content =
        zeroize::Zeroizing::new(fs::read(path).map_err(|error| failed(error.to_string()))?);
    if let Ok(metadata) = fs::metadata(path)
        && metadata.permissions().mode() & 0o077 != 0
    {
        eprintln!("raftkv-cli: key file {} can be read by others: chmod 600 it", path.display());
    }
    Key::parse(&content).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(yaml: &str) -> Result<Setup, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup.yaml");
        let key = dir.path().join("key");
        fs::write(&key, format!("{}\n", "ab".repeat(32))).unwrap();
        fs::write(&path, yaml.replace("KEY", &key.display().to_string())).unwrap();
        ConfigFile { config: path }.open()
    }

    const LOCAL: &str = "provider:\n  type: local\n  local_path: /nowhere\n";

    #[test]
    fn a_small_file_is_enough() {
        let setup = open(LOCAL).unwrap();
        assert!(setup.keys.is_empty());
        assert_eq!(setup.access(false).plaintext, Plaintext::Allowed);
    }

    #[test]
    fn keys_are_read_and_plain_backups_refused_then() {
        let yaml = format!("{LOCAL}backup:\n  encryption:\n    enabled: true\n    key_file: KEY\n");
        let setup = open(&yaml).unwrap();
        assert_eq!(setup.keys.len(), 1);
        assert_eq!(setup.access(false).plaintext, Plaintext::Refused);
        assert_eq!(setup.access(true).plaintext, Plaintext::Allowed);
    }

    #[test]
    fn mistakes_name_their_line_and_show_no_secrets() {
        let cases = [
            (format!("{LOCAL}retention:\n  max_backup: 3\n"), Exit::Usage, "line 5"),
            (
                "provider:\n  type: s3\n  s3_bucket: b\n  s3_secret_keys: hunter2\n".into(),
                Exit::Usage,
                "s3_secret_keys",
            ),
            (format!("{LOCAL}backup:\n  encryption:\n    enabled: true\n"), Exit::Key, "key_file"),
            (
                format!(
                    "{LOCAL}backup:\n  encryption:\n    enabled: true\n    key_file: /nowhere/key\n"
                ),
                Exit::Key,
                "/nowhere/key",
            ),
            ("provider:\n  type: gcs\n  gcs_bucket: b\n".into(), Exit::Usage, "gcs"),
        ];
        for (yaml, exit, part) in cases {
            let Err(failure) = open(&yaml) else { panic!("accepted: {yaml}") };
            let line = failure.to_string();
            assert_eq!(failure.exit(), exit, "{line}");
            assert!(line.contains(part), "{line}");
            assert!(!line.contains("hunter2") && !line.contains('\n'), "{line}");
        }
    }
}

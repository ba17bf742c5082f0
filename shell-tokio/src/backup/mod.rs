//! The backup configuration as a shell reads it: the YAML file, the keys that it names, and what they come to.
//!
//! Invariants: nothing is written while reading; no message holds a key, a credential or an excerpt of the file; encryption that is
//! asked for and not possible is an error.

pub mod keys;
pub mod lock;

use keys::{Keys, SourceError};
use raftkv_core::backup::KeyRing;
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::config::{Config, ConfigError, Making, Provider, Retention, Schedule};
use raftkv_core::backup::create::{Bounds, Settings};
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::keys::looks_like_key;
use raftkv_core::backup::prune::Pruning;
use raftkv_core::backup::read::Access;
use raftkv_core::node::copies::Copies;
use std::fs;
use std::io::{self, ErrorKind};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

/// A configuration that was read, with its keys.
#[derive(Debug)]
pub struct BackupConfig {
    /// As in the file, checked.
    pub config: Config,
    /// The keys that it names.
    pub keys: Keys,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no such file.
    #[error("{} does not exist", .path.display())]
    NotFound {
        /// Which.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("{} cannot be read: {error}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not YAML, or has keys or values that there are not.
    #[error("{}: {what}", .path.display())]
    Yaml {
        /// Which.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// It cannot work.
    #[error("{}: {error}", .path.display())]
    Config {
        /// Which.
        path: PathBuf,
        /// Why.
        error: ConfigError,
    },
    /// A key that it names cannot be had.
    #[error(transparent)]
    Key(#[from] SourceError),
}

impl BackupConfig {
    /// For a node that was told nothing, to try things out with: plain backups in its own data directory, of which the
    /// newest ten are kept.
    pub fn embedded(data_dir: &Path) -> Self {
        let config = Config {
            provider: Provider::Local { local_path: data_dir.display().to_string() },
            copies: Vec::new(),
            required_copies: 1,
            backup: Making::default(),
            schedule: Schedule::default(),
            retention: Some(Retention {
                retention_days: 0,
                prune_on_backup: true,
                ..Retention::default()
            }),
        };
        BackupConfig { config, keys: Keys::default() }
    }

    /// Reads the file and the keys that it names.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let config = parse(path)?;
        let keys = Keys::read(&config.backup.encryption)?;
        Ok(BackupConfig { config, keys })
    }

    /// How new backups are made. `version` is the software's.
    pub fn settings(&self, version: &str) -> Result<Settings, ConfigError> {
        self.settings_with(version, available_parallelism().map_or(1, NonZero::get))
    }

    /// The same for a machine with so many processors.
    fn settings_with(&self, version: &str, processors: usize) -> Result<Settings, ConfigError> {
        let stores = self.config.required_copies;
        let max_parts = self.config.max_parts(StoreIndex::first(stores));
        Ok(Settings {
            compression: self.config.backup.compression.effective()?,
            stores,
            recipients: self.keys.recipients.clone(),
            plain_is_said: self.config.backup.encryption.enabled == Some(false),
            version: version.to_owned(),
            bounds: Bounds { max_parts, ..Bounds::for_processors(processors) },
        })
    }

    /// With what backups may be read: where encryption is configured, a plain backup is not one of ours.
    pub fn access(&self, allow_plaintext: bool) -> Access {
        let encrypted = self.config.backup.encryption.is_enabled();
        let plaintext = match encrypted && !allow_plaintext {
            true => Plaintext::Refused,
            false => Plaintext::Allowed,
        };
        Access { keys: self.ring(), plaintext }
    }

    /// What retention goes by, if the file says that.
    pub fn pruning(&self) -> Option<Pruning> {
        let rules = self.config.retention.clone()?;
        Some(Pruning { rules, access: self.access(false) })
    }

    /// The stores that have copies; `None` if there are none.
    pub fn copies(&self) -> Option<Copies> {
        let names: Vec<_> = self.config.copies.iter().map(|copy| copy.name.clone()).collect();
        let max_parts = self.config.max_parts(self.config.copy_stores());
        (!names.is_empty()).then(|| Copies { names, access: self.access(false), max_parts })
    }

    /// Every key that may open a backup.
    pub fn ring(&self) -> KeyRing {
        self.keys.ring()
    }
}

fn parse(path: &Path) -> Result<Config, LoadError> {
    let path = path.to_owned();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(LoadError::NotFound { path });
        }
        Err(error) => return Err(LoadError::Read { path, error }),
    };
    let config: Config = match serde_saphyr::from_str(&text) {
        Ok(config) => config,
        Err(error) => return Err(LoadError::Yaml { path, what: one_line(&error) }),
    };
    match config.check() {
        Ok(()) => Ok(config),
        Err(error) => Err(LoadError::Config { path, error }),
    }
}

/// The parser's message with its place, without the excerpt of the file: that may hold credentials.
fn one_line(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let what = without_keys(text.lines().next().unwrap_or_default());
    let Some(place) = error.location() else { return what };
    let (line, column) = (place.line(), place.column());
    // What is told with its place in a list has that of the list's entry behind its own, which is closer.
    match what.strip_suffix(&format!(" at line {line}, column {column}")) {
        Some(closer) if closer.contains(" at line ") => closer.to_owned(),
        _ if !what.contains("line") => format!("line {line}, column {column}: {what}"),
        _ => what,
    }
}

/// A message without the words that look like keys: the parser repeats what it does not know.
fn without_keys(text: &str) -> String {
    let is_between = |c: char| c.is_whitespace() || matches!(c, '`' | '"' | '\'' | ',' | ':' | ';');
    let words = text.split_inclusive(is_between).map(|word| {
        let name = word.trim_end_matches(is_between);
        match looks_like_key(name) {
            true => format!("(what looks like a key){}", &word[name.len()..]),
            false => word.to_owned(),
        }
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::backup::bounds::MAX_PARTS;
    use raftkv_core::backup::compress::Compression;

    const LOCAL: &str = "provider:\n  type: local\n  local_path: /nowhere\n";
    const TYPELESS: &str = "  - name: c\n    provider: {s3_secret_key: hunter2}\n";
    const TYPO: &str =
        "  - name: c\n    provider: {type: s3, s3_secret_key: hunter2, s3_access_key: a}\n";

    fn load(yaml: &str) -> Result<BackupConfig, LoadError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup.yaml");
        let key = dir.path().join("key");
        fs::write(&key, format!("{}\n", "ab".repeat(32))).unwrap();
        fs::write(&path, yaml.replace("KEY", &key.display().to_string())).unwrap();
        BackupConfig::load(&path)
    }

    #[test]
    fn a_small_file_is_enough() {
        let loaded = load(LOCAL).unwrap();
        assert!(loaded.keys.recipients.is_empty() && loaded.ring().is_empty());
        assert_eq!(loaded.access(false).plaintext, Plaintext::Allowed);
    }

    #[test]
    fn what_may_go_is_not_made_up() {
        assert!(load(LOCAL).unwrap().pruning().is_none());
        let rules = load(&format!("{LOCAL}retention: {{max_backups: 4}}\n")).unwrap().pruning();
        let rules = rules.unwrap().rules;
        assert_eq!((rules.retention_days, rules.max_backups, rules.min_backups), (30, 4, 3));
    }

    #[test]
    fn the_documented_example_is_right() {
        let example = include_str!("../../../docs/examples/backup.yaml");
        let loaded = load(&example.replace("/etc/raftkv/backup-key\n", "KEY\n")).unwrap();
        assert_eq!(loaded.keys.recipients.len(), 1);
        assert_eq!(loaded.config.copies.len(), 1);
    }

    #[test]
    fn keys_are_read_and_plain_backups_refused_then() {
        let yaml = format!(
            "{LOCAL}backup:\n  encryption:\n    enabled: true\n    key_file: KEY\n    old_keys:\n      \
             - command: [printf, '%s', '{}']\n",
            "cd".repeat(32)
        );
        let loaded = load(&yaml).unwrap();
        assert_eq!(loaded.keys.recipients.len(), 1);
        assert_eq!(loaded.ring().ids().count(), 2);
        assert_eq!(loaded.settings("1").unwrap().recipients.len(), 1);
        assert_eq!(loaded.access(false).plaintext, Plaintext::Refused);
        assert_eq!(loaded.access(true).plaintext, Plaintext::Allowed);
    }

    #[test]
    fn new_backups_are_made_as_the_file_says_and_the_machine_allows() {
        let copies =
            "copies:\n  - {name: b, provider: {type: s3, s3_bucket: b}}\nrequired_copies: ";
        let compression = "backup:\n  compression: {level: 2}\n";
        for (required, max_parts) in [(1, u32::MAX), (2, MAX_PARTS)] {
            let loaded = load(&format!("{LOCAL}{copies}{required}\n{compression}")).unwrap();
            for (processors, chunks_in_flight) in [(1, 6), (2, 6), (8, 12), (64, 14)] {
                let settings = loaded.settings_with("1.2.3", processors).unwrap();
                let bounds = Bounds { chunks_in_flight, max_parts, ..Bounds::default() };
                assert_eq!(settings.bounds, bounds, "{processors} processors");
                assert_eq!(settings.stores, required);
                assert_eq!(settings.compression, Compression::Gzip { level: 2 });
                assert_eq!(settings.version, "1.2.3");
                assert!(settings.recipients.is_empty());
            }
            let here = loaded.settings("1.2.3").unwrap().bounds.chunks_in_flight;
            let processors = available_parallelism().unwrap().get();
            let expected = loaded.settings_with("1.2.3", processors).unwrap();
            assert_eq!(here, expected.bounds.chunks_in_flight);
        }
    }

    #[test]
    fn a_key_in_the_wrong_place_shows_nowhere() {
        // Among them what could be a number, and half a key.
        let (hex, half) = ("5e1fab90".repeat(8), "5e1fab90".repeat(4));
        let (digits, float) = ("12345678".repeat(8), format!("1e{}", "1".repeat(62)));
        let base64 = "Xh+rkF4fq5BeH6uQXh+rkF4fq5BeH6uQXh+rkF4fq5A=".to_owned();
        let named = "key_file: KEY\n    old_keys: ";
        for key in [hex, half, digits, float, base64] {
            for place in [
                format!("{named}@"),
                format!("{named}'@'"),
                format!("{named}[@]"),
                format!("{named}[[@]]"),
                format!("{named}['@']"),
                format!("{named}\n    - @"),
                format!("{named}[{{@: file}}]"),
                format!("{named}[{{file: @}}]"),
                format!("{named}[{{file: [@]}}]"),
                format!("{named}[{{env: @}}]"),
                format!("{named}[{{command: @}}]"),
                format!("{named}[{{command: [@]}}]"),
                format!("{named}[{{file: /key, @: file}}]"),
                "key_file: @".into(),
                "key_file: [@]".into(),
                "key_env: @".into(),
                "key_command: @".into(),
                "key_command: [@]".into(),
                "type: @".into(),
                "@: x".into(),
                "@".into(),
            ] {
                let place = place.replace('@', &key);
                let yaml =
                    format!("{LOCAL}backup:\n  encryption:\n    enabled: true\n    {place}\n");
                let error = load(&yaml).unwrap_err();
                let line = format!("{error} {error:?}");
                assert!(!line.contains(&key), "{line}");
            }
        }
    }

    #[test]
    fn mistakes_name_their_line_and_show_no_secrets() {
        let cases = [
            (format!("{LOCAL}retention:\n  max_backup: 3\n"), "line 5"),
            (
                "provider:\n  type: s3\n  s3_bucket: b\n  s3_secret_keys: hunter2\n".into(),
                "s3_secret_keys",
            ),
            (format!("{LOCAL}backup:\n  encryption:\n    enabled: true\n"), "key_file"),
            (
                format!(
                    "{LOCAL}backup:\n  encryption:\n    enabled: true\n    key_file: /nowhere/key\n"
                ),
                "/nowhere/key",
            ),
            (format!("{LOCAL}copies:\n{TYPELESS}"), "copies[0]: provider needs either a type"),
            (
                format!(
                    "{LOCAL}copies:\n  - name: b\n    provider: {{type: local, local_path: /b}}\n{TYPO}"
                ),
                "copies[1].provider.s3_bucket must not be empty",
            ),
            (format!("{LOCAL}copies:\n{TYPO}"), "line 6"),
            (format!("{LOCAL}copies:\n  - nmae: hunter\n"), "copies[0]: unknown field `nmae`"),
            (format!("{LOCAL}copies:\n  - nmae: hunter\n"), "line 5"),
        ];
        for (yaml, part) in cases {
            let line = load(&yaml).unwrap_err().to_string();
            assert!(line.contains(part), "{line}");
            assert!(!line.contains("hunter2") && !line.contains('\n'), "{line}");
            assert!(line.matches("line ").count() <= 1, "{line}");
        }
    }
}

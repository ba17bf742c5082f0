//! The backup configuration: where backups go, how they are made, when, and how long they are kept.
//!
//! Types only; a shell reads YAML into them. Unknown keys are refused, and [`Config::check`] names what cannot work, so that a
//! mistake is an error before anything is written. Encryption that is asked for and not possible is an error, never plain text.

use super::compress::{Compression, CompressionError};
pub use super::key_source::KeySource;
pub use super::provider::Provider;
use super::slots::MAX_RECIPIENTS;
use super::stores::read_copies;
pub use super::stores::{CopyStore, StoresError};
use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where backups go.
    pub provider: Provider,
    /// Further stores, which get a copy of every backup.
    #[serde(default, deserialize_with = "read_copies")]
    pub copies: Vec<CopyStore>,
    /// How many stores, the first of them the provider's, must have a backup whole before it counts as complete. The others get their
    /// copies afterwards.
    #[serde(default = "one")]
    pub required_copies: u8,
    /// How they are made.
    #[serde(default)]
    pub backup: Making,
    /// When.
    #[serde(default)]
    pub schedule: Schedule,
    /// How long they are kept. Without it nobody has said what may go, and nothing is pruned.
    #[serde(default)]
    pub retention: Option<Retention>,
}

/// How backups are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Making {
    /// How they are compressed.
    pub compression: CompressionConfig,
    /// How they are encrypted.
    pub encryption: EncryptionConfig,
    /// Accepted for old files; metadata records the true node.
    pub node_id: Option<String>,
    /// Accepted for old files; metadata records the cluster's own id.
    pub cluster_id: Option<String>,
    /// Accepted for old files; metadata records the software's own version.
    pub version: Option<String>,
    /// Path below the store's root under which backups lie; ends in a slash.
    pub prefix: String,
}

/// How backups are compressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompressionConfig {
    /// Whether at all.
    pub enabled: bool,
    /// `gzip` or `zstd`.
    #[serde(rename = "type")]
    pub kind: CompressionKind,
    /// gzip: 1 to 9, default 6; zstd: 1 to 19, default 3.
    pub level: Option<u8>,
}

/// Kinds of compression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompressionKind {
    /// gzip.
    #[default]
    Gzip,
    /// zstd.
    Zstd,
}

/// How backups are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncryptionConfig {
    /// Whether at all. What is left out is no encryption, but does not say that there must be none.
    pub enabled: Option<bool>,
    /// The cipher.
    #[serde(rename = "type")]
    pub kind: EncryptionKind,
    /// The key that new backups are sealed for, from a file. One of this, `key_env` and `key_command`.
    pub key_file: Option<String>,
    /// The same, from an environment variable.
    pub key_env: Option<String>,
    /// The same, from what a program prints: the program and its arguments, without a shell.
    pub key_command: Option<Vec<String>>,
    /// Further keys: new backups are sealed for them too.
    pub more_keys: Vec<KeySource>,
    /// Keys that only open what was sealed for them before.
    pub old_keys: Vec<KeySource>,
}

/// Kinds of encryption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncryptionKind {
    /// AES-256-GCM.
    #[default]
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
}

/// When backups are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Whether it may be started.
    pub enabled: bool,
    /// Five cron fields.
    pub cron_expression: String,
    /// An IANA time zone.
    pub timezone: String,
    /// Whether retention runs after each.
    pub enable_pruning: bool,
}

/// How long backups are kept. A key that is left out has its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Older ones may go; 0: age does not matter.
    pub retention_days: u32,
    /// More than this many may go; 0: number does not matter.
    pub max_backups: u32,
    /// Never fewer complete ones than this, and never none.
    pub min_backups: u32,
    /// Of so many hours that have backups, the newest backup of each stays, whatever its age.
    pub keep_hourly: u32,
    /// The same for days.
    pub keep_daily: u32,
    /// The same for weeks.
    pub keep_weekly: u32,
    /// The same for months.
    pub keep_monthly: u32,
    /// Whether retention runs after each backup.
    pub prune_on_backup: bool,
}

/// What cannot work, by the key's path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value that must not be empty is.
    #[error("{key} must not be empty")]
    Empty {
        /// Path of the key.
        key: &'static str,
    },
    /// The level does not fit the kind, or the kind is not built in.
    #[error("backup.compression: {0}")]
    Compression(#[from] CompressionError),
    /// Encryption without a key.
    #[error(
        "backup.encryption is enabled but names no key_file, key_env or key_command; backups are refused rather than written in plain text"
    )]
    NoKey,
    /// More than one key where one is meant.
    #[error(
        "backup.encryption names more than one of key_file, key_env and key_command: keep one, and put others under more_keys or old_keys"
    )]
    SeveralKeys,
    /// A key without encryption.
    #[error(
        "backup.encryption names a key but is not enabled: set enabled: true, or remove the key"
    )]
    KeyUnused,
    /// More keys than a backup can be sealed for.
    #[error(
        "backup.encryption names {found} keys that new backups are sealed for, the first and more_keys: {MAX_RECIPIENTS} are the most"
    )]
    TooManyKeys {
        /// How many.
        found: usize,
    },
    /// The prefix could leave its place.
    #[error(
        "backup.prefix is {prefix:?}: it must be a relative path ending in a slash, without . or .. or empty parts"
    )]
    Prefix {
        /// What it is.
        prefix: String,
    },
    /// The stores do not fit together.
    #[error(transparent)]
    Stores(#[from] StoresError),
    /// The least number of backups is above the most.
    #[error("retention.min_backups is {min}, more than retention.max_backups, which is {max}")]
    Retention {
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
}

impl Config {
    /// Finds what cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_stores()?;
        self.backup.compression.effective()?;
        self.backup.encryption.check()?;
        if !is_prefix(&self.backup.prefix) {
            return Err(ConfigError::Prefix { prefix: self.backup.prefix.clone() });
        }
        match self.retention {
            Some(Retention { min_backups: min, max_backups: max, .. }) if max != 0 && min > max => {
                Err(ConfigError::Retention { min, max })
            }
            _ => Ok(()),
        }
    }

    /// Whether its own rules say that older backups go after each new one.
    pub fn prunes_on_backup(&self) -> bool {
        self.retention.as_ref().is_some_and(|rules| rules.prune_on_backup)
    }
}

impl CompressionConfig {
    /// What it comes to, with the kind's default level.
    pub fn effective(&self) -> Result<Compression, CompressionError> {
        let compression = match (self.enabled, self.kind) {
            (false, _) => Compression::None,
            (true, CompressionKind::Gzip) => Compression::Gzip { level: self.level.unwrap_or(6) },
            (true, CompressionKind::Zstd) => Compression::Zstd { level: self.level.unwrap_or(3) },
        };
        compression.check()?;
        compression.check_built()?;
        Ok(compression)
    }
}

impl EncryptionConfig {
    /// Whether backups are encrypted.
    pub fn is_enabled(&self) -> bool {
        self.enabled == Some(true)
    }

    /// Where the key of new backups comes from; `None` without encryption.
    pub fn key(&self) -> Result<Option<KeySource>, ConfigError> {
        let file = self.key_file.clone().map(KeySource::File);
        let env = self.key_env.clone().map(KeySource::Env);
        let command = self.key_command.clone().map(KeySource::Command);
        let mut named = [file, env, command].into_iter().flatten().filter(|key| !key.is_empty());
        match (named.next(), named.next()) {
            (_, Some(_)) => Err(ConfigError::SeveralKeys),
            (None, None) if self.is_enabled() => Err(ConfigError::NoKey),
            (Some(_), None) if !self.is_enabled() => Err(ConfigError::KeyUnused),
            (key, None) => Ok(key),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let found = self.key()?.iter().chain(&self.more_keys).count();
        if found > MAX_RECIPIENTS {
            return Err(ConfigError::TooManyKeys { found });
        }
        let others = || self.more_keys.iter().chain(&self.old_keys);
        if !self.is_enabled() && others().next().is_some() {
            return Err(ConfigError::KeyUnused);
        }
        if others().any(KeySource::is_empty) {
            return Err(ConfigError::Empty { key: "a key under backup.encryption" });
        }
        Ok(())
    }
}

fn one() -> u8 {
    1
}

fn is_prefix(prefix: &str) -> bool {
    let Some(path) = prefix.strip_suffix('/') else { return prefix.is_empty() };
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.contains(|c: char| c == '\\' || c.is_control())
}

impl Default for Making {
    fn default() -> Self {
        Making {
            compression: CompressionConfig::default(),
            encryption: EncryptionConfig::default(),
            node_id: None,
            cluster_id: None,
            version: None,
            prefix: "backups/".into(),
        }
    }
}

impl Default for CompressionConfig {
    fn default() -> Self {
        CompressionConfig { enabled: true, kind: CompressionKind::Gzip, level: None }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule {
            enabled: true,
            cron_expression: "0 0 * * *".into(),
            timezone: "UTC".into(),
            enable_pruning: false,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Retention {
            retention_days: 30,
            max_backups: 10,
            min_backups: 3,
            keep_hourly: 0,
            keep_daily: 0,
            keep_weekly: 0,
            keep_monthly: 0,
            prune_on_backup: false,
        }
    }
}

#[cfg(test)]
mod tests;

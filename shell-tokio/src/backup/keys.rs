//! Reads keys from files, environment variables and programs.
//!
//! Invariants: what was read is wiped from memory when it is not needed any more; an error names the source and never its content; of a
//! program only its name is told, since arguments may hold credentials.

use raftkv_core::backup::config::{ConfigError, EncryptionConfig, KeySource};
use raftkv_core::backup::keys::KeyError;
use raftkv_core::backup::{Key, KeyRing};
use std::env::{self, VarError};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use zeroize::Zeroizing;

/// The keys of a configuration. None at all without encryption.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// What new backups are sealed for, the configuration's own key first.
    pub recipients: Vec<Key>,
    /// What only opens old ones.
    pub old: Vec<Key>,
    /// Where each of them is from: those of `recipients`, then those of `old`.
    sources: Vec<KeySource>,
    /// What whoever runs this should know.
    pub warnings: Vec<String>,
}

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The configuration does not say clearly where it is.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file cannot be read, or the program cannot be run.
    #[error("{key}: {error}")]
    Io {
        /// Which source.
        key: KeySource,
        /// Why.
        error: io::Error,
    },
    /// The variable is not set, or not text.
    #[error("{key}: {error}")]
    Env {
        /// Which source.
        key: KeySource,
        /// Why.
        error: EnvError,
    },
    /// The program failed.
    #[error("{key} failed: {status}")]
    Command {
        /// Which source.
        key: KeySource,
        /// How.
        status: ExitStatus,
    },
    /// What was read is no key.
    #[error("{key}: {error}")]
    Content {
        /// Which source.
        key: KeySource,
        /// Why.
        error: KeyError,
    },
}

/// Why a variable gives no key. Without its content, which the standard library's own error would tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// It is not set.
    #[error("is not set")]
    NotSet,
    /// It is not text.
    #[error("is not valid UTF-8")]
    NotText,
}

/// No key in any form is longer; what is behind that is not read.
const MAX_CONTENT_BYTES: u64 = 4096;

impl Keys {
    /// Reads every key that the configuration names.
    pub fn read(encryption: &EncryptionConfig) -> Result<Keys, SourceError> {
        let mut keys = Keys::default();
        for source in encryption.key()?.iter().chain(&encryption.more_keys) {
            let key = keys.one(source)?;
            keys.recipients.push(key);
        }
        for source in &encryption.old_keys {
            let key = keys.one(source)?;
            keys.old.push(key);
        }
        Ok(keys)
    }

    /// All of them, with where each is from and whether new backups are sealed for it.
    pub fn named(&self) -> impl Iterator<Item = (&Key, &KeySource, bool)> {
        let recipients = self.recipients.iter().map(|key| (key, true));
        let keys = recipients.chain(self.old.iter().map(|key| (key, false)));
        keys.zip(&self.sources).map(|((key, seals), source)| (key, source, seals))
    }

    /// All of them.
    pub fn ring(&self) -> KeyRing {
        KeyRing::new(self.recipients.iter().chain(&self.old).cloned())
    }

    fn one(&mut self, source: &KeySource) -> Result<Key, SourceError> {
        let content = match source {
            KeySource::File(path) => self.file(source, Path::new(path))?,
            KeySource::Env(name) => variable(source, name)?,
            KeySource::Command(argv) => output(source, argv)?,
        };
        let key = Key::parse(&content)
            .map_err(|error| SourceError::Content { key: source.clone(), error })?;
        self.sources.push(source.clone());
        Ok(key)
    }

    fn file(&mut self, source: &KeySource, path: &Path) -> Result<Zeroizing<Vec<u8>>, SourceError> {
        let failed = |error| SourceError::Io { key: source.clone(), error };
        let content = File::open(path).and_then(read).map_err(failed)?;
        if let Ok(metadata) = fs::metadata(path)
            && metadata.permissions().mode() & 0o077 != 0
        {
            self.warnings.push(format!("{source} can be read by others: chmod 600 it"));
        }
        Ok(content)
    }
}

fn variable(source: &KeySource, name: &str) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let error = match env::var(name) {
        Ok(value) => return Ok(Zeroizing::new(value.into_bytes())),
        Err(VarError::NotPresent) => EnvError::NotSet,
        Err(VarError::NotUnicode(_)) => EnvError::NotText,
    };
    Err(SourceError::Env { key: source.clone(), error })
}

fn output(source: &KeySource, argv: &[String]) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let failed = |error| SourceError::Io { key: source.clone(), error };
    let (program, args) = argv.split_first().ok_or(ConfigError::NoKey)?;
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let content = child.stdout.take().map_or(Ok(Zeroizing::default()), read);
    // The pipe is closed by now, so that a program that goes on writing ends.
    let status = child.wait().map_err(failed)?;
    let content = content.map_err(failed)?;
    match status.success() {
        true => Ok(content),
        false => Err(SourceError::Command { key: source.clone(), status }),
    }
}

fn read(source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: growing would leave copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_CONTENT_BYTES as usize + 1));
    source.take(MAX_CONTENT_BYTES).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: KeySource) -> Result<Keys, SourceError> {
        let mut keys = Keys::default();
        let key = keys.one(&source)?;
        keys.recipients.push(key);
        Ok(keys)
    }

    fn command(script: &str) -> KeySource {
        KeySource::Command(["sh", "-c", script].map(String::from).to_vec())
    }

    #[test]
    fn a_program_gives_a_key() {
        let hex = "ab".repeat(32);
        let keys = read(command(&format!("echo {hex}"))).unwrap();
        assert_eq!(keys.ring().ids().count(), 1);
    }

    #[test]
    fn what_gives_no_key_is_named_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "hunter2 hunter2").unwrap();
        let cases = [
            (KeySource::File("/nowhere/key".into()), "/nowhere/key"),
            (KeySource::File(path.display().to_string()), "15 bytes of text"),
            (KeySource::Env("NO_SUCH_VARIABLE_HERE".into()), "NO_SUCH_VARIABLE_HERE: is not set"),
            (command("echo hunter2"), "key command sh"),
            (command("echo hunter2; exit 3"), "exit status: 3"),
            (KeySource::Command(vec!["/nowhere/program".into()]), "key command /nowhere/program"),
            (command("yes hunter2"), "key command sh"),
        ];
        for (source, part) in cases {
            let error = read(source).unwrap_err();
            let line = format!("{error} {error:?}");
            assert!(line.contains(part), "{line}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "ab".repeat(32)).unwrap();
        for (mode, warnings) in [(0o644, 1), (0o600, 0)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let keys = read(KeySource::File(path.display().to_string())).unwrap();
            assert_eq!(keys.warnings.len(), warnings, "{mode:o}");
        }
    }
}

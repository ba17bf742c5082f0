//! Reads keys from files, environment variables and programs.
//!
//! Invariants: what was read is wiped from memory when it is not needed any more; an error names the source and never its content; of a
//! program only its name is told, since arguments may hold credentials.

use raftkv_core::backup::config::{ConfigError, EncryptionConfig, KeySource};
use raftkv_core::backup::keys::KeyError;
use raftkv_core::backup::{Key, KeyRing};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::env::{self, VarError};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
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
    /// The program takes too long.
    #[error(
        "{key}: it was ended after {limit:?}: it must print the key and end by itself, and leave nothing behind that has its stdout open"
    )]
    Slow {
        /// Which source.
        key: KeySource,
        /// How long it may take.
        limit: Duration,
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
const MAX_CONTENT_BYTES: usize = 4096;

/// How long a program may take: a node that waits for it serves nobody.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether a program that has printed all has ended, too. There is no other way to wait for that with a limit.
const LOOK_EVERY: Duration = Duration::from_millis(5);

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
            KeySource::Command(argv) => output(source, argv, PATIENCE)?,
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

fn output(
    source: &KeySource,
    argv: &[String],
    limit: Duration,
) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let failed = |error| SourceError::Io { key: source.clone(), error };
    let mut child = spawn(argv).map_err(failed)?;
    match ended(&mut child, limit).map_err(failed)? {
        Some((content, status)) if status.success() => Ok(content),
        Some((_, status)) => Err(SourceError::Command { key: source.clone(), status }),
        None => Err(SourceError::Slow { key: source.clone(), limit }),
    }
}

fn spawn(argv: &[String]) -> io::Result<Child> {
    let (program, args) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()
}

/// What a program has printed, and how it ended. Whatever it waits for when that takes too long, it is gone then; what it has started itself is not
/// known here.
fn ended(
    child: &mut Child,
    limit: Duration,
) -> io::Result<Option<(Zeroizing<Vec<u8>>, ExitStatus)>> {
    let printed = printed(child, limit);
    if !matches!(printed, Ok(Some(_))) {
        child.kill().and_then(|()| child.wait())?;
    }
    printed
}

/// What a program prints until its end, and how it ended; nothing if that takes too long.
fn printed(
    child: &mut Child,
    limit: Duration,
) -> io::Result<Option<(Zeroizing<Vec<u8>>, ExitStatus)>> {
    let deadline = Instant::now() + limit;
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    // The pipe is closed then, so that a program that goes on writing ends.
    let Some(content) = read_until(stdout, deadline)? else { return Ok(None) };
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some((content, status)));
        }
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => return Ok(None),
            left => thread::sleep(left.min(LOOK_EVERY)),
        }
    }
}

/// Reads to the end, which comes when nobody has the pipe open for writing any more; nothing if that takes too long.
fn read_until(mut pipe: ChildStdout, deadline: Instant) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let (mut content, mut filled) = (Zeroizing::new(vec![0; MAX_CONTENT_BYTES]), 0);
    while filled < content.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Ok(None),
            Err(Errno::INTR) => continue,
            ready => drop(ready?),
        }
        match pipe.read(&mut content[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    content.truncate(filled);
    Ok(Some(content))
}

fn read(source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: growing would leave copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_CONTENT_BYTES + 1));
    source.take(MAX_CONTENT_BYTES as u64).read_to_end(&mut content)?;
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
    fn a_program_that_takes_too_long_is_ended() {
        let limit = Duration::from_millis(100);
        // The second has ended, but not what it left behind, which ends with this process.
        let behind = "while kill -0 $PPID 2>/dev/null; do sleep 1; done & echo hunter2";
        for script in ["exec sleep 1000", behind] {
            let argv = ["sh", "-c", script].map(String::from);
            let error = output(&command(script), &argv, limit).unwrap_err();
            assert!(matches!(error, SourceError::Slow { .. }), "{script}: {error:?}");
            let line = error.to_string();
            assert!(line.contains("key command sh: it was ended after 100ms"), "{line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
    }

    #[test]
    fn a_program_that_is_ended_leaves_no_process() {
        let mut child = spawn(&["sleep".into(), "1000".into()]).unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let slow = ended(&mut child, Duration::ZERO).unwrap();
        assert!(slow.is_none());
        let gone = rustix::process::test_kill_process(pid);
        assert_eq!(gone, Err(Errno::SRCH), "it is there, or nobody has asked how it ended");
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

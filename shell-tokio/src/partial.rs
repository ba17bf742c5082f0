//! Files on the way to their name: written beside it, brought to stable storage, and given it when they are whole.
//!
//! Invariants: every writer has a file of its own (`NAME.{random}.partial`), so that nobody gives a name to what another one wrote; where
//! nothing may be replaced, one step of the file system's gives the name, and fails if it is taken; a writer that ends without publishing
//! leaves nothing. What a killed one leaves is removed by the next writer of the same name: the lock on that file went with its writer.

use crate::disk::directory::sync_directory;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A file under way. Dropped before [`Partial::publish`], it leaves nothing.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    partial: PathBuf,
    file: File,
}

/// Whether what has the name already is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// It is.
    Yes,
    /// It stays, and publishing fails.
    No,
}

/// Why a file did not get its name.
#[derive(Debug, thiserror::Error)]
pub enum Unpublished {
    /// Something has the name already.
    #[error("it is there already")]
    Exists,
    /// Somebody removed what was written.
    #[error("what was written was removed before it was whole")]
    Removed,
    /// It is not as long as it should be.
    #[error("{found} bytes are there, not {expected}")]
    Length {
        /// How long it is.
        found: u64,
        /// How long it should be.
        expected: u64,
    },
    /// The file system has no way to give a name without replacing.
    #[error(
        "its file system has neither hard links nor a rename that replaces nothing: choose a directory on another one"
    )]
    Unfit,
    /// It failed.
    #[error("{0}")]
    Failed(io::Error),
    /// It has the name, but may have lost it after a crash.
    #[error("{0}")]
    Unknown(io::Error),
}

/// Names of files under way end in this, behind 16 random digits; older software left the digits out.
const SUFFIX: &str = ".partial";
const RANDOM_DIGITS: usize = 16;
/// Between being made and being locked, a file looks like one that a killed writer left. More than once that is no chance.
const TRIES: u32 = 8;

impl Partial {
    /// Begins a file that will be at `path`, readable by its owner only. What killed writers of that name left goes.
    pub fn begin(path: &Path) -> io::Result<Partial> {
        remove_dead(path);
        for _ in 0..TRIES {
            let partial = beside(path, random()?);
            let file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
            // Where files cannot be locked, none is ever taken for a killed writer's.
            let _ = flock(&file, FlockOperation::LockExclusive);
            if file.metadata()?.nlink() > 0 {
                return Ok(Partial { path: path.to_owned(), partial, file });
            }
        }
        Err(io::Error::other("another process removes every file that is begun"))
    }

    /// Writes at an offset.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Brings the file to stable storage and gives it its name there. By now it must have this length.
    pub fn publish(&self, length: u64, replace: Replace) -> Result<(), Unpublished> {
        let found = self.file.metadata().map_err(Unpublished::Failed)?.len();
        if found != length {
            return Err(Unpublished::Length { found, expected: length });
        }
        self.file.sync_all().map_err(Unpublished::Failed)?;
        match replace {
            Replace::Yes => fs::rename(&self.partial, &self.path).map_err(Unpublished::Failed),
            Replace::No => name_anew(
                || fs::hard_link(&self.partial, &self.path),
                || rename_anew(&self.partial, &self.path),
            ),
        }
        .map_err(|error| self.unnamed(error, replace))?;
        self.discard().map_err(Unpublished::Unknown)?;
        sync_directory(directory(&self.path)).map_err(Unpublished::Unknown)
    }

    /// Removes the file.
    pub fn discard(&self) -> io::Result<()> {
        remove(&self.partial)
    }

    fn unnamed(&self, error: Unpublished, replace: Replace) -> Unpublished {
        match error {
            // Whoever removed it may be the one that has the name.
            Unpublished::Failed(error) if error.kind() == ErrorKind::NotFound => match replace {
                Replace::No if self.path.exists() => Unpublished::Exists,
                _ => Unpublished::Removed,
            },
            error => error,
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Published, it is not there any more; otherwise it is of no use, and that it cannot be removed is not what went wrong.
        let _ = self.discard();
    }
}

/// Gives a name where nothing may have it yet. A link comes first: between machines that share a file system over a network it is the surer
/// one. Some file systems have none.
fn name_anew(
    link: impl FnOnce() -> io::Result<()>,
    rename: impl FnOnce() -> io::Result<()>,
) -> Result<(), Unpublished> {
    const NO_LINKS: [Errno; 5] =
        [Errno::PERM, Errno::NOTSUP, Errno::NOSYS, Errno::INVAL, Errno::MLINK];
    const NO_SUCH_RENAME: [Errno; 3] = [Errno::NOTSUP, Errno::NOSYS, Errno::INVAL];
    let is_one_of = |error: &io::Error, those: &[Errno]| {
        Errno::from_io_error(error).is_some_and(|errno| those.contains(&errno))
    };
    let named = link().or_else(|error| match is_one_of(&error, &NO_LINKS) {
        true => rename(),
        false => Err(error),
    });
    named.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Unpublished::Exists,
        _ if is_one_of(&error, &NO_SUCH_RENAME) => Unpublished::Unfit,
        _ => Unpublished::Failed(error),
    })
}

fn rename_anew(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

/// Removes a file, if it is there.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes every file that is under way to this name, whether its writer is there or not.
pub fn remove_all(path: &Path) -> io::Result<()> {
    under_way(path)?.iter().try_for_each(|partial| remove(partial))
}

/// The name that a file with this name is under way to, if it is.
pub fn target(name: &str) -> Option<&str> {
    let rest = name.strip_suffix(SUFFIX)?;
    let is_random = |digits: &str| {
        digits.len() == RANDOM_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    };
    match rest.rsplit_once('.') {
        Some((target, digits)) if is_random(digits) => Some(target),
        _ => Some(rest),
    }
}

/// A listing's name for it: every file under way to one name has the same.
pub fn listed(name: &str) -> String {
    target(name).map_or_else(|| name.to_owned(), |target| format!("{target}{SUFFIX}"))
}

/// What cannot be removed now is left to the next writer.
fn remove_dead(path: &Path) {
    for partial in under_way(path).unwrap_or_default() {
        let file = OpenOptions::new().write(true).open(&partial);
        let is_dead = |file: &File| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok();
        // The lock is held until it is gone: its writer, if it has only just begun, waits for that.
        if let Ok(file) = file
            && is_dead(&file)
        {
            let _ = remove(&partial);
        }
    }
}

/// The files under way to a name.
fn under_way(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name
            .to_str()
            .and_then(target)
            .is_some_and(|name| path.file_name() == Some(name.as_ref()))
        {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn beside(path: &Path, number: u64) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{number:0RANDOM_DIGITS$x}{SUFFIX}"));
    partial.into()
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u64::from_le_bytes(bytes))
}

fn directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn of_two_writers_each_publishes_its_own_and_only_one_where_nothing_may_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        for replace in [Replace::No, Replace::Yes] {
            let (first, second) = (Partial::begin(&path).unwrap(), Partial::begin(&path).unwrap());
            first.write_at(0, b"first").unwrap();
            second.write_at(0, b"2nd").unwrap();
            second.publish(3, replace).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"2nd");
            match (replace, first.publish(5, replace)) {
                (Replace::No, Err(Unpublished::Exists)) => {
                    assert_eq!(fs::read(&path).unwrap(), b"2nd");
                }
                (Replace::Yes, Ok(())) => assert_eq!(fs::read(&path).unwrap(), b"first"),
                (_, outcome) => panic!("{replace:?}: {outcome:?}"),
            }
            drop((first, second));
            assert_eq!(names(dir.path()), ["lock"]);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_a_killed_writer_left_goes_and_what_another_one_writes_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        // Also of a kind that older software left.
        let dead = [beside(&path, 7), dir.path().join("lock.partial")];
        let others = dir.path().join("lock2.0000000000000007.partial");
        dead.iter().chain([&others]).for_each(|path| fs::write(path, b"half").unwrap());
        let alive = Partial::begin(&path).unwrap();
        let next = Partial::begin(&path).unwrap();
        assert!(!dead.iter().any(|path| path.exists()) && others.exists());
        alive.publish(0, Replace::No).unwrap();
        drop(next);
        fs::remove_file(&others).unwrap();
        assert_eq!(names(dir.path()), ["lock"]);
    }

    #[test]
    fn without_hard_links_a_rename_that_replaces_nothing_gives_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for lacking in [Errno::PERM, Errno::NOTSUP] {
            fs::write(&from, "new").unwrap();
            name_anew(|| Err(lacking.into()), || rename_anew(&from, &to)).unwrap();
            fs::write(&from, "newer").unwrap();
            let outcome = name_anew(|| Err(lacking.into()), || rename_anew(&from, &to));
            assert!(matches!(outcome, Err(Unpublished::Exists)), "{outcome:?}");
            assert_eq!(fs::read(&to).unwrap(), b"new");
            fs::remove_file(&to).unwrap();
        }
    }

    #[test]
    fn a_file_system_that_has_neither_is_named_as_the_reason() {
        let outcome = name_anew(|| Err(Errno::PERM.into()), || Err(Errno::INVAL.into()));
        assert!(matches!(outcome, Err(Unpublished::Unfit)), "{outcome:?}");
        for (link, rename) in [(Errno::PERM, Errno::PERM), (Errno::ACCESS, Errno::INVAL)] {
            let outcome = name_anew(|| Err(link.into()), || Err(rename.into()));
            let Err(Unpublished::Failed(error)) = outcome else { panic!("{outcome:?}") };
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn a_file_that_is_removed_or_not_whole_gets_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let short = Partial::begin(&path).unwrap();
        let outcome = short.publish(1, Replace::Yes);
        assert!(matches!(outcome, Err(Unpublished::Length { found: 0, expected: 1 })));
        remove_all(&path).unwrap();
        for replace in [Replace::No, Replace::Yes] {
            let outcome = short.publish(0, replace);
            assert!(matches!(outcome, Err(Unpublished::Removed)), "{outcome:?}");
        }
        fs::write(&path, "another one's").unwrap();
        let outcome = short.publish(0, Replace::No);
        assert!(matches!(outcome, Err(Unpublished::Exists)), "{outcome:?}");
        let outcome = short.publish(0, Replace::Yes);
        assert!(matches!(outcome, Err(Unpublished::Removed)), "{outcome:?}");
    }

    #[test]
    fn files_under_way_to_one_name_are_listed_alike() {
        assert_eq!(listed("data.db.00000000deadbeef.partial"), "data.db.partial");
        assert_eq!(listed("data.db.partial"), "data.db.partial");
        assert_eq!(listed("data.db"), "data.db");
        assert_eq!(target("data.db.deadbeef.partial"), Some("data.db.deadbeef"));
    }
}

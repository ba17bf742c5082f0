//! The place of a data directory: what lies beside it, and whether a rename can put a directory there.

use crate::failure::{Exit, Failure};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where a directory is made.
pub fn restoring(path: &Path) -> PathBuf {
    sibling(path, "restoring")
}

/// Where what was there before is moved to.
pub fn aside(path: &Path, number: u32) -> PathBuf {
    sibling(path, &format!("before-restore-{number}"))
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut sibling = path.file_name().unwrap_or_default().to_owned();
    sibling.push(format!(".{suffix}"));
    path.with_file_name(sibling)
}

/// The directory in which a path is a name.
pub fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Refuses what no rename puts a directory in the place of, before there is one.
pub fn check_replaceable(path: &Path) -> Result<(), Failure> {
    if path.file_name().is_none() {
        return Err(irreplaceable(path, "name a directory"));
    }
    let failed = |error| Failure::file("read", path, error);
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if there.dev() != fs::metadata(parent(path)).map_err(failed)?.dev() {
        let what = format!(
            "it is a volume of its own: name a directory in it, as {}",
            path.join("raftkv").display()
        );
        return Err(irreplaceable(path, &what));
    }
    Ok(())
}

/// A place where no directory can be made.
pub fn irreplaceable(path: &Path, what: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{} cannot be replaced: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_rename_replaces_is_refused_at_once() {
        // A volume of its own on every Linux.
        let volume = check_replaceable(Path::new("/proc")).unwrap_err();
        assert_eq!(volume.exit(), Exit::Usage, "{volume}");
        assert!(volume.to_string().contains("/proc/raftkv"), "{volume}");
        for nameless in ["/", "."] {
            let refused = check_replaceable(Path::new(nameless)).unwrap_err();
            assert_eq!(refused.exit(), Exit::Usage, "{refused}");
        }
    }
}

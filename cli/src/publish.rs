//! Files that appear whole or not at all: written beside their name, brought to stable storage, then renamed.

use crate::failure::Failure;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file under way. Dropped before [`Publication::publish`], it leaves nothing.
pub struct Publication {
    path: PathBuf,
    partial: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Publication {
    /// Begins a file that will be at `path`, readable by its owner only.
    pub fn begin(path: &Path) -> Result<Publication, Failure> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial);
        let file = file.map_err(|error| Failure::file("written", path, error))?;
        Ok(Publication { path: path.to_owned(), partial, file: Some(BufWriter::new(file)) })
    }

    /// Makes the file appear under its name, replacing what was there.
    pub fn publish(mut self) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::file("written", &self.path, error);
        let Some(writer) = self.file.take() else { return Ok(()) };
        let file = writer.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        fs::rename(&self.partial, &self.path).map_err(failed)?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = File::open(parent.unwrap_or(Path::new("."))).map_err(failed)?;
        parent.sync_all().map_err(failed)
    }
}

impl Write for Publication {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => unreachable!("publishing consumes the publication"),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // What is left of it is of no use; that it cannot be removed is not what went wrong.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut publication = Publication::begin(&path).unwrap();
        publication.write_all(b"half").unwrap();
        drop(publication);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut publication = Publication::begin(&path).unwrap();
        publication.write_all(b"whole").unwrap();
        assert!(!path.exists());
        publication.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

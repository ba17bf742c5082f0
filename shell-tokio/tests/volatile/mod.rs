//! A file system that keeps in memory what is not stable yet, so that kill -9 of its process loses what a power cut may lose.
//!
//! The real directory holds only what was synced: bytes of a file once the file was, names once their directory was. Until then both
//! live in this process. Like a kernel that writes back when it likes, it may also let single sectors and names become stable
//! early. Never lost: what a sync that ended had covered. Making and renaming directories is stable at once.
//!
//! It does not sync the real files: kill -9 leaves the kernel's memory alone.

#![allow(dead_code, reason = "each test file uses a part")]

use raftkv_core::rng::{Rng, Seed};
use raftkv_node::disk::FileSystem;
use raftkv_node::disk::file_system::DataFile;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SECTOR_BYTES: usize = 512;
/// Where a file system keeps what has lost its name, or has none yet: files take their name only when they are whole.
const NAMELESS: &str = "lost+found";

/// The file system of one process.
#[derive(Clone, Debug)]
pub struct Volatile {
    names: Arc<Mutex<Names>>,
}

#[derive(Debug)]
struct Names {
    /// What this process sees.
    live: BTreeMap<PathBuf, Node>,
    /// What is in the real directories.
    stable: BTreeMap<PathBuf, Node>,
    /// Real directories that were read.
    read: BTreeSet<PathBuf>,
    early: Early,
}

/// What becomes stable before anybody asked.
#[derive(Debug)]
struct Early {
    percent: u64,
    rng: Rng,
}

type Node = Arc<Mutex<Contents>>;

#[derive(Debug, Default)]
struct Contents {
    live: Vec<u8>,
    stable: Vec<u8>,
    /// Ranges of `live` written since the last sync.
    dirty: Vec<Range<usize>>,
    /// The shortest it was since the last sync.
    shortest: usize,
    /// The real file, if it has a stable name.
    real: Option<File>,
}

impl Volatile {
    /// Lets so many percent of sectors and names become stable early, drawn with this seed.
    pub fn new(early_percent: u64, seed: u64) -> Volatile {
        let rng = Seed::from_number(seed).fork("early");
        let early = Early { percent: early_percent, rng };
        let names =
            Names { live: BTreeMap::new(), stable: BTreeMap::new(), read: BTreeSet::new(), early };
        Volatile { names: Arc::new(Mutex::new(names)) }
    }

    fn lock(&self, path: &Path) -> io::Result<MutexGuard<'_, Names>> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.read(parent(path))?;
        Ok(names)
    }

    fn handle(&self, node: Node) -> Box<dyn DataFile> {
        Box::new(Handle { names: self.names.clone(), node })
    }
}

impl FileSystem for Volatile {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DataFile>> {
        let node = self.lock(path)?.find(path)?;
        Ok(self.handle(node))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DataFile>> {
        let mut names = self.lock(path)?;
        let node = names.live.entry(path.into()).or_default().clone();
        let mut contents = lock(&node);
        contents.live.clear();
        contents.dirty.clear();
        contents.shortest = 0;
        drop(contents);
        names.maybe_early(parent(path))?;
        drop(names);
        Ok(self.handle(node))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.lock(from)?;
        if from.is_dir() {
            names.forget_below(from);
            return fs::rename(from, to);
        }
        names.read(parent(to))?;
        let node = names.find(from)?;
        names.live.remove(from);
        names.live.insert(to.into(), node);
        names.maybe_early(parent(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut names = self.lock(path)?;
        names.find(path)?;
        names.live.remove(path);
        names.maybe_early(parent(path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        let names = self.lock(&directory.join("any"))?;
        let within =
            names.live.iter().filter(|(path, _)| parent(path) == directory.components().as_path());
        let named = within.map(|(path, node)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, lock(node).live.len() as u64)
        });
        Ok(named.collect())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.lock(&directory.join("any"))?.sync(directory)
    }
}

impl Names {
    /// Learns what a real directory holds.
    fn read(&mut self, directory: &Path) -> io::Result<()> {
        if !self.read.insert(directory.into()) {
            return Ok(());
        }
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_file() {
                let real = File::options().read(true).write(true).open(&path)?;
                let stable = fs::read(&path)?;
                let contents = Contents {
                    live: stable.clone(),
                    shortest: stable.len(),
                    stable,
                    dirty: Vec::new(),
                    real: Some(real),
                };
                let node = Arc::new(Mutex::new(contents));
                self.live.insert(path.clone(), node.clone());
                self.stable.insert(path, node);
            }
        }
        Ok(())
    }

    fn forget_below(&mut self, directory: &Path) {
        self.live.retain(|path, _| !path.starts_with(directory));
        self.stable.retain(|path, _| !path.starts_with(directory));
        self.read.retain(|path| !path.starts_with(directory));
    }

    fn find(&self, path: &Path) -> io::Result<Node> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no such file");
        self.live.get(path).cloned().ok_or_else(missing)
    }

    fn maybe_early(&mut self, directory: &Path) -> io::Result<()> {
        if self.early.happens() { self.sync(directory) } else { Ok(()) }
    }

    /// Makes the real directory what this process sees, each name by itself and whole.
    fn sync(&mut self, directory: &Path) -> io::Result<()> {
        let within = |path: &&PathBuf| parent(path) == directory.components().as_path();
        let live: Vec<PathBuf> = self.live.keys().filter(within).cloned().collect();
        for path in live {
            let node = self.live[&path].clone();
            if !self.stable.get(&path).is_some_and(|stable| Arc::ptr_eq(stable, &node)) {
                self.link(&path, node)?;
            }
        }
        let gone = |path: &&PathBuf| within(path) && !self.live.contains_key(*path);
        let gone: Vec<PathBuf> = self.stable.keys().filter(gone).cloned().collect();
        for path in gone {
            fs::remove_file(&path)?;
            self.unlink(&path);
        }
        Ok(())
    }

    /// Gives a file its stable name, in place of whatever has it.
    fn link(&mut self, path: &Path, node: Node) -> io::Result<()> {
        let held = self.stable.iter().find(|(_, stable)| Arc::ptr_eq(stable, &node));
        if let Some(old) = held.map(|(old, _)| old.clone()) {
            fs::rename(&old, path)?;
            self.unlink(path);
            self.stable.remove(&old);
        } else {
            let nameless = parent(path).join(NAMELESS);
            fs::create_dir_all(&nameless)?;
            let whole = nameless.join(path.file_name().unwrap_or_default());
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(true).mode(0o600);
            let real = options.open(&whole)?;
            let mut contents = lock(&node);
            real.write_all_at(&contents.stable, 0)?;
            fs::rename(&whole, path)?;
            contents.real = Some(real);
            drop(contents);
            self.unlink(path);
        }
        self.stable.insert(path.into(), node);
        Ok(())
    }

    /// A stable name is gone, and with it what the file leaves behind.
    fn unlink(&mut self, path: &Path) {
        if let Some(node) = self.stable.remove(path) {
            lock(&node).real = None;
        }
    }
}

impl Early {
    fn happens(&mut self) -> bool {
        self.rng.below(100) < self.percent
    }
}

#[derive(Debug)]
struct Handle {
    names: Arc<Mutex<Names>>,
    node: Node,
}

impl DataFile for Handle {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(lock(&self.node).live.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let contents = lock(&self.node);
        let range = offset as usize..offset as usize + buffer.len();
        let bytes = contents.live.get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let range = offset as usize..offset as usize + bytes.len();
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let mut contents = lock(&self.node);
        contents.grow(range.end);
        contents.live[range.clone()].copy_from_slice(bytes);
        contents.dirty.push(range.clone());
        let first_sector = range.start / SECTOR_BYTES;
        for sector in first_sector..range.end.div_ceil(SECTOR_BYTES) {
            if names.early.happens() {
                let start = (sector * SECTOR_BYTES).max(range.start);
                contents.settle(start..((sector + 1) * SECTOR_BYTES).min(range.end))?;
            }
        }
        Ok(())
    }

    fn reserve(&self, len_bytes: u64) -> io::Result<()> {
        lock(&self.node).grow(len_bytes as usize);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        lock(&self.node).sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        lock(&self.node).sync()
    }
}

impl Contents {
    fn grow(&mut self, len_bytes: usize) {
        let old = self.live.len();
        if len_bytes > old {
            self.live.resize(len_bytes, 0);
            self.dirty.push(old..len_bytes);
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.shortest < self.stable.len() {
            self.stable.truncate(self.shortest);
            if let Some(real) = &self.real {
                real.set_len(self.shortest as u64)?;
            }
        }
        for range in std::mem::take(&mut self.dirty) {
            self.settle(range)?;
        }
        self.shortest = self.live.len();
        Ok(())
    }

    /// Makes some bytes stable.
    fn settle(&mut self, range: Range<usize>) -> io::Result<()> {
        if self.stable.len() < range.end {
            self.stable.resize(range.end, 0);
        }
        self.stable[range.clone()].copy_from_slice(&self.live[range.clone()]);
        match &self.real {
            Some(real) => real.write_all_at(&self.live[range.clone()], range.start as u64),
            None => Ok(()),
        }
    }
}

fn lock(node: &Node) -> MutexGuard<'_, Contents> {
    node.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("")).components().as_path()
}

//! Makes a data directory beside its final place, then moves it there.
//!
//! Publishing is two renames where something was at the place: it goes aside, then the new directory takes its place. Invariant: what was
//! killed between the two is ended, not begun anew, so that what is aside is always told.

use super::place::{self, aside, parent, restoring};
use super::repeat::Record;
use crate::commands::backup::source::unusable;
use crate::failure::{Exit, Failure};
use raftkv_core::api::MemberInfo;
use raftkv_core::boot::{GenesisBase, genesis};
use raftkv_core::ids::Identity;
use raftkv_core::kv::StateHash;
use raftkv_node::disk::directory::{DirectoryError, sync_directory};
use raftkv_node::disk::{Directory, Files};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

/// Operations made while others are being carried out; each holds a chunk at most.
const OPS_AHEAD: usize = 4;

/// A place where a data directory may be made.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    /// There is something, and it may be moved aside.
    occupied: bool,
    /// Where that is a node's directory, it is locked until it was moved: a node that started there meanwhile would go on writing to
    /// what is aside.
    _node: Option<Directory>,
}

/// A complete directory that is not at its place yet. Removed when dropped before [`Staged::publish`].
#[derive(Debug)]
pub struct Staged {
    target: Target,
    staging: Staging,
    state_hash: StateHash,
    /// Locked until it is at its place, so that another restore there leaves it alone.
    _directory: Directory,
}

#[derive(Debug)]
struct Staging(PathBuf);

impl Target {
    /// Looks at the place before any work is done. Something that is not an empty directory is refused without `force`.
    pub fn check(path: &Path, force: bool) -> Result<Target, Failure> {
        place::check_replaceable(path)?;
        let occupied = match fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
            Ok(occupied) => occupied,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) if error.kind() == ErrorKind::NotADirectory => true,
            Err(error) => return Err(Failure::file("read", path, error)),
        };
        if occupied && !force {
            let what = format!(
                "{} is not empty: choose another --db, or move what is there aside with --force",
                path.display()
            );
            return Err(Failure::new(Exit::Refused, what));
        }
        if !occupied && path.is_symlink() {
            return Err(place::irreplaceable(path, "it is a link: name the directory itself"));
        }
        let node = (occupied && is_a_nodes(path)).then(|| Directory::open(path)).transpose();
        let node = node.map_err(|error| Failure::new(Exit::Refused, unusable(&error)))?;
        Ok(Target { path: path.to_owned(), occupied, _node: node })
    }

    /// Makes the directory of a member in a sibling of the place.
    pub fn stage(
        self,
        identity: Identity,
        members: Vec<MemberInfo>,
        base: GenesisBase,
    ) -> Result<Staged, Failure> {
        let place = restoring(&self.path);
        remove_leftovers(&place)?;
        let staging = Staging(place);
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::Storage, format!("{}: {error}", staging.0.display()))
        };
        let directory = Directory::open(&staging.0).map_err(|error| failed(&error))?;
        let mut files = Files::new(&directory);
        let genesis = genesis(identity, members, base);
        let state_hash = genesis.header().state_hash;
        thread::scope(|scope| {
            let (sender, ops) = mpsc::sync_channel(OPS_AHEAD);
            scope.spawn(move || genesis.into_iter().try_for_each(|op| sender.send(op)));
            ops.iter().try_for_each(|op| files.execute(&op).map(drop))
        })
        .map_err(|error| failed(&error))?;
        Ok(Staged { target: self, staging, state_hash, _directory: directory })
    }
}

/// Ends the publishing of a restore that was killed when what had been at the place was aside already.
pub fn end_publishing(path: &Path) -> Result<(), Failure> {
    let place = restoring(path);
    let is_free = fs::read_dir(path).map_or_else(
        |error| error.kind() == ErrorKind::NotFound,
        |mut entries| entries.next().is_none(),
    );
    if !is_free || Record::read(&place).is_none() {
        return Ok(());
    }
    let _lock =
        Directory::open(&place).map_err(|error| Failure::new(Exit::Refused, unusable(&error)))?;
    let moved = Record::read(&place).and_then(|record| record.moved_aside);
    if moved.is_some_and(|number| aside(path, number).exists()) {
        take_place(&place, path)?;
    }
    Ok(())
}

/// Puts a whole directory at its place, where nothing is, or an empty directory.
fn take_place(staged: &Path, path: &Path) -> Result<(), Failure> {
    let renamed = fs::rename(staged, path).and_then(|()| sync_directory(parent(path)));
    renamed.map_err(|error| Failure::file("replaced", path, error))
}

impl Staged {
    /// Hash over the new cluster's first state: the same for every member.
    pub fn state_hash(&self) -> StateHash {
        self.state_hash
    }

    /// Moves the directory to its place, with this record in it; what was there goes aside, and the record tells where to.
    pub fn publish(self, mut record: Record) -> Result<Record, Failure> {
        let (path, staged) = (&self.target.path, &self.staging.0);
        if self.target.occupied {
            record.moved_aside = Some(free_number(path)?);
        }
        record.write(staged).map_err(|error| Failure::file("written", staged, error))?;
        if let Some(number) = record.moved_aside {
            let moved = fs::rename(path, aside(path, number));
            moved.map_err(|error| Failure::file("moved aside", path, error))?;
        }
        match (take_place(staged, path), record.moved_aside) {
            (Err(failure), Some(number)) => Err(brought_back(&aside(path, number), path, failure)),
            (Err(failure), None) => Err(failure),
            (Ok(()), _) => Ok(record),
        }
    }
}

/// Nothing came to the place: what was there is to be there again, or it is said where it is.
fn brought_back(aside: &Path, path: &Path, failure: Failure) -> Failure {
    match fs::rename(aside, path) {
        Ok(()) => failure,
        Err(_) => {
            let what = format!("{failure}; what was there before is at {}", aside.display());
            Failure::new(failure.exit(), what)
        }
    }
}

fn free_number(path: &Path) -> Result<u32, Failure> {
    let free = (1..u32::MAX).find(|number| !aside(path, *number).exists());
    free.ok_or_else(|| Failure::new(Exit::Storage, "too many directories were moved aside"))
}

/// Whether a node lives here, or begins to: while it waits to be taken in, it has no identity yet.
fn is_a_nodes(path: &Path) -> bool {
    let has = |name| path.join(name).exists();
    has("identity") || (has("lock") && has("wal"))
}

/// Removes what an interrupted restore left. One that is still at work holds the directory's lock; and what is no directory is somebody else's.
fn remove_leftovers(place: &Path) -> Result<(), Failure> {
    if fs::symlink_metadata(place).is_ok_and(|it| it.is_dir())
        && let Err(error @ DirectoryError::Locked { .. }) = Directory::open(place)
    {
        return Err(unusable(&error));
    }
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            let what = format!(
                "{} is in the way: it is no directory, so no restore has made it; move it away",
                place.display()
            );
            Err(Failure::new(Exit::Refused, what))
        }
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::new(Exit::Storage, format!("{}: {error}", place.display())))
        }
        _ => Ok(()),
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After publishing it is not there any more; otherwise nobody needs it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::repeat::tests::example;
    use super::*;
    use raftkv_core::api::MemberRole;
    use raftkv_core::ids::{ClusterId, Epoch, NodeId};

    fn stage(target: Target) -> Staged {
        try_stage(target).unwrap()
    }

    fn try_stage(target: Target) -> Result<Staged, Failure> {
        let node = NodeId::new(1, 0);
        let identity = Identity { cluster: ClusterId([1; 16]), epoch: Epoch(1), node };
        let member = MemberInfo { node, address: "a:1".into(), role: MemberRole::Voter };
        target.stage(identity, vec![member], GenesisBase::empty())
    }

    impl Staged {
        /// As if the process were killed.
        fn keep(self) -> PathBuf {
            let place = self.staging.0.clone();
            let kept = place.with_extension("kept");
            fs::rename(&place, &kept).unwrap();
            drop(self);
            fs::rename(kept, &place).unwrap();
            place
        }
    }

    /// Where what was there before is now.
    fn publish(staged: Staged) -> Option<PathBuf> {
        let path = staged.target.path.clone();
        let mut record = example();
        record.moved_aside = None;
        let record = staged.publish(record).unwrap();
        assert_eq!(Record::read(&path).as_ref(), Some(&record));
        record.moved_aside.map(|number| aside(&path, number))
    }

    #[test]
    fn a_restored_directory_boots_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let staged = stage(Target::check(&path, false).unwrap());
        assert!(!path.exists());
        assert_eq!(publish(staged), None);
        let image = raftkv_node::disk::boot(&Directory::open(&path).unwrap()).unwrap();
        assert_eq!(image.identity.epoch, Epoch(1));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_an_interrupted_restore_left_makes_way() {
        type Leave = fn(&Path);
        let leftovers: [(&str, Leave); 4] = [
            ("nothing but the directory", |left| fs::create_dir(left).unwrap()),
            ("half of a file, and no identity", |left| {
                fs::create_dir_all(left.join("snapshots")).unwrap();
                fs::write(left.join("lock"), "4711").unwrap();
                fs::write(left.join("identity.tmp"), "").unwrap();
                fs::write(left.join("snapshots/half"), [7; 100]).unwrap();
            }),
            ("files that no data directory has", |left| {
                fs::create_dir_all(left.join("deep/er")).unwrap();
                fs::write(left.join("deep/er/file"), "x").unwrap();
            }),
            ("all of it, but for the last rename", |left| {
                let path = left.with_extension("");
                assert_eq!(stage(Target::check(&path, false).unwrap()).keep(), left);
                assert!(left.join("identity").exists());
            }),
        ];
        for (what, leave) in leftovers {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("db");
            leave(&dir.path().join("db.restoring"));
            publish(stage(Target::check(&path, false).unwrap()));
            let image = raftkv_node::disk::boot(&Directory::open(&path).unwrap()).unwrap();
            assert_eq!(image.identity.epoch, Epoch(1), "{what}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{what}");
        }
    }

    #[test]
    fn what_was_killed_before_anything_was_moved_aside_is_not_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        example().write(&stage(Target::check(&path, true).unwrap()).keep()).unwrap();
        end_publishing(&path).unwrap();
        assert!(!path.exists());
        fs::create_dir(aside(&path, 2)).unwrap();
        end_publishing(&path).unwrap();
        assert!(path.join("identity").exists());
    }

    #[test]
    fn a_restore_to_the_same_place_that_is_at_work_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let at_work = stage(Target::check(&path, false).unwrap());
        let refused = try_stage(Target::check(&path, false).unwrap()).unwrap_err();
        assert_eq!(refused.exit(), Exit::Refused, "{refused}");
        publish(at_work);
        assert!(path.join("identity").exists());
    }

    #[test]
    fn what_no_restore_has_left_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let (file, elsewhere) = (dir.path().join("db.restoring"), dir.path().join("elsewhere"));
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("precious"), "data").unwrap();
        fs::write(&file, "data").unwrap();
        let refused = try_stage(Target::check(&path, false).unwrap()).unwrap_err();
        assert_eq!(refused.exit(), Exit::Refused, "{refused}");
        assert_eq!(fs::read(&file).unwrap(), b"data");
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        publish(stage(Target::check(&path, false).unwrap()));
        assert_eq!(fs::read(elsewhere.join("precious")).unwrap(), b"data");
        assert!(!path.is_symlink() && !file.exists(), "only the link made way");
    }

    #[test]
    fn what_was_there_is_refused_or_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        fs::create_dir(&path).unwrap();
        assert!(Target::check(&path, false).is_ok(), "empty");
        fs::write(path.join("precious"), "data").unwrap();
        assert_eq!(Target::check(&path, false).unwrap_err().exit(), Exit::Refused);
        let aside = publish(stage(Target::check(&path, true).unwrap())).unwrap();
        assert_eq!(fs::read(aside.join("precious")).unwrap(), b"data");
        assert!(path.join("identity").exists());
    }

    #[test]
    fn a_volume_or_a_link_is_refused_at_once() {
        assert_eq!(Target::check(Path::new("/proc"), true).unwrap_err().exit(), Exit::Usage);
        let dir = tempfile::tempdir().unwrap();
        let (link, behind) = (dir.path().join("link"), dir.path().join("behind"));
        std::os::unix::fs::symlink(&behind, &link).unwrap();
        assert_eq!(Target::check(&link, true).unwrap_err().exit(), Exit::Usage, "to nothing");
        fs::create_dir(&behind).unwrap();
        assert_eq!(Target::check(&link, true).unwrap_err().exit(), Exit::Usage, "to nothing in it");
    }

    #[test]
    fn a_directory_in_use_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let joining = Directory::open(&path).unwrap();
        assert_eq!(Target::check(&path, true).unwrap_err().exit(), Exit::Refused, "no identity");
        drop(joining);
        publish(stage(Target::check(&path, true).unwrap()));
        let _running = Directory::open(&path).unwrap();
        assert_eq!(Target::check(&path, true).unwrap_err().exit(), Exit::Refused);
    }

    #[test]
    fn no_node_starts_in_a_directory_that_is_about_to_be_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        publish(stage(Target::check(&path, false).unwrap()));
        let staged = stage(Target::check(&path, true).unwrap());
        let started = Directory::open(&path);
        assert!(matches!(started, Err(DirectoryError::Locked { .. })), "{started:?}");
        let aside = publish(staged).unwrap();
        assert!(Directory::open(&aside).is_ok() && Directory::open(&path).is_ok());
    }
}

//! Which keys open a backup: those that it was sealed for, and those of the `keys.bin` beside it, which another one may replace at any
//! time. What is written as `keys.bin` can be read.

use super::Violation;
use crate::model::store::Fact;
use crate::time::SimTime;
use raftkv_core::backup::blob::Role;
use raftkv_core::backup::format::{Plaintext, Suite};
use raftkv_core::backup::read::Access;
use raftkv_core::backup::slots::LaterSlots;
use raftkv_core::backup::{BackupId, KeyId, Metadata};
use std::collections::BTreeMap;

/// Every `keys.bin` that was written in one store.
#[derive(Debug, Default)]
pub struct Openers {
    /// When, and for which keys; for none when it was removed.
    written: BTreeMap<BackupId, Vec<(SimTime, Vec<KeyId>)>>,
}

/// Whether the keys at hand open a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// They do not.
    Never,
    /// The backup's keys were changed meanwhile: they did, or they do.
    Sometimes,
    /// They do.
    Always,
}

impl Openers {
    /// Something happened in the store.
    pub fn fact(&mut self, now: SimTime, fact: &Fact) -> Result<(), Violation> {
        let (backup, keys) = match fact {
            Fact::Written(object, bytes) if object.role == Role::Keys => {
                let later = LaterSlots::decode(bytes).map_err(|error| {
                    Violation::new("rotation", format!("{object} is written, and: {error}"))
                })?;
                (object.backup, later.slots.iter().map(|slot| slot.key).collect())
            }
            Fact::Removed(object) if object.role == Role::Keys => (object.backup, Vec::new()),
            _ => return Ok(()),
        };
        self.written.entry(backup).or_default().push((now, keys));
        Ok(())
    }

    /// Whether what is at hand opens a backup, for somebody who began to read it then.
    pub fn opens(&self, access: &Access, metadata: &Metadata, since: SimTime) -> Opens {
        let has = |keys: &[KeyId]| keys.iter().any(|key| access.keys.get(*key).is_some());
        match metadata.suite {
            Suite::Plain if access.plaintext == Plaintext::Allowed => Opens::Always,
            Suite::Plain => Opens::Never,
            // The slots in front of the data stay.
            Suite::Aes256Gcm if has(&metadata.key_ids) => Opens::Always,
            Suite::Aes256Gcm => {
                let (mut all, mut any) = (true, false);
                for keys in self.since(metadata, since) {
                    (all, any) = (all & has(keys), any | has(keys));
                }
                match (all, any) {
                    (true, _) => Opens::Always,
                    (false, true) => Opens::Sometimes,
                    (false, false) => Opens::Never,
                }
            }
        }
    }

    /// The keys that counted for a backup then, and all that have since, the last of them now.
    pub fn since<'a>(
        &'a self,
        metadata: &'a Metadata,
        since: SimTime,
    ) -> impl Iterator<Item = &'a [KeyId]> + Clone {
        let written = self.written.get(&metadata.id).map_or(&[][..], Vec::as_slice);
        let after = written.iter().position(|(at, _)| *at >= since).unwrap_or(written.len());
        let first = after.checked_sub(1).map_or(&[][..], |last| &written[last].1);
        let later = written[after..].iter().map(|(_, keys)| &keys[..]);
        std::iter::once(first).chain(later).map(|keys| match keys {
            [] => &metadata.key_ids[..],
            keys => keys,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::backup_testing::{BackupMaker, key, settings};
    use bytes::Bytes;
    use raftkv_core::backup::KeyRing;
    use raftkv_core::backup::blob::ObjectName;
    use raftkv_core::backup::format::Preamble;
    use raftkv_core::rng::Seed;

    #[test]
    fn keys_count_from_when_they_were_written() {
        let mut maker = BackupMaker::new(1);
        let metadata = maker.make(settings(&[key(1)]), "a");
        let front = maker.bucket().get(ObjectName::data(metadata.id)).unwrap();
        let mut rng = Seed::from_number(1).fork("slots");
        let ring = KeyRing::new([key(1)]);
        let preamble = Preamble::decode(front).unwrap();
        let rotated = preamble.rotate(&ring, key(1).id(), &key(2), &mut rng).unwrap();
        let object = ObjectName::keys(metadata.id);
        let mut openers = Openers::default();
        let with =
            |number| Access { keys: KeyRing::new([key(number)]), plaintext: Plaintext::Refused };
        assert_eq!(openers.opens(&with(2), &metadata, SimTime(0)), Opens::Never);
        let written = Fact::Written(object, rotated.into());
        assert_eq!(openers.fact(SimTime(10), &written), Ok(()));
        assert_eq!(openers.opens(&with(2), &metadata, SimTime(10)), Opens::Sometimes);
        assert_eq!(openers.opens(&with(2), &metadata, SimTime(11)), Opens::Always);
        assert_eq!(openers.opens(&with(1), &metadata, SimTime(11)), Opens::Always);
        assert_eq!(openers.opens(&with(3), &metadata, SimTime(11)), Opens::Never);
        assert_eq!(openers.fact(SimTime(20), &Fact::Removed(object)), Ok(()));
        assert_eq!(openers.opens(&with(2), &metadata, SimTime(15)), Opens::Sometimes);
        assert_eq!(openers.opens(&with(2), &metadata, SimTime::NEVER), Opens::Never);
        let unreadable = Fact::Written(object, Bytes::from_static(b"no keys"));
        assert!(openers.fact(SimTime(30), &unreadable).is_err());
    }
}

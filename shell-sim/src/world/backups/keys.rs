//! The operator's keys: those new backups are sealed for, and those kept to open old ones.

use crate::random::{Draw, Ppm};
use bytes::Bytes;
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::read::Access;
use raftkv_core::backup::{Key, KeyId, KeyRing};
use raftkv_core::rng::Rng;

/// The keys.
#[derive(Debug)]
pub(super) struct Keys {
    recipients: Vec<Key>,
    retired: Vec<Key>,
    /// Opens nothing.
    stranger: Key,
    /// The bytes of all keys there ever were.
    secrets: Vec<Bytes>,
}

impl Keys {
    /// So many to seal for.
    pub(super) fn new(count: u32, rng: &mut Rng) -> Self {
        let mut secrets = Vec::new();
        Keys {
            recipients: (0..count).map(|_| draw(rng, &mut secrets)).collect(),
            retired: Vec::new(),
            stranger: draw(rng, &mut secrets),
            secrets,
        }
    }

    /// The bytes of every key there ever was.
    pub(super) fn secrets(&self) -> &[Bytes] {
        &self.secrets
    }

    /// Whom new backups are sealed for.
    pub(super) fn recipients(&self) -> &[Key] {
        &self.recipients
    }

    /// Whether backups are encrypted.
    pub(super) fn encrypt(&self) -> bool {
        !self.recipients.is_empty()
    }

    /// Replaces the oldest key. It is kept to open what was sealed for it.
    pub(super) fn rotate(&mut self, rng: &mut Rng) {
        if self.encrypt() {
            self.retired.push(self.recipients.remove(0));
            self.recipients.push(draw(rng, &mut self.secrets));
        }
    }

    /// Every key is gone, and another is at hand that opens nothing.
    pub(super) fn lose(&mut self) {
        self.retired.clear();
        self.recipients = vec![self.stranger.clone()];
    }

    /// Everything at hand.
    pub(super) fn access(&self) -> Access {
        let keys = self.recipients.iter().chain(&self.retired).cloned();
        let plaintext = if self.encrypt() { Plaintext::Refused } else { Plaintext::Allowed };
        Access { keys: KeyRing::new(keys), plaintext }
    }

    /// The wrong key only.
    pub(super) fn wrong_access(&self) -> Access {
        Access { keys: KeyRing::new([self.stranger.clone()]), plaintext: Plaintext::Refused }
    }

    /// A key that was replaced, mostly the one that was last, and one that new backups are sealed for, if there are such.
    pub(super) fn swap(&self, rng: &mut Rng) -> Option<(KeyId, Key)> {
        let last = self.retired.last().filter(|_| self.encrypt())?;
        let old = if rng.happens(Ppm::percent(70)) { last } else { rng.pick(&self.retired) };
        Some((old.id(), rng.pick(&self.recipients).clone()))
    }

    /// The newest key only, as when the old ones were thrown away.
    pub(super) fn newest_access(&self) -> Access {
        let keys = KeyRing::new(self.recipients.last().cloned());
        Access { keys, ..self.access() }
    }
}

/// A key, whose bytes are kept to look for them.
fn draw(rng: &mut Rng, secrets: &mut Vec<Bytes>) -> Key {
    let bytes = rng.bytes();
    secrets.push(Bytes::copy_from_slice(&bytes));
    Key::from_bytes(bytes)
}

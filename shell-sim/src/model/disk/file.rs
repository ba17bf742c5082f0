//! One file: what is on stable storage, what the running system sees, and the writes in between.

use super::CrashPolicy;
use crate::random::{Draw, Ppm};
use bytes::Bytes;
use raftkv_core::rng::Rng;

/// What a drive writes as a whole: after a crash each sector holds its old bytes or its new ones.
pub const SECTOR_BYTES: usize = 512;

/// A file.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    stable: Vec<u8>,
    seen: Vec<u8>,
    unsynced: Vec<(u64, Bytes)>,
    /// Its directory entry is not on stable storage.
    unnamed: bool,
}

impl File {
    /// A file that is wholly on stable storage.
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        File { seen: bytes.clone(), stable: bytes, ..File::default() }
    }

    /// A file whose directory entry nobody has synced.
    pub(super) fn unnamed(bytes: Vec<u8>) -> Self {
        File { unnamed: true, ..File::durable(bytes) }
    }

    /// Its name was changed, and nobody synced the directory.
    pub(super) fn forget_name(&mut self) {
        self.unnamed = true;
    }

    /// Whether a power cut leaves the file its name.
    pub(super) fn is_named(&self) -> bool {
        !self.unnamed
    }

    /// What a reader sees.
    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// Whether anything would be lost by a power cut.
    pub(super) fn is_synced(&self) -> bool {
        self.unsynced.is_empty() && !self.unnamed
    }

    /// Writes into the page cache.
    pub(super) fn write(&mut self, offset: u64, bytes: &Bytes) {
        overlay(&mut self.seen, offset, bytes);
        self.unsynced.push((offset, bytes.clone()));
    }

    /// Brings everything to stable storage, the directory entry too.
    pub(super) fn sync(&mut self) {
        self.unnamed = false;
        for (offset, bytes) in self.unsynced.drain(..) {
            overlay(&mut self.stable, offset, &bytes);
        }
    }

    /// A power cut: of what was not synced, only what `policy` grants survives.
    pub(super) fn crash(&mut self, policy: CrashPolicy, rng: &mut Rng) {
        let unsynced = std::mem::take(&mut self.unsynced);
        let kept_writes = rng.below(unsynced.len() as u64 + 1) as usize;
        let mut budget = match policy {
            CrashPolicy::Bytes(count) => count,
            _ => usize::MAX,
        };
        for (at, (offset, bytes)) in unsynced.into_iter().enumerate() {
            match policy {
                CrashPolicy::DropAll => {}
                CrashPolicy::KeepAll => overlay(&mut self.stable, offset, &bytes),
                CrashPolicy::Prefix if at < kept_writes => {
                    overlay(&mut self.stable, offset, &bytes);
                }
                CrashPolicy::Prefix if at == kept_writes => {
                    let kept = rng.below(bytes.len() as u64 + 1) as usize;
                    overlay(&mut self.stable, offset, &bytes[..kept]);
                }
                CrashPolicy::Prefix => {}
                CrashPolicy::Subset => {
                    if rng.happens(Ppm::percent(50)) {
                        overlay(&mut self.stable, offset, &bytes);
                    }
                }
                CrashPolicy::Sectors => self.keep_some_sectors(offset, &bytes, rng),
                CrashPolicy::Bytes(_) => {
                    let kept = bytes.len().min(budget);
                    budget -= kept;
                    overlay(&mut self.stable, offset, &bytes[..kept]);
                }
            }
        }
        self.seen = self.stable.clone();
    }

    /// Flips one bit, on stable storage and for readers alike. Says where; `None` for an empty file.
    pub(super) fn flip_bit(&mut self, from: usize, to: usize, rng: &mut Rng) -> Option<usize> {
        let to = to.min(self.stable.len());
        if from >= to {
            return None;
        }
        let at = rng.between(from as u64, to as u64 - 1) as usize;
        let mask = 1 << rng.below(8);
        self.stable[at] ^= mask;
        self.seen[at] ^= mask;
        Some(at)
    }

    /// Puts bytes over what is there, on stable storage and for readers alike; `None` where the file ends before.
    pub(super) fn overwrite(&mut self, offset: usize, bytes: &[u8]) -> Option<()> {
        let end = offset + bytes.len();
        self.stable.get_mut(offset..end)?.copy_from_slice(bytes);
        self.seen.get_mut(offset..end)?.copy_from_slice(bytes);
        Some(())
    }

    /// Cuts the file off, on stable storage and for readers alike.
    pub(super) fn truncate(&mut self, length: usize) {
        self.stable.truncate(length);
        self.seen.truncate(length);
    }

    fn keep_some_sectors(&mut self, offset: u64, bytes: &Bytes, rng: &mut Rng) {
        let mut at = 0;
        while at < bytes.len() {
            let into_sector = (offset as usize + at) % SECTOR_BYTES;
            let end = (at + SECTOR_BYTES - into_sector).min(bytes.len());
            if rng.happens(Ppm::percent(50)) {
                overlay(&mut self.stable, offset + at as u64, &bytes[at..end]);
            }
            at = end;
        }
    }
}

fn overlay(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = offset as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::rng::Seed;

    #[test]
    fn what_was_synced_survives_every_policy() {
        let mut rng = Seed::from_number(1).fork("file");
        let policies = CrashPolicy::DRAWN.into_iter().chain([CrashPolicy::Bytes(700)]);
        for policy in policies.cycle().take(300) {
            let mut file = File::durable(vec![0; 4096]);
            file.write(0, &Bytes::from(vec![1; 1000]));
            file.sync();
            file.write(1000, &Bytes::from(vec![2; 1000]));
            file.write(2000, &Bytes::from(vec![3; 1000]));
            assert_eq!(file.seen()[2999], 3);
            file.crash(policy, &mut rng);
            let seen = file.seen();
            assert!(seen[..1000].iter().all(|&byte| byte == 1), "{policy:?}");
            assert!(seen[1000..2000].iter().all(|&byte| byte == 0 || byte == 2), "{policy:?}");
            assert!(seen[3000..].iter().all(|&byte| byte == 0), "{policy:?}");
            let lost = seen[1000..3000].iter().filter(|&&byte| byte == 0).count();
            match policy {
                CrashPolicy::DropAll => assert_eq!(lost, 2000),
                CrashPolicy::KeepAll => assert_eq!(lost, 0),
                CrashPolicy::Bytes(count) => assert_eq!(lost, 2000 - count),
                _ => {}
            }
        }
    }
}

//! No pair of key and nonce is used twice in a whole run, over all backups, attempts and restarts of the processes that make them.
//!
//! A chunk key is named by the hash of the header it is bound to; the nonce follows from the chunk's number. What broke this in others:
//! Tarsnap 1.0.22 to 1.0.27 stopped counting up.

use super::Violation;
use raftkv_core::backup::machine::Work;
use std::collections::BTreeSet;

/// Every pair that was used.
#[derive(Debug, Default)]
pub struct Nonces {
    used: BTreeSet<([u8; 32], u32)>,
}

impl Nonces {
    /// This work is about to be done.
    pub fn working(&mut self, work: &Work) -> Result<(), Violation> {
        match work {
            Work::Seal { key, number, .. } => self.sealing(key.header_hash(), number.get()),
            Work::Open { .. } | Work::Sum(_) => Ok(()),
        }
    }

    /// How many pairs were used.
    pub fn count(&self) -> usize {
        self.used.len()
    }

    fn sealing(&mut self, key: [u8; 32], number: u32) -> Result<(), Violation> {
        if self.used.insert((key, number)) {
            return Ok(());
        }
        let detail = format!("chunk number {number} is sealed twice under one key");
        Err(Violation::new("unique nonces", detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_used_twice_is_noticed() {
        let mut nonces = Nonces::default();
        assert_eq!(nonces.sealing([1; 32], 0), Ok(()));
        assert_eq!(nonces.sealing([1; 32], 1), Ok(()));
        assert_eq!(nonces.sealing([2; 32], 0), Ok(()));
        assert!(nonces.sealing([1; 32], 1).is_err());
        assert_eq!(nonces.count(), 3);
    }
}

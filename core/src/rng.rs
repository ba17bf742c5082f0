//! Seeded randomness, forked by purpose so that one more draw in one machine never shifts another's.
//!
//! In production the seed is 32 bytes from the operating system, and the generator is a cryptographic one
//! (ChaCha20), so keys and salts may be drawn from it. A simulation passes a number.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroize;

/// Where every random choice of one node starts. Holds a secret in production; `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Seed([u8; 32]);

impl Seed {
    /// A seed of 32 bytes, from the operating system in production.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Seed(bytes)
    }

    /// A seed from a number, for simulations and tests.
    pub fn from_number(number: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Seed(bytes)
    }

    /// An independent generator for one purpose, named by a fixed string.
    pub fn fork(&self, purpose: &str) -> Rng {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(purpose.as_bytes());
        Rng(ChaCha20Rng::from_seed(hash.finalize().into()))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// A deterministic ChaCha20 generator.
pub struct Rng(ChaCha20Rng);

impl Rng {
    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..bound`. `bound` must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range has no numbers");
        // Rejection keeps the draw uniform; the loop ends after two rounds on average at worst.
        let limit = u64::MAX - u64::MAX % bound;
        loop {
            let draw = self.next_u64();
            if draw < limit {
                return draw % bound;
            }
        }
    }

    /// Fills `bytes` with random bits.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// An array of random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rng(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_are_independent_and_repeatable() {
        let seed = Seed::from_number(7);
        assert_eq!(seed.fork("election").next_u64(), seed.fork("election").next_u64());
        assert_ne!(seed.fork("election").next_u64(), seed.fork("salt").next_u64());
    }

    #[test]
    fn below_stays_in_range() {
        let mut rng = Seed::from_number(1).fork("test");
        assert!((0..1000).all(|_| rng.below(7) < 7));
    }
}

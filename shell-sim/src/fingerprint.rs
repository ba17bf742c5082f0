//! A fast 64-bit fingerprint of bytes, the same on every machine. It tells runs apart; it does not stand against anyone.

/// A running fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Fingerprint(0x9e37_79b9_7f4a_7c15)
    }
}

impl Fingerprint {
    /// The fingerprint of some bytes.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut fingerprint = Fingerprint::default();
        fingerprint.add(bytes);
        fingerprint.value()
    }

    /// Adds bytes; where one addition ends and the next begins matters.
    pub fn add(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(bytes.len() as u64);
    }

    /// The value so far.
    pub fn value(self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }

    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_bytes_have_different_fingerprints() {
        let inputs: [&[u8]; 6] = [b"", b"\0", b"a", b"a\0", b"aaaaaaaab", b"baaaaaaaa"];
        let mut values: Vec<u64> = inputs.iter().map(|bytes| Fingerprint::of(bytes)).collect();
        values.sort();
        values.dedup();
        assert_eq!(values.len(), inputs.len());
    }
}

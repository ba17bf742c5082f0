//! What must not leave does not: with encryption on, random marks that were written as keys and values never appear in what is sent to the
//! object store, and nowhere but where a cluster's data has to go; the keys that open backups appear nowhere at all.

use super::Violation;
use bytes::Bytes;

/// What must not be seen.
#[derive(Debug, Default)]
pub struct Canaries {
    marks: Vec<Bytes>,
    keys: Vec<Bytes>,
}

impl Canaries {
    /// This mark is data. It must be long and random, so that it is not there by chance.
    pub fn plant(&mut self, mark: Bytes) {
        assert!(mark.len() >= 16, "a short mark appears by chance");
        self.marks.push(mark);
    }

    /// These are the keys that open backups.
    pub fn guard(&mut self, keys: impl IntoIterator<Item = Bytes>) {
        self.keys.extend(keys);
    }

    /// These bytes have come to `place`, where neither data nor keys may be.
    pub fn seen(&self, place: &str, bytes: &[u8]) -> Result<(), Violation> {
        look(&self.marks, place, bytes)?;
        self.carried(place, bytes)
    }

    /// These bytes have come to `place`, where data may be.
    pub fn carried(&self, place: &str, bytes: &[u8]) -> Result<(), Violation> {
        look(&self.keys, place, bytes)
    }
}

fn look(marks: &[Bytes], place: &str, bytes: &[u8]) -> Result<(), Violation> {
    match marks.iter().find(|mark| holds(bytes, mark)) {
        None => Ok(()),
        Some(mark) => {
            let detail = format!("{mark:?} is in {place}");
            Err(Violation::new("confidentiality", detail))
        }
    }
}

/// Whether `bytes` hold `mark`.
pub fn holds(bytes: &[u8], mark: &[u8]) -> bool {
    let first = mark[0];
    let last = (bytes.len() + 1).saturating_sub(mark.len());
    let mut at = 0;
    while let Some(found) = bytes[at..last.max(at)].iter().position(|byte| *byte == first) {
        at += found;
        if bytes[at..].starts_with(mark) {
            return true;
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_wherever_it_is() {
        let mut canaries = Canaries::default();
        canaries.plant(Bytes::from_static(b"0123456789abcdef"));
        assert_eq!(canaries.seen("a store", b""), Ok(()));
        assert_eq!(canaries.seen("a store", b"0123456789abcde"), Ok(()));
        for text in ["0123456789abcdef", "000123456789abcdef", "x0123456789abcdefx"] {
            assert!(canaries.seen("a store", text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn data_may_travel_and_keys_may_not() {
        let mut canaries = Canaries::default();
        canaries.plant(Bytes::from_static(b"0123456789abcdef"));
        canaries.guard([Bytes::from_static(b"fedcba9876543210")]);
        assert_eq!(canaries.carried("a frame", b"..0123456789abcdef.."), Ok(()));
        assert!(canaries.carried("a frame", b"..fedcba9876543210..").is_err());
        assert!(canaries.seen("a line", b"..fedcba9876543210..").is_err());
    }
}

//! With encryption on no plain byte leaves: random marks that were written as keys and values never appear in what is sent to the store.

use super::Violation;
use bytes::Bytes;

/// The marks.
#[derive(Debug, Default)]
pub struct Canaries {
    planted: Vec<Bytes>,
}

impl Canaries {
    /// This mark must not be seen. It must be long and random, so that it is not there by chance.
    pub fn plant(&mut self, mark: Bytes) {
        assert!(mark.len() >= 16, "a short mark appears by chance");
        self.planted.push(mark);
    }

    /// These bytes have left.
    pub fn seen(&self, bytes: &[u8]) -> Result<(), Violation> {
        match self.planted.iter().find(|mark| holds(bytes, mark)) {
            None => Ok(()),
            Some(mark) => {
                let detail = format!("{mark:?} is in bytes sent to the object store");
                Err(Violation::new("confidentiality", detail))
            }
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
        let mark = Bytes::from_static(b"0123456789abcdef");
        canaries.plant(mark.clone());
        assert_eq!(canaries.seen(b""), Ok(()));
        assert_eq!(canaries.seen(b"0123456789abcde"), Ok(()));
        for text in ["0123456789abcdef", "000123456789abcdef", "x0123456789abcdefx"] {
            assert!(canaries.seen(text.as_bytes()).is_err(), "{text}");
        }
    }
}

//! Gathering lines into transactions, and keeping two writes of one key in their order.

use bytes::Bytes;
use raftkv_core::api::{PutRequest, TxnOp, TxnRequest};
use std::collections::HashSet;

/// Keys per transaction.
const BATCH_KEYS_MAX: usize = 256;
/// Bytes of keys and values per transaction, unless one line alone has more.
const BATCH_BYTES_MAX: usize = 512 << 10;

/// Lines that are written as one.
#[derive(Debug)]
pub struct Batch {
    first_line: u64,
    last_line: u64,
    puts: Vec<(Bytes, Bytes)>,
    bytes: usize,
}

/// Fills batches and knows which keys are under way.
#[derive(Debug, Default)]
pub struct Batcher {
    filling: Option<Batch>,
    /// Keys of the batch that is being filled.
    keys: HashSet<Bytes>,
    under_way: HashSet<Bytes>,
}

impl Batch {
    /// The first and the last line it holds.
    pub fn lines(&self) -> (u64, u64) {
        (self.first_line, self.last_line)
    }

    /// How many keys it holds.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.puts.len()
    }

    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The transaction that writes it.
    pub fn to_txn(&self) -> TxnRequest {
        let puts = self.puts.iter().map(|(key, value)| {
            let (key, value) = (key.clone(), value.clone());
            TxnOp::Put(PutRequest { key, value, lease: 0, return_previous: false })
        });
        TxnRequest { success: puts.collect(), ..TxnRequest::default() }
    }
}

impl Batcher {
    /// Adds a line; the batch that became full by it, without it if it did not fit.
    pub fn add(&mut self, number: u64, key: Vec<u8>, value: Vec<u8>) -> Option<Batch> {
        let (key, value) = (Bytes::from(key), Bytes::from(value));
        let bytes = key.len() + value.len();
        let full = match &self.filling {
            Some(batch) => {
                batch.puts.len() >= BATCH_KEYS_MAX
                    || batch.bytes + bytes > BATCH_BYTES_MAX
                    // A transaction writes no key twice.
                    || self.keys.contains(&key)
            }
            None => false,
        };
        let done = if full { self.take() } else { None };
        let batch = self.filling.get_or_insert_with(|| Batch {
            first_line: number,
            last_line: number,
            puts: Vec::new(),
            bytes: 0,
        });
        batch.last_line = number;
        batch.bytes += bytes;
        batch.puts.push((key.clone(), value));
        self.keys.insert(key);
        done
    }

    /// What was gathered so far.
    pub fn take(&mut self) -> Option<Batch> {
        self.keys.clear();
        self.filling.take()
    }

    /// Whether a batch under way writes a key that this one writes too.
    pub fn must_wait(&self, batch: &Batch) -> bool {
        batch.puts.iter().any(|(key, _)| self.under_way.contains(key))
    }

    /// The batch is on its way.
    pub fn start(&mut self, batch: &Batch) {
        self.under_way.extend(batch.puts.iter().map(|(key, _)| key.clone()));
    }

    /// The batch is not on its way any more.
    pub fn finish(&mut self, batch: &Batch) {
        for (key, _) in &batch.puts {
            self.under_way.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_once_per_batch_and_never_overtakes_itself() {
        let mut batcher = Batcher::default();
        assert!(batcher.add(1, b"a".to_vec(), b"1".to_vec()).is_none());
        assert!(batcher.add(2, b"b".to_vec(), b"1".to_vec()).is_none());
        let first = batcher.add(3, b"a".to_vec(), b"2".to_vec()).unwrap();
        assert_eq!((first.lines(), first.len()), ((1, 2), 2));
        batcher.start(&first);
        let second = batcher.take().unwrap();
        assert_eq!(second.lines(), (3, 3));
        assert!(batcher.must_wait(&second));
        batcher.finish(&first);
        assert!(!batcher.must_wait(&second));
        assert!(batcher.take().is_none());
    }

    #[test]
    fn batches_are_bounded() {
        let mut batcher = Batcher::default();
        let mut sizes = Vec::new();
        for number in 0..600_u64 {
            let full = batcher.add(number, number.to_be_bytes().to_vec(), Vec::new());
            sizes.extend(full.map(|batch| batch.len()));
        }
        assert_eq!(sizes, [BATCH_KEYS_MAX, BATCH_KEYS_MAX]);
        let large = vec![0; BATCH_BYTES_MAX];
        assert!(batcher.add(600, b"large".to_vec(), large.clone()).is_some());
        assert_eq!(batcher.add(601, b"next".to_vec(), large).unwrap().len(), 1);
    }
}

//! The log: encoding appends, and reading segments back.

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use raftkv_core::ids::{ClusterId, Epoch, Identity, NodeId};
use raftkv_core::io::{DiskOp, FileName};
use raftkv_core::log::{Entry, EntryKind, HardState};
use raftkv_core::wal::{WalRecord, WalWriter, recover};
use std::hint::black_box;

const IDENTITY: Identity =
    Identity { cluster: ClusterId([1; 16]), epoch: Epoch(0), node: NodeId::new(1, 0) };
const ENTRY_BYTES: usize = 150;
const ENTRIES: u64 = 65_536;

fn main() {
    divan::main();
}

fn record(first: u64, count: u64) -> WalRecord {
    let entry = |index| Entry {
        index,
        term: 3,
        kind: EntryKind::Normal,
        data: vec![index as u8; ENTRY_BYTES].into(),
    };
    let hard_state = Some(HardState { term: 3, vote: NodeId::new(1, 0), commit: first - 1 });
    WalRecord { hard_state, snapshot: None, entries: (first..first + count).map(entry).collect() }
}

/// Appends of so many entries each.
#[divan::bench(args = [1, 16, 256])]
fn append(bencher: Bencher<'_, '_>, batch: u64) {
    let records: Vec<WalRecord> =
        (0..ENTRIES / batch).map(|number| record(1 + number * batch, batch)).collect();
    bencher
        .counter(BytesCount::new(ENTRIES as usize * ENTRY_BYTES))
        .counter(ItemsCount::new(ENTRIES))
        .with_inputs(|| WalWriter::new(IDENTITY))
        .bench_values(|mut wal| {
            for record in &records {
                black_box(wal.append(record));
            }
            wal
        });
}

/// Reading back what appends of so many entries each have written.
#[divan::bench(args = [1, 16, 256])]
fn read_back(bencher: Bencher<'_, '_>, batch: u64) {
    let mut wal = WalWriter::new(IDENTITY);
    let mut file = Vec::new();
    for number in 0..ENTRIES / batch {
        for op in wal.append(&record(1 + number * batch, batch)) {
            assert_eq!(op.file(), FileName::Wal(1), "one segment is enough");
            match op {
                DiskOp::Create { reserve_bytes, bytes, .. } => {
                    file = bytes.to_vec();
                    file.resize(reserve_bytes as usize, 0);
                }
                DiskOp::Write { offset, bytes, .. } => {
                    file[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let file = bytes::Bytes::from(file);
    bencher
        .counter(BytesCount::new(ENTRIES as usize * ENTRY_BYTES))
        .counter(ItemsCount::new(ENTRIES))
        .bench(|| recover(IDENTITY, [(1, file.clone())]).expect("what was written reads back"));
}

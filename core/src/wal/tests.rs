//! Recovery against every way a log may be hurt. The disk here is a map of files; what was called durable is known exactly.

use super::record::RECORD_HEAD_BYTES;
use super::segment::SEGMENT_HEAD_BYTES;
use super::*;
use crate::ids::{ClusterId, Epoch, Identity, NodeId};
use crate::io::{DiskOp, FileName};
use crate::log::{Entry, EntryKind, HardState};
use crate::wire::peer::SnapshotMeta;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

const SEGMENT_BYTES: u64 = 1024;

#[derive(Clone, Debug, Default)]
struct Disk(BTreeMap<u64, Vec<u8>>);

impl Disk {
    fn apply(&mut self, op: &DiskOp) {
        let FileName::Wal(number) = op.file() else { panic!("only segments: {op:?}") };
        match op {
            DiskOp::Create { reserve_bytes, bytes, .. } => {
                let mut file = bytes.to_vec();
                file.resize((*reserve_bytes as usize).max(bytes.len()), 0);
                self.0.insert(number, file);
            }
            DiskOp::Write { offset, bytes, .. } => {
                let start = *offset as usize;
                self.0.get_mut(&number).unwrap()[start..start + bytes.len()].copy_from_slice(bytes);
            }
            DiskOp::Remove { .. } => {
                self.0.remove(&number);
            }
            DiskOp::Publish { .. } | DiskOp::Read { .. } | DiskOp::Sync { .. } => panic!("{op:?}"),
        }
    }

    fn recover(&self) -> Result<Recovered, WalDamage> {
        recover(
            identity(),
            self.0.iter().map(|(number, file)| (*number, Bytes::from(file.clone()))),
        )
    }
}

fn identity() -> Identity {
    Identity { cluster: ClusterId([7; 16]), epoch: Epoch(2), node: NodeId::new(1, 0) }
}

fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    Entry { index, term, kind: EntryKind::Normal, data: vec![index as u8; bytes].into() }
}

/// What the log amounts to after each record: the reference.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    hard_state: HardState,
    entries: Vec<Entry>,
    next_index: u64,
}

impl State {
    fn apply(&mut self, record: &WalRecord) {
        if let Some(snapshot) = &record.snapshot {
            self.entries.clear();
            self.next_index = snapshot.index + 1;
        }
        if let Some(first) = record.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend(record.entries.iter().cloned());
            self.next_index = first.index + record.entries.len() as u64;
        }
        self.hard_state = record.hard_state.unwrap_or(self.hard_state);
    }

    fn of(recovered: &Recovered) -> State {
        State {
            hard_state: recovered.hard_state,
            entries: recovered.entries.iter().cloned().collect(),
            next_index: recovered.first_index + recovered.entries.len() as u64,
        }
    }
}

/// A log as it was written: one operation a record, the state after each, and what was known durable when each was made.
struct Written {
    ops: Vec<DiskOp>,
    states: Vec<State>,
    durable_at: Vec<usize>,
}

#[derive(Clone, Debug)]
enum Step {
    Append {
        back: u64,
        count: u64,
        bytes: usize,
    },
    HardState,
    Snapshot {
        ahead: u64,
    },
    /// Everything but the newest so many records becomes durable.
    Durable {
        but: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u64..4, 1u64..4, 0usize..200)
            .prop_map(|(back, count, bytes)| Step::Append { back, count, bytes }),
        1 => Just(Step::HardState),
        1 => (0u64..20).prop_map(|ahead| Step::Snapshot { ahead }),
        4 => (0u64..3).prop_map(|but| Step::Durable { but }),
    ];
    proptest::collection::vec(step, 1..40)
}

fn write(steps: &[Step]) -> Written {
    let mut writer = WalWriter::new(identity());
    writer.set_segment_bytes(SEGMENT_BYTES);
    let mut state = State { next_index: 1, ..State::default() };
    let (mut ops, mut states, mut durable_at) = (Vec::new(), vec![state.clone()], Vec::new());
    let (mut term, mut durable) = (1, 0);
    let first = Step::HardState;
    for step in std::iter::once(&first).chain(steps) {
        let mut record = WalRecord::default();
        match step {
            Step::Append { back, count, bytes } => {
                let base = state.next_index - state.entries.len() as u64;
                let start = state.next_index.saturating_sub(*back).max(base);
                record.entries = (start..start + count).map(|i| entry(i, term, *bytes)).collect();
            }
            Step::HardState => {
                term += 1;
                record.hard_state =
                    Some(HardState { term, vote: NodeId::new(1, 0), commit: state.next_index - 1 });
            }
            Step::Snapshot { ahead } => {
                let index = state.next_index - 1 + ahead;
                record.snapshot = Some(SnapshotMeta { index, term, ..SnapshotMeta::default() });
            }
            Step::Durable { but } => {
                durable = durable.max(writer.sequence().saturating_sub(*but));
                writer.handle_durable(durable);
                continue;
            }
        }
        ops.extend(writer.append(&record));
        state.apply(&record);
        states.push(state.clone());
        durable_at.push(durable as usize);
    }
    assert_eq!(ops.len() + 1, states.len(), "one operation a record");
    Written { ops, states, durable_at }
}

fn disk_of<'a>(ops: impl IntoIterator<Item = &'a DiskOp>) -> Disk {
    let mut disk = Disk::default();
    ops.into_iter().for_each(|op| disk.apply(op));
    disk
}

/// The file and byte range an operation fills, its reserve left out.
fn extent(op: &DiskOp) -> (u64, usize, usize) {
    let FileName::Wal(number) = op.file() else { panic!("only segments") };
    match op {
        DiskOp::Create { bytes, .. } => (number, 0, bytes.len()),
        DiskOp::Write { offset, bytes, .. } => {
            (number, *offset as usize, *offset as usize + bytes.len())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn segments_roll_and_are_dropped_behind_a_snapshot() {
    let mut writer = WalWriter::new(identity());
    writer.set_segment_bytes(SEGMENT_BYTES);
    let mut disk = Disk::default();
    let hard_state = HardState { term: 3, vote: NodeId::new(1, 0), commit: 0 };
    let first = WalRecord { hard_state: Some(hard_state), ..WalRecord::default() };
    writer.append(&first).iter().for_each(|op| disk.apply(op));
    for index in 1..=100 {
        let record = WalRecord { entries: vec![entry(index, 3, 100)], ..WalRecord::default() };
        writer.append(&record).iter().for_each(|op| disk.apply(op));
    }
    assert!(disk.0.len() > 10);
    assert_eq!(writer.bytes(), disk.0.values().map(|file| file.len() as u64).sum::<u64>());
    writer.drop_behind(60).iter().for_each(|op| disk.apply(op));
    let recovered = disk.recover().unwrap();
    assert_eq!(recovered.hard_state, hard_state);
    assert!(recovered.first_index <= 61 && recovered.first_index > 40, "{}", recovered.first_index);
    assert_eq!(recovered.entries.back(), Some(&entry(100, 3, 100)));
    assert_eq!(recovered.writer.bytes(), writer.bytes());
    assert_eq!(recovered.torn, None);
}

#[test]
fn records_longer_than_a_segment_get_one_of_their_size() {
    let mut writer = WalWriter::new(identity());
    writer.set_segment_bytes(SEGMENT_BYTES);
    let record = |index| WalRecord { entries: vec![entry(index, 1, 5000)], ..WalRecord::default() };
    let ops: Vec<_> = (1..=3).flat_map(|index| writer.append(&record(index))).collect();
    let disk = disk_of(&ops);
    assert_eq!(disk.0.len(), 3);
    assert_eq!(disk.recover().unwrap().entries.len(), 3);
}

#[test]
fn the_last_record_may_be_torn_at_any_byte() {
    let steps = [
        Step::Append { back: 0, count: 2, bytes: 50 },
        Step::Append { back: 1, count: 3, bytes: 60 },
    ];
    let Written { ops, states, .. } = write(&steps);
    let (number, start, end) = extent(&ops[2]);
    let whole = disk_of(&ops);
    for cut in start..end {
        let mut disk = whole.clone();
        disk.0.get_mut(&number).unwrap()[cut..end].fill(0);
        let recovered = disk.recover().unwrap();
        let last_bytes_are_zero = whole.0[&number][cut..end].iter().all(|byte| *byte == 0);
        let expected = if last_bytes_are_zero { &states[3] } else { &states[2] };
        assert_eq!(&State::of(&recovered), expected, "cut at {cut}");
    }
}

#[test]
fn stale_bytes_behind_a_cut_never_come_back() {
    // Three writes were under way, and the power failure kept all but the first. The log goes on with a record of the
    // lost one's exact size, so that the next of the stale ones would fit behind it.
    let append =
        |index, term| WalRecord { entries: vec![entry(index, term, 64)], ..WalRecord::default() };
    let mut writer = WalWriter::new(identity());
    writer.set_segment_bytes(SEGMENT_BYTES);
    let ops: Vec<_> = (1..=4).flat_map(|index| writer.append(&append(index, 1))).collect();
    let mut disk = disk_of([&ops[0], &ops[2], &ops[3]]);
    let mut recovered = disk.recover().unwrap();
    assert_eq!(recovered.entries.len(), 1);
    assert!(recovered.torn.is_some());
    recovered.writer.append(&append(2, 2)).iter().for_each(|op| disk.apply(op));
    let again = disk.recover().unwrap();
    assert_eq!(again.entries, [entry(1, 1, 64), entry(2, 2, 64)]);
    assert_eq!(again.torn, None);
}

#[test]
fn the_hard_state_outlives_a_segment_that_was_begun_and_no_more() {
    let hard_state = HardState { term: 5, vote: NodeId::new(2, 0), commit: 0 };
    let append = |index| WalRecord { entries: vec![entry(index, 5, 600)], ..WalRecord::default() };
    let mut writer = WalWriter::new(identity());
    writer.set_segment_bytes(SEGMENT_BYTES);
    let first = WalRecord { hard_state: Some(hard_state), ..append(1) };
    let mut disk = disk_of(&writer.append(&first));
    let DiskOp::Create { file, reserve_bytes, bytes } = writer.append(&append(2)).remove(0) else {
        panic!("a second segment is needed")
    };
    let bytes = bytes.slice(..SEGMENT_HEAD_BYTES);
    disk.apply(&DiskOp::Create { file, reserve_bytes, bytes });
    let mut writer = disk.recover().unwrap().writer;
    writer.append(&append(2)).iter().for_each(|op| disk.apply(op));
    writer.drop_behind(1).iter().for_each(|op| disk.apply(op));
    let recovered = disk.recover().unwrap();
    assert_eq!(recovered.hard_state, hard_state);
    assert_eq!(recovered.entries, [entry(2, 5, 600)]);
}

#[test]
fn damage_to_what_was_durable_is_refused_by_place() {
    let durable = Step::Durable { but: 0 };
    let append = Step::Append { back: 0, count: 1, bytes: 64 };
    let steps = [append.clone(), durable.clone(), append.clone(), durable, append];
    let Written { ops, .. } = write(&steps);
    let (number, start, _) = extent(&ops[1]);
    let mut disk = disk_of(&ops);
    disk.0.get_mut(&number).unwrap()[start + RECORD_HEAD_BYTES + 20] ^= 1;
    let damage = disk.recover().unwrap_err();
    assert_eq!((damage.segment, damage.offset), (number, start as u64));
    assert!(matches!(damage.cause, WalDamageCause::Middle { sequence: 2, .. }), "{damage}");
}

#[test]
fn another_nodes_segments_are_refused() {
    let Written { ops, .. } = write(&[Step::HardState]);
    let disk = disk_of(&ops);
    let other = Identity { node: NodeId::new(2, 0), ..identity() };
    let files = disk.0.iter().map(|(number, file)| (*number, Bytes::from(file.clone())));
    let damage = recover(other, files).unwrap_err();
    assert_eq!(damage.cause, WalDamageCause::Stranger(identity()));
}

#[test]
fn a_missing_segment_is_refused() {
    let steps = vec![Step::Append { back: 0, count: 1, bytes: 400 }; 8];
    let mut disk = disk_of(&write(&steps).ops);
    assert!(disk.0.len() > 3);
    disk.0.remove(&2);
    let damage = disk.recover().unwrap_err();
    assert_eq!(damage.cause, WalDamageCause::Gap { after: 1 });
}

#[test]
fn a_log_that_lost_its_start_is_refused() {
    let mut disk = disk_of(&write(&[]).ops);
    disk.0.get_mut(&1).unwrap()[SEGMENT_HEAD_BYTES] ^= 1;
    assert!(matches!(disk.recover().unwrap_err().cause, WalDamageCause::NoStart(_)));
    assert!(Disk::default().recover().is_err());
}

/// Found by fuzzing: the index stayed 0, and naming the entry before it overflowed.
#[test]
fn a_segment_whose_predecessor_cannot_be_read_starts_the_log_if_it_says_so() {
    let tail = writer::Tail {
        segments: [writer::Segment { number: 1, bytes: 0, last_index: 0 }].into(),
        sealed: true,
        offset: 0,
        next_sequence: 1,
        next_index: 9,
        hard_state: HardState::default(),
    };
    let mut writer = WalWriter::resume(identity(), tail);
    let record = WalRecord { entries: vec![entry(9, 1, 10)], ..WalRecord::default() };
    let mut disk = disk_of(&writer.append(&record));
    disk.0.insert(1, b"no head".to_vec());
    let recovered = disk.recover().unwrap();
    assert_eq!((recovered.first_index, recovered.entries.len()), (9, 1));
}

/// One run of a process, up to a power failure.
#[derive(Clone, Debug)]
struct Life {
    appends: Vec<Append>,
    kept: Vec<(bool, prop::sample::Index)>,
}

#[derive(Clone, Debug)]
struct Append {
    back: u64,
    bytes: usize,
    /// It and everything before it becomes durable.
    sync: bool,
}

fn life() -> impl Strategy<Value = Life> {
    let append = (0u64..3, 0usize..200, prop::bool::weighted(0.3))
        .prop_map(|(back, bytes, sync)| Append { back, bytes, sync });
    let kept = (any::<bool>(), any::<prop::sample::Index>());
    (proptest::collection::vec(append, 1..10), proptest::collection::vec(kept, 10))
        .prop_map(|(appends, kept)| Life { appends, kept })
}

/// Each operation took place, in whole or in part.
fn fail_power(disk: &mut Disk, ops: &[DiskOp], kept: &[(bool, prop::sample::Index)]) {
    for (op, (kept, cut)) in ops.iter().zip(kept) {
        let part = |bytes: &Bytes| match kept {
            true => bytes.clone(),
            false => bytes.slice(..cut.index(bytes.len())),
        };
        match op {
            // Without the file there is nothing to write to.
            DiskOp::Create { bytes, .. } if part(bytes).is_empty() => return,
            DiskOp::Create { file, reserve_bytes, bytes } => {
                let (file, reserve_bytes, bytes) = (*file, *reserve_bytes, part(bytes));
                disk.apply(&DiskOp::Create { file, reserve_bytes, bytes });
            }
            DiskOp::Write { file, offset, bytes, sync } => {
                let (file, offset, bytes, sync) = (*file, *offset, part(bytes), *sync);
                disk.apply(&DiskOp::Write { file, offset, bytes, sync });
            }
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_was_written_is_read_back(steps in steps()) {
        let Written { ops, states, .. } = write(&steps);
        let recovered = disk_of(&ops).recover().unwrap();
        prop_assert_eq!(&State::of(&recovered), states.last().unwrap());
        prop_assert_eq!(recovered.torn, None);
        prop_assert_eq!(recovered.writer.sequence() as usize, ops.len());
    }

    /// Again and again the power fails and keeps any subset of the writes that were not durable, any of them in part. Everything
    /// durable is there afterwards, the log is a prefix of what was written, and it goes on from there.
    #[test]
    fn power_failures_are_survived(lives in proptest::collection::vec(life(), 1..6)) {
        let (mut disk, mut writer) = (Disk::default(), WalWriter::new(identity()));
        let mut states = vec![State { next_index: 1, ..State::default() }];
        for (number, Life { appends, kept }) in (1..).zip(lives) {
            writer.set_segment_bytes(SEGMENT_BYTES);
            let mut ops = Vec::new();
            let mut durable = states.len() - 1;
            for Append { back, bytes, sync } in appends {
                let mut state = states.last().unwrap().clone();
                let base = state.next_index - state.entries.len() as u64;
                let index = state.next_index.saturating_sub(back).max(base);
                let hard_state = Some(HardState { term: number, ..HardState::default() });
                let entries = vec![entry(index, number, bytes)];
                let record = WalRecord { hard_state, snapshot: None, entries };
                ops.extend(writer.append(&record));
                state.apply(&record);
                states.push(state);
                if sync || durable == 0 {
                    ops.drain(..).for_each(|op| disk.apply(&op));
                    durable = states.len() - 1;
                    writer.handle_durable(durable as u64);
                }
            }
            fail_power(&mut disk, &ops, &kept);
            let recovered = disk.recover().unwrap();
            let count = recovered.writer.sequence() as usize;
            prop_assert!(count >= durable, "{} of {} durable records", count, durable);
            prop_assert_eq!(&State::of(&recovered), &states[count]);
            recovered.void.iter().for_each(|file| disk.apply(&DiskOp::Remove { file: *file }));
            states.truncate(count + 1);
            writer = recovered.writer;
        }
    }

    /// Any byte may rot, any file be cut: the log is refused, or it is a prefix that holds whatever an undamaged later record
    /// calls durable.
    #[test]
    fn damage_never_passes_for_a_log(
        steps in steps(),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
        length in 1usize..40,
        cut in any::<bool>(),
    ) {
        let Written { ops, states, durable_at } = write(&steps);
        let (hit, place) = {
            let hit = at.index(ops.len());
            let (number, start, end) = extent(&ops[hit]);
            (hit, (number, start + at.index(end - start)))
        };
        let mut disk = disk_of(&ops);
        let file = disk.0.get_mut(&place.0).unwrap();
        let mut changed = 0;
        if cut {
            file.truncate(place.1);
            changed = usize::MAX;
        } else {
            for byte in file[place.1..].iter_mut().take(length) {
                *byte ^= flip;
                changed += 1;
            }
        }
        // Records wholly behind the damage still speak; everything they call durable must survive or be missed.
        let witnessed = (hit + 1..ops.len())
            .filter(|later| {
                let (number, start, _) = extent(&ops[*later]);
                number != place.0 || (!cut && start >= place.1 + changed)
            })
            .map(|later| durable_at[later])
            .max()
            .unwrap_or(0);
        match disk.recover() {
            Ok(recovered) => {
                let count = recovered.writer.sequence() as usize;
                prop_assert!(count >= witnessed, "{} of {} durable records", count, witnessed);
                prop_assert_eq!(&State::of(&recovered), &states[count]);
            }
            Err(damage) => prop_assert!(damage.segment <= place.0 + 1, "{}", damage),
        }
    }

    #[test]
    fn garbage_never_panics(files in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..4)) {
        let files = files.into_iter().zip(1..).map(|(file, number)| (number, Bytes::from(file)));
        prop_assert!(recover(identity(), files).is_err());
    }
}

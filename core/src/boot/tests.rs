//! Directories as they are born, killed half-way, damaged and mixed up; and what boot makes of them.

use super::*;
use crate::api::MemberRole;
use crate::ids::{ClusterId, NodeId};
use crate::io::DiskDone;
use crate::log::EntryKind;
use crate::snapshot::testing::{IDENTITY, MemDisk, meta, put, state};
use crate::snapshot::{Encoder, Header, Writer, WriterStep};
use crate::wal::WalRecord;
use bytes::Bytes;

fn members() -> Vec<MemberInfo> {
    let member = |number| MemberInfo {
        node: NodeId::new(number, 0),
        address: format!("127.0.0.1:740{number}"),
        role: if number < 3 { MemberRole::Voter } else { MemberRole::Learner },
    };
    (1..=3).map(member).collect()
}

fn run(disk: &mut MemDisk, ops: impl IntoIterator<Item = DiskOp>) {
    for op in ops {
        disk.run(op).unwrap();
    }
}

fn boot_with(disk: &mut MemDisk, mut boot: Boot) -> Result<Box<Image>, BootError> {
    loop {
        match boot.poll() {
            BootStep::Read { file, offset, len_bytes } => {
                boot.handle(match disk.run(DiskOp::Read { file, offset, len_bytes }) {
                    Ok(DiskDone::Bytes(bytes)) => Ok(bytes),
                    Ok(DiskDone::Done) => panic!("a read gives bytes"),
                    Err(error) => Err(error),
                });
            }
            BootStep::Do(action) => boot.handle(disk.run(action).map(|_| Bytes::new())),
            BootStep::Sum(sum) => boot.take_sum(sum.make()),
            BootStep::AwaitSum => unreachable!("every sum is made at once"),
            BootStep::Ready(image) => return Ok(image),
            BootStep::Refused(error) => return Err(error),
        }
    }
}

/// Boots with a thread for sums that is as slow as it may be, and gives them back in the wrong order.
fn boot_with_late_sums(disk: &mut MemDisk) -> Result<Box<Image>, BootError> {
    let (mut boot, mut late) = (Boot::new(disk.listing()), Vec::new());
    loop {
        match boot.poll() {
            BootStep::Read { file, offset, len_bytes } => {
                let read = disk.run(DiskOp::Read { file, offset, len_bytes });
                boot.handle(read.map(|done| match done {
                    DiskDone::Bytes(bytes) => bytes,
                    DiskDone::Done => Bytes::new(),
                }));
            }
            BootStep::Do(action) => boot.handle(disk.run(action).map(|_| Bytes::new())),
            BootStep::Sum(sum) => late.push(sum),
            BootStep::AwaitSum => boot.take_sum(late.pop().expect("one is out").make()),
            BootStep::Ready(image) => {
                assert!(late.is_empty(), "a sum was not waited for");
                return Ok(image);
            }
            BootStep::Refused(error) => return Err(error),
        }
    }
}

fn boot(disk: &mut MemDisk) -> Result<Box<Image>, BootError> {
    let boot = Boot::new(disk.listing());
    let mut image = boot_with(disk, boot)?;
    image.wal.set_segment_bytes(2048);
    Ok(image)
}

fn fresh() -> MemDisk {
    let mut disk = MemDisk::default();
    run(&mut disk, genesis(IDENTITY, members(), GenesisBase::empty()));
    disk
}

fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
    let data = |index| postcard::to_stdvec(&put(&format!("k{index}"), b"v")).unwrap().into();
    range.map(|index| Entry { index, term, kind: EntryKind::Normal, data: data(index) }).collect()
}

fn append(disk: &mut MemDisk, wal: &mut WalWriter, entries: Vec<Entry>, commit: u64) {
    let term = entries.last().map_or(1, |entry| entry.term);
    let hard_state = Some(HardState { term, vote: NodeId::NONE, commit });
    run(disk, wal.append(&WalRecord { hard_state, snapshot: None, entries }));
    wal.handle_durable(wal.sequence());
}

fn save_snapshot(disk: &mut MemDisk, state: &KvState, index: u64, term: u64) {
    let header = Header::of(&IDENTITY, meta(index, term), state);
    let (mut writer, mut op) = Writer::new(Encoder::new(header, state.items()));
    while let WriterStep::Disk(next) = writer.handle(disk.run(op)) {
        op = next;
    }
}

#[test]
fn a_new_cluster_starts_alike_on_every_member() {
    let mut disk = fresh();
    let other = Identity { node: NodeId::new(2, 0), ..IDENTITY };
    let mut second = MemDisk::default();
    run(&mut second, genesis(other, members(), GenesisBase::empty()));
    let first_snapshot = FileName::Snapshot(1);
    assert_eq!(disk.files[&first_snapshot], second.files[&first_snapshot]);

    let image = boot(&mut disk).unwrap();
    assert_eq!((image.identity, image.joining), (IDENTITY, false));
    assert_eq!(image.hard_state, HardState { term: 1, vote: NodeId::NONE, commit: 1 });
    assert_eq!((image.snapshot.index, image.snapshot.term), (1, 1));
    assert_eq!(image.snapshot.conf.voters, [NodeId::new(1, 0), NodeId::new(2, 0)]);
    assert_eq!(image.snapshot.conf.learners, [NodeId::new(3, 0)]);
    assert_eq!(image.state.members().cloned().collect::<Vec<_>>(), members());
    assert_eq!(image.wal.last_index(), 1);
    assert!(image.entries.is_empty() && image.warnings.is_empty() && image.leftovers.is_empty());
}

#[test]
fn a_genesis_cut_short_anywhere_is_empty_and_can_be_redone() {
    let base = || GenesisBase { index: 500, term: 7, state: state(5000) };
    let count = genesis(IDENTITY, members(), base()).count();
    assert!(count > 6);
    for stop in 0..count {
        let mut disk = MemDisk::default();
        run(&mut disk, genesis(IDENTITY, members(), base()).take(stop));
        assert_eq!(boot(&mut disk).unwrap_err(), BootError::Empty, "stopped after {stop}");
        assert!(disk.files.is_empty());
        run(&mut disk, genesis(IDENTITY, members(), GenesisBase::empty()));
        assert_eq!(boot(&mut disk).unwrap().snapshot.index, 1);
    }
}

#[test]
fn a_restored_state_keeps_its_keys_and_takes_the_new_members() {
    let source = state(100);
    let mut disk = MemDisk::default();
    let base = GenesisBase { index: 500, term: 7, state: source.clone() };
    run(&mut disk, genesis(IDENTITY, members(), base));
    let image = boot(&mut disk).unwrap();
    assert_eq!((image.state.keys(), image.state.revision()), (source.keys(), source.revision()));
    assert_eq!(image.state.members().count(), 3);
    assert_eq!(image.hard_state, HardState { term: 7, vote: NodeId::NONE, commit: 500 });
}

#[test]
fn sums_over_a_snapshot_may_come_late_and_are_never_taken_for_those_of_another() {
    let mut disk = fresh();
    let (older, newer) = (state(30_000), state(40_000));
    save_snapshot(&mut disk, &older, 50, 1);
    save_snapshot(&mut disk, &newer, 60, 1);
    let image = boot_with_late_sums(&mut disk.clone()).unwrap();
    assert_eq!((image.snapshot.index, image.state.hash()), (60, newer.hash()));

    // The newer one breaks while sums over it are out.
    let file = disk.files.get_mut(&FileName::Snapshot(60)).unwrap();
    let at = file.len() - 1000;
    file[at] ^= 1;
    let image = boot_with_late_sums(&mut disk).unwrap();
    assert_eq!((image.snapshot.index, image.state.hash()), (50, older.hash()));
    assert!(image.warnings[0].contains("checksum"), "{:?}", image.warnings);
}

#[test]
fn a_joining_node_waits_until_its_first_snapshot() {
    let mut disk = MemDisk::default();
    run(&mut disk, joining(IDENTITY, members()));
    let image = boot(&mut disk).unwrap();
    assert!(image.joining);
    assert_eq!((image.peers, image.snapshot.index), (members(), 0));
    // It stopped after the snapshot was published, before anything else was written.
    save_snapshot(&mut disk, &state(10), 90, 4);
    let image = boot(&mut disk).unwrap();
    assert!(!image.joining);
    assert_eq!((image.hard_state.term, image.hard_state.commit), (4, 90));
    assert_eq!(image.wal.last_index(), 90);
    // From now on it is a member, and its snapshot may not go missing.
    disk.files.remove(&FileName::Snapshot(90));
    assert!(matches!(boot(&mut disk), Err(BootError::Damaged { .. })));
}

#[test]
fn joining_twice_changes_nothing() {
    let mut disk = MemDisk::default();
    run(&mut disk, joining(IDENTITY, members()));
    save_snapshot(&mut disk, &state(10), 90, 4);
    run(&mut disk, joined(IDENTITY));
    assert!(!boot(&mut disk).unwrap().joining);
}

#[test]
fn what_was_read_back_is_made_durable_first() {
    let mut disk = fresh();
    let mut wal = boot(&mut disk).unwrap().wal;
    append(&mut disk, &mut wal, entries(2..=5, 1), 4);
    disk.done.clear();
    let image = boot(&mut disk).unwrap();
    assert_eq!((image.entries.len(), image.hard_state.commit), (4, 4));
    let synced: Vec<FileName> = disk
        .done
        .iter()
        .map(|op| match op {
            DiskOp::Sync { file } => *file,
            other => panic!("{other:?}"),
        })
        .collect();
    let all = [FileName::Identity, FileName::Wal(1), FileName::Wal(2), FileName::Snapshot(1)];
    assert_eq!(synced, all);
}

#[test]
fn looking_changes_nothing() {
    let mut disk = fresh();
    run(
        &mut disk,
        [DiskOp::Create { file: FileName::SnapshotTemp(8), reserve_bytes: 0, bytes: Bytes::new() }],
    );
    disk.done.clear();
    let boot = Boot::read_only(disk.listing());
    let image = boot_with(&mut disk, boot).unwrap();
    assert_eq!(image.leftovers, [FileName::SnapshotTemp(8)]);
    assert!(disk.done.is_empty());
}

/// Snapshots at 1 and 4, the log from 2 to 6.
fn two_snapshots() -> (MemDisk, WalWriter) {
    let mut disk = fresh();
    let image = boot(&mut disk).unwrap();
    let (mut wal, mut state) = (image.wal, image.state);
    append(&mut disk, &mut wal, entries(2..=6, 1), 6);
    for index in 2..=4 {
        state.apply(index, &put(&format!("k{index}"), b"v"));
    }
    save_snapshot(&mut disk, &state, 4, 1);
    (disk, wal)
}

#[test]
fn the_newest_snapshot_and_the_log_behind_it_are_used() {
    let (mut disk, _) = two_snapshots();
    let image = boot(&mut disk).unwrap();
    assert_eq!((image.snapshot.index, image.state.keys()), (4, 3));
    assert_eq!(image.entries, entries(5..=6, 1));
    let indexes: Vec<u64> = image.snapshots.iter().map(|info| info.index).collect();
    assert_eq!(indexes, [1, 4]);
}

#[test]
fn a_damaged_snapshot_is_made_up_for_by_an_older_one_and_the_log() {
    let (mut disk, _) = two_snapshots();
    let file = disk.files.get_mut(&FileName::Snapshot(4)).unwrap();
    let middle = file.len() / 2;
    file[middle] ^= 1;
    let image = boot(&mut disk).unwrap();
    assert_eq!((image.snapshot.index, image.entries.len()), (1, 5));
    assert_eq!(image.warnings.len(), 1);
    assert_eq!(image.snapshots.len(), 1);
}

#[test]
fn a_damaged_snapshot_that_the_log_does_not_make_up_for_is_refused() {
    let (mut disk, mut wal) = two_snapshots();
    let restart = WalRecord {
        snapshot: Some(meta(7, 1)),
        hard_state: Some(HardState { term: 1, vote: NodeId::NONE, commit: 7 }),
        entries: Vec::new(),
    };
    run(&mut disk, wal.append(&restart));
    save_snapshot(&mut disk, &state(7), 7, 1);
    assert_eq!(boot(&mut disk).unwrap().snapshot.index, 7);
    disk.files.get_mut(&FileName::Snapshot(7)).unwrap()[100] ^= 1;
    let error = boot(&mut disk).unwrap_err().to_string();
    assert!(error.contains("missing") && error.contains("snapshot-000000007"), "{error}");
}

#[test]
fn an_installed_snapshot_restarts_the_log_even_if_the_node_stopped_before_saying_so() {
    let mut disk = fresh();
    let mut wal = boot(&mut disk).unwrap().wal;
    append(&mut disk, &mut wal, entries(2..=6, 1), 3);
    save_snapshot(&mut disk, &state(10), 40, 3);
    let mut image = boot(&mut disk).unwrap();
    assert_eq!(image.hard_state, HardState { term: 3, vote: NodeId::NONE, commit: 40 });
    assert_eq!((image.entries.len(), image.wal.last_index()), (0, 40));
    append(&mut disk, &mut image.wal, entries(41..=42, 3), 41);
    assert_eq!(boot(&mut disk).unwrap().entries, entries(41..=42, 3));
}

#[test]
fn a_log_with_damage_in_the_middle_is_refused_unchanged() {
    let mut disk = fresh();
    let mut wal = boot(&mut disk).unwrap().wal;
    for index in 2..=5 {
        append(&mut disk, &mut wal, entries(index..=index, 1), 1);
    }
    disk.files.get_mut(&FileName::Wal(2)).unwrap()[150] ^= 1;
    let before = disk.files.clone();
    let error = boot(&mut disk).unwrap_err();
    assert!(
        matches!(&error, BootError::Damaged { file, .. } if file.starts_with("wal/")),
        "{error}"
    );
    assert_eq!(disk.files, before);
}

#[test]
fn files_of_another_node_or_cluster_are_refused() {
    let other = Identity { cluster: ClusterId([1; 16]), node: NodeId::new(2, 0), ..IDENTITY };
    let mut foreign = MemDisk::default();
    run(&mut foreign, genesis(other, members(), GenesisBase::empty()));
    for file in [FileName::Snapshot(1), FileName::Wal(1), FileName::Identity] {
        let mut disk = fresh();
        disk.files.insert(file, foreign.files[&file].clone());
        assert!(matches!(boot(&mut disk), Err(BootError::Damaged { .. })), "{file:?}");
    }
}

#[test]
fn lost_files_are_never_a_fresh_start() {
    for lost in [FileName::Identity, FileName::Snapshot(1), FileName::Wal(1)] {
        let mut disk = fresh();
        disk.files.remove(&lost);
        assert!(matches!(boot(&mut disk), Err(BootError::Damaged { .. })), "{lost:?}");
    }
    assert_eq!(boot(&mut MemDisk::default()).unwrap_err(), BootError::Empty);
}

#[test]
fn damage_to_any_one_byte_is_refused_or_without_effect() {
    let (disk, _) = two_snapshots();
    let expected = boot(&mut disk.clone()).unwrap();
    for (file, contents) in &disk.files {
        for at in (0..contents.len().min(3000)).step_by(5) {
            let mut disk = disk.clone();
            disk.files.get_mut(file).unwrap()[at] ^= 4;
            if let Ok(image) = boot(&mut disk) {
                let mut state = image.state.clone();
                let last = image.entries.last().map_or(image.snapshot.index, |entry| entry.index);
                for entry in image.entries.iter().filter(|entry| entry.index <= 4) {
                    state.apply(entry.index, &put(&format!("k{}", entry.index), b"v"));
                }
                // The log's last record may be taken for a torn one; nothing else may be missing.
                let cut = matches!(file, FileName::Wal(2)) && last == image.snapshot.index;
                assert!(cut || last == 6, "{file:?} byte {at}");
                assert!(cut || state.hash() == expected.state.hash(), "{file:?} byte {at}");
            }
        }
    }
}

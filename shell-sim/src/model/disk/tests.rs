//! What the model may and may not do to a file, fault by fault.

use super::*;
use raftkv_core::rng::Seed;

const LOG: FileName = FileName::Wal(1);

fn disk(seed: u64, faults: DiskFaults) -> Disk {
    Disk::new(faults, Seed::from_number(seed).fork("disk"))
}

fn write(offset: u64, byte: u8, sync: bool) -> DiskOp {
    DiskOp::Write { file: LOG, offset, bytes: vec![byte; 700].into(), sync }
}

fn create() -> DiskOp {
    DiskOp::Create { file: LOG, reserve_bytes: 8192, bytes: Bytes::from_static(b"header") }
}

fn run(disk: &mut Disk) -> Vec<Completion> {
    std::iter::from_fn(|| disk.poll(SimTime(disk.next_wake().0.min(1 << 60)))).collect()
}

#[test]
fn operations_of_a_lane_end_in_order_and_neighbours_share_a_sync() {
    let mut disk = disk(1, DiskFaults::none());
    disk.submit(SimTime(0), OpId(0), create());
    for op in 1..=5 {
        disk.submit(SimTime(0), OpId(op), write(op * 1000, op as u8, true));
    }
    let ops: Vec<u64> = run(&mut disk).iter().map(|(op, _)| op.0).collect();
    assert_eq!(ops, [0, 1, 2, 3, 4, 5]);
    assert_eq!(disk.counts().syncs, 1);
}

#[test]
fn a_completed_synced_write_survives_any_crash() {
    for seed in 0..200 {
        let mut disk = disk(seed, DiskFaults::none());
        disk.provision(&create());
        disk.submit(SimTime(0), OpId(1), write(1000, 1, true));
        assert_eq!(run(&mut disk).len(), 1);
        disk.submit(SimTime(0), OpId(2), write(2000, 2, true));
        disk.submit(SimTime(0), OpId(3), DiskOp::Remove { file: LOG });
        let policy = CrashPolicy::DRAWN[seed as usize % 5];
        assert!(disk.crash(Crash::Power(policy)));
        let content = disk.contents(LOG).expect("the removal had not begun");
        assert!(content.starts_with(b"header"));
        assert!(content[1000..1700].iter().all(|&byte| byte == 1));
        assert!(content[2000..2700].iter().all(|&byte| byte == 0 || byte == 2));
        assert_eq!(disk.next_wake(), SimTime::NEVER);
    }
}

#[test]
fn a_killed_process_loses_nothing_it_was_told_is_done() {
    for seed in 0..50 {
        let mut disk = disk(seed, DiskFaults::none());
        disk.provision(&create());
        disk.submit(SimTime(0), OpId(1), write(1000, 1, false));
        run(&mut disk);
        disk.crash(Crash::Process);
        assert!(disk.contents(LOG).unwrap()[1000..1700].iter().all(|&byte| byte == 1));
        disk.crash(Crash::Power(CrashPolicy::DropAll));
        assert!(disk.contents(LOG).unwrap()[1000..1700].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn an_interrupted_publish_leaves_whole_content_under_the_new_name() {
    let (temp, done) = (FileName::SnapshotTemp(7), FileName::Snapshot(7));
    let (mut renamed, mut kept) = (0, 0);
    for seed in 0..200 {
        let mut disk = disk(seed, DiskFaults::none());
        disk.provision(&DiskOp::Create { file: temp, reserve_bytes: 0, bytes: Bytes::new() });
        let bytes = Bytes::from(vec![9; 3000]);
        disk.submit(
            SimTime(0),
            OpId(1),
            DiskOp::Write { file: temp, offset: 0, bytes, sync: false },
        );
        run(&mut disk);
        disk.submit(SimTime(0), OpId(2), DiskOp::Publish { from: temp, to: done });
        disk.crash(Crash::Power(CrashPolicy::Sectors));
        if let Some(content) = disk.contents(done) {
            assert_eq!(content, vec![9; 3000]);
            renamed += 1;
        }
        kept += u32::from(disk.contents(temp).is_some());
    }
    assert!(renamed > 50 && kept > 50 && renamed + kept > 200, "{renamed} {kept}");
}

#[test]
fn errors_come_at_their_rates_and_a_failed_sync_leaves_doubt() {
    let faults = DiskFaults {
        read_error: Ppm::percent(20),
        write_error: Ppm::percent(20),
        sync_error: Ppm::percent(20),
        hang: Ppm::percent(20),
        ..DiskFaults::none()
    };
    let mut disk = disk(1, faults);
    let file = FileName::SnapshotTemp(1);
    disk.provision(&DiskOp::Create { file, reserve_bytes: 64, bytes: Bytes::new() });
    for op in 0..300 {
        let bytes = Bytes::from_static(b"bytes");
        disk.submit(SimTime(0), OpId(3 * op), DiskOp::Write { file, offset: 0, bytes, sync: true });
        disk.submit(SimTime(0), OpId(3 * op + 1), DiskOp::Read { file, offset: 0, len_bytes: 6 });
        disk.submit(SimTime(0), OpId(3 * op + 2), DiskOp::Remove { file: FileName::Snapshot(2) });
    }
    assert_eq!(run(&mut disk).len(), 900, "every operation is answered");
    let counts = disk.counts();
    let errors = [counts.read_errors, counts.write_errors, counts.sync_errors, counts.hung];
    assert!(errors.iter().all(|&count| count > 20), "{counts:?}");
    assert!(disk.in_doubt);
}

#[test]
fn nothing_is_said_to_be_durable_after_a_failed_write() {
    let faults = DiskFaults { write_error: Ppm::percent(20), ..DiskFaults::none() };
    let mut disk = disk(1, faults);
    disk.provision(&create());
    (0..60).for_each(|op| disk.submit(SimTime(0), OpId(op), write(100 * op, 1, true)));
    let results: Vec<bool> = run(&mut disk).iter().map(|(_, result)| result.is_ok()).collect();
    let first = results.iter().position(|is_ok| !is_ok).expect("one in five fails");
    assert!(results[first..].iter().all(|is_ok| !is_ok));
    disk.crash(Crash::Process);
    disk.faults = DiskFaults::none();
    disk.submit(SimTime(0), OpId(99), write(0, 1, true));
    assert!(run(&mut disk)[0].1.is_ok(), "a new process may write again");
}

#[test]
fn a_full_drive_still_takes_what_was_reserved() {
    let mut disk = disk(1, DiskFaults::none());
    disk.provision(&create());
    disk.set_full(true);
    disk.submit(SimTime(0), OpId(1), write(1000, 1, true));
    disk.submit(SimTime(0), OpId(2), write(8000, 1, true));
    let results = run(&mut disk);
    assert_eq!(results[0].1, Ok(DiskDone::Done));
    assert_eq!(results[1].1.as_ref().map_err(|error| error.kind), Err(DiskErrorKind::Full));
}

#[test]
fn lost_and_misdirected_writes() {
    let mut disk = disk(1, DiskFaults::none());
    disk.provision(&create());
    disk.provision(&write(0, 1, true));
    disk.provision(&write(500, 2, true));
    let before = disk.contents(LOG).expect("it is there").to_vec();
    disk.misdirect((LOG, 500..510), (LOG, 3)).expect("it fits");
    let after = disk.contents(LOG).expect("it is there").to_vec();
    assert_eq!(after[3..13], before[500..510]);
    assert!(after[500..510].iter().all(|byte| *byte == 0));
    disk.undo_write(LOG, 0..20).expect("it fits");
    assert!(disk.contents(LOG).expect("it is there")[..20].iter().all(|byte| *byte == 0));
    assert_eq!(disk.undo_write(LOG, 0..1 << 30), None);
}

#[test]
fn rot_and_images() {
    let mut disk = disk(1, DiskFaults::none());
    disk.provision(&create());
    let image = disk.image();
    let (file, at) = (LOG, disk.rot(LOG, 0..6).expect("there is a file"));
    assert_eq!(file, LOG);
    assert_ne!(disk.contents(LOG).unwrap()[at], b"header"[at]);
    disk.restore(image);
    assert!(disk.contents(LOG).unwrap().starts_with(b"header"));
    disk.lose_everything();
    assert_eq!(disk.listing(), []);
}

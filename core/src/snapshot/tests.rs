//! The snapshot format against splits, damage and hostile bytes; and the machines around it against each other.

use super::format::CHUNK_BYTES;
use super::testing::{IDENTITY, MemDisk, header, item, meta, sample_items, state};
use super::*;
use crate::ids::NodeId;
use crate::io::{DiskDone, DiskError, DiskErrorKind, DiskOp, FileName};
use crate::kv::item::Version;
use crate::kv::{Item, KvState};
use crate::snapshot::json::{Exporter, Importer};
use crate::time::Mono;
use crate::wire::peer::PeerFrame;
use bytes::Bytes;
use proptest::prelude::*;

const LEADER: NodeId = NodeId::new(2, 0);

fn encode(items: Vec<Item>) -> Vec<u8> {
    Encoder::new(header(), items.into_iter()).flatten().collect()
}

fn decode(parts: &[&[u8]]) -> Result<Vec<Item>, SnapshotError> {
    let mut decoder = Decoder::new();
    let mut items = Vec::new();
    for part in parts {
        decoder.push_into(part, &mut items)?;
    }
    decoder.finish().map(|_| items)
}

/// The file of a state at an index, and its header.
fn file_of(state: &KvState, index: u64) -> (Header, Vec<u8>) {
    let header = Header::of(&IDENTITY, meta(index, 4), state);
    let file = Encoder::new(header.clone(), state.items()).flatten().collect();
    (header, file)
}

#[test]
fn items_come_back_whatever_the_split() {
    let items = sample_items(3000);
    let file = encode(items.clone());
    for size in [1, 7, 100, CHUNK_BYTES, file.len()] {
        let parts: Vec<&[u8]> = file.chunks(size).collect();
        assert_eq!(decode(&parts), Ok(items.clone()));
    }
}

#[test]
fn chunks_are_bounded_and_deterministic() {
    let chunks: Vec<Bytes> = Encoder::new(header(), sample_items(3000).into_iter()).collect();
    assert!(chunks.len() > 4);
    assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES + 16));
    assert_eq!(chunks.concat(), encode(sample_items(3000)));
}

#[test]
fn items_of_any_length_fill_chunks_to_the_brim() {
    let lengths = (0..40).map(|less| CHUNK_BYTES - less).chain((1..5).map(|n| n * CHUNK_BYTES));
    let value = |bytes: usize| Version {
        mod_revision: 9,
        create_revision: 9,
        version: 1,
        lease: 0,
        value: Some(vec![bytes as u8; bytes].into()),
    };
    for bytes in lengths {
        let items: Vec<Item> = (0..3)
            .map(|key| Item::Key { key: vec![key].into(), versions: vec![value(bytes)] })
            .collect();
        let chunks: Vec<Bytes> = Encoder::new(header(), items.clone().into_iter()).collect();
        let [_, full @ .., _, _] = &chunks[..] else { panic!("{} chunks", chunks.len()) };
        assert!(full.iter().all(|chunk| chunk.len() == CHUNK_BYTES + 16), "{bytes}");
        assert_eq!(decode(&[&chunks.concat()]), Ok(items));
    }
}

#[test]
fn the_header_is_known_before_the_items() {
    let file = encode(sample_items(10));
    let mut decoder = Decoder::new();
    let come = file.iter().position(|byte| {
        decoder.push(&[*byte]).unwrap();
        decoder.header().is_some()
    });
    assert!(come.unwrap() < 200);
    assert_eq!(decoder.header(), Some(&header()));
}

#[test]
fn a_file_cut_anywhere_is_never_whole() {
    let file = encode(sample_items(2));
    for end in 0..file.len() {
        let error = decode(&[&file[..end]]).unwrap_err();
        assert_eq!(error.cause, SnapshotErrorCause::Truncated, "cut at {end}");
    }
    let longer = [&file[..], b"x"].concat();
    assert_eq!(decode(&[&longer]).unwrap_err().cause, SnapshotErrorCause::Trailing);
}

#[test]
fn chunks_out_of_place_are_refused() {
    let chunks: Vec<Bytes> = Encoder::new(header(), sample_items(8000).into_iter()).collect();
    assert!(chunks.len() >= 5);
    for (a, b) in [(1, 2), (2, 3)] {
        let mut swapped = chunks.clone();
        swapped.swap(a, b);
        assert!(
            matches!(decode(&[&swapped.concat()]), Err(error) if matches!(error.cause, SnapshotErrorCause::Chunk(_)))
        );
    }
    let mut spliced = chunks.clone();
    spliced.remove(2);
    assert!(decode(&[&spliced.concat()]).is_err());
}

#[test]
fn a_state_that_is_not_the_headers_is_refused() {
    let state = state(10);
    let (mut header, _) = file_of(&state, 9);
    header.state_hash = StateHash::default();
    let file: Vec<u8> = Encoder::new(header, state.items()).flatten().collect();
    let mut loader = Loader::new();
    loader.push(&file).unwrap();
    assert!(matches!(loader.finish().unwrap_err().cause, SnapshotErrorCause::State(_)));
}

proptest! {
    #[test]
    fn any_items_survive(items in proptest::collection::vec(item(), 0..20), split in any::<prop::sample::Index>()) {
        let file = encode(items.clone());
        let (a, b) = file.split_at(split.index(file.len()));
        prop_assert_eq!(decode(&[a, b]), Ok(items));
    }

    #[test]
    fn no_changed_byte_passes(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut file = encode(sample_items(3));
        let at = at.index(file.len());
        file[at] ^= flip;
        prop_assert!(decode(&[&file]).is_err(), "byte {}", at);
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600), keep in 0usize..300) {
        let file = encode(sample_items(2));
        prop_assert!(decode(&[&bytes]).is_err());
        prop_assert!(decode(&[&file[..keep.min(file.len() - 1)], &bytes]).is_err());
    }

    #[test]
    fn json_gives_the_same_snapshot_back(items in proptest::collection::vec(item(), 0..20), size in 1usize..200) {
        let mut exporter = Exporter::new();
        let mut text = exporter.header(&header());
        items.iter().for_each(|item| text += &exporter.item(item));
        text += &exporter.end();
        let mut importer = Importer::new();
        let mut back = Vec::new();
        for part in text.as_bytes().chunks(size) {
            back.extend(importer.push(part).unwrap());
        }
        let header = importer.finish().unwrap();
        let again: Vec<u8> = Encoder::new(header, back.into_iter()).flatten().collect();
        prop_assert_eq!(again, encode(items));
    }

    #[test]
    fn json_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\{\\}\":a-z0-9\\n,\\[\\]]{0,80}") {
        for garbage in [&bytes[..], text.as_bytes()] {
            let mut importer = Importer::new();
            let _ = importer.push(garbage);
            prop_assert!(importer.finish().is_err());
        }
    }
}

#[test]
fn json_that_is_cut_or_changed_is_refused_by_line() {
    let mut exporter = Exporter::new();
    let header = exporter.header(&header());
    let items: Vec<String> = sample_items(3).iter().map(|item| exporter.item(item)).collect();
    let import = |text: &str| {
        let mut importer = Importer::new();
        importer.push(text.as_bytes())?;
        importer.finish()
    };
    let whole = format!("{header}{}{}", items.concat(), exporter.end());
    assert!(import(&whole).is_ok());
    let cut = format!("{header}{}", items.concat());
    assert_eq!(import(&cut).unwrap_err().line, 2 + items.len() as u64);
    let missing = format!("{header}{}{}", items[1..].concat(), exporter.end());
    assert!(import(&missing).unwrap_err().what.contains("7 items came"));
    let unknown =
        whole.replacen("\"version\":1,\"cluster\"", "\"extra\":1,\"version\":1,\"cluster\"", 1);
    assert_eq!(import(&unknown).unwrap_err().line, 1);
    let newer = whole.replacen("\"version\":1,\"cluster\"", "\"version\":2,\"cluster\"", 1);
    assert!(import(&newer).unwrap_err().what.contains("version 2"));
}

fn write(disk: &mut MemDisk, state: &KvState, index: u64) -> WriterStep {
    let header = Header::of(&IDENTITY, meta(index, 4), state);
    let (mut writer, mut op) = Writer::new(Encoder::new(header, state.items()));
    loop {
        match writer.handle(disk.run(op)) {
            WriterStep::Disk(next) => op = next,
            end => return end,
        }
    }
}

#[test]
fn the_writer_publishes_the_encoders_bytes() {
    let (mut disk, state) = (MemDisk::default(), state(9000));
    let (header, file) = file_of(&state, 12);
    assert_eq!(write(&mut disk, &state, 12), WriterStep::Done(info(&header, file.len() as u64)));
    assert_eq!(disk.files[&FileName::Snapshot(12)], file);
    assert_eq!(disk.files.len(), 1);
}

#[test]
fn a_full_disk_fails_the_snapshot_and_leaves_nothing() {
    let mut disk = MemDisk { capacity: Some(500_000), ..MemDisk::default() };
    let WriterStep::Failed(error) = write(&mut disk, &state(9000), 12) else { panic!("it fits") };
    assert_eq!(error.kind, DiskErrorKind::Full);
    assert!(disk.files.is_empty());
}

/// A sender and a receiver, each with its disk, and the frames between them.
struct Transfer {
    sender: Sender,
    receiver: Receiver,
    disks: [MemDisk; 2],
    now: Mono,
    installed: Option<Installed>,
    outcome: Option<SenderStep>,
}

impl Transfer {
    fn new(state: &KvState, index: u64) -> (Self, DiskOp) {
        let mut disk = MemDisk::default();
        let WriterStep::Done(info) = write(&mut disk, state, index) else { panic!("not written") };
        let (sender, op) = Sender::new(meta(index, 4), info.bytes, 5);
        let receiver = Receiver::new(IDENTITY, 3);
        let disks = [disk, MemDisk::default()];
        (Transfer { sender, receiver, disks, now: Mono(0), installed: None, outcome: None }, op)
    }

    /// Carries a frame to the receiver; its answers.
    fn deliver(&mut self, frame: PeerFrame) -> Vec<PeerFrame> {
        let PeerFrame::SnapshotChunk { snapshot, term, offset, total_bytes, bytes } = frame else {
            panic!("{frame:?}")
        };
        self.receiver.handle_chunk(LEADER, term, snapshot, offset, total_bytes, &bytes);
        let mut answers = Vec::new();
        while let Some(step) = self.receiver.poll() {
            match step {
                ReceiverStep::Disk { ticket, action } => {
                    let result = self.disks[1].run(action);
                    self.receiver.handle_disk(ticket, result);
                }
                ReceiverStep::Send { frame, .. } => answers.push(frame),
                ReceiverStep::Installed(installed) => self.installed = Some(*installed),
                ReceiverStep::Failed(_) => {}
            }
        }
        answers
    }

    /// Does what the sender wants, up to the frame it sends.
    fn advance(&mut self, mut step: SenderStep) -> Option<PeerFrame> {
        loop {
            match step {
                SenderStep::Disk(op) => {
                    let result = self.disks[0].run(op);
                    step = self.sender.handle_read(result, self.now);
                }
                SenderStep::Send(frame) => return Some(frame),
                SenderStep::Wait => return None,
                SenderStep::Done | SenderStep::Failed(_) => {
                    self.outcome = Some(step);
                    return None;
                }
            }
        }
    }

    fn answer(&mut self, frame: &PeerFrame) -> Option<PeerFrame> {
        let step = match frame {
            PeerFrame::SnapshotAck { index, next_offset } => {
                self.sender.handle_ack(*index, *next_offset)
            }
            PeerFrame::SnapshotRefused { index, reason } => {
                self.sender.handle_refused(*index, reason)
            }
            other => panic!("{other:?}"),
        };
        self.advance(step)
    }

    fn time_out(&mut self) -> Option<PeerFrame> {
        self.now = self.sender.next_timeout().unwrap_or(self.now);
        let step = self.sender.handle_timeout(self.now);
        self.advance(step)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Frames are lost, doubled and overtaken; in the end the state is there, and both files are the same.
    #[test]
    fn a_transfer_survives_a_bad_network(faults in proptest::collection::vec(0u8..10, 0..200)) {
        let source = state(20_000);
        let (mut transfer, op) = Transfer::new(&source, 40);
        let mut wire: Vec<PeerFrame> = transfer.advance(SenderStep::Disk(op)).into_iter().collect();
        let mut faults = faults.into_iter().chain(std::iter::repeat(9));
        while transfer.outcome.is_none() {
            let Some(frame) = wire.pop() else {
                wire.extend(transfer.time_out());
                continue;
            };
            match faults.next() {
                Some(0) => continue,
                Some(1) => wire.push(frame.clone()),
                Some(2) => {
                    wire.insert(0, frame.clone());
                }
                _ => {}
            }
            let answers = match frame {
                PeerFrame::SnapshotChunk { .. } => transfer.deliver(frame),
                _ => transfer.answer(&frame).into_iter().collect(),
            };
            wire.extend(answers);
        }
        prop_assert_eq!(&transfer.outcome, &Some(SenderStep::Done));
        let installed = transfer.installed.as_ref().expect("installed before it was acknowledged");
        prop_assert_eq!(installed.state.hash(), source.hash());
        prop_assert_eq!(&installed.header, &file_of(&source, 40).0);
        let file = FileName::Snapshot(40);
        prop_assert_eq!(&transfer.disks[0].files[&file], &transfer.disks[1].files[&file]);
        prop_assert_eq!(transfer.disks[1].files.len(), 1);
    }
}

#[test]
fn a_sender_gives_up_on_a_silent_peer() {
    let (mut transfer, op) = Transfer::new(&state(10), 40);
    transfer.advance(SenderStep::Disk(op));
    let mut sent = 0;
    while transfer.outcome.is_none() {
        sent += transfer.time_out().iter().count() as u32;
    }
    assert!(matches!(transfer.outcome, Some(SenderStep::Failed(_))));
    assert_eq!(sent, send::ATTEMPTS_MAX);
}

#[test]
fn a_damaged_file_is_refused_and_leaves_nothing() {
    let source = state(20_000);
    let (mut transfer, op) = Transfer::new(&source, 40);
    let file = transfer.disks[0].files.get_mut(&FileName::Snapshot(40)).unwrap();
    let place = file.len() - 70_000;
    file[place] ^= 1;
    let mut frame = transfer.advance(SenderStep::Disk(op));
    while let Some(chunk) = frame {
        let answers = transfer.deliver(chunk);
        frame = answers.iter().find_map(|answer| transfer.answer(answer));
    }
    assert!(matches!(&transfer.outcome, Some(SenderStep::Failed(why)) if why.contains("checksum")));
    assert!(transfer.disks[1].files.is_empty() && transfer.installed.is_none());
}

#[test]
fn another_sender_goes_on_where_the_first_stopped() {
    let source = state(20_000);
    let (mut first, op) = Transfer::new(&source, 40);
    let chunk = first.advance(SenderStep::Disk(op)).unwrap();
    let answers = first.deliver(chunk);
    let half_way = first.answer(&answers[0]).unwrap();
    let (mut second, op) = Transfer::new(&source, 40);
    (second.receiver, second.disks[1]) = (first.receiver, first.disks[1].clone());
    let mut frame = second.advance(SenderStep::Disk(op));
    let mut offsets = Vec::new();
    while let Some(chunk) = frame {
        let PeerFrame::SnapshotChunk { offset, .. } = &chunk else { panic!("{chunk:?}") };
        offsets.push(*offset);
        let answers = second.deliver(chunk);
        frame = answers.iter().find_map(|answer| second.answer(answer));
    }
    assert_eq!(second.outcome, Some(SenderStep::Done));
    assert_eq!(offsets[..2], [0, send::PIECE_BYTES]);
    assert!(matches!(half_way, PeerFrame::SnapshotChunk { offset: send::PIECE_BYTES, .. }));
}

#[test]
fn newer_snapshots_replace_older_ones_and_never_the_reverse() {
    let source = state(20_000);
    let (mut old, op) = Transfer::new(&source, 40);
    let old_chunk = old.advance(SenderStep::Disk(op)).unwrap();
    let (mut new, op) = Transfer::new(&source, 50);
    let new_chunk = new.advance(SenderStep::Disk(op)).unwrap();
    let is_ack = |answers: &[PeerFrame], wanted| matches!(answers, [PeerFrame::SnapshotAck { index, .. }] if *index == wanted);
    assert!(is_ack(&new.deliver(old_chunk.clone()), 40));
    assert!(is_ack(&new.deliver(new_chunk), 50));
    assert_eq!(new.disks[1].files.keys().collect::<Vec<_>>(), [&FileName::SnapshotTemp(50)]);
    let answers = new.deliver(old_chunk);
    assert!(matches!(answers[..], [PeerFrame::SnapshotRefused { index: 40, .. }]));
    new.receiver.handle_own_snapshot(60);
    assert_eq!(new.receiver.index(), None);
}

/// The sender of the newer one may be dead for good: until there is a later leader, nobody knows.
#[test]
fn a_later_leaders_older_snapshot_replaces_what_nobody_sends_any_more() {
    let source = state(20_000);
    let (mut old, op) = Transfer::new(&source, 40);
    let mut old_chunk = old.advance(SenderStep::Disk(op)).unwrap();
    let (mut new, op) = Transfer::new(&source, 50);
    let new_chunk = new.advance(SenderStep::Disk(op)).unwrap();
    new.deliver(new_chunk);
    let refused = new.deliver(old_chunk.clone());
    assert!(matches!(refused[..], [PeerFrame::SnapshotRefused { index: 40, .. }]), "{refused:?}");
    if let PeerFrame::SnapshotChunk { term, .. } = &mut old_chunk {
        *term += 1;
    }
    let taken = new.deliver(old_chunk);
    assert!(matches!(taken[..], [PeerFrame::SnapshotAck { index: 40, .. }]), "{taken:?}");
    assert_eq!(new.disks[1].files.keys().collect::<Vec<_>>(), [&FileName::SnapshotTemp(40)]);
}

#[test]
fn a_snapshot_of_another_cluster_is_refused() {
    let source = state(10);
    let (mut transfer, op) = Transfer::new(&source, 40);
    let chunk = transfer.advance(SenderStep::Disk(op)).unwrap();
    let other = Identity { cluster: crate::ids::ClusterId([1; 16]), ..IDENTITY };
    transfer.receiver = Receiver::new(other, 0);
    let answers = transfer.deliver(chunk);
    assert!(
        matches!(&answers[..], [PeerFrame::SnapshotRefused { reason, .. }] if reason.contains("cluster"))
    );
    assert!(transfer.disks[1].files.is_empty());
}

#[test]
fn a_full_disk_refuses_the_transfer() {
    let (mut transfer, op) = Transfer::new(&state(20_000), 40);
    transfer.disks[1].capacity = Some(600_000);
    let mut frame = transfer.advance(SenderStep::Disk(op));
    while let Some(chunk) = frame {
        let answers = transfer.deliver(chunk);
        frame = answers.iter().find_map(|answer| transfer.answer(answer));
    }
    assert!(matches!(&transfer.outcome, Some(SenderStep::Failed(why)) if why.contains("full")));
    assert!(transfer.disks[1].files.is_empty());
    let failed = Err(DiskError { kind: DiskErrorKind::Failed, message: String::new() });
    transfer.receiver.handle_disk(999, failed);
    transfer.receiver.handle_disk(1000, Ok(DiskDone::Done));
    assert!(transfer.receiver.poll().is_none());
}

//! One function for everything that reads bytes from outside. None may panic, and what decodes must survive being encoded. Each
//! returns whether the input was well-formed to its end.
//!
//! Targets of checksummed formats take a first byte: when it is odd, the checksums are put right first.

use super::backups::{backup_object, backup_reader};
use super::seal;
use super::seeds::IDENTITY;
use bytes::Bytes;
use raftkv_core::backup::blob::ObjectName;
use raftkv_core::backup::config::Config;
use raftkv_core::backup::cron::Cron;
use raftkv_core::backup::marker::Marker;
use raftkv_core::backup::metadata::Signed;
use raftkv_core::backup::slots::LaterSlots;
use raftkv_core::backup::{BackupId, Key};
use raftkv_core::boot::identity;
use raftkv_core::kv::{BadItem, Builder, Command, Item, KvState, MemberChange};
use raftkv_core::snapshot::json::{Exporter, Importer};
use raftkv_core::snapshot::{Decoder, Inspector, Loader};
use raftkv_core::time::Wall;
use raftkv_core::wal;
use raftkv_core::wire::client::{RequestFrame, ResponseFrame};
use raftkv_core::wire::frame;
use raftkv_core::wire::handshake::{Hello, Welcome};
use raftkv_core::wire::peer::PeerFrame;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;

/// Takes any bytes; says whether they were well-formed.
pub type Target = fn(&[u8]) -> bool;

/// Every target, by the name of its file under `fuzz_targets` and its directory under `corpus`.
pub const ALL: &[(&str, Target)] = &[
    ("backup_config", backup_config),
    ("backup_keys", backup_keys),
    ("backup_markers", backup_markers),
    ("backup_metadata", backup_metadata),
    ("backup_object", backup_object),
    ("backup_reader", backup_reader),
    ("client_frames", client_frames),
    ("commands", commands),
    ("cron", cron),
    ("identity_file", identity_file),
    ("peer_frames", peer_frames),
    ("snapshot_file", snapshot_file),
    ("snapshot_json", snapshot_json),
    ("wal_segments", wal_segments),
];

const FRAME_BYTES_MAX: usize = 1 << 16;

/// A cron expression, and behind a line break its time zone. Slots ascend, and are found in both directions.
pub fn cron(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let (expression, zone) = text.split_once('\n').unwrap_or((text, "UTC"));
    let Ok(cron) = Cron::parse(expression, zone) else { return false };
    let slots = cron.upcoming(Wall(1_761_350_000_000), 4);
    assert!(slots.is_sorted_by(|a, b| a < b));
    for slot in slots {
        assert_eq!(cron.last_until(slot), Some(slot));
    }
    true
}

/// What a client may send, and what it may be sent; the first byte says which.
pub fn client_frames(data: &[u8]) -> bool {
    match data.split_first() {
        Some((0, data)) => frames::<RequestFrame>(data),
        Some((_, data)) => frames::<ResponseFrame>(data),
        None => false,
    }
}

/// What a peer may send, from the first frame of a connection on; the first byte says which.
pub fn peer_frames(data: &[u8]) -> bool {
    match data.split_first() {
        Some((0, data)) => frames::<PeerFrame>(data),
        Some((1, data)) => frames::<Hello>(data),
        Some((_, data)) => frames::<Welcome>(data),
        None => false,
    }
}

fn frames<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) -> bool {
    let mut decoder = frame::Decoder::new(FRAME_BYTES_MAX);
    decoder.push(data);
    loop {
        match decoder.next_frame::<T>() {
            Ok(Some(value)) => {
                let mut again = frame::Decoder::new(usize::MAX);
                again.push(&frame::to_bytes(&value));
                assert_eq!(again.next_frame(), Ok(Some(value)));
            }
            Ok(None) => return !decoder.is_mid_frame(),
            Err(_) => return false,
        }
    }
}

/// The data of log entries: what decodes is applied to a state, whatever it says.
pub fn commands(data: &[u8]) -> bool {
    let mut state = KvState::new();
    let mut all_decode = true;
    for (index, entry) in (1..).zip(data.split(|byte| *byte == 0xff)) {
        let command = Command::decode(entry);
        all_decode &= command.is_ok();
        if let Ok(command) = command {
            assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(&command));
            let before = state.revision();
            state.apply(index, &command);
            assert!(state.revision() >= before, "the revision went back");
        }
        if let Ok(change) = MemberChange::decode(entry) {
            assert_eq!(MemberChange::decode(&change.encode()).as_ref(), Ok(&change));
        }
    }
    rebuild(&state);
    all_decode
}

/// A state's own items always make up the same state.
fn rebuild(state: &KvState) {
    let rebuilt = build(state.items()).expect("a state's own items are in order");
    assert_eq!(rebuilt.hash(), state.hash());
}

fn build(items: impl IntoIterator<Item = Item>) -> Result<KvState, BadItem> {
    let mut builder = Builder::new();
    for item in items {
        builder.push(item)?;
    }
    builder.finish()
}

/// A log: segments one after the other, each from its magic on.
pub fn wal_segments(data: &[u8]) -> bool {
    let Some((flags, data)) = data.split_first() else { return false };
    let magic = b"RAFTKVWL";
    let mut starts: Vec<usize> =
        (0..data.len()).filter(|start| data[*start..].starts_with(magic)).collect();
    starts.push(data.len());
    let segments = (1..).zip(starts.windows(2)).map(|(number, bounds)| {
        let mut bytes = data[bounds[0]..bounds[1]].to_vec();
        if flags & 1 == 1 {
            seal::segment(number, &mut bytes);
        }
        (number, Bytes::from(bytes))
    });
    let Ok(log) = wal::recover(IDENTITY, segments) else { return false };
    for (index, entry) in (log.first_index..).zip(&log.entries) {
        assert_eq!(entry.index, index, "the recovered log has a gap");
    }
    log.torn.is_none()
}

/// A snapshot as a file: the same whole or in pieces, and inspected or loaded. What came of it before it broke off makes up a sound
/// state, or is refused.
pub fn snapshot_file(data: &[u8]) -> bool {
    let (is_whole, state) = snapshot(data);
    is_whole && state.is_ok()
}

/// What [`snapshot_file`] comes to: whether the file is whole, and the state its items make.
pub fn snapshot(data: &[u8]) -> (bool, Result<KvState, BadItem>) {
    let (flags, data) = data.split_first().unwrap_or((&0, &[]));
    let mut data = data.to_vec();
    if flags & 1 == 1 {
        seal::snapshot(&mut data);
    }
    let (is_whole, items) = decode_snapshot([&data[..]]);
    let in_pieces = decode_snapshot(data.chunks(7));
    assert_eq!((is_whole, &items), (in_pieces.0, &in_pieces.1), "pieces make a difference");
    let state = build(items);
    if let Ok(state) = &state {
        rebuild(state);
    }
    let mut loader = Loader::new();
    if loader.push(&data).is_ok()
        && let Ok((header, loaded)) = loader.finish()
    {
        assert!(is_whole && state.as_ref().is_ok_and(|state| state.hash() == loaded.hash()));
        assert_eq!(header.state_hash, loaded.hash(), "another state than the header names");
    }
    let mut inspector = Inspector::new();
    inspector.push(&data);
    inspector.finish();
    (is_whole, state)
}

/// Whether the file is whole, and the items up to where it breaks off.
fn decode_snapshot<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (bool, Vec<Item>) {
    let mut decoder = Decoder::new();
    let mut items = Vec::new();
    for piece in pieces {
        if decoder.push_into(piece, &mut items).is_err() {
            return (false, items);
        }
    }
    (decoder.finish().is_ok(), items)
}

/// A snapshot as JSON lines: what imports exports to lines that import the same.
pub fn snapshot_json(data: &[u8]) -> bool {
    let Some(items) = import_json(data) else { return false };
    let mut exporter = Exporter::new();
    let mut importer = Importer::new();
    importer.push(data).expect("it was taken before");
    let header = importer.finish().expect("it was taken before");
    let mut text = exporter.header(&header);
    items.iter().for_each(|item| text.push_str(&exporter.item(item)));
    text.push_str(&exporter.end());
    assert_eq!(import_json(text.as_bytes()), Some(items));
    true
}

fn import_json(data: &[u8]) -> Option<Vec<Item>> {
    let mut importer = Importer::new();
    let items = importer.push(data).ok()?;
    importer.finish().ok().map(|_| items)
}

/// A data directory's identity.
pub fn identity_file(data: &[u8]) -> bool {
    let Some((flags, data)) = data.split_first() else { return false };
    let mut data = data.to_vec();
    if flags & 1 == 1 {
        seal::identity(&mut data);
    }
    let Ok((identity, standing)) = identity::decode(&data) else { return false };
    let again = identity::encode(&identity, &standing);
    assert_eq!(identity::decode(&again), Ok((identity, standing)));
    true
}

/// The backup configuration: a file of YAML, read and checked as nodes and the command line do it, with its stores' URLs. One that is
/// good names stores that can be told apart, each of which is a good configuration of its own.
pub fn backup_config(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(config) = serde_saphyr::from_str::<Config>(text) else { return false };
    if config.check().is_err() {
        return false;
    }
    let names: BTreeSet<&str> = config.stores().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 1 + config.copies.len(), "two stores of one name");
    assert!(names.len() >= usize::from(config.required_copies), "more are required than there are");
    for name in names {
        let alone = config.alone(name).expect("it is one of its stores");
        assert_eq!(alone.check(), Ok(()));
    }
    assert_eq!(
        config.backup.encryption.key().map(|key| key.is_some()),
        Ok(config.backup.encryption.is_enabled())
    );
    // A schedule is checked by whoever starts one.
    let _ = Cron::parse(&config.schedule.cron_expression, &config.schedule.timezone);
    true
}

/// A backup's `keys.bin`.
pub fn backup_keys(data: &[u8]) -> bool {
    let Some((flags, data)) = data.split_first() else { return false };
    let mut data = data.to_vec();
    if flags & 1 == 1 {
        seal::keys(&mut data);
    }
    LaterSlots::decode(&data).is_ok()
}

/// A pin, hold or lock: the first line is its path.
pub fn backup_markers(data: &[u8]) -> bool {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return false };
    let (path, document) = (&data[..end], &data[end + 1..]);
    let place = std::str::from_utf8(path).ok().and_then(ObjectName::from_path);
    let Some(place) = place else { return false };
    let Ok(marker) = Marker::parse(place, document) else { return false };
    assert_eq!(marker.render(), document);
    true
}

/// A backup's `metadata.json`; a key file too, which is as short a text from outside.
pub fn backup_metadata(data: &[u8]) -> bool {
    // Only that bad bytes are an error, not a panic.
    let _ = Key::parse(data);
    let _ = std::str::from_utf8(data).map(|text| text.parse::<BackupId>());
    Signed::parse(data).is_ok()
}

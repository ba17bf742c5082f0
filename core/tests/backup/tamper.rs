//! Every way to alter a backup is refused with a typed error, and yields nothing.

use super::sample::*;
use super::store::Store;
use proptest::prelude::*;
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::format::{FormatError, Preamble};
use raftkv_core::backup::metadata::MetadataError;
use raftkv_core::backup::open::ChunkFault;
use raftkv_core::backup::read::{ReadError, ReadTrouble};
use raftkv_core::backup::verify::Level;
use raftkv_core::backup::{BackupId, Key};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// A whole backup, to be altered.
pub struct Victim {
    pub store: Store,
    pub id: BackupId,
    pub keys: Vec<Key>,
    compression: Compression,
    pub data: Vec<u8>,
}

impl Victim {
    pub fn new(index: u64, keys: &[Key]) -> Victim {
        Victim::compressed(Compression::None, index, keys)
    }

    fn compressed(compression: Compression, index: u64, keys: &[Key]) -> Victim {
        let mut store = Store::default();
        let settings = settings(compression, keys);
        let id = backup(&mut store, &state(200), index, settings);
        let data = store.objects[&format!("{id}/data.db")].clone();
        Victim { store, id, keys: keys.to_vec(), compression, data }
    }

    fn data_path(&self) -> String {
        format!("{}/data.db", self.id)
    }

    pub fn metadata_path(&self) -> String {
        format!("{}/metadata.json", self.id)
    }

    /// Restores from altered data.
    pub fn with_data(&mut self, data: Vec<u8>) -> ReadError {
        let path = self.data_path();
        self.store.objects.insert(path, data);
        self.restore()
    }

    fn restore(&mut self) -> ReadError {
        match restore(&mut self.store, self.id, access(&self.keys)) {
            Ok(restored) => panic!("restored {:?}", restored.metadata),
            Err(error) => error,
        }
    }

    /// Where each chunk begins, and where the last one ends.
    pub fn boundaries(&self) -> Vec<usize> {
        let mut at = Preamble::decode(&self.data).unwrap().len_bytes;
        let mut boundaries = vec![at];
        while at < self.data.len() {
            let length: [u8; 4] = self.data[at..at + 4].try_into().unwrap();
            at += 4 + u32::from_le_bytes(length) as usize;
            boundaries.push(at);
        }
        boundaries
    }

    /// Each chunk with its length before it.
    fn chunks(&self) -> Vec<Vec<u8>> {
        let at = self.boundaries();
        at.windows(2).map(|ends| self.data[ends[0]..ends[1]].to_vec()).collect()
    }
}

/// What the chunks say when the metadata is not asked: altered chunks behind the true front, of the true or another length.
pub fn open_all(data: &[u8], keys: &[Key]) -> Result<usize, ChunkFault> {
    use raftkv_core::backup::open::{Frames, Opened, open_chunk};
    let preamble = Preamble::decode(data).unwrap();
    let access = access(keys);
    let unlocked = preamble.unlock(&access.keys, access.plaintext).unwrap();
    let start = preamble.len_bytes;
    let mut frames = Frames::new(&preamble.header, start as u64, data.len() as u64);
    frames.push(&data[start..]);
    let mut opened = 0;
    while let Some(frame) = frames.next_frame().map_err(|error| error.fault)? {
        match open_chunk(&unlocked.chunks, &frame).map_err(|error| error.fault)? {
            Opened::Data(plain) => opened += plain.len(),
            Opened::End(trailer) => {
                assert_eq!(trailer.plain_bytes, opened as u64);
                return Ok(opened);
            }
        }
    }
    Err(ChunkFault::Truncated)
}

/// Plain and sealed; compressed in every way that is built in.
pub fn victims() -> Vec<Victim> {
    let zstd = cfg!(feature = "zstd").then_some(Compression::Zstd { level: 3 });
    let compressions = [GZIP].into_iter().chain(zstd);
    let compressed = compressions.map(|it| Victim::compressed(it, 7, &[key(1)]));
    let stored = [Victim::new(7, &[]), Victim::new(7, &[key(1)])];
    stored.into_iter().chain(compressed).collect()
}

#[test]
fn every_bit_of_the_header_counts() {
    for mut victim in victims() {
        let front = Preamble::decode(&victim.data).unwrap().len_bytes;
        for bit in 0..front * 8 {
            let mut data = victim.data.clone();
            data[bit / 8] ^= 1 << (bit % 8);
            let error = victim.with_data(data);
            assert!(matches!(error, ReadError::Header { .. }), "bit {bit}: {error}");
        }
    }
}

#[test]
fn every_bit_of_the_header_counts_for_one_who_can_mend_checksums() {
    let mut victim = Victim::new(7, &[key(1)]);
    let front = Preamble::decode(&victim.data).unwrap().len_bytes;
    let mut kinds = BTreeSet::new();
    // Behind magic, version and lengths, whose change moves everything else.
    for bit in 14 * 8..(front - 4) * 8 {
        let mut data = victim.data.clone();
        data[bit / 8] ^= 1 << (bit % 8);
        let crc = crc32c::crc32c(&data[..front - 4]).to_le_bytes();
        data[front - 4..front].copy_from_slice(&crc);
        kinds.insert(match victim.with_data(data) {
            ReadError::Header { error: FormatError::HeaderForged, .. } => "header",
            ReadError::Header { error: FormatError::SlotForged { .. }, .. } => "slot",
            ReadError::Header { error: FormatError::KeyMissing { .. }, .. } => "key",
            ReadError::Header { error: FormatError::Damaged { .. }, .. } => "fields",
            ReadError::Header { error: FormatError::PlaintextRefused, .. } => "suite",
            ReadError::Misplaced { .. } => "id",
            error => panic!("bit {bit}: {error}"),
        });
    }
    let all = ["fields", "header", "id", "key", "slot", "suite"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn every_bit_of_the_metadata_counts() {
    for mut victim in victims() {
        let path = victim.metadata_path();
        let whole = victim.store.objects[&path].clone();
        for bit in 0..whole.len() * 8 {
            let mut altered = whole.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            victim.store.objects.insert(path.clone(), altered);
            let error = victim.restore();
            assert_ne!(error.trouble(), ReadTrouble::Store, "bit {bit}: {error}");
        }
    }
}

#[test]
fn truncation_at_and_inside_every_chunk_is_noticed() {
    for mut victim in victims() {
        let boundaries = victim.boundaries();
        assert!(boundaries.len() > 4, "too few chunks to show anything");
        for (from, to) in boundaries.iter().zip(&boundaries[1..]) {
            for end in [*from, from + 1, from + 3, from + 4, from + 5, (from + to) / 2, to - 1] {
                let cut = victim.data[..end].to_vec();
                let expected = match boundaries.contains(&end) {
                    true => ChunkFault::Truncated,
                    false => ChunkFault::Cut { missing_bytes: 0 },
                };
                let fault = open_all(&cut, &victim.keys).unwrap_err();
                let same = std::mem::discriminant(&fault) == std::mem::discriminant(&expected);
                assert!(same, "cut at {end}: {fault}");
                let error = victim.with_data(cut);
                assert!(matches!(error, ReadError::Mismatch { .. }), "{error}");
            }
        }
        for end in 0..boundaries[0] {
            let error = Preamble::decode(&victim.data[..end]).unwrap_err();
            assert_eq!(error, FormatError::Truncated { len_bytes: end });
        }
    }
}

#[test]
fn chunks_dropped_doubled_swapped_or_spliced_are_noticed() {
    for mut victim in victims() {
        let other = Victim::compressed(victim.compression, 8, &victim.keys);
        let front = victim.data[..victim.boundaries()[0]].to_vec();
        let (chunks, foreign) = (victim.chunks(), other.chunks());
        assert_eq!(chunks.len(), foreign.len());
        let join = |chunks: &[Vec<u8>]| [front.clone(), chunks.concat()].concat();
        assert!(open_all(&join(&chunks), &victim.keys).is_ok());
        let last = chunks.len() - 1;
        for n in 0..chunks.len() {
            let mut dropped = chunks.clone();
            dropped.remove(n);
            let mut doubled = chunks.clone();
            doubled.insert(n, chunks[n].clone());
            let mut swapped = chunks.clone();
            swapped.swap(n, (n + 1) % chunks.len());
            let mut spliced = chunks.clone();
            spliced[n] = foreign[n].clone();
            for altered in [dropped, doubled, swapped, spliced] {
                let data = join(&altered);
                let fault = open_all(&data, &victim.keys).unwrap_err();
                let known = [ChunkFault::Damaged, ChunkFault::Truncated, ChunkFault::Trailing];
                assert!(known.contains(&fault), "chunk {n} of {last}: {fault}");
                let error = victim.with_data(data);
                assert_eq!(error.trouble(), ReadTrouble::Verification, "{error}");
            }
        }
        let mut extended = victim.data.clone();
        extended.extend_from_slice(&chunks[0]);
        assert_eq!(open_all(&extended, &victim.keys), Err(ChunkFault::Trailing));
    }
}

#[test]
fn a_flipped_bit_in_any_chunk_is_noticed() {
    for mut victim in victims() {
        let start = victim.boundaries()[0];
        for at in (start..victim.data.len()).step_by(97) {
            let mut data = victim.data.clone();
            data[at] ^= 0x10;
            assert!(open_all(&data, &victim.keys).is_err(), "byte {at}");
            let error = victim.with_data(data);
            assert!(
                matches!(error, ReadError::Chunk { .. } | ReadError::Mismatch { .. }),
                "byte {at}: {error}"
            );
        }
    }
}

#[test]
fn wrong_key_and_damage_are_told_apart() {
    let mut victim = Victim::new(7, &[key(1)]);
    victim.keys = vec![key(2)];
    assert_eq!(victim.restore().trouble(), ReadTrouble::Key);
    victim.keys = vec![key(1)];
    let mut data = victim.data.clone();
    let last = data.len() - 100;
    data[last] ^= 1;
    assert_eq!(victim.with_data(data).trouble(), ReadTrouble::Verification);
}

#[test]
fn objects_of_two_backups_do_not_mix() {
    for keys in [vec![], vec![key(1)]] {
        let (mut a, b) = (Victim::new(7, &keys), Victim::new(8, &keys));
        let metadata_of_b = b.store.objects[&b.metadata_path()].clone();
        // Metadata of b beside data of a.
        let (path, own) = (a.metadata_path(), a.store.objects[&a.metadata_path()].clone());
        a.store.objects.insert(path.clone(), metadata_of_b.clone());
        assert!(matches!(a.restore(), ReadError::Misplaced { found, .. } if found == b.id));
        // The same, with the id changed to fit.
        let text = String::from_utf8(metadata_of_b).unwrap();
        let renamed = text.replace(&b.id.to_string(), &a.id.to_string());
        a.store.objects.insert(path.clone(), renamed.into_bytes());
        assert_eq!(a.restore().trouble(), ReadTrouble::Verification);
        // Data of b beside metadata of a.
        a.store.objects.insert(path, own);
        assert!(matches!(a.with_data(b.data.clone()), ReadError::Misplaced { .. }));
    }
}

#[test]
fn an_older_backup_under_a_newer_name_is_noticed() {
    let (old, mut new) = (Victim::new(7, &[key(1)]), Victim::new(8, &[key(1)]));
    let metadata = old.store.objects[&old.metadata_path()].clone();
    new.store.objects.insert(new.metadata_path(), metadata);
    assert!(matches!(
        new.with_data(old.data.clone()),
        ReadError::Misplaced { found, .. } if found == old.id
    ));
}

#[test]
fn altered_metadata_is_told_from_damaged() {
    let mut victim = Victim::new(7, &[key(1)]);
    let path = victim.metadata_path();
    let text = String::from_utf8(victim.store.objects[&path].clone()).unwrap();
    let altered = text.replace("\"raft_term\": 3", "\"raft_term\": 4");
    assert_ne!(text, altered);
    victim.store.objects.insert(path, altered.into_bytes());
    let ReadError::Metadata { error, .. } = victim.restore() else { panic!() };
    assert_eq!(error, MetadataError::Forged);
}

#[test]
fn a_stream_that_is_authentic_but_not_the_state_is_refused() {
    // The header claims another state hash than the items have, and everything around is sealed correctly.
    let state = state(30);
    let (mut header, _) = stream(&state, 7);
    header.state_hash = super::sample::state(31).hash();
    let mut encoder = raftkv_core::snapshot::Encoder::new(header.clone(), state.items());
    let chunks: Vec<_> = std::iter::from_fn(|| encoder.next_chunk()).collect();
    let mut store = Store::default();
    let mut create = raftkv_core::backup::create::Create::new(
        source(&header, &state),
        settings(GZIP, &[key(1)]),
        raftkv_core::time::Wall(0),
        &mut rng(7),
    )
    .unwrap();
    feed(&mut store, &mut create, &chunks);
    let id = create.id();
    assert!(verify(&mut store, id, Level::Decrypt, access(&[key(1)])).result.is_ok());
    let error = restore(&mut store, id, access(&[key(1)])).unwrap_err();
    assert!(matches!(error, ReadError::State { .. }), "{error}");
}

#[test]
fn no_nonce_is_used_twice() {
    // One data key per backup and one number per chunk: sealed chunks of equal plain bytes never repeat.
    let mut store = Store::default();
    let mut seen = BTreeSet::new();
    for index in 1..=20 {
        let id = backup(&mut store, &state(200), index, settings(Compression::None, &[key(1)]));
        let data = store.objects[&format!("{id}/data.db")].clone();
        let preamble = Preamble::decode(&data).unwrap();
        assert!(seen.insert(Sha256::digest(preamble.header.salt).to_vec()), "a salt repeats");
        for tag in data[preamble.len_bytes..].chunks(16) {
            assert!(tag.len() < 16 || seen.insert(tag.to_vec()), "16 sealed bytes repeat");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_panic_the_header_decoder(bytes: Vec<u8>, keep in 0usize..14) {
        let mut data = Victim::new(7, &[]).data;
        data.truncate(keep);
        data.extend_from_slice(&bytes);
        let _ = Preamble::decode(&bytes);
        let _ = Preamble::decode(&data);
    }

    #[test]
    fn arbitrary_edits_never_restore(
        at in any::<prop::sample::Index>(),
        remove in 0usize..50,
        insert in prop::collection::vec(any::<u8>(), 0..50),
        keyed: bool,
    ) {
        let keys = if keyed { vec![key(1)] } else { vec![] };
        let mut victim = Victim::new(7, &keys);
        let mut data = victim.data.clone();
        let at = at.index(data.len());
        let end = (at + remove).min(data.len());
        data.splice(at..end, insert);
        prop_assume!(data != victim.data);
        let error = victim.with_data(data);
        prop_assert_ne!(error.trouble(), ReadTrouble::NotFound);
    }
}

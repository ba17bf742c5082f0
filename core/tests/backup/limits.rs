//! Lengths, amounts and versions that cannot be are refused by name.

use super::sample::*;
use super::tamper::{Victim, open_all, victims};
use bytes::Bytes;
use raftkv_core::backup::Metadata;
use raftkv_core::backup::format::{FORMAT_VERSION, FormatError, Preamble};
use raftkv_core::backup::metadata::Signed;
use raftkv_core::backup::open::ChunkFault;
use raftkv_core::backup::read::{ReadError, Reader, Sink};
use raftkv_core::backup::verify::Level;
use sha2::{Digest, Sha256};

/// Gives the chunk at `at` of a backup that is not encrypted another plain length, with a tag that fits, as anybody can.
fn declare(data: &mut [u8], number: u32, at: usize, declared_bytes: u32) {
    let header_end = 14 + usize::from(u16::from_le_bytes([data[10], data[11]]));
    let header_hash =
        Sha256::new().chain_update(&data[..10]).chain_update(&data[14..header_end]).finalize();
    let length = u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
    let (body, tag) = data[at + 4..].split_at_mut(length as usize - 16);
    body[..4].copy_from_slice(&declared_bytes.to_le_bytes());
    let sum = Sha256::new()
        .chain_update(header_hash)
        .chain_update(number.to_be_bytes())
        .chain_update([0])
        .chain_update(body)
        .finalize();
    tag[..16].copy_from_slice(&sum[..16]);
}

#[test]
fn lengths_that_no_chunk_has_are_refused_by_name() {
    for mut victim in victims() {
        let at = victim.boundaries()[1];
        let error = |error: ReadError| match error {
            ReadError::Chunk { error, .. } => (error.number, error.offset, error.fault),
            error => panic!("{error}"),
        };
        // Body and tag: at least a plain length and 16 bytes, at most 4096 more.
        for len_bytes in [0, 19, 4096 + 21, u64::from(u32::MAX)] {
            let mut data = victim.data.clone();
            data[at..at + 4].copy_from_slice(&(len_bytes as u32).to_le_bytes());
            let fault = ChunkFault::Length { len_bytes };
            assert_eq!(open_all(&data, &victim.keys), Err(fault));
            assert_eq!(error(victim.with_data(data)), (1, at as u64, fault));
        }
    }
}

#[test]
fn a_plain_length_that_no_chunk_has_is_refused_by_name() {
    let mut victim = Victim::new(7, &[]);
    let at = victim.boundaries()[1];
    let mut data = victim.data.clone();
    declare(&mut data, 1, at, 4096);
    assert_eq!(data, victim.data, "the tag is made as it should be");
    // More than a chunk of this backup holds, and less than is there.
    for declared_bytes in [4097, u32::MAX, 4095, 0] {
        declare(&mut data, 1, at, declared_bytes);
        let fault = ChunkFault::Declared { declared_bytes: declared_bytes.into() };
        assert_eq!(open_all(&data, &[]), Err(fault));
        let ReadError::Chunk { error, .. } = victim.with_data(data.clone()) else { panic!() };
        assert_eq!((error.number, error.offset, error.fault), (1, at as u64, fault));
    }
}

#[test]
fn a_format_that_is_not_known_asks_for_newer_software() {
    for mut victim in victims() {
        for found in [0, FORMAT_VERSION + 1, u16::MAX] {
            let mut data = victim.data.clone();
            data[8..10].copy_from_slice(&found.to_le_bytes());
            let unknown = FormatError::UnknownVersion { found, newest: FORMAT_VERSION };
            assert!(unknown.to_string().ends_with("use a newer version"));
            let id = victim.id;
            assert_eq!(victim.with_data(data), ReadError::Header { id, error: unknown });
        }
    }
}

/// Counts what it is given.
#[derive(Default)]
struct Count(u64);

impl Sink for Count {
    fn push(&mut self, plain: Bytes) -> Result<(), String> {
        self.0 += plain.len() as u64;
        Ok(())
    }

    fn sha256(&self) -> [u8; 32] {
        [0; 32]
    }

    fn finish(&mut self, _metadata: &Metadata) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn nothing_is_given_on_behind_what_the_metadata_claims() {
    for mut victim in victims() {
        let access = access(&victim.keys);
        let preamble = Preamble::decode(&victim.data).unwrap();
        let unlocked = preamble.unlock(&access.keys, access.plaintext).unwrap();
        let path = victim.metadata_path();
        let mut claims = Signed::parse(&victim.store.objects[&path]).unwrap().claims().clone();
        let held_bytes = claims.size_bytes;
        assert!(held_bytes > 10_000, "{held_bytes} bytes are too few to show anything");
        for (claimed_bytes, given_bytes) in [(0, 0), (4095, 0), (4096, 4096), (10_000, 8192)] {
            claims.size_bytes = claimed_bytes;
            victim.store.objects.insert(path.clone(), claims.render(&unlocked.metadata));
            let (id, access) = (victim.id, access.clone());
            let mut reader = Reader::new(id, Level::Restore, access, bounds(), Count::default());
            victim.store.drive(&mut reader);
            let (result, Count(given)) = reader.into_parts().unwrap();
            assert_eq!(result, Err(ReadError::Overlong { id, claimed_bytes }));
            assert_eq!(given, given_bytes, "{claimed_bytes} were claimed");
        }
    }
}

//! A document by hand, its one spelling, and what is refused.

use super::*;
use crate::rng::Seed;
use proptest::prelude::*;

fn key() -> MetadataKey {
    MetadataKey::new([9; 32])
}

fn metadata() -> Metadata {
    let mut rng = Seed::from_number(2).fork("metadata");
    let mut state_hash = StateHash::default();
    state_hash.add(&[b"item"]);
    Metadata {
        id: BackupId::draw(&mut rng),
        timestamp: Wall(1_764_930_645_123),
        status: Status::Complete,
        error: String::new(),
        cluster: ClusterId(rng.bytes()),
        epoch: Epoch(2),
        node: NodeId::new(3, 1),
        members: vec![MemberInfo {
            node: NodeId::new(3, 1),
            address: "10.0.0.3:7400".into(),
            role: MemberRole::Voter,
        }],
        index: 1000,
        term: 5,
        revision: 900,
        state_hash,
        keys: 12,
        size_bytes: 4096,
        plain_checksum: Checksum(rng.bytes()),
        data_bytes: 700,
        checksum: Checksum(rng.bytes()),
        compression: CompressionType::Gzip,
        suite: Suite::Aes256Gcm,
        key_ids: vec![KeyId(rng.bytes())],
        version: "0.1.0".into(),
    }
}

#[test]
fn what_was_written_is_read() {
    let bytes = metadata().render(&key());
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains(r#""timestamp": "2025-12-05T10:30:45.123Z""#), "{text}");
    let signed = Signed::parse(&bytes).unwrap();
    assert_eq!(signed.clone().verify(&key()), Ok(metadata()));
    assert_eq!(signed.verify(&MetadataKey::new([8; 32])), Err(MetadataError::Forged));
}

#[test]
fn every_flipped_bit_is_refused() {
    let bytes = metadata().render(&key());
    for bit in 0..bytes.len() * 8 {
        let mut altered = bytes.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        let read = Signed::parse(&altered).and_then(|signed| signed.verify(&key()));
        assert!(read.is_err(), "bit {bit} flipped: {read:?}");
    }
}

#[test]
fn other_spellings_are_refused() {
    let text = String::from_utf8(metadata().render(&key())).unwrap();
    let cases = [
        (text.replace("  ", " "), MetadataError::NotCanonical),
        (text.replace(".123Z", ".123000Z"), MetadataError::NotCanonical),
        (text.replace("\"epoch\": 2", "\"epoch\": 3"), MetadataError::Forged),
        (
            text.replace("\"format_version\": 1", "\"format_version\": 7"),
            MetadataError::UnknownVersion { found: 7 },
        ),
        (" ".repeat(MAX_METADATA_BYTES + 1), MetadataError::TooLong),
    ];
    for (altered, error) in cases {
        let read = Signed::parse(altered.as_bytes()).and_then(|signed| signed.verify(&key()));
        assert_eq!(read, Err(error));
    }
    for (from, to) in [("\"epoch\"", "\"epoch2\""), ("\"epoch\"", "\"keys\""), ("3.1", "x.1")] {
        let read = Signed::parse(text.replace(from, to).as_bytes());
        assert!(matches!(read, Err(MetadataError::Malformed(_))), "{read:?}");
    }
}

#[test]
fn impossible_times_do_not_panic() {
    assert_eq!(rfc3339(Wall(0)), "1970-01-01T00:00:00.000Z");
    assert!(rfc3339(Wall(i64::MAX)).starts_with("9999-"));
    assert!(rfc3339(Wall(i64::MIN)).starts_with("-009999-"));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = Signed::parse(&bytes);
    }

    #[test]
    fn no_altered_text_passes(at in 0usize..900, with in "[\\x00-\\x7f]{1,3}") {
        let text = String::from_utf8(metadata().render(&key())).unwrap();
        let mut altered = text.clone();
        altered.replace_range(at..at + 1, &with);
        let read = Signed::parse(altered.as_bytes()).and_then(|signed| signed.verify(&key()));
        prop_assert_eq!(read.is_ok(), altered == text);
    }
}

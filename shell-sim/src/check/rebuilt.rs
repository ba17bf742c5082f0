//! Lost metadata is rebuilt to what it was, byte for byte; and that can be done wherever the data is whole.

use super::Violation;
use bytes::Bytes;
use raftkv_core::backup::read::{ReadError, ReadTrouble};
use raftkv_core::backup::{BackupId, Metadata};

/// Checks an attempt to rebuild the metadata of a backup that has lost nothing else: `lost` is what it was, `found` is there now.
pub fn check(
    id: BackupId,
    result: Result<&Metadata, &ReadError>,
    lost: &Bytes,
    found: Option<&Bytes>,
) -> Result<(), Violation> {
    let complaint = match (result, found) {
        (Ok(_), Some(found)) if found == lost => return Ok(()),
        (Ok(_), Some(_)) => "is not what was lost".into(),
        (Ok(_), None) => "is not there".into(),
        (Err(error), _) if error.trouble() == ReadTrouble::Store => return Ok(()),
        (Err(error), _) => format!("cannot be rebuilt, though the data is whole: {error}"),
    };
    Err(Violation::new("rebuilt metadata", format!("the metadata of {id} {complaint}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::backup_testing::{BackupMaker, settings};
    use raftkv_core::backup::blob::{BlobError, BlobErrorKind, ObjectName};

    #[test]
    fn other_metadata_and_a_refusal_without_a_cause_are_noticed() {
        let mut maker = BackupMaker::new(1);
        let metadata = maker.make(settings(&[]), "a");
        let (id, object) = (metadata.id, ObjectName::metadata(metadata.id));
        let lost = maker.bucket().get(object).unwrap().clone();
        let other = Bytes::from_static(b"{}");
        assert_eq!(check(id, Ok(&metadata), &lost, Some(&lost)), Ok(()));
        assert!(check(id, Ok(&metadata), &lost, Some(&other)).is_err());
        assert!(check(id, Ok(&metadata), &lost, None).is_err());
        let damaged = ReadError::State { id, what: "it is damaged".into() };
        assert!(check(id, Err(&damaged), &lost, None).is_err());
        let error = BlobError { kind: BlobErrorKind::Transient, message: "down".into() };
        assert_eq!(check(id, Err(&ReadError::Store { object, error }), &lost, None), Ok(()));
    }
}

//! Postcard into a growing buffer, slice by slice.
//!
//! Postcard's own `to_extend` copies byte by byte into a [`BytesMut`]; values of a kilobyte make that the slowest part of a write.

use bytes::BytesMut;
use postcard::ser_flavors::Flavor;
use serde::Serialize;

/// Appends the postcard form of a plain value to `out`.
pub fn append<T: Serialize + ?Sized>(value: &T, out: &mut BytesMut) {
    // Serializing plain types into memory cannot fail.
    postcard::serialize_with_flavor(value, Growing(out)).expect("plain values serialize");
}

struct Growing<'a>(&'a mut BytesMut);

impl Flavor for Growing<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.extend_from_slice(&[data]);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_what_postcard_writes() {
        let value = (7u64, Some("text"), vec![300u32; 40]);
        let mut out = BytesMut::from(&b"before"[..]);
        append(&value, &mut out);
        assert_eq!(&out[..6], b"before");
        assert_eq!(out[6..], postcard::to_stdvec(&value).unwrap());
    }
}

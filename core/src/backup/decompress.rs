//! Decompression of one chunk, never past the length that the chunk declares.
//!
//! Invariants: output is exactly as long as declared, and the declared length was checked against the chunk length before;
//! so the memory used is bounded by that, whatever the input claims to be.

use super::compress::{Compression, GZIP_WINDOW_BITS};
use flate2::{Decompress, FlushDecompress, Status};

/// Why a chunk does not decompress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// The compressed bytes are damaged, cut short, or followed by more.
    #[error("its compressed bytes are damaged")]
    Damaged,
    /// It yields another number of bytes than declared.
    #[error("it does not decompress to the {declared_bytes} bytes it declares")]
    Length {
        /// What it declares.
        declared_bytes: usize,
    },
    /// A compressed chunk in a backup that says it is not compressed.
    #[error("it is shorter than it declares, in a backup that is not compressed")]
    NotCompressed,
    /// This build cannot.
    #[error("it is compressed with zstd, which this build does not have")]
    NotBuilt,
}

/// Decompresses a chunk to exactly `declared_bytes`.
pub fn decompress(
    compression: Compression,
    bytes: &[u8],
    declared_bytes: usize,
) -> Result<Vec<u8>, DecompressError> {
    match compression {
        Compression::None => Err(DecompressError::NotCompressed),
        Compression::Gzip { .. } => gunzip(bytes, declared_bytes),
        Compression::Zstd { .. } => unzstd(bytes, declared_bytes),
    }
}

fn gunzip(bytes: &[u8], declared_bytes: usize) -> Result<Vec<u8>, DecompressError> {
    let mut gunzip = Decompress::new_gzip(GZIP_WINDOW_BITS);
    // One byte more than declared, so that a longer stream shows itself.
    let mut out = Vec::with_capacity(declared_bytes + 1);
    let status = gunzip
        .decompress_vec(bytes, &mut out, FlushDecompress::Finish)
        .map_err(|_| DecompressError::Damaged)?;
    if out.len() > declared_bytes {
        return Err(DecompressError::Length { declared_bytes });
    }
    if status != Status::StreamEnd || gunzip.total_in() != bytes.len() as u64 {
        return Err(DecompressError::Damaged);
    }
    (out.len() == declared_bytes).then_some(out).ok_or(DecompressError::Length { declared_bytes })
}

/// Decodes in one go into a buffer of the declared length: no window is allocated, whatever the frame asks for.
#[cfg(feature = "zstd")]
fn unzstd(bytes: &[u8], declared_bytes: usize) -> Result<Vec<u8>, DecompressError> {
    use zstd::zstd_safe::{find_frame_compressed_size, get_frame_content_size};
    // One frame and nothing behind it; the decoder would go on with further ones, and skip some kinds of them.
    if find_frame_compressed_size(bytes) != Ok(bytes.len()) {
        return Err(DecompressError::Damaged);
    }
    match get_frame_content_size(bytes) {
        Ok(Some(length)) if length == declared_bytes as u64 => {}
        Ok(Some(_)) => return Err(DecompressError::Length { declared_bytes }),
        Ok(None) | Err(_) => return Err(DecompressError::Damaged),
    }
    let out =
        zstd::bulk::decompress(bytes, declared_bytes).map_err(|_| DecompressError::Damaged)?;
    (out.len() == declared_bytes).then_some(out).ok_or(DecompressError::Length { declared_bytes })
}

#[cfg(not(feature = "zstd"))]
fn unzstd(_bytes: &[u8], _declared_bytes: usize) -> Result<Vec<u8>, DecompressError> {
    Err(DecompressError::NotBuilt)
}

#[cfg(test)]
mod tests {
    use super::super::compress::compress;
    use super::*;
    use proptest::prelude::*;

    const GZIP: Compression = Compression::Gzip { level: 6 };

    fn all() -> Vec<Compression> {
        let mut all: Vec<_> = (1..=9).map(|level| Compression::Gzip { level }).collect();
        if cfg!(feature = "zstd") {
            all.extend([1, 3, 19].map(|level| Compression::Zstd { level }));
        }
        all
    }

    #[test]
    fn a_bomb_stops_at_the_declared_length() {
        let bomb = compress(GZIP, &vec![0; 8 << 20]).unwrap();
        assert!(bomb.len() < 16 << 10);
        let declared_bytes = 4096;
        assert_eq!(
            decompress(GZIP, &bomb, declared_bytes),
            Err(DecompressError::Length { declared_bytes })
        );
    }

    #[test]
    fn bytes_behind_the_stream_are_refused() {
        let mut bytes = compress(GZIP, &[7; 100]).unwrap();
        assert_eq!(decompress(GZIP, &bytes, 100), Ok(vec![7; 100]));
        assert_eq!(
            decompress(GZIP, &bytes, 101),
            Err(DecompressError::Length { declared_bytes: 101 })
        );
        bytes.push(0);
        assert_eq!(decompress(GZIP, &bytes, 100), Err(DecompressError::Damaged));
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn a_zstd_bomb_stops_before_it_begins() {
        const ZSTD: Compression = Compression::Zstd { level: 19 };
        let bomb = compress(ZSTD, &vec![0; 8 << 20]).unwrap();
        assert!(bomb.len() < 16 << 10);
        let declared_bytes = 4096;
        let length = Err(DecompressError::Length { declared_bytes });
        assert_eq!(decompress(ZSTD, &bomb, declared_bytes), length);
        let mut bytes = compress(ZSTD, &[7; 100]).unwrap();
        assert_eq!(decompress(ZSTD, &bytes, 100), Ok(vec![7; 100]));
        // A frame that says nothing of its size, and asks for a window of 2 GiB: descriptor 0, window descriptor 21 << 3.
        let endless = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x03, 0x00, 0x00, 0x00];
        assert_eq!(decompress(ZSTD, &endless, 100), Err(DecompressError::Damaged));
        // Another frame behind, which the decoder would skip.
        bytes.extend_from_slice(&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
        assert_eq!(decompress(ZSTD, &bytes, 100), Err(DecompressError::Damaged));
    }

    #[test]
    fn what_does_not_shrink_is_left_alone() {
        let noise = crate::rng::Seed::from_number(3).fork("noise").bytes::<1000>();
        assert!(all().into_iter().all(|compression| compress(compression, &noise).is_none()));
        assert!(all().into_iter().all(|compression| compress(compression, &[]).is_none()));
    }

    proptest! {
        #[test]
        fn chunks_come_back(plain in "[ab]{300,600}") {
            for compression in all() {
                let bytes = compress(compression, plain.as_bytes()).unwrap();
                let again = decompress(compression, &bytes, plain.len());
                prop_assert_eq!(again, Ok(plain.clone().into_bytes()));
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, declared_bytes in 0usize..10_000) {
            for compression in all() {
                let _ = decompress(compression, &bytes, declared_bytes);
            }
        }
    }
}

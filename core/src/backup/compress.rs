//! Compression of one chunk at a time.
//!
//! Chunks are compressed on their own, so that any number of threads can work at once and a reader can start anywhere, at
//! the price of a window that starts empty in each chunk. gzip is written by libdeflate where C can be built: it takes whole chunks only, and
//! less time at the default level (`docs/PERFORMANCE.md`). Invariant: the same bytes, settings and build give the same result.
//! Sources: RFC 1952 (gzip), RFC 8878 (zstd).

use serde::{Deserialize, Serialize};

/// How chunks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// Not at all.
    None,
    /// Each chunk is a gzip member.
    Gzip {
        /// From 1 (fastest) to 9 (smallest).
        level: u8,
    },
    /// Each chunk is a zstd frame. Needs the feature `zstd`.
    Zstd {
        /// From 1 (fastest) to 19 (smallest).
        level: u8,
    },
}

/// Why a compression cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// The level is out of range.
    #[error("{name} level {level} is out of range: use 1 to {max}")]
    Level {
        /// `gzip` or `zstd`.
        name: &'static str,
        /// What was asked for.
        level: u8,
        /// The highest level.
        max: u8,
    },
    /// This build cannot.
    #[error("this build has no zstd: use a build with the feature zstd, or gzip")]
    NotBuilt,
}

/// Window bits of a gzip stream; 15 is the format's usual 32 KiB.
pub(super) const GZIP_WINDOW_BITS: u8 = 15;

impl Compression {
    /// Whether the level is in range.
    pub fn check(self) -> Result<(), CompressionError> {
        let (name, level, max) = match self {
            Compression::None => return Ok(()),
            Compression::Gzip { level } => ("gzip", level, 9),
            Compression::Zstd { level } => ("zstd", level, 19),
        };
        let in_range = (1..=max).contains(&level);
        in_range.then_some(()).ok_or(CompressionError::Level { name, level, max })
    }

    /// Whether this build can compress and decompress it.
    pub fn check_built(self) -> Result<(), CompressionError> {
        let built = cfg!(feature = "zstd") || !matches!(self, Compression::Zstd { .. });
        built.then_some(()).ok_or(CompressionError::NotBuilt)
    }

    /// The name used in metadata and configuration: `none`, `gzip` or `zstd`.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip { .. } => "gzip",
            Compression::Zstd { .. } => "zstd",
        }
    }
}

/// Compresses a chunk; `None` when that would not make it shorter, and the plain bytes should be kept.
///
/// Panics when the compression was not checked.
pub fn compress(compression: Compression, plain: &[u8]) -> Option<Vec<u8>> {
    match compression {
        Compression::None => None,
        Compression::Gzip { level } => gzip(level, plain),
        Compression::Zstd { level } => zstd(level, plain),
    }
}

// The room is one byte short of the input: a result that does not fit is not wanted.
#[cfg(feature = "libdeflate")]
fn gzip(level: u8, plain: &[u8]) -> Option<Vec<u8>> {
    let level = libdeflater::CompressionLvl::new(i32::from(level)).expect("the level was checked");
    let mut out = vec![0; plain.len().saturating_sub(1)];
    let written = libdeflater::Compressor::new(level).gzip_compress(plain, &mut out).ok()?;
    out.truncate(written);
    Some(out)
}

#[cfg(not(feature = "libdeflate"))]
fn gzip(level: u8, plain: &[u8]) -> Option<Vec<u8>> {
    use flate2::{Compress, FlushCompress, Status};
    let mut gzip = Compress::new_gzip(flate2::Compression::new(u32::from(level)), GZIP_WINDOW_BITS);
    let mut out = Vec::with_capacity(plain.len().saturating_sub(1));
    let status = gzip.compress_vec(plain, &mut out, FlushCompress::Finish);
    matches!(status, Ok(Status::StreamEnd)).then_some(out)
}

#[cfg(feature = "zstd")]
fn zstd(level: u8, plain: &[u8]) -> Option<Vec<u8>> {
    let out = zstd::bulk::compress(plain, i32::from(level)).ok()?;
    (out.len() < plain.len()).then_some(out)
}

#[cfg(not(feature = "zstd"))]
fn zstd(_level: u8, _plain: &[u8]) -> Option<Vec<u8>> {
    panic!("check_built refuses zstd before any chunk is made");
}

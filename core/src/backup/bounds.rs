//! Bounds on what making a backup holds in memory at once.
//!
//! Invariant: by default, and on any number of processors, it is no more than [`MEMORY_BYTES`] with one store, whatever the size of the state.

/// What making a backup may hold in memory, with one store.
pub const MEMORY_BYTES: u64 = 64 << 20;

/// Parts that the client of each store holds: those on their way, and one more.
const CLIENT_PARTS: u64 = 4;

/// Chunks in flight on how few and how many processors there may be. A few more than processors, so that each has something to do while
/// finished ones wait for their turn; no more than fit into memory.
const CHUNKS_MIN: usize = 6;
const CHUNKS_MAX: usize = 14;
const CHUNKS_AHEAD: usize = 4;

/// Bounds on what is in memory at once: see [`Bounds::memory_bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Plain bytes of a chunk.
    pub chunk_bytes: u32,
    /// Chunks being sealed.
    pub chunks_in_flight: usize,
    /// Bytes of an upload's part; S3 and Google want at least 5 MiB, and at most 10,000 of them.
    pub part_bytes: usize,
    /// Parts being uploaded.
    pub parts_in_flight: usize,
}

impl Bounds {
    /// For a machine with so many processors that work at once.
    pub fn for_processors(count: usize) -> Self {
        let chunks_in_flight = count.saturating_add(CHUNKS_AHEAD).clamp(CHUNKS_MIN, CHUNKS_MAX);
        Bounds { chunks_in_flight, ..Bounds::default() }
    }

    /// About what is held at most: each chunk in flight as it came and as it leaves, the parts under way and the one being filled, and those that
    /// the client of one store holds.
    pub fn memory_bytes(&self) -> u64 {
        let chunks = 2 * self.chunks_in_flight as u64 * u64::from(self.chunk_bytes);
        let parts = self.parts_in_flight as u64 + 1 + CLIENT_PARTS;
        chunks + parts * self.part_bytes as u64
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            chunk_bytes: 1 << 20,
            chunks_in_flight: CHUNKS_MIN,
            part_bytes: 5 << 20,
            parts_in_flight: 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_processors_work_as_far_as_memory_allows() {
        let cases =
            [(0, 6), (1, 6), (2, 6), (4, 8), (8, 12), (10, 14), (128, 14), (usize::MAX, 14)];
        for (processors, chunks) in cases {
            let bounds = Bounds::for_processors(processors);
            assert_eq!(bounds.chunks_in_flight, chunks, "{processors} processors");
            assert!(bounds.memory_bytes() <= MEMORY_BYTES, "{processors} processors: {bounds:?}");
        }
    }
}

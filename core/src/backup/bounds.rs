//! Bounds on what making a backup, or copying one, holds in memory at once, and on the parts that its data is uploaded in.
//!
//! Invariants: by default, and on any number of processors, no more than [`MEMORY_BYTES`] are held, whatever the size of the state and however many
//! stores there are; how long parts are is settled before the first one.

/// What may be held in memory.
pub const MEMORY_BYTES: u64 = 64 << 20;

/// S3 and Google take no more parts of an object.
pub const MAX_PARTS: u32 = 10_000;

/// Parts get no longer than this: memory would not hold them.
const PART_BYTES_MAX: u64 = 10 << 20;

/// Parts are made longer in steps.
const PART_STEP_BYTES: u64 = 64 << 10;

/// Parts that the client of a store holds: those on their way, and one more. The clients of several stores hold the same bytes, and
/// none is further than this ahead of another: the machine gives the next part out when all of them have room.
const CLIENT_PARTS: u64 = 4;

/// The plain bytes of a chunk. zstd-3 takes a tenth less time for this length than for twice as much, and the result is no
/// longer (`docs/PERFORMANCE.md`).
const CHUNK_BYTES: u32 = 512 << 10;

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
    /// Bytes of an upload's part, at least; S3 and Google want 5 MiB.
    pub part_bytes: usize,
    /// Parts being uploaded.
    pub parts_in_flight: usize,
    /// How many parts of an object the stores take.
    pub max_parts: u32,
}

impl Bounds {
    /// For a machine with so many processors that work at once.
    pub fn for_processors(count: usize) -> Self {
        let chunks_in_flight = count.saturating_add(CHUNKS_AHEAD).clamp(CHUNKS_MIN, CHUNKS_MAX);
        Bounds { chunks_in_flight, ..Bounds::default() }
    }

    /// How long an object can be.
    pub fn object_bytes_max(&self) -> u64 {
        PART_BYTES_MAX.max(self.part_bytes as u64).saturating_mul(self.max_parts.into())
    }

    /// With parts that are long enough for an object of this length, as far as they may be. Longer ones leave less memory for what else is in
    /// flight.
    pub fn for_object(self, len_bytes: u64) -> Self {
        let needed = len_bytes.div_ceil(self.max_parts.max(1).into());
        if needed <= self.part_bytes as u64 {
            return self;
        }
        let stepped = needed.next_multiple_of(PART_STEP_BYTES).min(PART_BYTES_MAX);
        let part_bytes = self.part_bytes.max(stepped as usize);
        let longer = Bounds { part_bytes, parts_in_flight: 1, chunks_in_flight: 1, ..self };
        let left = MEMORY_BYTES.saturating_sub(longer.memory_bytes());
        let more = left / (2 * u64::from(self.chunk_bytes.max(1)));
        let chunks_in_flight = self.chunks_in_flight.min(1 + more as usize);
        Bounds { chunks_in_flight, ..longer }
    }

    /// About what is held at most: each chunk in flight as it came and as it leaves, the parts under way and the one being filled, and those that
    /// the stores' clients hold.
    pub fn memory_bytes(&self) -> u64 {
        let chunks = 2 * self.chunks_in_flight as u64 * u64::from(self.chunk_bytes);
        let parts = self.parts_in_flight as u64 + 1 + CLIENT_PARTS;
        chunks + parts * self.part_bytes as u64
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            chunk_bytes: CHUNK_BYTES,
            chunks_in_flight: CHUNKS_MIN,
            part_bytes: 5 << 20,
            parts_in_flight: 2,
            max_parts: MAX_PARTS,
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
    #[test]
    fn parts_get_longer_with_the_object_and_memory_holds_them() {
        const GIB: u64 = 1 << 30;
        let most = Bounds::default().object_bytes_max();
        assert_eq!(most / GIB, 97);
        for processors in [1, 4, 128] {
            let bounds = Bounds::for_processors(processors);
            let small = bounds.part_bytes as u64 * u64::from(MAX_PARTS);
            for len_bytes in [0, 1, GIB, small] {
                assert_eq!(bounds.for_object(len_bytes), bounds, "{len_bytes} bytes");
            }
            for len_bytes in [small + 1, 60 * GIB, 72 * GIB, 84 * GIB, 97 * GIB, most] {
                let fitted = bounds.for_object(len_bytes);
                assert!(fitted.part_bytes as u64 * u64::from(MAX_PARTS) >= len_bytes, "{fitted:?}");
                assert!(fitted.memory_bytes() <= MEMORY_BYTES, "{len_bytes} bytes: {fitted:?}");
                assert!(fitted.chunks_in_flight >= 2, "{len_bytes} bytes: {fitted:?}");
            }
            assert_eq!(bounds.for_object(u64::MAX), bounds.for_object(most));
        }
        let boundless = Bounds { max_parts: u32::MAX, ..Bounds::default() };
        assert_eq!(boundless.for_object(1 << 50), boundless, "a directory takes any number");
    }
}

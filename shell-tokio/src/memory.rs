//! Memory that the allocator keeps though nobody uses it, given back to the system.
//!
//! Reading a node's state back takes far more memory for a moment than the state does: whole segments of the log, and entries that the
//! snapshot holds already. The allocator would keep the pages for what comes later. `docs/PERFORMANCE.md` has the figures.

/// Gives back what is free. Takes some milliseconds: for once after the start, not for the loop.
#[allow(unsafe_code)]
pub fn release_freed() {
    // SAFETY: `mi_collect` may be called at any time from any thread; it takes no pointers and frees only what is not in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

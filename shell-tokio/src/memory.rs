//! How the process takes memory from the system, and gives back what the allocator keeps though nobody uses it.
//!
//! Reading a node's state back takes far more memory for a moment than the state does: whole segments of the log, and entries that the
//! snapshot holds already. The allocator would keep the pages for what comes later. `docs/PERFORMANCE.md` has the figures.

/// Takes memory in small pages from now on, whatever the system would rather give: a large one is cleared as a whole when its first byte is
/// touched, and in a virtual machine whose host takes free memory back it must be fetched from there first.
pub fn take_small_pages() {
    // Without it the node is only slower.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Gives back what is free. Takes some milliseconds: for once after the start, not for the loop.
#[allow(unsafe_code)]
pub fn release_freed() {
    // SAFETY: `mi_collect` may be called at any time from any thread; it takes no pointers and frees only what is not in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

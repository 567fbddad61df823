//! The allocator. Tensors of megabytes are freed and allocated all the time; if freed pages go back to the system, the system
//! clears each of them again.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, which the bindings lack.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Keeps freed pages for later allocations. The process's memory stays at its peak.
pub fn keep_freed_pages() {
    // SAFETY: the call sets one entry of the allocator's option table, and the index is within the table.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
}

//! The allocator. Tensors come and go by the megabyte: what is given back to the system is asked for again a moment later,
//! and the system clears every page of it.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, which its bindings leave out.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Keeps freed pages for what comes next: memory stays at its peak.
pub fn keep_pages() {
    // SAFETY: the call writes one number into the allocator's table of options, of which this is one.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
}

//! Memory that was freed, and that the system does not have back yet.

/// Gives freed memory back to the system: the C library keeps what buffers of some megabytes leave, and a run's peak would
/// be that of all its phases together. Does nothing where the C library has no such call.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call takes no memory of ours, and the C library locks its own.
    unsafe {
        libc::malloc_trim(0);
    }
}

//! Threads that hold nobody up.

/// Gives the thread that calls it the lowest priority, for as long as it lives.
pub fn lower() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(19) {
        tracing::debug!(%error, "a thread keeps the priority of everything else");
    }
}

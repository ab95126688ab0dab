//! File descriptors: each connection takes one, and the limit that a process begins with is meant for
//! programs with few.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// What a server takes beside its connections: listener, log, and some for each thread.
const OTHERS: u64 = 100;

/// Raises the limit of this process as far as it may; the limit that then holds.
pub fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    if raised { maximum } else { current }.unwrap_or(u64::MAX)
}

/// Says what the limit is, and whether it is too low.
pub fn tell(limit: u64, max_connections: usize) {
    tracing::info!(limit, "file descriptors");
    let needed = max_connections as u64 + OTHERS;
    if limit < needed {
        tracing::warn!(
            limit,
            max_connections,
            "file descriptors will run out before max-connections is reached: raise the hard limit \
             to {needed} (ulimit -Hn) or lower max-connections"
        );
    }
}

/// Whether it is only this connection that could not be accepted. Whatever else it is, to try again at
/// once would spin: most likely there are no more file descriptors, and the next try fails alike.
pub fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn only_the_failure_of_one_connection_is_tried_again_at_once() {
        assert!(is_of_one_connection(&Errno::CONNABORTED.into()));
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::INVAL] {
            assert!(!is_of_one_connection(&error.into()), "{error}");
        }
    }
}

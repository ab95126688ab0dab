//! File descriptors: each connection takes one, and the limit that a process begins with is meant for
//! programs with few.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    io,
    time::{Duration, Instant},
};

/// What a server takes beside its connections: listener, log, and some for each thread.
const OTHERS: u64 = 100;

/// While they run out, that is told so often.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

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

/// How often something failed, to be told at once and then now and then.
#[derive(Debug, Default)]
pub struct Failures {
    untold: u64,
    told_at: Option<Instant>,
}

impl Failures {
    /// One more; how many there were since the last time that they were told, if it is time again.
    pub fn count(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told_at.is_some_and(|told_at| now - told_at < TELL_INTERVAL) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn failures_are_told_at_once_and_then_once_a_minute_with_their_number() {
        let (mut failures, begin) = (Failures::default(), Instant::now());
        let mut after = |seconds| failures.count(begin + Duration::from_secs(seconds));
        assert_eq!([0, 1, 59].map(&mut after), [Some(1), None, None]);
        assert_eq!([60, 61, 119].map(&mut after), [Some(3), None, None]);
        assert_eq!(after(3600), Some(3));
    }

    #[test]
    fn only_the_failure_of_one_connection_is_tried_again_at_once() {
        assert!(is_of_one_connection(&Errno::CONNABORTED.into()));
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::INVAL] {
            assert!(!is_of_one_connection(&error.into()), "{error}");
        }
    }
}

//! What the logs of all sessions take together, within one bound.

use crate::session::Session;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The bytes of all logs.
#[derive(Debug)]
pub struct Logs {
    used: AtomicUsize,
    most: usize,
}

impl Logs {
    /// No logs yet, and room for `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { used: AtomicUsize::new(0), most }
    }

    /// What they take.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// The part that one session has in them, given back with it.
#[derive(Debug)]
pub struct LogShare {
    logs: Arc<Logs>,
    counted: usize,
}

impl LogShare {
    /// Of a session without a log.
    pub fn new(logs: Arc<Logs>) -> Self {
        Self { logs, counted: 0 }
    }

    /// Counts what the log of the session has come to; where all logs have no room for it, it gets
    /// shorter.
    pub fn settle(&mut self, core: &mut Session) {
        let bytes = core.log_bytes();
        if bytes == self.counted {
            return;
        }
        let excess = self.count(bytes).saturating_sub(self.logs.most);
        if excess > 0 && bytes > 0 {
            core.shorten_log(bytes.saturating_sub(excess));
            self.count(core.log_bytes());
        }
    }

    /// Returns what all of them take.
    fn count(&mut self, bytes: usize) -> usize {
        let used = &self.logs.used;
        let before = used.fetch_add(bytes, Ordering::Relaxed);
        let counted = std::mem::replace(&mut self.counted, bytes);
        used.fetch_sub(counted, Ordering::Relaxed);
        before + bytes - counted
    }
}

impl Drop for LogShare {
    fn drop(&mut self) {
        self.count(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_had_is_given_back_with_it() {
        let logs = Arc::new(Logs::new(100));
        let mut one = LogShare::new(logs.clone());
        let mut other = LogShare::new(logs.clone());
        assert_eq!((one.count(60), other.count(30), one.count(50)), (60, 90, 80));
        drop(one);
        assert_eq!(logs.used(), 30);
        assert_eq!(other.count(0), 0);
    }
}

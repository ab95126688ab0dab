//! How much the engine holds.

use super::Engine;

/// How much the engine holds: it must come to nothing once everything has ended and what is
/// remembered for a time is forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Sessions.
    pub sessions: usize,
    /// What sessions are found by beside their ids: names, pairs, and places in lists.
    pub indexed: usize,
    /// Users.
    pub users: usize,
    /// Sessions, users and apps for which replies are remembered.
    pub books: usize,
    /// About how many bytes those replies have.
    pub book_bytes: usize,
    /// Gateways, those that are waited for included.
    pub gateways: usize,
    /// Bytes of the logs of sessions.
    pub log_bytes: usize,
    /// What those who watch sessions read: logs and their entries.
    pub watched: usize,
    /// What the shards have on their lists.
    pub jobs: usize,
}

impl Engine {
    /// Counts what the engine holds. It looks at all of it.
    pub fn footprint(&self) -> Footprint {
        let requests = &self.inner.requests;
        Footprint {
            books: requests.books(),
            book_bytes: requests.bytes(),
            gateways: self.inner.gateways.len(),
            log_bytes: self.inner.logs.used(),
            watched: self.watch_entries(),
            jobs: self.inner.shards.iter().map(|shard| shard.jobs()).sum(),
            ..self.inner.registry.footprint()
        }
    }
}

#[cfg(test)]
mod tests;

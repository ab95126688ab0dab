//! What happened since the start, counted: for those who watch the service. Nothing in here decides
//! anything.

use super::encoder::{Encoded, Encoder, Snapshot, Start};
use crate::session::{Session, ids::UserId, view::View};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Counts one kind of event; clones of the engine count together.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// One more.
    pub fn count(&self) {
        self.add(1);
    }

    /// How many there were.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted.
#[derive(Debug, Default)]
pub struct Counters {
    /// Frames that were made.
    pub frames: Counter,
    /// Steps that were encoded for a view: each once, however many readers it has.
    pub encoded_steps: Counter,
    /// Bytes of these steps and of snapshots.
    pub encoded_bytes: Counter,
    /// Snapshots that were encoded.
    pub encoded_snapshots: Counter,
    /// Steps that a reader got in one because it had not read them one by one.
    pub conflated_steps: Counter,
    /// Streams that ended because their client did not read.
    pub slow_streams: Counter,
    /// Gateways among them.
    pub slow_gateways: Counter,
    /// Users that were attached to a gateway.
    pub attached_users: Counter,
    /// Users whom a gateway wanted to attach and that were refused.
    pub refused_attaches: Counter,
    /// Gateways that another stream took over.
    pub gateways_taken_over: Counter,
    /// Views of gateways that ended because nobody was left who may see them.
    pub lost_views: Counter,
}

/// An encoder whose work is counted.
pub(super) struct Counted {
    /// What encodes.
    pub encoder: Arc<dyn Encoder>,
    /// Where it is counted.
    pub counters: Arc<Counters>,
}

impl Counted {
    fn step(&self, encoded: Option<Encoded>) -> Option<Encoded> {
        if let Some(encoded) = &encoded {
            self.counters.encoded_steps.count();
            self.bytes(encoded);
        }
        encoded
    }

    fn bytes(&self, encoded: &Encoded) {
        let bytes: usize = encoded.messages.iter().map(|message| message.bytes.len()).sum();
        self.counters.encoded_bytes.add(bytes as u64);
    }
}

impl Encoder for Counted {
    fn changes(
        &self,
        session: &Session,
        view: &View,
        start: Start,
        spans: bool,
    ) -> Option<Encoded> {
        self.step(self.encoder.changes(session, view, start, spans))
    }

    fn columns(&self, session: &Session, view: &View, start: Start) -> Option<Encoded> {
        self.step(self.encoder.columns(session, view, start))
    }

    fn log(&self, session: &Session, view: &View, start: Start, spans: bool) -> Option<Encoded> {
        self.step(self.encoder.log(session, view, start, spans))
    }

    fn snapshot(
        &self,
        session: &Session,
        view: &View,
        snapshot: Snapshot,
        except: Option<&UserId>,
    ) -> Encoded {
        let encoded = self.encoder.snapshot(session, view, snapshot, except);
        self.counters.encoded_snapshots.count();
        self.bytes(&encoded);
        encoded
    }
}

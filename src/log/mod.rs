//! Where records go: one sequence of entries for each partition. It knows bytes only: what a batch
//! or a snapshot means is the business of those who write it.
//!
//! A partition has one writer, the last that claimed it. A claim takes a sequence number like any
//! other entry; the number is the writer's *term*. Whatever an older writer still sends is refused
//! ([`AppendError::Deposed`]), so a writer that read everything up to its own term knows everything
//! that will ever stand before its own entries.
//!
//! Batches, claims and releases stay until they are trimmed. A snapshot replaces the earlier one of
//! its key and is never trimmed. Sequence numbers rise and are never used again, but not each of
//! them is still there.
//!
//! [`memory`] is for tests and simulation, [`redb`] for one node with a disk, [`jetstream`] for many
//! nodes.
//! `tests/log/contract.rs` holds each implementation to what is promised here.

mod clock;
mod counters;
mod error;
mod head;
pub mod jetstream;
pub mod memory;
mod numbered;
pub mod redb;
pub mod space;

pub use self::{
    clock::BootMicros,
    counters::{CommitTimes, Counters},
    error::{AppendError, LogError},
    head::Call,
    numbered::{Dated, Message, Numbered, Port, Post},
};

use bytes::Bytes;
use std::{fmt, future::Future};

/// Bytes of a batch at most. A message of NATS has 1 MiB, headers included.
pub const MAX_BATCH_BYTES: usize = 768 * 1024;

/// Bytes of all keys and states that are stored as snapshots in one call at most.
pub const MAX_SNAPSHOTS_BYTES: usize = 32 * 1024 * 1024;

/// Bytes of a key at most.
pub const MAX_KEY_BYTES: usize = 512;

/// A part of the log with a sequence and a writer of its own: 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u8);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of an entry in its partition. The first entry has 1, and the numbers rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first entry: reading from here begins with the oldest that is left.
    pub const START: Self = Self(0);

    /// The number after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The process that claims a partition. A process takes a new one whenever it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// What a snapshot is a snapshot of: 1 to [`MAX_KEY_BYTES`] bytes.
pub type Key = Bytes;

/// The whole state of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose state it is.
    pub key: Key,
    /// The state; none = the key is gone, and its earlier snapshot with it.
    pub state: Option<Bytes>,
}

/// One entry as a reader gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub seq: Seq,
    /// The term of the writer that wrote it; a claim has its own place. Zero if it is lost.
    pub term: Seq,
    /// What it holds.
    pub content: Content,
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A writer claimed the partition.
    Claim(NodeId),
    /// What a writer appended.
    Batch(Bytes),
    /// The latest snapshot of a key. One that is gone is no entry any more.
    Snapshot {
        /// Whose state it is.
        key: Key,
        /// The state.
        state: Bytes,
    },
    /// The writer has stored everything and gave the partition back: a clean end.
    Release,
    /// There was a batch, claim or release, or the snapshot of this key, but its checksum is wrong.
    /// It is counted ([`Counters::lost_entries`]); the reader knows what depends on it.
    Lost {
        /// The key of a snapshot.
        key: Option<Key>,
    },
}

/// A log with any number of partitions.
pub trait Log: Send + Sync + 'static {
    /// What writes one partition.
    type Writer: Writer;
    /// What reads one partition.
    type Reader: Reader;

    /// Makes the caller the only writer of a partition. Earlier writers are deposed from the moment
    /// at which the claim is stored. If the outcome is an error, claiming again is right.
    fn claim(
        &self,
        partition: Partition,
        node: NodeId,
    ) -> impl Future<Output = Result<Self::Writer, LogError>> + Send;

    /// Reads a partition from a place on, or from its oldest entry with [`Seq::START`].
    fn read(&self, partition: Partition, from: Seq) -> Self::Reader;
}

/// The writer of one partition. Its entries are stored in the order of its calls, each completely
/// or not at all, and each once.
///
/// A future that is dropped before it is ready leaves its outcome unknown, like
/// [`AppendError::Unknown`]: nothing more is sent until [`settle`](Self::settle) has found out.
pub trait Writer: Send {
    /// The place of this writer's claim. The node that serves the partition has read up to here first.
    fn term(&self) -> Seq;

    /// Appends a batch of at most [`MAX_BATCH_BYTES`]. It is durable once its place is known. It leaves
    /// the [`RESERVE`](space::RESERVE).
    fn append(&mut self, batch: Bytes) -> impl Future<Output = Result<Seq, AppendError>> + Send;

    /// The same of a batch that takes of the reserve, down to its [`FLOOR`](space::FLOOR): the
    /// caller sees to it that little more comes.
    fn append_from_reserve(
        &mut self,
        batch: Bytes,
    ) -> impl Future<Output = Result<Seq, AppendError>> + Send;

    /// Bytes for which there is space, the reserve included, as far as anybody knows.
    fn room(&self) -> u64;

    /// Stores snapshots of at most [`MAX_SNAPSHOTS_BYTES`] in all, in their order, and gives the
    /// place of the last. Each replaces the earlier one of its key at once. A crash may leave the
    /// first of them without the others. Appends of this partition wait meanwhile, so few at a time
    /// are better.
    fn snapshot(
        &mut self,
        snapshots: Vec<Snapshot>,
    ) -> impl Future<Output = Result<Seq, AppendError>> + Send;

    /// Removes the batches, claims and releases below a place, except for the last of all: where
    /// the log has come to is never forgotten. Snapshots stay.
    fn trim(&mut self, below: Seq) -> impl Future<Output = Result<(), AppendError>> + Send;

    /// Finds out about the call whose outcome is unknown: sends the same again, which is stored
    /// once however often it arrives. None = nothing was unknown. If the writer is deposed
    /// meanwhile, only the log tells whether it was stored before.
    fn settle(&mut self) -> impl Future<Output = Result<Option<Seq>, AppendError>> + Send;

    /// Gives the partition back, as the last entry of this term: a clean end.
    fn release(self) -> impl Future<Output = Result<(), AppendError>> + Send;
}

/// A position in one partition.
pub trait Reader: Send {
    /// The next entry; none = this is all for now. After an error the reader is of no more use.
    fn next(&mut self) -> impl Future<Output = Result<Option<Entry>, LogError>> + Send;

    /// Waits until there may be a next entry.
    fn changed(&mut self) -> impl Future<Output = Result<(), LogError>> + Send;
}

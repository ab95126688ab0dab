//! A log in memory, for tests and simulation. It can lose replies and fill up like a real one.

use super::{
    Content, Entry, Key, Log, LogError, NodeId, Numbered, Partition, Reader, Seq,
    error::AppendError,
    head::Head,
    numbered::{Message, Port, Post},
    space::MARGIN,
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use tokio::sync::watch;

/// The log. Clones are the same log, as seen by several nodes.
#[derive(Debug, Clone, Default)]
pub struct MemoryLog {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    partitions: HashMap<Partition, Stored>,
    lost_replies: u32,
    /// Bytes that the entries may take; none = any.
    bound: Option<u64>,
}

#[derive(Debug, Default)]
struct Stored {
    head: Head,
    entries: BTreeMap<Seq, Entry>,
    /// The place of the snapshot of each key.
    keys: HashMap<Key, Seq>,
    changed: watch::Sender<()>,
}

impl MemoryLog {
    /// The next so many calls of writers are stored, and their replies are lost: the outcome is
    /// unknown.
    pub fn lose_replies(&self, count: u32) {
        self.shared.lock().lost_replies = count;
    }

    /// From now on there is space for so many bytes more; none = for any. Removing things always works.
    pub fn set_room(&self, room: Option<u64>) {
        let mut shared = self.shared.lock();
        let used = shared.used();
        shared.bound = room.map(|room| used + room);
    }
}

impl Log for MemoryLog {
    type Writer = Numbered<MemoryPort>;
    type Reader = MemoryReader;

    async fn claim(&self, partition: Partition, node: NodeId) -> Result<Self::Writer, LogError> {
        let mut shared = self.shared.lock();
        let stored = shared.partitions.entry(partition).or_default();
        stored.add(Content::Claim(node));
        stored.head.claimed();
        stored.changed.send_replace(());
        Ok(Numbered::new(MemoryPort { shared: self.shared.clone() }, partition, stored.head.term))
    }

    fn read(&self, partition: Partition, from: Seq) -> MemoryReader {
        let mut shared = self.shared.lock();
        let changes = shared.partitions.entry(partition).or_default().changed.subscribe();
        MemoryReader { shared: self.shared.clone(), partition, from, next: from, changes }
    }
}

/// What a writer has of the log.
#[derive(Debug)]
pub struct MemoryPort {
    shared: Arc<Mutex<Shared>>,
}

impl Port for MemoryPort {
    async fn post(&self, message: Message) -> Result<Seq, AppendError> {
        let mut shared = self.shared.lock();
        let room = shared.room();
        let stored = shared.partitions.entry(message.partition).or_default();
        let seq = match stored.head.admit(message.call)? {
            Some(seq) => seq,
            None => stored.store(&message, room)?,
        };
        if shared.lost_replies > 0 {
            shared.lost_replies -= 1;
            return Err(AppendError::Unknown);
        }
        Ok(seq)
    }

    fn room(&self) -> u64 {
        self.shared.lock().room()
    }
}

impl Shared {
    fn room(&self) -> u64 {
        self.bound.map_or(u64::MAX, |bound| bound.saturating_sub(self.used()))
    }

    fn used(&self) -> u64 {
        let entries = self.partitions.values().flat_map(|stored| stored.entries.values());
        let bytes = |entry: &Entry| match &entry.content {
            Content::Batch(bytes) | Content::Snapshot { state: bytes, .. } => bytes.len() as u64,
            _ => 0,
        };
        entries.map(bytes).sum()
    }
}

impl Stored {
    fn store(&mut self, message: &Message, room: u64) -> Result<Seq, AppendError> {
        let bytes = message.content.bytes() as u64;
        match &message.content {
            Post::Batch(_, left) if room < left + bytes => return Err(AppendError::Full),
            Post::Batch(batch, _) => self.add(Content::Batch(batch.clone())),
            Post::Snapshots(snapshots)
                if room < MARGIN + bytes && snapshots.iter().any(|it| it.state.is_some()) =>
            {
                return Err(AppendError::Full);
            }
            Post::Snapshots(snapshots) => {
                for snapshot in snapshots.iter() {
                    let seq = self.head.place();
                    if let Some(earlier) = self.keys.remove(&snapshot.key) {
                        self.entries.remove(&earlier);
                    }
                    let Some(state) = snapshot.state.clone() else { continue };
                    let key = snapshot.key.clone();
                    self.keys.insert(key.clone(), seq);
                    self.put(seq, Content::Snapshot { key, state });
                }
            }
            Post::Trim(below) => {
                self.head.oldest = self.head.oldest.max(self.head.chain.min(*below));
                let oldest = self.head.oldest;
                let stays = |entry: &Entry| matches!(entry.content, Content::Snapshot { .. });
                self.entries.retain(|seq, entry| *seq >= oldest || stays(entry));
            }
            Post::Release => {
                self.add(Content::Release);
                self.head.released = true;
            }
        }
        self.head.stored(message.call);
        self.changed.send_replace(());
        Ok(self.head.seq)
    }

    fn add(&mut self, content: Content) {
        let (seq, _) = self.head.link();
        self.put(seq, content);
    }

    fn put(&mut self, seq: Seq, content: Content) {
        let term = if let Content::Claim(_) = content { seq } else { self.head.term };
        self.entries.insert(seq, Entry { seq, term, content });
    }
}

/// See [`Reader`].
#[derive(Debug)]
pub struct MemoryReader {
    shared: Arc<Mutex<Shared>>,
    partition: Partition,
    from: Seq,
    next: Seq,
    changes: watch::Receiver<()>,
}

impl Reader for MemoryReader {
    async fn next(&mut self) -> Result<Option<Entry>, LogError> {
        let mut shared = self.shared.lock();
        let stored = shared.partitions.entry(self.partition).or_default();
        let oldest = stored.head.oldest;
        if self.from > Seq::START && self.next < oldest {
            return Err(LogError::Trimmed { partition: self.partition, oldest });
        }
        let Some((seq, entry)) = stored.entries.range(self.next..).next() else {
            // Places that hold nothing any more are behind the reader too.
            self.next = self.next.max(stored.head.seq.next());
            self.from = self.next;
            return Ok(None);
        };
        self.next = seq.next();
        // Snapshots come from before what is trimmed.
        if self.from > Seq::START || *seq >= oldest {
            self.from = self.next;
        }
        Ok(Some(entry.clone()))
    }

    async fn changed(&mut self) -> Result<(), LogError> {
        self.changes.changed().await.map_err(|_| LogError::Broken("it is closed".into()))
    }
}

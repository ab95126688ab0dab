//! The log of one node: one file of redb, which is embedded.
//!
//! Every commit is synced before anybody has an answer. An error of the disk is final: redb takes
//! nothing more then, and so does the log ([`AppendError::Broken`]), until it is opened again. Want
//! of space is not: the file is opened again at once and nothing that was stored is affected, so
//! that batches are refused ([`AppendError::Full`]) until there is space again. They are refused
//! already while there is still room for snapshots and trims, which make space.

mod aside;
mod committer;
mod database;
mod disk;
mod entry;
mod queue;
mod reader;
mod tables;

pub use self::{
    aside::FILE as ASIDE,
    disk::{Disk, FILE, LOCK, Space},
    reader::RedbReader,
};
pub use super::space::RESERVE;

use self::{
    committer::Committer,
    disk::{Faults, FileDisk, FolderError},
    queue::{Action, Job, Outcome, Queue},
};
use super::{
    AppendError, Counters, Log, LogError, NodeId, Numbered, Partition, Seq,
    numbered::{Message, Port},
};
use parking_lot::{Mutex, RwLock};
use redb::Database;
use std::{
    fmt,
    path::Path,
    sync::{Arc, OnceLock, Weak},
    thread::{self, JoinHandle},
};
use tokio::sync::{oneshot, watch};

/// How a store is used.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes that the store may take. Batches are refused [`RESERVE`] below it.
    pub max_bytes: u64,
    /// Bytes of pages that are kept in memory.
    pub cache_bytes: usize,
    /// Whether readers go on across a gap, which they count.
    pub salvage: bool,
    /// Whether space is set aside for the moment in which the disk is full.
    pub sets_aside: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_bytes: u64::MAX, cache_bytes: 32 << 20, salvage: false, sets_aside: false }
    }
}

/// The log. The store is closed when this is dropped: what waits is stored, and the file is free.
#[derive(Debug)]
pub struct RedbLog {
    inner: Arc<Inner>,
    salvage: bool,
    heads: Vec<watch::Receiver<Seq>>,
    committer: Option<JoinHandle<()>>,
}

/// What the log, its writers, its readers and its committer share.
struct Inner {
    /// None while it is broken, closed or without the space to be opened again. Only the committer
    /// changes that.
    database: RwLock<Option<Database>>,
    /// Why it takes nothing any more, if that is so.
    broken: OnceLock<Arc<str>>,
    queue: Queue,
    counters: Mutex<Counters>,
    faults: Faults,
    /// It is locked as long as the committer has it.
    disk: Weak<dyn Disk>,
    max_bytes: u64,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("broken", &self.broken).finish_non_exhaustive()
    }
}

impl RedbLog {
    /// Opens the store in a folder, or makes one in a folder that never had one, and locks the folder.
    pub fn open(folder: &Path, options: Options) -> Result<Self, LogError> {
        let told = |error| match error {
            FolderError::InUse => LogError::InUse(folder.to_owned()),
            FolderError::Refused(path, error) => LogError::Refused { path, error: Arc::new(error) },
            FolderError::Lost(path) => LogError::Lost(path),
        };
        let disk = FileDisk::lock(folder).map_err(told)?;
        if disk.is_new().map_err(told)? {
            let unfinished = disk.unfinished().map_err(told)?;
            database::make(&unfinished, &Faults::default(), options.cache_bytes)?;
            disk.finish(&unfinished).map_err(told)?;
        }
        // Without space for that, the store is none the worse.
        let _ = disk.mark();
        Self::on(disk, options)
    }

    /// Opens the store on a disk that nobody else uses.
    pub fn on(disk: impl Disk, options: Options) -> Result<Self, LogError> {
        let faults = Faults::default();
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let open = || database::open(&*disk, &faults, options.cache_bytes);
        let (database, rows) = match open() {
            Err(LogError::Full) if disk.give_back() => {
                faults.clear();
                open()?
            }
            opened => opened?,
        };
        let inner = Arc::new(Inner {
            database: RwLock::new(Some(database)),
            broken: OnceLock::new(),
            queue: Queue::default(),
            counters: Mutex::default(),
            faults,
            disk: Arc::downgrade(&disk),
            max_bytes: options.max_bytes,
        });
        let (senders, heads) = rows.iter().map(|row| watch::channel(row.head.seq)).unzip();
        let committer = Committer {
            inner: inner.clone(),
            disk,
            options,
            rows,
            uncertain: None,
            heads: senders,
        };
        let thread = thread::Builder::new().name("log".to_owned());
        let committer = thread.spawn(move || committer.run());
        let committer = committer.map_err(|error| LogError::Broken(error.to_string().into()))?;
        Ok(Self { inner, salvage: options.salvage, heads, committer: Some(committer) })
    }

    /// What it has done since it was opened.
    pub fn counters(&self) -> Counters {
        self.inner.counters.lock().clone()
    }

    /// Gives space that no entry takes back to the system. Everything waits meanwhile, so it is for
    /// quiet hours.
    pub async fn compact(&self) -> Result<(), AppendError> {
        self.inner.run(Action::Compact).await.map(drop)
    }
}

impl Drop for RedbLog {
    fn drop(&mut self) {
        self.inner.queue.close();
        if let Some(committer) = self.committer.take() {
            // A panic of it has been reported already.
            let _ = committer.join();
        }
    }
}

impl Inner {
    /// Bytes for which there is space where entries take so many.
    fn room(&self, used: u64) -> u64 {
        let allowed = self.max_bytes.saturating_sub(used);
        let space = self.disk.upgrade().and_then(|disk| disk.space().ok());
        // A disk that cannot say how much there is finds out by writing.
        let Some(Space { taken, available }) = space else { return allowed };
        allowed.min(available.saturating_add(taken.saturating_sub(used)))
    }

    /// Has the committer do something.
    async fn run(&self, action: Action) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        self.queue.add(Job { action, reply });
        outcome.await.unwrap_or_else(|_| Err(AppendError::Broken("it is closed".into())))
    }
}

impl Log for RedbLog {
    type Writer = Numbered<RedbPort>;
    type Reader = RedbReader;

    async fn claim(&self, partition: Partition, node: NodeId) -> Result<Self::Writer, LogError> {
        let term = self.inner.run(Action::Claim(partition, node)).await?;
        Ok(Numbered::new(RedbPort { inner: self.inner.clone() }, partition, term))
    }

    fn read(&self, partition: Partition, from: Seq) -> RedbReader {
        let head = self.heads[usize::from(partition.0)].clone();
        RedbReader::new(self.inner.clone(), partition, from, self.salvage, head)
    }
}

/// What a writer has of the log.
#[derive(Debug)]
pub struct RedbPort {
    inner: Arc<Inner>,
}

impl Port for RedbPort {
    async fn post(&self, message: Message) -> Outcome {
        self.inner.run(Action::Call(message)).await
    }

    fn room(&self) -> u64 {
        let used = self.inner.counters.lock().used_bytes;
        self.inner.room(used)
    }
}

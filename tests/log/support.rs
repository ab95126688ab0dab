//! What the tests of the log have in common.

use bytes::Bytes;
use sessiond::log::{Content, Entry, Log, LogError, NodeId, Partition, Reader, Seq, Snapshot};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

pub const PARTITION: Partition = Partition(0);
pub const OTHER: Partition = Partition(255);
pub const NODE: NodeId = NodeId(1);

/// A folder for one test, empty at first and removed at the end.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("log-{}-{number}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Everything that a partition has now.
pub async fn everything<L: Log>(log: &L, partition: Partition) -> Vec<Entry> {
    try_everything(log, partition).await.expect("a log that can be read")
}

pub async fn try_everything<L: Log>(log: &L, partition: Partition) -> Result<Vec<Entry>, LogError> {
    let mut reader = log.read(partition, Seq::START);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next().await? {
        entries.push(entry);
    }
    Ok(entries)
}

/// The batches among entries.
pub fn batches(entries: &[Entry]) -> Vec<(Seq, Bytes)> {
    let batch = |entry: &Entry| match &entry.content {
        Content::Batch(batch) => Some((entry.seq, batch.clone())),
        _ => None,
    };
    entries.iter().filter_map(batch).collect()
}

/// The snapshots among entries.
pub fn snapshots(entries: &[Entry]) -> Vec<(Bytes, Bytes)> {
    let snapshot = |entry: &Entry| match &entry.content {
        Content::Snapshot { key, state } => Some((key.clone(), state.clone())),
        _ => None,
    };
    entries.iter().filter_map(snapshot).collect()
}

pub fn snapshot(key: &str, state: &str) -> Snapshot {
    Snapshot { key: key.to_owned().into(), state: Some(state.to_owned().into()) }
}

pub fn gone(key: &str) -> Snapshot {
    Snapshot { key: key.to_owned().into(), state: None }
}

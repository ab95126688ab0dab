//! `sessiond store import`: an export becomes a store again.

use super::{
    Result, block_on, code,
    lines::{Kind, Reader},
    note, source,
    store::{ImportArgs, Reading},
    text::count,
    told_after,
};
use crate::{
    keeper::export::PARTITION,
    log::{
        Log, NodeId, Seq, Snapshot, Writer,
        redb::{FILE, LOCK, Options, RedbLog},
    },
    record::{self, Entry},
    session::{epoch::Epoch, limits::Micros},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value as Json;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

/// The folder within that of the store in which it is made.
const UNFINISHED: &str = "import.unfinished";

/// Bytes of snapshots that are stored at once.
const SNAPSHOT_BYTES: usize = 8 * 1024 * 1024;

/// The node of the writer that claims a log whose first claim is trimmed.
const NODE: NodeId = NodeId(0);

/// What counts of a line. What its bytes mean stands beside them, and is not read.
#[derive(Debug, Deserialize)]
struct Line {
    seq: Json,
    kind: String,
    node: Option<String>,
    key: Option<String>,
    bytes: Option<String>,
}

/// Does it.
pub fn run(arguments: &ImportArgs) -> Result<ExitCode> {
    block_on(async {
        let folder = &arguments.folder;
        let mut place = Place::prepare(folder).await?;
        let imported = import(&place.unfinished, io::stdin().lock(), place.greatest_epoch).await?;
        place.finish()?;
        let entries = count(imported.entries, "entry", "entries");
        let done = format!("{entries} imported into {}\n", folder.display());
        let is_told = told_after(&done);
        if imported.lost > 0 {
            let lost = count(imported.lost, "entry was", "entries were");
            note(format!("{lost} lost before the export"));
        }
        Ok(code(is_told))
    })
}

/// A folder that is to have a store, locked as long as this is there.
#[derive(Debug)]
struct Place {
    folder: PathBuf,
    unfinished: PathBuf,
    /// The greatest epoch of the store that is there and holds nothing else.
    greatest_epoch: Epoch,
    /// The folder was made for the store.
    is_new: bool,
    is_finished: bool,
    lock: Option<File>,
}

impl Place {
    async fn prepare(folder: &Path) -> Result<Self> {
        let told = |path: &Path, error: &io::Error| format!("{}: {error}", path.display());
        let path = folder.join(FILE);
        let mut greatest_epoch = Epoch::default();
        if fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
            let reading = Reading { folder: folder.to_owned(), salvage: false };
            let contents = source::contents(&reading).await?;
            let there = || format!("there is a store in {} already", folder.display());
            if let Some(fault) = contents.faults.first() {
                return Err(format!("{}, and it is damaged: {fault}", there()));
            }
            if let Some(what) = contents.anything(now()) {
                return Err(format!("{}, with {what}", there()));
            }
            greatest_epoch = contents.last_epoch();
        }
        let is_new = fs::symlink_metadata(folder).is_err();
        if !is_new && !folder.is_dir() {
            return Err(format!("{} is no folder", folder.display()));
        }
        fs::create_dir_all(folder).map_err(|error| told(folder, &error))?;
        let mut place = Self {
            folder: folder.to_owned(),
            unfinished: folder.join(UNFINISHED),
            greatest_epoch,
            is_new,
            is_finished: false,
            lock: None,
        };
        let path = folder.join(LOCK);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(|error| told(&path, &error))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => {
                format!("the store {} is in use by another process", folder.display())
            }
            fs::TryLockError::Error(error) => told(&path, &error),
        })?;
        place.lock = Some(lock);
        // An import that was killed has left it.
        match fs::remove_dir_all(&place.unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(told(&place.unfinished, &error))
            }
            _ => Ok(place),
        }
    }

    /// The store gets its name, which is durable then.
    fn finish(&mut self) -> Result<()> {
        let renamed = fs::rename(self.unfinished.join(FILE), self.folder.join(FILE));
        let synced = renamed.and_then(|()| File::open(&self.folder)?.sync_all());
        synced.map_err(|error| format!("{}: {error}", self.folder.display()))?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.lock.is_none() {
            return;
        }
        let _ = fs::remove_dir_all(&self.unfinished);
        if self.is_new && !self.is_finished {
            let _ = fs::remove_file(self.folder.join(LOCK));
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// What an import has done.
#[derive(Debug, Default)]
struct Imported {
    entries: u64,
    lost: u64,
}

async fn import(folder: &Path, input: impl BufRead, greatest_epoch: Epoch) -> Result<Imported> {
    let mut lines = Reader::begin(input, Kind::Store)?;
    let log = RedbLog::open(folder, Options::default()).map_err(source::told)?;
    let mut target = Target::of(&log);
    let mut imported = Imported::default();
    let mut last = 0;
    while let Some(line) = lines.next::<Line>()? {
        let number = |json: &Json| json.as_u64().or_else(|| json.as_str()?.parse().ok());
        let seq = number(&line.seq).ok_or_else(|| lines.fault("\"seq\" is no number"))?;
        if seq <= last {
            return Err(lines.fault(format!("entry {seq} comes after entry {last}")));
        }
        last = seq;
        if line.kind == "lost" {
            imported.lost += 1;
            target.lose();
            continue;
        }
        target.take(line).await.map_err(|error| lines.fault(error))?;
        imported.entries += 1;
    }
    target.flush().await.map_err(|error| lines.fault(error))?;
    if greatest_epoch > Epoch::default() {
        target.keep_epoch(greatest_epoch).await?;
    }
    Ok(imported)
}

/// Microseconds since 1970.
fn now() -> Micros {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_micros() as Micros
}

/// A store that is made.
struct Target<'a> {
    log: &'a RedbLog,
    writer: Option<<RedbLog as Log>::Writer>,
    /// Snapshots that wait to be stored together.
    snapshots: Vec<Snapshot>,
    bytes: usize,
    /// The claim that is not of the export.
    own: Option<Seq>,
    /// There is something in it that is no snapshot.
    has_begun: bool,
    /// The last batch is a piece, and the next one belongs to it.
    is_in_pieces: bool,
}

impl<'a> Target<'a> {
    fn of(log: &'a RedbLog) -> Self {
        Self {
            log,
            writer: None,
            snapshots: Vec::new(),
            bytes: 0,
            own: None,
            has_begun: false,
            is_in_pieces: false,
        }
    }

    /// An entry of the export is lost. It may have been a piece: what comes after it is no end of those
    /// before, but begins with a claim.
    fn lose(&mut self) {
        if std::mem::take(&mut self.is_in_pieces) {
            self.writer = None;
        }
    }

    async fn take(&mut self, line: Line) -> Result<()> {
        let Line { seq: _, kind, node, key, bytes } = line;
        match kind.as_str() {
            "claim" => {
                let node = node.as_deref().and_then(|node| node.parse().ok());
                let node = node.ok_or("a claim without a node")?;
                self.flush().await?;
                self.claim(NodeId(node)).await
            }
            "batch" => {
                let batch = decode("bytes", bytes)?;
                self.flush().await?;
                self.is_in_pieces = record::more_follows(&batch);
                let seq = self.writer().await?.append(batch).await.map_err(told)?;
                self.drop_own(seq).await
            }
            "snapshot" => {
                let (key, state) = (decode("key", key)?, decode("bytes", bytes)?);
                if key.is_empty() {
                    return Err("a snapshot of nothing".to_owned());
                }
                let bytes = key.len() + state.len();
                if self.bytes + bytes > SNAPSHOT_BYTES {
                    self.flush().await?;
                }
                self.bytes += bytes;
                self.snapshots.push(Snapshot { key, state: Some(state) });
                Ok(())
            }
            "release" => {
                self.flush().await?;
                self.is_in_pieces = false;
                self.has_begun = true;
                self.writer().await?;
                let writer = self.writer.take().ok_or("a release without a claim")?;
                writer.release().await.map_err(told)
            }
            _ => Err(format!("an entry of the kind {kind:?} is not known here")),
        }
    }

    async fn claim(&mut self, node: NodeId) -> Result<()> {
        let writer = self.log.claim(PARTITION, node).await.map_err(source::told)?;
        let term = writer.term();
        self.writer = Some(writer);
        self.is_in_pieces = false;
        self.drop_own(term).await
    }

    /// The first claim of the export may be trimmed, and a later one lost.
    async fn writer(&mut self) -> Result<&mut <RedbLog as Log>::Writer> {
        if self.writer.is_none() {
            let writer = self.log.claim(PARTITION, NODE).await.map_err(source::told)?;
            // It goes again only if nothing stands before it.
            self.own = (!self.has_begun).then_some(writer.term());
            self.writer = Some(writer);
        }
        Ok(self.writer.as_mut().expect("it was just claimed"))
    }

    /// A claim that the export does not have goes with the first entry that it has.
    async fn drop_own(&mut self, next: Seq) -> Result<()> {
        self.has_begun = true;
        match (self.own.take(), &mut self.writer) {
            (Some(_), Some(writer)) => writer.trim(next).await.map_err(told),
            _ => Ok(()),
        }
    }

    /// No session was ever given a greater epoch than this one, or one that the export tells of. It is
    /// known at the end whether that was clean, which it stays.
    async fn keep_epoch(&mut self, epoch: Epoch) -> Result<()> {
        let was_clean = self.writer.is_none();
        self.claim(NODE).await?;
        let mut batch = Vec::new();
        record::put(&mut batch, &Entry::GreatestEpoch(epoch));
        self.writer().await?.append(batch.into()).await.map_err(told)?;
        match self.writer.take() {
            Some(writer) if was_clean => writer.release().await.map_err(told),
            _ => Ok(()),
        }
    }

    /// Stores the snapshots that wait.
    async fn flush(&mut self) -> Result<()> {
        self.bytes = 0;
        if self.snapshots.is_empty() {
            return Ok(());
        }
        let snapshots = std::mem::take(&mut self.snapshots);
        self.writer().await?.snapshot(snapshots).await.map(drop).map_err(told)
    }
}

fn told(error: crate::log::AppendError) -> String {
    error.to_string()
}

fn decode(name: &str, text: Option<String>) -> Result<Bytes> {
    let bytes = text.and_then(|text| STANDARD.decode(text).ok());
    bytes.map(Bytes::from).ok_or_else(|| format!("{name:?} is missing or no base64"))
}

//! `sessiond store export`: a store, or the history of one session, as JSON lines.

use super::{
    Result, block_on, code,
    history::History,
    json::{self, exact},
    lines::{Kind, Writer},
    note, source,
    store::ExportArgs,
    text::count,
};
use crate::{
    keeper::export::SOCKET,
    log::{
        Content, Entry, NodeId, Seq,
        redb::{FILE, LOCK},
    },
    record::Entries,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::{Value as Json, json};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    mem,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// An entry of the log as a line. An import goes by the bytes; what they mean stands beside them for
/// those who read the export.
#[derive(Debug, Serialize)]
struct Line {
    seq: Json,
    term: Json,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<Json>>,
}

/// Does it.
pub fn run(arguments: &ExportArgs) -> Result<ExitCode> {
    block_on(async {
        let reading = &arguments.store;
        let (mut entries, log) = source::entries(reading).await?;
        let mut lost = 0;
        let mut out = Output::open(arguments.out.as_deref(), &reading.folder)?;
        let wrong = |error| format!("the export cannot be written: {error}");
        match &arguments.session {
            None => {
                let mut writer = Writer::begin(out, Kind::Store).map_err(wrong)?;
                let mut order = Order::default();
                while let Some(entry) = entries.next().await? {
                    lost += u64::from(is_lost(&entry, reading.salvage)?);
                    for entry in order.push(entry) {
                        writer.line(&line(&entry)).map_err(wrong)?;
                    }
                }
                for entry in order.end() {
                    writer.line(&line(&entry)).map_err(wrong)?;
                }
                lost += order.left_out;
                out = writer.end().map_err(wrong)?;
            }
            Some(name) => {
                let mut history = History::of(name);
                let mut writer = Writer::begin(out, Kind::History).map_err(wrong)?;
                while let Some(entry) = entries.next().await? {
                    lost += u64::from(is_lost(&entry, reading.salvage)?);
                    for line in history.take(&entry, reading.salvage)? {
                        writer.line(&line).map_err(wrong)?;
                    }
                }
                history.found()?;
                lost += history.lost();
                out = writer.end().map_err(wrong)?;
            }
        }
        out.finish()?;
        let gaps = log.map_or(0, |log| log.counters().gaps);
        if gaps > 0 {
            note(format!("the log has {}: entries are missing", count(gaps, "gap", "gaps")));
        }
        Ok(code(lost == 0 && gaps == 0))
    })
}

/// The places in an export rise. Where the place of an entry is damaged itself, they need not do so
/// in the store.
#[derive(Debug, Default)]
struct Order {
    /// The last entry that was whole.
    last: Seq,
    /// What is lost since. Whether there was such a place is known with the next that is whole.
    lost: Vec<Entry>,
    /// Whole entries that are left out.
    left_out: u64,
}

impl Order {
    /// Takes an entry, and gives back those that are in order by now.
    fn push(&mut self, entry: Entry) -> Vec<Entry> {
        if let Content::Lost { .. } = entry.content {
            self.lost.push(entry);
            return Vec::new();
        }
        if entry.seq <= self.last {
            note(format!("entry {} is out of order and left out", entry.seq));
            self.left_out += 1;
            return Vec::new();
        }
        let mut entries = self.end();
        entries.retain(|lost| lost.seq < entry.seq);
        self.last = entry.seq;
        entries.push(entry);
        entries
    }

    /// What is left at the end.
    fn end(&mut self) -> Vec<Entry> {
        let mut lost = mem::take(&mut self.lost);
        lost.retain(|entry| entry.seq > self.last);
        lost.sort_by_key(|entry| entry.seq);
        lost.dedup_by_key(|entry| entry.seq);
        lost
    }
}

fn is_lost(entry: &Entry, salvage: bool) -> Result<bool> {
    source::refuse_lost(entry, salvage)?;
    let Content::Lost { key } = &entry.content else { return Ok(false) };
    let what = key.as_ref().map(|key| super::contents::subject_name(key));
    let what = what.map_or_else(String::new, |name| format!(", the snapshot of {name},"));
    note(format!("entry {}{what} is lost", entry.seq));
    Ok(true)
}

fn line(entry: &Entry) -> Line {
    let Entry { seq, term, content } = entry;
    let mut line = Line {
        seq: exact(seq.0),
        term: exact(term.0),
        kind: "release",
        node: None,
        key: None,
        bytes: None,
        entries: None,
    };
    match content {
        Content::Claim(NodeId(node)) => (line.kind, line.node) = ("claim", Some(node.to_string())),
        Content::Batch(batch) => {
            line.kind = "batch";
            (line.bytes, line.entries) = (Some(STANDARD.encode(batch)), Some(readable(batch)));
        }
        Content::Snapshot { key, state } => {
            (line.kind, line.key) = ("snapshot", Some(STANDARD.encode(key)));
            (line.bytes, line.entries) = (Some(STANDARD.encode(state)), Some(readable(state)));
        }
        Content::Release => {}
        Content::Lost { key } => {
            (line.kind, line.key) = ("lost", key.as_ref().map(|key| STANDARD.encode(key)));
        }
    }
    line
}

fn readable(batch: &[u8]) -> Vec<Json> {
    let one = |entry| match entry {
        Ok(entry) => json::entry(&entry),
        Err(error) => json!({ "unreadable": format!("{error}") }),
    };
    Entries::of(batch).map(one).collect()
}

/// Whether a path is that of a file which makes up a store.
fn is_of_store(path: &Path, folder: &Path) -> bool {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new(".")).canonicalize();
    let is_name = [FILE, LOCK, SOCKET].iter().any(|name| path.file_name() == Some(name.as_ref()));
    is_name && matches!((parent, folder.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Where an export goes. A file has its name once everything is in it.
#[derive(Debug)]
enum Output {
    Standard(BufWriter<io::Stdout>),
    File { file: BufWriter<File>, part: PathBuf, path: PathBuf },
}

impl Output {
    fn open(path: Option<&Path>, folder: &Path) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::Standard(BufWriter::new(io::stdout()))) };
        // The export takes the place of what is there: of a device or of the store itself it must not.
        if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            return Err(format!("{} is no file", path.display()));
        }
        if is_of_store(path, folder) {
            return Err(format!("{} is a file of the store", path.display()));
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let mut options = OpenOptions::new();
        // It holds hashes of passwords.
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&part);
        let file = file.map_err(|error| format!("{}: {error}", part.display()))?;
        Ok(Self::File { file: BufWriter::new(file), part, path: path.to_owned() })
    }

    fn finish(mut self) -> Result<()> {
        match &mut self {
            Self::Standard(out) => out.flush().map_err(|error| format!("the output: {error}")),
            Self::File { file, part, path } => {
                let synced = file.flush().and_then(|()| file.get_ref().sync_all());
                let named = synced.and_then(|()| fs::rename(&*part, &*path));
                named.map_err(|error| format!("{}: {error}", path.display()))
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // After the end it has another name already.
        if let Self::File { part, .. } = self {
            let _ = fs::remove_file(part);
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Standard(out) => out.write(bytes),
            Self::File { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Standard(out) => out.flush(),
            Self::File { file, .. } => file.flush(),
        }
    }
}

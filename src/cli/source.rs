//! Where the entries of a store come from: its file, or the server that has it open.

use super::{Result, contents::Contents, note, store::Reading, text::count};
use crate::{
    keeper::export::{Frame, Incoming, PARTITION, SOCKET},
    log::{
        Content, Entry, Log, LogError, Reader, Seq,
        redb::{FILE, Options, RedbLog, RedbReader},
    },
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
};

/// Opens the store of a folder, which has to be there.
pub fn open(folder: &Path, salvage: bool) -> Result<RedbLog> {
    find(folder)?;
    let opened = RedbLog::open(folder, Options { salvage, ..Options::default() });
    opened.map_err(|error| unopened(folder, &error))
}

/// Why the store of a folder does not open.
fn unopened(folder: &Path, error: &LogError) -> String {
    match error {
        LogError::InUse(_) | LogError::Refused { .. } | LogError::Lost(_) => error.to_string(),
        _ => format!("{}: {error}", folder.join(FILE).display()),
    }
}

/// A user who looks for a store in the wrong place does not make one there.
fn find(folder: &Path) -> Result<()> {
    let path = folder.join(FILE);
    let refused = |error| format!("{}: {error}", path.display());
    let is_none = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    };
    match fs::metadata(&path) {
        Ok(found) if !found.is_file() => Err(format!("{} is no file", path.display())),
        Ok(found) if found.len() == 0 => Err(format!("{} is empty: no store", path.display())),
        Ok(_) => Ok(()),
        Err(error) if is_none(&error) => {
            Err(format!("there is no store in {}: it has no {FILE}", folder.display()))
        }
        Err(error) => Err(refused(error)),
    }
}

/// Why a log cannot be read, in one line.
pub fn told(error: LogError) -> String {
    error.to_string()
}

/// Bytes that the store takes on its disk.
pub fn bytes_on_disk(folder: &Path) -> u64 {
    // The file has holes where nothing was written yet.
    fs::metadata(folder.join(FILE)).map_or(0, |file| file.blocks() * 512)
}

/// Everything that a store holds. Without a salvage, what is lost ends it.
pub async fn contents(reading: &Reading) -> Result<Contents> {
    let log = open(&reading.folder, reading.salvage)?;
    let mut entries = Entries::of(&log);
    let mut contents = Contents::default();
    while let Some(entry) = entries.next().await? {
        contents.take(&entry);
        refuse_lost(&entry, reading.salvage)?;
    }
    contents.close();
    add_gaps(&log, &mut contents);
    if reading.salvage {
        contents.faults.iter().for_each(note);
        if contents.more_faults > 0 {
            note(format!("and {} more", count(contents.more_faults, "fault", "faults")));
        }
    }
    Ok(contents)
}

/// What is lost is only left out by a salvage.
pub fn refuse_lost(entry: &Entry, salvage: bool) -> Result<()> {
    match entry.content {
        Content::Lost { .. } if !salvage => Err(format!(
            "entry {} of the store is damaged: `store check` tells more, --salvage reads on",
            entry.seq
        )),
        _ => Ok(()),
    }
}

/// Gaps that a salvage read across are faults.
pub fn add_gaps(log: &RedbLog, contents: &mut Contents) {
    let gaps = log.counters().gaps;
    if gaps > 0 {
        contents
            .add_fault(format!("the log has {}: entries are missing", count(gaps, "gap", "gaps")));
    }
}

/// The entries of a store, in order, to the last that there is now.
#[derive(Debug)]
pub enum Entries {
    /// From its file.
    Log(RedbReader),
    /// From a server, by way of a file: only the end says that they are all.
    Spool(BufReader<File>),
}

impl Entries {
    /// Those of a store that is open.
    pub fn of(log: &RedbLog) -> Self {
        Self::Log(log.read(PARTITION, Seq::START))
    }

    /// The next entry; none = these are all.
    pub async fn next(&mut self) -> Result<Option<Entry>> {
        match self {
            Self::Log(reader) => reader.next().await.map_err(told),
            Self::Spool(file) => {
                next_in_spool(file).map_err(|error| format!("a temporary file: {error}"))
            }
        }
    }
}

/// The entries of a store that may be open in a server, and the store if it is not.
pub async fn entries(reading: &Reading) -> Result<(Entries, Option<RedbLog>)> {
    let Reading { folder, salvage } = reading;
    find(folder)?;
    match RedbLog::open(folder, Options { salvage: *salvage, ..Options::default() }) {
        Ok(log) => Ok((Entries::of(&log), Some(log))),
        Err(in_use @ LogError::InUse(_)) => {
            let socket = folder.join(SOCKET);
            let incoming = Incoming::connect(&socket).await.map_err(|error| {
                format!("{in_use}, and that offers no export at {}: {error}", socket.display())
            })?;
            Ok((receive(incoming).await?, None))
        }
        Err(error) => Err(unopened(folder, &error)),
    }
}

/// Takes a whole export in. What is void is dropped.
async fn receive(mut incoming: Incoming) -> Result<Entries> {
    let spooling = |error| format!("a temporary file: {error}");
    let mut spool = BufWriter::new(unnamed_file().map_err(spooling)?);
    let mut taken = 0;
    loop {
        match incoming.next().await.map_err(|error| error.to_string())? {
            frame @ Frame::Entry(_) => {
                taken += 1;
                spool.write_all(&frame.encode()).map_err(spooling)?;
            }
            Frame::Again => {
                taken = 0;
                spool.rewind().map_err(spooling)?;
                spool.get_ref().set_len(0).map_err(spooling)?;
            }
            Frame::End(entries) if entries == taken => break,
            Frame::End(_) => return Err("the server sent not all entries".to_owned()),
            Frame::Refused(reason) => return Err(reason),
        }
    }
    let mut file = spool.into_inner().map_err(|error| spooling(error.into_error()))?;
    file.rewind().map_err(spooling)?;
    Ok(Entries::Spool(BufReader::new(file)))
}

/// A file for this process alone, which is gone with it.
fn unnamed_file() -> io::Result<File> {
    let name = format!("sessiond-export-{}-{:016x}", process::id(), fastrand::u64(..));
    let path: PathBuf = std::env::temp_dir().join(name);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

fn next_in_spool(file: &mut BufReader<File>) -> io::Result<Option<Entry>> {
    let mut length = [0; 4];
    match file.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    file.read_exact(&mut bytes)?;
    match Frame::decode(&bytes) {
        Some(Frame::Entry(entry)) => Ok(Some(entry)),
        _ => Err(io::Error::other("it was changed")),
    }
}

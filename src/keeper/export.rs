//! The log for those who may open a socket in the store's folder, while the server has the store
//! open: so that it can be copied without a stop.
//!
//! The server sends frames: a length in four bytes, least byte first, and so many bytes, of which the
//! first says what it is. An export is every entry in order up to a moment after its beginning. At
//! that moment everything before it was read, so what was sent is the state as of one point of the
//! log. Where entries are trimmed away before they were read, the export begins again, and its
//! reader forgets what it has ([`Frame::Again`]).

use crate::log::{Content, Entry, Key, Log, LogError, NodeId, Partition, Reader, Seq};
use bytes::Bytes;
use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// The name of the socket in the store's folder.
pub const SOCKET: &str = "export.socket";

/// The partition that holds everything.
pub const PARTITION: Partition = Partition(0);

/// Exports at a time.
const EXPORTS: usize = 2;

/// How long a reader may take nothing, and how long it waits for the server.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long one export may take. A reader that is slower than the log grows never comes to its end.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// How often an export begins at most.
const BEGINNINGS: u32 = 20;

/// Bytes that are written within [`PATIENCE`].
const CHUNK: usize = 64 * 1024;

/// Bytes of a frame at most: the largest entry and what is around it.
const FRAME_BYTES: usize = 64 * 1024 * 1024;

/// After a connection could not be accepted, for want of file descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// An entry of the log.
    Entry(Entry),
    /// What was sent so far is void: the export begins again.
    Again,
    /// It is complete, with so many entries.
    End(u64),
    /// There is nothing more, for this reason.
    Refused(String),
}

const ENTRY: u8 = 1;
const AGAIN: u8 = 2;
const END: u8 = 3;
const REFUSED: u8 = 4;

const CLAIM: u8 = 1;
const BATCH: u8 = 2;
const SNAPSHOT: u8 = 3;
const RELEASE: u8 = 4;
const LOST: u8 = 5;
const LOST_SNAPSHOT: u8 = 6;

impl Frame {
    /// The frame as it is sent, with its length.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        match self {
            Self::Entry(entry) => put_entry(&mut bytes, entry),
            Self::Again => bytes.push(AGAIN),
            Self::End(entries) => {
                bytes.push(END);
                bytes.extend(entries.to_le_bytes());
            }
            Self::Refused(reason) => {
                bytes.push(REFUSED);
                bytes.extend(reason.bytes());
            }
        }
        let length = u32::try_from(bytes.len() - 4).expect("an entry is smaller than 4 GiB");
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    /// The frame that was sent as these bytes, without its length; none = they are no frame.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        Some(match *kind {
            ENTRY => Self::Entry(entry_of(rest)?),
            AGAIN => Self::Again,
            END => Self::End(u64::from_le_bytes(rest.try_into().ok()?)),
            REFUSED => Self::Refused(String::from_utf8_lossy(rest).into_owned()),
            _ => return None,
        })
    }
}

/// Place, term, kind, the length of a key, the key, the rest.
fn put_entry(bytes: &mut Vec<u8>, entry: &Entry) {
    let Entry { seq, term, content } = entry;
    let node;
    let (kind, key, rest): (_, &[u8], &[u8]) = match content {
        Content::Claim(NodeId(id)) => {
            node = id.to_le_bytes();
            (CLAIM, &[], &node)
        }
        Content::Batch(batch) => (BATCH, &[], batch),
        Content::Snapshot { key, state } => (SNAPSHOT, key, state),
        Content::Release => (RELEASE, &[], &[]),
        Content::Lost { key: None } => (LOST, &[], &[]),
        Content::Lost { key: Some(key) } => (LOST_SNAPSHOT, key, &[]),
    };
    bytes.push(ENTRY);
    bytes.extend(seq.0.to_le_bytes());
    bytes.extend(term.0.to_le_bytes());
    bytes.push(kind);
    // The log takes no key of more bytes.
    bytes.extend((key.len() as u16).to_le_bytes());
    bytes.extend(key);
    bytes.extend(rest);
}

fn entry_of(bytes: &[u8]) -> Option<Entry> {
    let (seq, rest) = bytes.split_first_chunk()?;
    let (term, rest) = rest.split_first_chunk()?;
    let ([kind], rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
    let key = || Key::copy_from_slice(key);
    let content = match *kind {
        CLAIM => Content::Claim(NodeId(u64::from_le_bytes(rest.try_into().ok()?))),
        BATCH => Content::Batch(Bytes::copy_from_slice(rest)),
        SNAPSHOT => Content::Snapshot { key: key(), state: Bytes::copy_from_slice(rest) },
        RELEASE => Content::Release,
        LOST => Content::Lost { key: None },
        LOST_SNAPSHOT => Content::Lost { key: Some(key()) },
        _ => return None,
    };
    let (seq, term) = (Seq(u64::from_le_bytes(*seq)), Seq(u64::from_le_bytes(*term)));
    Some(Entry { seq, term, content })
}

/// Offers the log at a socket that only the user of this process may open, until it is to stop. The
/// log is free again when this returns.
pub async fn serve_export<L: Log>(
    log: Arc<L>,
    socket: &Path,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = bind(socket)?;
    let mut running = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        while running.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) if running.len() >= EXPORTS => {
                let reason = format!("{EXPORTS} exports are running: try again later");
                // It fits into the socket, and nobody waits if not.
                let _ = stream.try_write(&Frame::Refused(reason).encode());
            }
            Ok((stream, _)) => {
                let log = log.clone();
                running.spawn(async move {
                    // A reader notices that the end is missing.
                    let _ = timeout(LONGEST, export(&*log, stream, PATIENCE)).await;
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
    running.shutdown().await;
    fs::remove_file(socket)
}

/// The socket appears under its name once nobody else may open it. One that a crash has left is
/// replaced: the process that has the store open has the folder.
fn bind(socket: &Path) -> io::Result<UnixListener> {
    let mut new = socket.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    fs::rename(&new, socket)?;
    Ok(listener)
}

/// Sends everything that the log has to a reader that takes some of it within every `patience`.
async fn export<L: Log>(log: &L, stream: UnixStream, patience: Duration) -> io::Result<()> {
    let mut to = Outgoing { stream, patience };
    for _ in 0..BEGINNINGS {
        let mut reader = log.read(PARTITION, Seq::START);
        let mut entries = 0;
        loop {
            match reader.next().await {
                Ok(Some(entry)) => {
                    entries += 1;
                    to.send(&Frame::Entry(entry)).await?;
                }
                // Up to here everything was there at one moment.
                Ok(None) => return to.send(&Frame::End(entries)).await,
                Err(LogError::Trimmed { .. }) => break,
                Err(error) => return to.send(&Frame::Refused(error.to_string())).await,
            }
        }
        to.send(&Frame::Again).await?;
    }
    let reason = "the log is trimmed faster than it is read: try again later".to_owned();
    to.send(&Frame::Refused(reason)).await
}

/// A reader of an export.
struct Outgoing {
    stream: UnixStream,
    patience: Duration,
}

impl Outgoing {
    async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        for chunk in frame.encode().chunks(CHUNK) {
            timeout(self.patience, self.stream.write_all(chunk)).await??;
        }
        Ok(())
    }
}

/// The other side: an export that comes in.
#[derive(Debug)]
pub struct Incoming(UnixStream);

impl Incoming {
    /// Begins an export at the socket of a server.
    pub async fn connect(socket: &Path) -> io::Result<Self> {
        UnixStream::connect(socket).await.map(Self)
    }

    /// The next frame. An export that ends early is an error.
    pub async fn next(&mut self) -> io::Result<Frame> {
        let received = timeout(PATIENCE, self.receive()).await;
        received.unwrap_or_else(|_| Err(io::Error::other("the server sends nothing")))
    }

    async fn receive(&mut self) -> io::Result<Frame> {
        let early = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other("the server ended the export early"),
            _ => error,
        };
        let length = self.0.read_u32_le().await.map_err(early)? as usize;
        if length > FRAME_BYTES {
            return Err(io::Error::other("the server sends what is no export"));
        }
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).await.map_err(early)?;
        Frame::decode(&bytes).ok_or_else(|| io::Error::other("the server sends what is no export"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Writer, memory::MemoryLog};

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_cut() {
        let log = MemoryLog::default();
        let mut writer = log.claim(PARTITION, NodeId(1)).await.expect("a claim");
        // More than a socket takes up.
        for _ in 0..8 {
            writer.append(vec![0; 700_000].into()).await.expect("stored");
        }
        let (ours, theirs) = UnixStream::pair().expect("two sockets");
        let cut = export(&log, ours, Duration::from_millis(50)).await;
        assert_eq!(cut.expect_err("it is cut").kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }

    #[test]
    fn what_is_sent_is_received() {
        let entry = |content| Frame::Entry(Entry { seq: Seq(300), term: Seq(299), content });
        let key = Key::from_static(b"key");
        for frame in [
            entry(Content::Claim(NodeId(u64::MAX))),
            entry(Content::Batch("batch".into())),
            entry(Content::Snapshot { key: key.clone(), state: "state".into() }),
            entry(Content::Release),
            entry(Content::Lost { key: None }),
            entry(Content::Lost { key: Some(key) }),
            Frame::Again,
            Frame::End(7),
            Frame::Refused("busy".into()),
        ] {
            let bytes = frame.encode();
            let (length, rest) = bytes.split_first_chunk().expect("a length");
            assert_eq!(u32::from_le_bytes(*length) as usize, rest.len());
            assert_eq!(Frame::decode(rest), Some(frame));
            let cut = |to: usize| Frame::decode(&rest[..to]);
            // Bytes at the end may be missing from what has no length of its own; nothing panics.
            (0..rest.len()).for_each(|to| drop(cut(to)));
        }
    }
}

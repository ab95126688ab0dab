//! What can go wrong with a log, each in one line that says what to do.

use super::{Partition, Seq};
use std::{io, path::PathBuf, sync::Arc};

/// Why a log does not open, cannot be claimed or cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// Another process has the store open.
    #[error("the store {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// A later version wrote the store.
    #[error("the store has format {found}, this version knows up to {known}: use a newer version")]
    Newer {
        /// The format of the store.
        found: u64,
        /// The greatest that is known here.
        known: u64,
    },
    /// The operating system refuses.
    #[error("{}: {error}", path.display())]
    Refused {
        /// What could not be opened.
        path: PathBuf,
        /// What the system says.
        error: Arc<io::Error>,
    },
    /// There was a store, and its file is gone or empty.
    #[error(
        "{} is gone or empty, although there was a store: put a backup in its place, or give a new \
         folder to start with nothing",
        .0.display()
    )]
    Lost(PathBuf),
    /// There is no space to open the store. What is stored is not touched.
    #[error("there is no space left for the store: free some, then start again")]
    Full,
    /// The file is no store, is cut short or is damaged where it holds itself together.
    #[error("the store is damaged: {0}")]
    Damaged(Arc<str>),
    /// Entries are missing that nobody trimmed.
    #[error(
        "partition {partition} of the store has a gap after {after}: only a salvage reads across it"
    )]
    Gap {
        /// Where.
        partition: Partition,
        /// The last entry before the gap.
        after: Seq,
    },
    /// What the reader wants next is trimmed: it begins again at [`Seq::START`].
    #[error("partition {partition} is trimmed below {oldest}")]
    Trimmed {
        /// Where.
        partition: Partition,
        /// Everything from here on is there.
        oldest: Seq,
    },
    /// No server of the store answers, or none in time.
    #[error("no NATS server can be reached: {0}")]
    Unreachable(Arc<str>),
    /// There is no trust between this program and the servers.
    #[error("no NATS server can be reached: {0}")]
    NoTls(Arc<str>),
    /// The servers answer, but have not found together yet, or no more.
    #[error("the NATS servers are not ready: {0}")]
    NotReady(Arc<str>),
    /// The servers know somebody else, or nobody, by these credentials.
    #[error("the NATS server refuses the credentials: {0}")]
    Unauthorized(Arc<str>),
    /// The credentials are right, but do not reach far enough.
    #[error("the NATS server does not permit what the store needs: {0}")]
    NotPermitted(Arc<str>),
    /// A server lacks something that the store needs, or a setting has a value that it cannot have.
    #[error("the NATS servers cannot be used: {0}")]
    Unfit(Arc<str>),
    /// A stream cannot be made, or is not as this version makes it.
    #[error("the stream {stream} cannot be used: {problem}")]
    Stream {
        /// Its name.
        stream: String,
        /// Everything that is wrong with it.
        problem: Arc<str>,
    },
    /// Another writer has claimed the partition.
    #[error("another writer has claimed the partition")]
    Deposed,
    /// It does not say whether something is stored. A caller that asks again may be answered.
    #[error("the store does not answer")]
    Silent,
    /// Nothing more can be read or stored until the log is opened again.
    #[error("the store failed: {0}")]
    Broken(Arc<str>),
}

/// Why an entry is not stored, or not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Another writer has claimed the partition, or this one has released it. Not stored.
    #[error("another writer has claimed the partition")]
    Deposed,
    /// There is too little space. Not stored; the same may succeed later.
    #[error("there is too little space in the store")]
    Full,
    /// More bytes than the bound. Not stored.
    #[error("{bytes} bytes, but no more than {most} can be stored at once")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// The bound.
        most: usize,
    },
    /// Stored or not: [`settle`](super::Writer::settle) finds out. Until then nothing else is sent.
    /// That nobody answers says nothing about space.
    #[error("it is not known whether it is stored")]
    Unknown,
    /// The same, as there is too little space to find out.
    #[error("there is too little space in the store to know whether it is stored")]
    UnknownFull,
    /// The log has failed and takes nothing until it is opened again. Whether this call is stored
    /// shows then; nobody was promised that it is.
    #[error("the store failed: {0}")]
    Broken(Arc<str>),
}

impl LogError {
    /// Whether the same may succeed a little later, without anybody doing anything about it.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::NotReady(_) | Self::Silent)
    }
}

impl AppendError {
    /// Whether it may be stored.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown | Self::UnknownFull)
    }
}

impl From<AppendError> for LogError {
    fn from(error: AppendError) -> Self {
        match error {
            // A claim is not known to be stored if the store was full: it is made again.
            AppendError::Full | AppendError::UnknownFull => Self::Full,
            AppendError::Unknown => Self::Silent,
            AppendError::Deposed => Self::Deposed,
            AppendError::Broken(why) => Self::Broken(why),
            other => Self::Broken(other.to_string().into()),
        }
    }
}

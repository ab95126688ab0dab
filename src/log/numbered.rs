//! A writer that numbers its calls, so that a call which is sent again is stored once. It works
//! with every log that can tell by term and number whether it has stored a call already.

use super::{
    BootMicros, MAX_BATCH_BYTES, MAX_KEY_BYTES, MAX_SNAPSHOTS_BYTES, Partition, Seq, Snapshot,
    Writer,
    error::AppendError,
    head::Call,
    space::{FLOOR, RESERVE},
};
use bytes::Bytes;
use std::{fmt, future::Future, sync::Arc};

/// One call of a writer.
#[derive(Debug, Clone)]
pub struct Message {
    /// What it is written to.
    pub partition: Partition,
    /// Whose call it is.
    pub call: Call,
    /// What it is to do.
    pub content: Post,
}

/// What a call is to do.
#[derive(Debug, Clone)]
pub enum Post {
    /// A batch, and how many bytes of space it leaves.
    Batch(Bytes, u64),
    /// See [`Writer::snapshot`].
    Snapshots(Arc<[Snapshot]>),
    /// See [`Writer::trim`].
    Trim(Seq),
    /// See [`Writer::release`].
    Release,
}

impl Post {
    /// Bytes that are handed over.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Batch(batch, _) => batch.len(),
            Self::Snapshots(snapshots) => snapshots.iter().map(bytes_of).sum(),
            Self::Trim(_) | Self::Release => 0,
        }
    }

    fn check(&self) -> Result<(), AppendError> {
        let within = |bytes, most| match bytes > most {
            true => Err(AppendError::TooLarge { bytes, most }),
            false => Ok(()),
        };
        match self {
            Self::Batch(batch, _) => within(batch.len(), MAX_BATCH_BYTES),
            Self::Snapshots(snapshots) => {
                for snapshot in snapshots.iter() {
                    within(snapshot.key.len(), MAX_KEY_BYTES)?;
                }
                within(self.bytes(), MAX_SNAPSHOTS_BYTES)
            }
            Self::Trim(_) | Self::Release => Ok(()),
        }
    }
}

fn bytes_of(snapshot: &Snapshot) -> usize {
    snapshot.key.len() + snapshot.state.as_ref().map_or(0, Bytes::len)
}

/// The way to a log.
pub trait Port: Send + Sync + 'static {
    /// Sends a call and waits for its outcome: the last place that it took.
    fn post(&self, message: Message) -> impl Future<Output = Result<Seq, AppendError>> + Send;

    /// See [`Writer::room`].
    fn room(&self) -> u64;
}

/// A way to a log of which it is known when what is stored was sent.
pub trait Dated: Port {
    /// When the last message was sent, for the first time, that is known to be stored. A node that
    /// claims the partition later than that cannot have done so before.
    fn last_sent(&self) -> BootMicros;
}

/// See [`Writer`].
pub struct Numbered<P> {
    port: P,
    partition: Partition,
    term: Seq,
    /// The number of the last call that is stored.
    number: u64,
    /// What was sent and whose outcome is not known.
    unsettled: Option<Message>,
}

impl<P> fmt::Debug for Numbered<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numbered")
            .field("partition", &self.partition)
            .field("term", &self.term)
            .finish_non_exhaustive()
    }
}

impl<P: Port> Numbered<P> {
    /// A writer whose claim is stored.
    pub(super) fn new(port: P, partition: Partition, term: Seq) -> Self {
        Self { port, partition, term, number: 0, unsettled: None }
    }

    /// The same writer by another way to its log, that is made of this one.
    pub fn by<Q: Port>(self, way: impl FnOnce(P) -> Q) -> Numbered<Q> {
        let Self { port, partition, term, number, unsettled } = self;
        Numbered { port: way(port), partition, term, number, unsettled }
    }

    /// See [`Dated::last_sent`].
    pub fn last_sent(&self) -> BootMicros
    where
        P: Dated,
    {
        self.port.last_sent()
    }

    async fn send(&mut self, content: Post) -> Result<Seq, AppendError> {
        if self.unsettled.is_some() {
            return Err(AppendError::Unknown);
        }
        content.check()?;
        let call = Call { term: self.term, number: self.number + 1 };
        self.post(Message { partition: self.partition, call, content }).await
    }

    /// It stays unsettled if this is given up while it waits.
    async fn post(&mut self, message: Message) -> Result<Seq, AppendError> {
        self.unsettled = Some(message.clone());
        let number = message.call.number;
        let outcome = self.port.post(message).await;
        if !outcome.as_ref().is_err_and(AppendError::is_unknown) {
            self.unsettled = None;
        }
        if outcome.is_ok() {
            self.number = number;
        }
        outcome
    }
}

impl<P: Port> Writer for Numbered<P> {
    fn term(&self) -> Seq {
        self.term
    }

    async fn append(&mut self, batch: Bytes) -> Result<Seq, AppendError> {
        self.send(Post::Batch(batch, RESERVE)).await
    }

    async fn append_from_reserve(&mut self, batch: Bytes) -> Result<Seq, AppendError> {
        self.send(Post::Batch(batch, FLOOR)).await
    }

    fn room(&self) -> u64 {
        self.port.room()
    }

    async fn snapshot(&mut self, snapshots: Vec<Snapshot>) -> Result<Seq, AppendError> {
        self.send(Post::Snapshots(snapshots.into())).await
    }

    async fn trim(&mut self, below: Seq) -> Result<(), AppendError> {
        self.send(Post::Trim(below)).await.map(drop)
    }

    async fn settle(&mut self) -> Result<Option<Seq>, AppendError> {
        match self.unsettled.clone() {
            Some(message) => self.post(message).await.map(Some),
            None => Ok(None),
        }
    }

    async fn release(mut self) -> Result<(), AppendError> {
        self.send(Post::Release).await.map(drop)
    }
}

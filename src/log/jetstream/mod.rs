//! The log of many nodes: one stream of NATS JetStream for each partition.
//!
//! Whatever is stored names the place after which it must stand ([`delivery`]), and the stream
//! refuses it anywhere else. A claim is stored like that too, so from then on whatever the writer
//! before it sends comes too late. Batches, claims, releases and trims go to one subject, the
//! snapshots of each key to one of its own, where the first message of a snapshot takes the place of
//! all that were there. A state that is too large for a message is stored in pieces, all or none. That a
//! key is gone is noted on a third kind of subject.
//!
//! Readers ask whichever server is near, and the leader whether there is really nothing more.

mod api;
mod claim;
mod connection;
mod delivery;
mod denied;
mod entry;
mod pieces;
mod reader;
mod replies;
mod rights;
mod room;
mod streams;
mod subjects;
mod sweeper;
mod writer;

pub use self::{
    connection::{Connection, Servers},
    reader::JetStreamReader,
    writer::JetStreamPort,
};

use self::{api::Api, room::Room};
use super::{
    Counters, Log, LogError, MAX_BATCH_BYTES, MAX_KEY_BYTES, NodeId, Numbered, Partition, Seq,
};
use async_nats::HeaderMap;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{fmt, sync::Arc, time::Duration};

/// Bytes that a server has to take in one message, headers included.
const MOST_MESSAGE_BYTES: usize = MAX_BATCH_BYTES + MAX_KEY_BYTES + entry::OVERHEAD + 1024;

/// How long claims and readers wait for a stream whose leader is gone. To find another takes servers 5
/// to 7 s.
const ELECTION: Duration = Duration::from_secs(20);

/// How the log of a cluster is set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of the cluster, which keeps its streams and subjects apart from those of others: 1 to
    /// 32 letters, digits, `-` and `_`.
    pub cluster: String,
    /// How many partitions there are, from 0 on: 1 to 256, the same for ever.
    pub partitions: u16,
    /// On how many servers each stream is: 1, 3 or 5.
    pub replicas: u8,
    /// Bytes that a stream may take. Above half of it batches are refused.
    pub max_bytes: u64,
    /// How long a call waits for its reply before its outcome is unknown, and opening for an answer.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster: "sessiond".to_owned(),
            partitions: 16,
            replicas: 3,
            max_bytes: 1 << 30,
            patience: Duration::from_secs(5),
        }
    }
}

/// The log. Clones are the same one.
#[derive(Debug, Clone)]
pub struct JetStreamLog {
    shared: Arc<Shared>,
    is_new: bool,
}

/// What the log, its writers and its readers share.
struct Shared {
    api: Api,
    /// For a caller that has to wait until a leader is found.
    patient: Api,
    settings: Settings,
    counters: Mutex<Counters>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl JetStreamLog {
    /// Makes the streams of a cluster, or sees that they are as this version makes them.
    pub async fn open(connection: &Connection, settings: Settings) -> Result<Self, LogError> {
        settings.check()?;
        let api = Api::open(connection, settings.patience).await?;
        rights::check(&api, &settings).await?;
        let is_new = streams::prepare(&api, &settings).await?;
        tokio::spawn(rights::check_sync(api.clone()));
        let patient = api.with_patience(ELECTION);
        let counters = Mutex::default();
        let shared = Arc::new(Shared { api, patient, settings, counters });
        Ok(Self { shared, is_new })
    }

    /// Whether nothing was stored in it when it was opened.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The last place of a partition: what was stored there is known to be stored now.
    pub async fn end(&self, partition: Partition) -> Result<Seq, LogError> {
        self.shared.has(partition)?;
        let (api, stream) = (&self.shared.api, self.shared.settings.stream(partition));
        let info = api.stream(&stream).await.map_err(|error| api.told(&error))?;
        let info = info.ok_or_else(|| self.shared.gone(partition))?;
        Ok(Seq(info.state.last_seq))
    }

    /// What it has done since it was opened. Nothing is said of disks.
    pub fn counters(&self) -> Counters {
        self.shared.counters.lock().clone()
    }
}

impl Log for JetStreamLog {
    type Writer = Numbered<JetStreamPort>;
    type Reader = JetStreamReader;

    async fn claim(&self, partition: Partition, node: NodeId) -> Result<Self::Writer, LogError> {
        self.shared.has(partition)?;
        let (claimed, used) = claim::claim(&self.shared, partition, node).await?;
        let room = Room::watch(&self.shared, partition, used);
        Ok(writer::start(self.shared.clone(), partition, claimed, room))
    }

    fn read(&self, partition: Partition, from: Seq) -> JetStreamReader {
        JetStreamReader::new(self.shared.clone(), partition, from)
    }
}

impl Shared {
    fn has(&self, partition: Partition) -> Result<(), LogError> {
        let count = self.settings.partitions;
        if u16::from(partition.0) < count {
            return Ok(());
        }
        Err(LogError::Unfit(format!("there is no partition {partition} of {count}").into()))
    }

    /// A stream that was there.
    fn gone(&self, partition: Partition) -> LogError {
        let problem = "it is gone".into();
        LogError::Stream { stream: self.settings.stream(partition), problem }
    }

    fn count(&self, entries: u64, bytes: u64, time: Duration) {
        let mut counters = self.counters.lock();
        counters.commits += 1;
        counters.entries += entries;
        counters.bytes += bytes;
        counters.commit_times.add(time);
    }

    /// Tells readers anywhere that there is more. One that does not hear of it looks by itself.
    fn wake(self: &Arc<Self>, partition: Partition) {
        let shared = self.clone();
        tokio::spawn(async move {
            let subject = shared.settings.wakes(partition);
            shared.api.send(subject, None, HeaderMap::new(), Bytes::new()).await
        });
    }
}

//! What this node reads of partitions while their owners still serve them, as they are about to give
//! them to it: after its claim it has only the last of them left to read, and is served the sooner.

use crate::{
    cluster::ToRead,
    keeper::{LoadError, Loaded, ReadAhead},
    log::{
        Partition, Seq,
        jetstream::{JetStreamLog, JetStreamReader},
    },
    session::limits::Limits,
};
use parking_lot::Mutex;
use std::{collections::HashMap, io, pin::pin, sync::Arc, thread, time::Duration};
use tokio::{runtime, sync::oneshot, time::sleep};

/// How long a partition that was read is kept for a claim.
const PATIENCE: Duration = Duration::from_secs(30);

/// The partitions that are being read.
#[derive(Debug, Default)]
pub struct Readings {
    all: Mutex<HashMap<Partition, Reading>>,
}

/// A partition that a thread of its own reads.
#[derive(Debug)]
struct Reading {
    /// Tells it the claim up to which it is to read. Gone = nobody will claim.
    term: oneshot::Sender<Seq>,
    /// What it has read up to there; none = nobody claimed it in time.
    loaded: oneshot::Receiver<Result<Option<Loaded>, LoadError>>,
}

impl Readings {
    /// Begins to read a partition, and says when all that there is now is read. A thread that reads it
    /// already stops: a node that asks again has waited in vain for that one.
    pub fn begin(&self, log: &JetStreamLog, limits: &Arc<Limits>, to_read: ToRead) {
        let ToRead { partition, done } = to_read;
        let (term, claimed) = oneshot::channel();
        let (tell, loaded) = oneshot::channel();
        let ahead = ReadAhead::begin(log, partition, limits);
        let work = move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            // Nobody may wait for it any more.
            let _ = tell.send(runtime.block_on(read(ahead, done, claimed)));
            io::Result::Ok(())
        };
        // Where it cannot be read ahead, it is read after the claim.
        if let Err(error) = thread::Builder::new().name(format!("reader-{partition}")).spawn(work) {
            tracing::warn!(%partition, %error, "a partition is not read ahead");
        }
        self.all.lock().insert(partition, Reading { term, loaded });
    }

    /// What was read ahead of a partition, and the rest up to a claim; none = it was not, or cannot be.
    pub async fn finish(&self, partition: Partition, term: Seq) -> Option<Loaded> {
        let reading = self.all.lock().remove(&partition)?;
        reading.term.send(term).ok()?;
        match reading.loaded.await.ok()? {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::warn!(%partition, %error, "what was read ahead is of no use");
                None
            }
        }
    }
}

/// Reads as far as there is anything, and then what comes, until the partition is claimed.
async fn read(
    mut ahead: ReadAhead<JetStreamReader>,
    done: oneshot::Sender<()>,
    mut claimed: oneshot::Receiver<Seq>,
) -> Result<Option<Loaded>, LoadError> {
    ahead.catch_up().await?;
    // The one that asked may have given up.
    let _ = done.send(());
    let mut patience = pin!(sleep(PATIENCE));
    loop {
        tokio::select! {
            changed = ahead.changed() => changed?,
            term = &mut claimed => return match term {
                Ok(term) => ahead.finish(term).await.map(Some),
                Err(_) => Ok(None),
            },
            () = &mut patience => return Ok(None),
        }
        ahead.catch_up().await?;
    }
}

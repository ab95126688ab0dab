//! The store of a server: opened and read before anybody is served, written by a thread of its own.

use crate::{
    config::Config,
    engine::Engine,
    keeper::{self, Keeper, KeeperOptions, LoadError, Loading, Lost},
    log::{
        LogError, NodeId,
        redb::{Options, RedbLog},
    },
};
use std::{sync::Arc, thread, time::Duration};
use tokio::{
    runtime,
    sync::{oneshot, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// Above so many bytes of batches the store holds snapshots instead.
const BATCH_BYTES: usize = 64 << 20;

/// What stores.
#[derive(Debug)]
pub struct Store {
    stop: CancellationToken,
    /// Why the log failed, if it did.
    failed: watch::Receiver<Option<LogError>>,
    done: Option<oneshot::Receiver<()>>,
}

impl Store {
    /// Opens the store, and has the engine take in what it holds; none if nothing is to be stored.
    pub async fn open(config: &Config, engine: &Engine) -> Result<Option<Self>, LoadError> {
        let Some(folder) = &config.store else { return Ok(None) };
        let begin = Instant::now();
        let options = Options { max_bytes: config.max_store_bytes as u64, ..Options::default() };
        let log = RedbLog::open(folder, options)?;
        let node = NodeId(engine.clock().now());
        let loading = Loading::new(Arc::new(engine.settings().limits.clone()));
        let (writer, loaded) = keeper::open(&log, node, loading).await?;
        for Lost { app, id, why } in &loaded.lost {
            tracing::error!(%app, session = %id, why, "a session is lost");
        }
        let restored = &loaded.restored;
        let (sessions, users) = (restored.sessions.len(), restored.users.len());
        let (lost, unreadable) = (loaded.lost.len(), loaded.unreadable);
        let is_clean = restored.is_clean;
        let options = KeeperOptions { interval: config.store_interval, batch_bytes: BATCH_BYTES };
        let mut keeper = Keeper::new(engine.clone(), writer, loaded, options);
        keeper.begin().await?;
        tracing::info!(
            folder = %folder.display(),
            sessions,
            users,
            lost,
            unreadable,
            clean = is_clean,
            ms = begin.elapsed().as_millis() as u64,
            "the store is read"
        );
        let (failing, failed) = watch::channel(None);
        let (finished, done) = oneshot::channel();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let runtime = runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| LogError::Broken(error.to_string().into()))?;
        let work = move || {
            // The log is there as long as something writes it, and is closed with the thread.
            let outcome = runtime.block_on(keeper.run(stopped));
            drop(log);
            if let Err(error) = outcome {
                tracing::error!(%error, "the store has failed");
                failing.send_replace(Some(error));
            }
            let _ = finished.send(());
        };
        let thread = thread::Builder::new().name("keeper".to_owned()).spawn(work);
        thread.map_err(|error| LogError::Broken(error.to_string().into()))?;
        Ok(Some(Self { stop, failed, done: Some(done) }))
    }

    /// Waits until the store fails.
    pub fn failed(&self) -> impl Future<Output = LogError> + use<> {
        let mut failed = self.failed.clone();
        async move {
            match failed.wait_for(Option::is_some).await.map(|error| error.clone()) {
                Ok(Some(error)) => error,
                // It has ended as it was told to.
                _ => std::future::pending().await,
            }
        }
    }

    /// Waits until everything is stored, when nothing changes any more.
    pub async fn finish(&self, engine: &Engine) {
        tokio::select! {
            () = engine.store_everything() => {}
            _ = self.failed() => {}
        }
    }

    /// Gives the store back: a clean end.
    pub async fn close(mut self, within: Duration) {
        self.stop.cancel();
        let Some(done) = self.done.take() else { return };
        if timeout(within.max(Duration::from_secs(1)), done).await.is_err() {
            tracing::warn!("the store could not be closed in time: not everything is stored");
        }
    }
}

//! The store of a server: opened and read before anybody is served, written by a thread of its own.

use crate::{
    config::Config,
    engine::{self, Engine},
    grpc::Objects,
    keeper::{self, Finish, Keeper, KeeperOptions, LoadError, Lost, export},
    log::{
        Log, LogError, NodeId,
        redb::{Options, RedbLog},
    },
    session::{
        ids::{AppId, SessionId},
        limits::{Micros, SECOND},
    },
};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{
    runtime,
    sync::{oneshot, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// Above so many bytes of batches the store holds snapshots instead.
const BATCH_BYTES: usize = 64 << 20;

/// No more of what a store may take than one in so many bytes is for batches: in a small one they are
/// trimmed long before it is full.
const BATCH_SHARE: u64 = 16;

/// The clock has gone back if it is behind the stored greatest epoch by more than this. That is ahead of
/// the clock by some seconds, and by one more for each start that comes within a second of the last.
const CLOCK_BEHIND: Micros = 600 * SECOND;

/// How many sessions that are lost are named in the log.
const NAMED: usize = 50;

/// What stores.
#[derive(Debug)]
pub struct Store {
    stop: CancellationToken,
    /// Why the log failed, if it did.
    failed: watch::Receiver<Option<LogError>>,
    done: Option<oneshot::Receiver<Option<Finish>>>,
}

/// A store that is open and not read yet.
#[derive(Debug)]
pub struct Stored {
    folder: PathBuf,
    log: RedbLog,
}

impl Stored {
    /// Opens the store, so that no other process does; none if nothing is to be stored.
    pub fn lock(config: &Config) -> Result<Option<Self>, LoadError> {
        let Some(folder) = &config.store else { return Ok(None) };
        let options = Options {
            max_bytes: config.max_store_bytes as u64,
            sets_aside: true,
            ..Options::default()
        };
        let log = RedbLog::open(folder, options)?;
        Ok(Some(Self { folder: folder.clone(), log }))
    }

    /// Reads the store, and has the engine take in what it holds; from then on it stores. Both are done
    /// by a thread of its own, so that a client that asks meanwhile is answered.
    pub async fn read(
        self,
        config: &Config,
        engine: &Engine,
        objects: Arc<Objects>,
    ) -> Result<Store, LoadError> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(broken)?;
        let engine = engine.clone();
        let share = (config.max_store_bytes as u64 / BATCH_SHARE) as usize;
        let batch_bytes = BATCH_BYTES.min(share);
        let options =
            KeeperOptions { interval: config.store_interval, batch_bytes, sign_of_life: None };
        let (failing, failed) = watch::channel(None);
        let ((ready, begun), (finished, done)) = (oneshot::channel(), oneshot::channel());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let work = move || {
            // The log is there as long as something writes it, and is closed with the thread.
            let Self { folder, log } = self;
            let log = Arc::new(log);
            let outcome = runtime.block_on(async {
                match begin(&folder, &log, engine, objects, options).await {
                    Ok(keeper) => {
                        let _ = ready.send(Ok(()));
                        let closed = CancellationToken::new();
                        let socket = folder.join(export::SOCKET);
                        let (log, until) = (log.clone(), closed.clone());
                        let exports = tokio::spawn(async move {
                            if let Err(error) = export::serve_export(log, &socket, until).await {
                                tracing::warn!(%error, "no export while serving");
                            }
                        });
                        let outcome = keeper.run(stopped).await;
                        closed.cancel();
                        let _ = exports.await;
                        outcome.map(Some)
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        Ok(None)
                    }
                }
            });
            drop(log);
            let finish = outcome.unwrap_or_else(|error| {
                tracing::error!(%error, "the store has failed");
                failing.send_replace(Some(error));
                None
            });
            let _ = finished.send(finish);
        };
        thread::Builder::new().name("keeper".to_owned()).spawn(work).map_err(broken)?;
        match begun.await {
            Ok(begun) => begun?,
            Err(_) => return Err(LogError::Broken("reading it has failed".into()).into()),
        }
        Ok(Store { stop, failed, done: Some(done) })
    }
}

fn broken(error: std::io::Error) -> LogError {
    LogError::Broken(error.to_string().into())
}

/// Logs which sessions are lost: in one line, as of many most would not be logged.
pub fn tell_lost(lost: &[Lost]) {
    if lost.is_empty() {
        return;
    }
    let name = |Lost { app, id, why }: &Lost| format!("{app}/{id} ({why})");
    let named: Vec<_> = lost.iter().take(NAMED).map(name).collect();
    let (count, named) = (lost.len(), named.join(", "));
    tracing::error!(count, named, "sessions are lost; `sessiond store check` tells more");
}

/// Reads a log, and has the engine take in what it holds.
async fn begin(
    folder: &Path,
    log: &RedbLog,
    engine: Engine,
    objects: Arc<Objects>,
    options: KeeperOptions,
) -> Result<Keeper<<RedbLog as Log>::Writer>, LoadError> {
    let begin = Instant::now();
    let node = NodeId(engine.clock().now());
    let limits = Arc::new(engine.settings().limits.clone());
    let (writer, loaded) = keeper::open(log, node, &limits).await?;
    tell_lost(&loaded.lost);
    let (restored, most) = (&loaded.restored, engine.settings().max_sessions);
    let behind = restored.greatest_epoch.0.saturating_sub(engine.clock().now());
    if behind > CLOCK_BEHIND {
        tracing::warn!(
            seconds = behind / SECOND,
            "the clock has gone back since the store was written: sessions go on, and what ends at a \
             moment, as a ban does, ends so much later"
        );
    }
    let (sessions, users) = (restored.sessions.len(), restored.users.len());
    let (lost, unreadable, clean) = (loaded.lost.len(), loaded.unreadable, restored.is_clean);
    if sessions > most {
        tracing::warn!(
            sessions,
            max_sessions = most,
            "more sessions are stored than max-sessions: they are served, and none is opened until there are fewer"
        );
    }
    let read_ms = begin.elapsed().as_millis() as u64;
    let mut keeper = Keeper::new(engine, Some(objects), writer, loaded, options);
    keeper.begin().await?;
    let (folder, ms) = (folder.display(), begin.elapsed().as_millis() as u64);
    tracing::info!(
        %folder, sessions, users, lost, unreadable, clean, read_ms, ms, "the store is read"
    );
    Ok(keeper)
}

impl Store {
    /// Waits until the store fails.
    pub fn failed(&self) -> impl Future<Output = LogError> + use<> {
        let mut failed = self.failed.clone();
        async move {
            match failed.wait_for(Option::is_some).await.map(|error| error.clone()) {
                Ok(Some(error)) => error,
                // It has ended as it was to end.
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

    /// Gives the store back: a clean end. Returns what is not stored, if that is so.
    pub async fn close(mut self, engine: &Engine, within: Duration) -> Option<Unstored> {
        self.stop.cancel();
        let done = timeout(within.max(Duration::from_secs(1)), self.done.take()?).await;
        let (has_streams, is_in_time) = match done {
            Ok(Ok(Some(Finish::Stored))) => return None,
            Ok(Ok(Some(Finish::Unstored { streams }))) => (streams, true),
            // It has failed.
            Ok(_) => (false, true),
            Err(_) => (false, false),
        };
        Some(Unstored { of_engine: engine.unstored(), has_streams, is_in_time })
    }
}

/// What a stop has left unstored.
#[derive(Debug)]
pub struct Unstored {
    of_engine: engine::Unstored,
    has_streams: bool,
    is_in_time: bool,
}

impl fmt::Display for Unstored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine::Unstored { sessions, users } = &self.of_engine;
        let name = |(app, id): &(AppId, SessionId)| format!("{app}/{id}");
        let named: Vec<_> = sessions.iter().take(NAMED).map(name).collect();
        let named = named.join(", ");
        let more = if sessions.len() > NAMED { ", ..." } else { "" };
        let count = |count: usize, word| match count {
            1 => format!("1 {word}"),
            _ => format!("{count} {word}s"),
        };
        let of_sessions = count(sessions.len(), "session");
        let parts = [
            (!sessions.is_empty()).then(|| format!("the last of {of_sessions} ({named}{more})")),
            (*users > 0).then(|| format!("props of {}", count(*users, "user"))),
            self.has_streams.then(|| "object streams".to_owned()),
            (!self.is_in_time).then(|| "whatever was on its way to the disk".to_owned()),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if parts.is_empty() {
            f.write_str("that it is a clean end")
        } else {
            f.write_str(&parts.join(", "))
        }
    }
}

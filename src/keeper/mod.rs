//! The keeper: stores what the engine hands out, and reads it back at the start.
//!
//! Everything goes into one partition of a log. What one cut of the engine's queue takes is one
//! batch, so a write and the memory of its request id are stored together, and the frames of all
//! sessions share a commit. Now and then a subject is stored as a whole, those first that have gone
//! without for longest, and batches that nobody needs any more are trimmed ([`cover`]).

mod cover;
mod done;
pub mod export;
mod load;

pub use self::load::{LoadError, Loaded, Loading, Lost};

use self::{cover::Cover, done::Done};
use crate::{
    engine::{Cut, Engine},
    log::{
        AppendError, Log, LogError, MAX_BATCH_BYTES, MAX_KEY_BYTES, MAX_SNAPSHOTS_BYTES, NodeId,
        Partition, Seq, Snapshot, Writer,
    },
    object_stream::record::Change,
    record::{self, Entry, Subject, UserRecord},
    session::{
        epoch::Epoch,
        ids::AppId,
        limits::{Micros, SECOND},
    },
};
use bytes::Bytes;
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// Where everything goes.
pub const PARTITION: Partition = Partition(0);

/// How far ahead of the clock the stored greatest epoch is, so that it need not be stored whenever a
/// session is opened that nothing else is stored of. After a crash epochs go on behind it, so it is no
/// more than a slow store needs.
const EPOCHS_AHEAD: Micros = 10 * SECOND;

/// How far it is ahead of the last epoch that was given out, which may be ahead of the clock itself:
/// then each session that is opened takes one.
const OPENINGS_AHEAD: u64 = 1_000_000;

/// How often it is looked whether it still is.
const EPOCHS_INTERVAL: Duration = Duration::from_secs(2);

/// How long what is not urgent waits for more of its kind, at most.
const LINGER: Duration = Duration::from_millis(20);

/// After how long it is tried again to store something that there was no space for.
const RETRY: Duration = Duration::from_millis(250);

/// How many subjects are asked for as a whole at a time.
const WHOLE_AT_ONCE: usize = 256;

/// Bytes of a state at most that is stored as a snapshot.
const LARGEST_SNAPSHOT: usize = MAX_SNAPSHOTS_BYTES - MAX_KEY_BYTES;

/// How batches and snapshots share the log.
#[derive(Debug, Clone, Copy)]
pub struct KeeperOptions {
    /// How long what is not urgent waits, beside the wait for more of its kind.
    pub interval: Duration,
    /// Above so many bytes of batches, subjects are stored as a whole, and batches are trimmed.
    pub batch_bytes: usize,
}

/// The object streams, as far as they are stored.
pub trait Streams: fmt::Debug + Send + Sync {
    /// Takes in what was stored, before anybody is served.
    fn restore(&self, changes: Vec<Change>, is_clean: bool, now: Micros);

    /// What has changed since this was asked last, to be stored in this order.
    fn take_changes(&self) -> Vec<Entry>;

    /// All object streams of an app, in the place of every earlier entry about them.
    fn snapshot(&self, app: &AppId) -> Vec<Entry>;

    /// Where all streams are, in the place of every earlier entry about that.
    fn counter(&self) -> Entry;
}

/// Stores what an engine hands out.
#[derive(Debug)]
pub struct Keeper<W> {
    engine: Engine,
    /// The object streams, if there are any.
    streams: Option<Arc<dyn Streams>>,
    writer: W,
    cover: Cover,
    done: Done,
    options: KeeperOptions,
    /// The greatest epoch that is stored.
    epochs: Epoch,
    look_at_epochs: Instant,
    /// It waits for space where there is none: somebody is served meanwhile.
    is_patient: bool,
    /// How many bytes of snapshots may be written: a quarter of what is written in batches.
    allowance: usize,
}

/// Claims a log for this process, and reads what it holds.
pub async fn open<L: Log>(
    log: &L,
    node: NodeId,
    loading: Loading,
) -> Result<(L::Writer, Loaded), LoadError> {
    let writer = log.claim(PARTITION, node).await?;
    let mut reader = log.read(PARTITION, Seq::START);
    let loaded = loading.run(&mut reader, writer.term()).await?;
    Ok((writer, loaded))
}

impl<W: Writer> Keeper<W> {
    /// Takes in what was stored. It is served from when [`Keeper::begin`] is done.
    pub fn new(
        engine: Engine,
        streams: Option<Arc<dyn Streams>>,
        writer: W,
        loaded: Loaded,
        options: KeeperOptions,
    ) -> Self {
        let Loaded { restored, streams: changes, cover, .. } = loaded;
        if let Some(streams) = &streams {
            streams.restore(changes, restored.is_clean, engine.clock().now());
        }
        let epochs = restored.greatest_epoch;
        let (mut done, now) = (Done::default(), engine.clock().now());
        restored.requests.iter().for_each(|request| done.stored(request, now));
        engine.restore(restored);
        let look_at_epochs = Instant::now();
        let (is_patient, allowance) = (false, 0);
        Self {
            engine,
            streams,
            writer,
            cover,
            done,
            options,
            epochs,
            look_at_epochs,
            is_patient,
            allowance,
        }
    }

    /// Stores what has to be stored before anybody is served: which epochs and revisions are never
    /// used again. Without the space for that nobody is.
    pub async fn begin(&mut self) -> Result<(), LogError> {
        self.keep_epochs().await?;
        while self.step().await? {}
        self.store_streams().await?;
        self.is_patient = true;
        Ok(())
    }

    /// Stores what is handed out, until it is told to stop and everything is stored. Returns early
    /// only if the log fails: then nothing is stored any more, and nobody must be served.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), LogError> {
        loop {
            let is_urgent = tokio::select! {
                is_urgent = self.engine.to_be_kept() => is_urgent,
                () = sleep_until(self.look_at_epochs) => {
                    self.keep_epochs().await?;
                    continue;
                }
                () = sleep(self.options.interval), if self.streams.is_some() => {
                    self.store_streams().await?;
                    continue;
                }
                () = stop.cancelled() => break,
            };
            if !is_urgent {
                let linger = LINGER.min(self.options.interval / 10);
                tokio::select! {
                    () = sleep(linger) => {}
                    () = self.engine.kept_urgently() => {}
                    () = stop.cancelled() => {}
                }
            }
            self.step().await?;
        }
        // Streams that ended since then have left their marks.
        self.engine.want_everything_stored();
        while self.step().await? {}
        self.store_streams().await?;
        if self.engine.is_all_stored() {
            self.writer.release().await?;
        } else {
            tracing::warn!("the stop was too short to store everything: it counts as a crash");
        }
        Ok(())
    }

    /// Bytes of the batches that are in the log.
    pub fn batch_bytes(&self) -> usize {
        self.cover.bytes()
    }

    /// Stores what is handed out by now; returns whether there was anything.
    pub async fn step(&mut self) -> Result<bool, LogError> {
        let Some(cut) = self.engine.cut() else { return Ok(false) };
        self.store(cut).await?;
        self.tend().await?;
        Ok(true)
    }

    /// Sees to it that every epoch which a session has is below the one that is stored.
    async fn keep_epochs(&mut self) -> Result<(), LogError> {
        self.look_at_epochs = Instant::now() + EPOCHS_INTERVAL;
        let (now, last) = (self.engine.clock().now(), self.engine.last_epoch().0);
        let ahead = |clock: Micros, openings: u64| Epoch((now + clock).max(last + openings));
        if self.epochs >= ahead(EPOCHS_AHEAD / 2, OPENINGS_AHEAD / 2) {
            return Ok(());
        }
        let epochs = ahead(EPOCHS_AHEAD, OPENINGS_AHEAD);
        // In the place of the last one, so that a server that has nothing to do stores no more and more.
        self.store_whole(vec![(Subject::Epochs, state(&[Entry::GreatestEpoch(epochs)]))]).await?;
        self.epochs = epochs;
        Ok(())
    }

    async fn store(&mut self, cut: Cut) -> Result<(), LogError> {
        let mut bytes = Vec::new();
        let mut subjects = Vec::new();
        let mut wholes = Vec::new();
        let now = self.engine.clock().now();
        for kept in &cut.items {
            let of = kept.entries.first().map(Subject::of);
            // What a snapshot cannot tell, for it is about somebody else, is stored with the session
            // in one batch. Its turn to be stored as a whole comes again.
            let is_alone = || kept.entries.iter().map(Subject::of).all(|it| Some(it) == of);
            if kept.is_whole && is_alone() {
                wholes.push(&kept.entries);
                continue;
            }
            for entry in &kept.entries {
                match entry {
                    // Snapshots are written after the batch: the one of before its end would be the
                    // last word of the session.
                    Entry::Gone { .. } => {
                        let is_other = |it: &&Vec<Entry>| it.first().map(Subject::of) != of;
                        wholes.retain(is_other);
                    }
                    Entry::Request(request) => self.done.stored(request, now),
                    _ => {}
                }
                subjects.push(Subject::of(entry));
                record::put(&mut bytes, entry);
            }
        }
        for user in &cut.users {
            let entry = Entry::User(user.clone());
            subjects.push(Subject::of(&entry));
            record::put(&mut bytes, &entry);
        }
        for entry in self.changed_streams() {
            subjects.push(Subject::of(&entry));
            record::put(&mut bytes, &entry);
        }
        self.store_batch(&bytes, subjects).await?;
        let whole = |entries: &Vec<Entry>| Some((Subject::of(entries.first()?), state(entries)));
        let wholes: Vec<_> = wholes.into_iter().filter_map(whole).collect();
        self.store_whole(wholes).await?;
        self.engine.note_stored(cut);
        Ok(())
    }

    fn changed_streams(&self) -> Vec<Entry> {
        self.streams.as_ref().map(|streams| streams.take_changes()).unwrap_or_default()
    }

    /// Stores what has changed of object streams.
    async fn store_streams(&mut self) -> Result<(), LogError> {
        let changes = self.changed_streams();
        let mut bytes = Vec::new();
        changes.iter().for_each(|entry| record::put(&mut bytes, entry));
        self.store_batch(&bytes, changes.iter().map(Subject::of).collect()).await
    }

    async fn store_batch(&mut self, bytes: &[u8], of: Vec<Subject>) -> Result<(), LogError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let seq = self.append(bytes).await?;
        self.cover.batch_stored(seq, bytes.len());
        of.into_iter().for_each(|subject| self.cover.needs(subject, seq));
        self.allowance = (self.allowance + bytes.len() / 4).min(self.options.batch_bytes);
        Ok(())
    }

    /// Appends as many batches as it takes, and returns where they begin.
    async fn append(&mut self, whole: &[u8]) -> Result<Seq, LogError> {
        let mut began = None;
        for piece in record::split(whole, MAX_BATCH_BYTES) {
            let seq = self.insist(Call::Append(piece.into())).await?;
            began.get_or_insert(seq);
        }
        Ok(began.unwrap_or_default())
    }

    /// Stores a subject as a whole that is too large for a snapshot: in a batch, which is read whole or
    /// not at all like any other. Everything that came before it of the subject may go then.
    async fn store_large(&mut self, subject: Subject, state: &[u8]) -> Result<(), LogError> {
        let seq = self.append(state).await?;
        // The snapshot of when it was smaller only takes space.
        let smaller = Snapshot { key: subject.key().into(), state: None };
        self.insist(Call::Snapshot(vec![smaller])).await?;
        self.cover.covered(&subject);
        self.cover.large_stored(seq);
        self.cover.needs(subject, seq);
        self.allowance = self.allowance.saturating_sub(state.len());
        Ok(())
    }

    /// Stores subjects as a whole; without a state there is nothing more to know of one.
    async fn store_whole(&mut self, wholes: Vec<(Subject, Option<Bytes>)>) -> Result<(), LogError> {
        let is_large = |(_, state): &(_, Option<Bytes>)| {
            state.as_ref().is_some_and(|state| state.len() > LARGEST_SNAPSHOT)
        };
        let (large, wholes): (Vec<_>, Vec<_>) = wholes.into_iter().partition(is_large);
        for (subject, state) in large {
            self.store_large(subject, &state.unwrap_or_default()).await?;
        }
        let mut wholes = wholes.into_iter().peekable();
        while wholes.peek().is_some() {
            let mut snapshots = Vec::new();
            let mut subjects = Vec::new();
            let mut bytes = 0;
            while let Some((subject, state)) = wholes.next_if(|(_, state)| {
                let more = state.as_ref().map_or(0, Bytes::len) + MAX_KEY_BYTES;
                snapshots.is_empty() || bytes + more <= MAX_SNAPSHOTS_BYTES / 8
            }) {
                bytes += state.as_ref().map_or(0, Bytes::len) + MAX_KEY_BYTES;
                snapshots.push(Snapshot { key: subject.key().into(), state });
                subjects.push(subject);
            }
            self.insist(Call::Snapshot(snapshots)).await?;
            subjects.iter().for_each(|subject| self.cover.covered(subject));
            self.allowance = self.allowance.saturating_sub(bytes);
        }
        Ok(())
    }

    /// Does something until it is done: waits for space, and finds out what became of it. It is given
    /// up only when the log has failed.
    async fn insist(&mut self, call: Call) -> Result<Seq, LogError> {
        let mut outcome = call.make(&mut self.writer).await;
        let mut is_full = false;
        loop {
            match outcome {
                Ok(seq) => {
                    if is_full {
                        tracing::info!("there is space in the store again");
                        self.engine.note_space(true);
                    }
                    return Ok(seq);
                }
                Err(AppendError::Full) if !self.is_patient => return Err(LogError::Full),
                Err(AppendError::Full) => {
                    if !std::mem::replace(&mut is_full, true) {
                        tracing::error!("there is no space left in the store: writes are refused");
                        self.engine.note_space(false);
                    }
                    sleep(RETRY).await;
                    outcome = call.make(&mut self.writer).await;
                }
                Err(AppendError::Unknown) => {
                    outcome = match self.writer.settle().await {
                        Ok(Some(seq)) => Ok(seq),
                        Ok(None) => call.make(&mut self.writer).await,
                        Err(AppendError::Unknown) => {
                            sleep(RETRY).await;
                            Err(AppendError::Unknown)
                        }
                        Err(error) => Err(error),
                    };
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Stores subjects as a whole, as far as that is allowed, and trims what is not needed any more.
    async fn tend(&mut self) -> Result<(), LogError> {
        if self.cover.bytes() <= self.options.batch_bytes || self.allowance == 0 {
            return Ok(());
        }
        let now = self.engine.clock().now();
        let mut wholes = Vec::new();
        let oldest = self.cover.oldest(WHOLE_AT_ONCE);
        let is_of_streams =
            |subject: &Subject| matches!(subject, Subject::Streams(_) | Subject::StreamCounter);
        if oldest.iter().any(is_of_streams) {
            // They are taken as a whole after what was taken of them before is stored.
            self.store_streams().await?;
        }
        for subject in oldest {
            match &subject {
                Subject::Session(app, id) => {
                    if !self.engine.want_whole(app, id) {
                        wholes.push((subject, None));
                    }
                }
                Subject::User(app, user) => {
                    let props = self.engine.user_props(app, user);
                    let requests = self.done.of(&subject, now);
                    let user = UserRecord { app: app.clone(), user: user.clone(), props };
                    let known = (!user.props.is_empty()).then_some(Entry::User(user));
                    let entries: Vec<Entry> = known.into_iter().chain(requests).collect();
                    wholes.push((subject, state(&entries)));
                }
                Subject::App(_) => {
                    let entries: Vec<_> = self.done.of(&subject, now).collect();
                    wholes.push((subject, state(&entries)));
                }
                Subject::Streams(app) => {
                    let streams = self.streams.as_ref();
                    let entries = streams.map(|streams| streams.snapshot(app)).unwrap_or_default();
                    wholes.push((subject, state(&entries)));
                }
                Subject::StreamCounter => {
                    let counter = self.streams.as_ref().map(|streams| streams.counter());
                    wholes.push((subject, state(counter.as_slice())));
                }
                Subject::Epochs => {
                    wholes.push((subject, state(&[Entry::GreatestEpoch(self.epochs)])));
                }
            }
        }
        self.store_whole(wholes).await?;
        if let Some(cut) = self.engine.cut() {
            // The sessions that were asked for are in it.
            self.store(cut).await?;
        }
        if let Some(below) = self.cover.trim() {
            self.writer.trim(below).await?;
        }
        Ok(())
    }
}

/// What a writer is to do.
#[derive(Debug)]
enum Call {
    Append(Bytes),
    Snapshot(Vec<Snapshot>),
}

impl Call {
    async fn make(&self, writer: &mut impl Writer) -> Result<Seq, AppendError> {
        match self {
            Self::Append(batch) => writer.append(batch.clone()).await,
            Self::Snapshot(snapshots) => writer.snapshot(snapshots.clone()).await,
        }
    }
}

/// Entries as the state of a subject; none = there is nothing to know.
fn state(entries: &[Entry]) -> Option<Bytes> {
    let mut bytes = Vec::new();
    entries.iter().for_each(|entry| record::put(&mut bytes, entry));
    (!bytes.is_empty()).then(|| bytes.into())
}

//! The keeper: stores what the engine hands out, and reads it back at the start.
//!
//! Everything goes into one partition of a log. What one cut of the engine's queue takes is one
//! batch, so a write and the memory of its request id are stored together, and the frames of all
//! sessions share a commit. Now and then a subject is stored as a whole, those first that have gone
//! without for longest, and batches that nobody needs any more are trimmed ([`cover`]).

mod ahead;
mod cover;
mod done;
mod epochs;
pub mod export;
mod load;
mod space;
mod version;

pub use self::{
    ahead::ReadAhead,
    load::{LoadError, Loaded, Lost},
    version::Versions,
};

use self::{
    cover::Cover,
    done::Done,
    space::{Call, Room},
};
use crate::{
    engine::{Cut, Engine},
    log::{
        Log, LogError, MAX_BATCH_BYTES, MAX_KEY_BYTES, MAX_SNAPSHOTS_BYTES, NodeId, Partition, Seq,
        Snapshot, Writer,
    },
    object_stream::record::Change,
    record::{self, Entry, Subject, UserRecord},
    session::{
        epoch::Epoch,
        ids::AppId,
        limits::{Limits, Micros, SECOND},
    },
};
use bytes::Bytes;
use std::{fmt, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Where everything goes of a server that is alone.
pub const PARTITION: Partition = Partition(0);

/// How long what is not urgent waits for more of its kind, at most.
const LINGER: Micros = SECOND / 50;

/// How often it is seen to at most that everything is stored at the end: what ends late leaves a mark.
const LAST_ROUNDS: usize = 8;

/// How often a log is read from its beginning again because it was trimmed meanwhile.
const BEGINNINGS: usize = 8;

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
    /// How often something is stored at least, for a log that shows by this who still writes it.
    pub sign_of_life: Option<Duration>,
}

/// How a keeper ends that is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Everything is stored: a clean end.
    Stored,
    /// Something is not: it counts as a crash.
    Unstored {
        /// Changes of object streams are not.
        streams: bool,
    },
}

/// A subject and everything that there is to know of it.
type Whole = (Subject, Option<Bytes>);

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
    versions: Versions,
    /// The greatest epoch that is stored.
    epochs: Epoch,
    look_at_epochs: Micros,
    /// When something was stored last.
    stored_at: Micros,
    room: Room,
    /// What was taken of object streams is not stored yet.
    has_open_streams: bool,
    /// How many bytes of snapshots may be written: a quarter of what is written in batches.
    allowance: usize,
}

/// Claims a log for this process, and reads what it holds.
pub async fn open<L: Log>(
    log: &L,
    node: NodeId,
    limits: &Arc<Limits>,
) -> Result<(L::Writer, Loaded), LoadError> {
    let writer = log.claim(PARTITION, node).await?;
    let loaded = read(log, PARTITION, writer.term(), limits).await?;
    Ok((writer, loaded))
}

/// Reads what a partition of a log holds up to a claim. What is trimmed meanwhile, because the writer
/// before did so at the end, is read from its new beginning.
pub async fn read<L: Log>(
    log: &L,
    partition: Partition,
    term: Seq,
    limits: &Arc<Limits>,
) -> Result<Loaded, LoadError> {
    let mut tries = 0;
    loop {
        match ReadAhead::begin(log, partition, limits).finish(term).await {
            Err(LoadError::Log(LogError::Trimmed { .. })) if tries < BEGINNINGS => tries += 1,
            outcome => return outcome,
        }
    }
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
        Self {
            engine,
            streams,
            writer,
            cover,
            done,
            options,
            versions: Versions::default(),
            epochs,
            look_at_epochs: now,
            stored_at: now,
            room: Room::new(now),
            has_open_streams: false,
            allowance: 0,
        }
    }

    /// Writes records of these versions from now on.
    pub fn write_as(&mut self, versions: Versions) {
        self.versions = versions;
    }

    /// Stores what has to be stored before anybody is served: which epochs and revisions are never
    /// used again. Without the space for that nobody is. Something is stored in any case: a claim that
    /// nothing follows is one of a node that has served nobody.
    pub async fn begin(&mut self) -> Result<(), LogError> {
        if !self.store_epochs().await? {
            return Err(LogError::Full);
        }
        while self.step().await? {}
        self.store_streams().await?;
        self.room.is_patient = true;
        Ok(())
    }

    /// Stores what is handed out, until it is to stop and everything is stored. Returns early only
    /// if the log fails: then nothing is stored any more, and nobody must be served.
    pub async fn run(mut self, stop: CancellationToken) -> Result<Finish, LogError> {
        self.room.stop = stop.clone();
        let mut outcome = self.serve(stop).await;
        if outcome.is_ok() {
            outcome = self.store_the_rest().await;
        }
        match self.finish(outcome)? {
            Finish::Stored => match self.writer.release().await.map_err(LogError::from) {
                Err(LogError::Full | LogError::Silent) => Ok(Finish::Unstored { streams: false }),
                outcome => outcome.map(|()| Finish::Stored),
            },
            unstored => Ok(unstored),
        }
    }

    /// Stores what is handed out until it is to stop; what waits for space then is given up, and so is
    /// all that comes after it.
    async fn serve(&mut self, stop: CancellationToken) -> Result<(), LogError> {
        let clock = self.engine.clock().clone();
        let interval = micros(self.options.interval);
        let mut streams_due_at = clock.now() + interval;
        loop {
            if self.room.look_at <= clock.now() {
                self.mind_space().await?;
            }
            // What time brings comes first: there may always be something in the queue.
            let is_urgent = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = clock.sleep_until(self.look_at_epochs) => {
                    self.keep_epochs().await?;
                    continue;
                }
                () = clock.sleep_until(self.room.look_at) => continue,
                () = clock.sleep_until(streams_due_at), if self.streams.is_some() => {
                    self.store_streams().await?;
                    streams_due_at = clock.now() + interval;
                    continue;
                }
                is_urgent = self.engine.to_be_kept() => is_urgent,
            };
            if !is_urgent {
                let linger = LINGER.min(interval / 10);
                tokio::select! {
                    biased;
                    () = clock.sleep_until(clock.now() + linger) => {}
                    () = self.engine.kept_urgently() => {}
                    () = stop.cancelled() => {}
                }
            }
            self.step().await?;
            streams_due_at = clock.now() + interval;
        }
    }

    /// Stores everything when nothing changes any more.
    async fn store_the_rest(&mut self) -> Result<(), LogError> {
        for _ in 0..LAST_ROUNDS {
            // Streams that ended since then have left their marks, and one may end meanwhile.
            self.engine.want_everything_stored();
            while self.step().await? {}
            self.store_streams().await?;
            if self.engine.is_all_stored() {
                break;
            }
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
                self.versions.put(&mut bytes, entry);
            }
        }
        for user in &cut.users {
            let entry = Entry::User(user.clone());
            subjects.push(Subject::of(&entry));
            self.versions.put(&mut bytes, &entry);
        }
        for entry in self.changed_streams() {
            subjects.push(Subject::of(&entry));
            self.versions.put(&mut bytes, &entry);
        }
        self.store_batch(&bytes, subjects).await?;
        self.has_open_streams = false;
        let whole = |entries: &Vec<Entry>| {
            Some((Subject::of(entries.first()?), self.versions.state(entries)))
        };
        let wholes: Vec<_> = wholes.into_iter().filter_map(whole).collect();
        for (subject, state) in self.store_whole(wholes).await? {
            // There is no room for a snapshot. As batches it takes the place of what came before, too,
            // once it is there.
            let seq = self.store_batch(&state.unwrap_or_default(), Vec::new()).await?;
            self.cover.covered(&subject);
            self.cover.needs(subject, seq);
        }
        self.engine.note_stored(cut);
        Ok(())
    }

    fn changed_streams(&mut self) -> Vec<Entry> {
        let changes = self.streams.as_ref().map(|streams| streams.take_changes());
        let changes = changes.unwrap_or_default();
        self.has_open_streams |= !changes.is_empty();
        changes
    }

    /// Stores what has changed of object streams.
    async fn store_streams(&mut self) -> Result<(), LogError> {
        let changes = self.changed_streams();
        let mut bytes = Vec::new();
        changes.iter().for_each(|entry| self.versions.put(&mut bytes, entry));
        self.store_batch(&bytes, changes.iter().map(Subject::of).collect()).await?;
        self.has_open_streams = false;
        Ok(())
    }

    async fn store_batch(&mut self, bytes: &[u8], of: Vec<Subject>) -> Result<Seq, LogError> {
        if bytes.is_empty() {
            return Ok(Seq::START);
        }
        let seq = self.append(bytes).await?;
        self.cover.batch_stored(seq, bytes.len());
        of.into_iter().for_each(|subject| self.cover.needs(subject, seq));
        self.allowance = (self.allowance + bytes.len() / 4).min(self.options.batch_bytes);
        Ok(seq)
    }

    /// Appends as many batches as it takes, and returns where they begin.
    async fn append(&mut self, whole: &[u8]) -> Result<Seq, LogError> {
        let mut began = None;
        for piece in record::split(whole, MAX_BATCH_BYTES) {
            self.room.take(piece.len());
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

    /// Stores subjects as a whole; without a state there is nothing more to know of one. Returns those
    /// that there is no room for.
    async fn store_whole(&mut self, wholes: Vec<Whole>) -> Result<Vec<Whole>, LogError> {
        let is_large =
            |(_, state): &Whole| state.as_ref().is_some_and(|state| state.len() > LARGEST_SNAPSHOT);
        let (large, mut wholes): (Vec<_>, Vec<_>) = wholes.into_iter().partition(is_large);
        for (subject, state) in large {
            self.store_large(subject, &state.unwrap_or_default()).await?;
        }
        let mut left = Vec::new();
        // What only removes something always finds room: it goes first, and by itself.
        wholes.sort_by_key(|(_, state)| state.is_some());
        let mut wholes = wholes.into_iter().peekable();
        while let Some((_, first)) = wholes.peek() {
            let adds = first.is_some();
            let mut snapshots = Vec::new();
            let mut subjects = Vec::new();
            let mut bytes = 0;
            while let Some((subject, state)) = wholes.next_if(|(_, state)| {
                let more = state.as_ref().map_or(0, Bytes::len) + MAX_KEY_BYTES;
                let fits = bytes + more <= MAX_SNAPSHOTS_BYTES / 8;
                snapshots.is_empty() || (fits && state.is_some() == adds)
            }) {
                bytes += state.as_ref().map_or(0, Bytes::len) + MAX_KEY_BYTES;
                snapshots.push(Snapshot { key: subject.key().into(), state });
                subjects.push(subject);
            }
            match self.insist(Call::Snapshot(snapshots.clone())).await {
                Err(LogError::Full) => {
                    let states = snapshots.into_iter().map(|snapshot| snapshot.state);
                    left.extend(subjects.into_iter().zip(states));
                    continue;
                }
                outcome => outcome?,
            };
            self.room.take(bytes);
            subjects.iter().for_each(|subject| self.cover.covered(subject));
            self.allowance = self.allowance.saturating_sub(bytes);
        }
        Ok(left)
    }

    /// Stores subjects as a whole, as far as that is allowed, and trims what is not needed any more.
    async fn tend(&mut self) -> Result<(), LogError> {
        let may_cost = self.allowance > 0 || self.room.is_scarce();
        if self.cover.bytes() > self.options.batch_bytes && may_cost {
            self.renew().await?;
        }
        Ok(())
    }

    /// Stores those subjects as a whole that have gone without for longest, and trims what is not needed
    /// any more; whether there was anything to trim.
    async fn renew(&mut self) -> Result<bool, LogError> {
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
                    wholes.push((subject, self.versions.state(&entries)));
                }
                Subject::App(_) => {
                    let entries: Vec<_> = self.done.of(&subject, now).collect();
                    wholes.push((subject, self.versions.state(&entries)));
                }
                Subject::Streams(app) => {
                    let streams = self.streams.as_ref();
                    let entries = streams.map(|streams| streams.snapshot(app)).unwrap_or_default();
                    wholes.push((subject, self.versions.state(&entries)));
                }
                Subject::StreamCounter => {
                    let counter = self.streams.as_ref().map(|streams| streams.counter());
                    wholes.push((subject, self.versions.state(counter.as_slice())));
                }
                Subject::Epochs => {
                    wholes
                        .push((subject, self.versions.state(&[Entry::GreatestEpoch(self.epochs)])));
                }
            }
        }
        // Those that there is no room for come again.
        self.store_whole(wholes).await?;
        if let Some(cut) = self.engine.cut() {
            // The sessions that were asked for are in it.
            self.store(cut).await?;
        }
        self.trim().await
    }
}

fn micros(span: Duration) -> Micros {
    span.as_micros() as Micros
}

//! What is stored, read back.

use super::cover::Cover;
use crate::{
    engine::Restored,
    log::{Content, LogError, Reader, Seq},
    object_stream::record::Change,
    record::{Entries, Entry, Joiner, RequestRecord, Subject, Unreadable, UserRecord},
    session::{
        epoch::Epoch,
        ids::{AppId, SessionId, UserId},
        limits::Limits,
        record::Record,
        replica::Replica,
    },
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// How often it is reported how far it has come.
const PROGRESS: Duration = Duration::from_secs(1);

/// How long a log may take to show an entry that is known to be stored.
const BEHIND: Duration = Duration::from_secs(5);

/// Everything that a log holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What there is.
    pub restored: Restored,
    /// What of the log no snapshot covers.
    pub cover: Cover,
    /// What there is of object streams: of each app in its order, and the counter last.
    pub streams: Vec<Change>,
    /// Entries of the log.
    pub entries: u64,
    /// Entries that cannot be read.
    pub unreadable: u64,
    /// Sessions whose records do not fit together.
    pub lost: Vec<Lost>,
}

/// A session that is lost.
#[derive(Debug)]
pub struct Lost {
    /// Its namespace.
    pub app: AppId,
    /// Its id.
    pub id: SessionId,
    /// Why.
    pub why: String,
}

/// What is read of a log from its beginning.
#[derive(Debug)]
pub struct Loading {
    limits: Arc<Limits>,
    sessions: HashMap<(AppId, SessionId), Replica>,
    users: HashMap<(AppId, UserId), UserRecord>,
    /// What was written of the object streams of each app, and without one of all of them.
    streams: HashMap<Option<AppId>, Vec<Change>>,
    greatest_epoch: Epoch,
    joiner: Joiner,
    /// Where the batches began that are being put together.
    began: Option<Seq>,
    /// After the last release came nothing but claims, of nodes that have served nobody.
    is_released: bool,
    /// The last claim, and whether that was so before it.
    claim: Option<(Seq, bool)>,
    loaded: Loaded,
}

impl Loading {
    /// Nothing is read yet.
    pub fn new(limits: Arc<Limits>) -> Self {
        Self {
            limits,
            sessions: HashMap::new(),
            users: HashMap::new(),
            streams: HashMap::new(),
            greatest_epoch: Epoch::default(),
            joiner: Joiner::default(),
            began: None,
            is_released: false,
            claim: None,
            loaded: Loaded::default(),
        }
    }

    /// Reads on up to an entry that is known to be stored; none = as far as there is anything now.
    pub async fn read(
        &mut self,
        reader: &mut impl Reader,
        until: Option<Seq>,
    ) -> Result<(), LoadError> {
        let (began, mut told) = (Instant::now(), Instant::now());
        loop {
            let Some(entry) = reader.next().await? else {
                if until.is_none() {
                    return Ok(());
                }
                // The server that was asked takes itself for the leader of a log that has gone on
                // without it: what else it does not know may have been acked.
                if began.elapsed() >= BEHIND {
                    return Err(LogError::Silent.into());
                }
                reader.changed().await?;
                continue;
            };
            if until.is_some_and(|until| entry.seq >= until) {
                return Ok(());
            }
            self.take(entry.seq, entry.content)?;
            self.loaded.entries += 1;
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                let (entries, sessions) = (self.loaded.entries, self.sessions.len());
                tracing::info!(entries, sessions, "reading the store");
            }
        }
    }

    /// Reads what is left before a claim, which may be read already.
    pub async fn read_before(
        &mut self,
        reader: &mut impl Reader,
        term: Seq,
    ) -> Result<(), LoadError> {
        match self.claim {
            Some((claim, was_released)) if claim == term => {
                self.is_released = was_released;
                self.loaded.entries -= 1;
                Ok(())
            }
            _ => self.read(reader, Some(term)).await,
        }
    }

    /// Takes in one entry of the log.
    pub fn take(&mut self, seq: Seq, content: Content) -> Result<(), LoadError> {
        if !matches!(content, Content::Batch(_)) {
            // The writer that began it has ended before it was whole.
            self.joiner.clear();
            self.began = None;
        }
        match content {
            Content::Release => self.is_released = true,
            Content::Claim(_) => {}
            Content::Batch(_) | Content::Snapshot { .. } | Content::Lost { .. } => {
                self.is_released = false;
            }
        }
        match content {
            Content::Claim(_) => {
                self.claim = Some((seq, self.is_released));
                Ok(())
            }
            Content::Release => Ok(()),
            Content::Batch(piece) => {
                let began = *self.began.get_or_insert(seq);
                let Some(batch) = self.joiner.push(&piece) else { return Ok(()) };
                self.began = None;
                self.apply(Some(began), &batch)
            }
            Content::Snapshot { state, .. } => {
                if let Some(Ok(first)) = Entries::of(&state).next() {
                    self.loaded.cover.covered(&Subject::of(&first));
                    if let Entry::Streams(change) = &first {
                        // It takes the place of all that came before.
                        self.streams.remove(&change.app().cloned());
                    }
                }
                self.apply(None, &state)
            }
            Content::Lost { key } => {
                self.loaded.unreadable += 1;
                tracing::error!(%seq, key = ?key, "an entry of the store is damaged");
                Ok(())
            }
        }
    }

    fn apply(&mut self, batch: Option<Seq>, bytes: &[u8]) -> Result<(), LoadError> {
        if let Some(seq) = batch {
            self.loaded.cover.batch_stored(seq, bytes.len());
        }
        for entry in Entries::of(bytes) {
            match entry {
                Ok(entry) => {
                    if let Some(seq) = batch {
                        self.loaded.cover.needs(Subject::of(&entry), seq);
                    }
                    self.put(entry);
                }
                Err(Unreadable::Newer(version)) => return Err(LoadError::Newer(version)),
                Err(fault) => {
                    self.loaded.unreadable += 1;
                    tracing::error!(%fault, "an entry of the store cannot be read");
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, entry: Entry) {
        match entry {
            Entry::Session(record) => self.put_session(*record),
            Entry::Gone { app, id, .. } => {
                // What was left of it had its beginning in a snapshot that went with it.
                self.loaded.lost.retain(|lost| (&lost.app, &lost.id) != (&app, &id));
                self.sessions.remove(&(app, id));
            }
            Entry::GreatestEpoch(epoch) => self.greatest_epoch = self.greatest_epoch.max(epoch),
            Entry::User(user) => {
                let key = (user.app.clone(), user.user.clone());
                if user.props.is_empty() {
                    self.users.remove(&key);
                } else {
                    self.users.insert(key, user);
                }
            }
            Entry::Request(request) => self.loaded.restored.requests.push(*request),
            Entry::Streams(change) => {
                self.streams.entry(change.app().cloned()).or_default().push(change);
            }
        }
    }

    fn put_session(&mut self, record: Record) {
        let key = (record.app.clone(), record.id.clone());
        let outcome = match self.sessions.remove(&key) {
            Some(replica) => replica.apply(record),
            None => Replica::begin(record, self.limits.clone()),
        };
        match outcome {
            Ok(replica) => {
                self.loaded.lost.retain(|lost| (&lost.app, &lost.id) != (&key.0, &key.1));
                self.sessions.insert(key, replica);
            }
            Err(why) => {
                let (app, id) = key;
                if !self.loaded.lost.iter().any(|lost| (&lost.app, &lost.id) == (&app, &id)) {
                    self.loaded.lost.push(Lost { app, id, why: why.to_string() });
                }
            }
        }
    }

    /// What was read.
    pub fn finish(self) -> Loaded {
        let Self { sessions, users, mut streams, greatest_epoch, is_released, mut loaded, .. } =
            self;
        let counters = streams.remove(&None).unwrap_or_default();
        loaded.streams = streams.into_values().flatten().chain(counters).collect();
        loaded.restored.is_damaged = loaded.unreadable > 0;
        loaded.restored.is_clean = is_released || loaded.entries == 0;
        loaded.restored.sessions = sessions.into_values().collect();
        loaded.restored.users = users.into_values().collect();
        loaded.restored.greatest_epoch = greatest_epoch;
        loaded.restored.requests = in_order(std::mem::take(&mut loaded.restored.requests));
        loaded
    }
}

/// Requests in the order in which they were done, each once. A snapshot tells of older ones than the
/// batches that are left from before it, and of those again; and only the latest are remembered.
fn in_order(mut requests: Vec<RequestRecord>) -> Vec<RequestRecord> {
    requests.sort_by_key(|request| request.at);
    let mut known = HashSet::with_capacity(requests.len());
    let is_new = |it: &RequestRecord| {
        known.insert((it.app.clone(), it.place.clone(), it.by.clone(), it.id.clone()))
    };
    let is_new: Vec<bool> = requests.iter().map(is_new).collect();
    let mut is_new = is_new.into_iter();
    requests.retain(|_| is_new.next().unwrap_or_default());
    requests
}

/// Why a store is not read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A later version wrote something of it.
    #[error("the store has entries of version {0}: use a newer version of sessiond")]
    Newer(u8),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{
            REMEMBERED_IDS,
            testing::{engine, room, settings},
        },
        log,
        record::{self, Place, Reply},
        session::{command::Actor, ids::Key, revision::Revision},
    };

    /// A log whose end a server shows only after a while.
    struct Behind {
        entries: Vec<log::Entry>,
        shown: usize,
        then: usize,
    }

    impl Reader for Behind {
        async fn next(&mut self) -> Result<Option<log::Entry>, LogError> {
            let is_shown = self.shown > 0;
            self.shown = self.shown.saturating_sub(1);
            Ok((is_shown && !self.entries.is_empty()).then(|| self.entries.remove(0)))
        }

        async fn changed(&mut self) -> Result<(), LogError> {
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.shown = std::mem::take(&mut self.then);
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_partition_is_read_up_to_its_claim_although_a_server_knows_of_less() {
        let entry = |seq, content| log::Entry { seq: Seq(seq), term: Seq(1), content };
        let batch = |number| {
            let pieces = record::split(&bytes([request(number)].into_iter()), usize::MAX);
            Content::Batch(pieces[0].clone().into())
        };
        let claim = |node| Content::Claim(log::NodeId(node));
        let entries =
            vec![entry(1, claim(1)), entry(2, batch(1)), entry(3, batch(2)), entry(4, claim(2))];
        let mut reader = Behind { entries, shown: 2, then: 2 };
        let mut loading = Loading::new(Arc::new(Limits::default()));
        loading.read(&mut reader, Some(Seq(4))).await.expect("it comes");
        let loaded = loading.finish();
        assert_eq!((loaded.entries, loaded.restored.requests.len()), (3, 2));
        assert!(!loaded.restored.is_clean, "the owner before has not released it");
    }

    #[tokio::test]
    async fn a_release_holds_until_somebody_stores_something_after_it() {
        let claim = |node| Content::Claim(log::NodeId(node));
        let state = || bytes([Entry::GreatestEpoch(Epoch(1))].into_iter()).into();
        let epochs = || Content::Snapshot { key: b"epochs".as_slice().into(), state: state() };
        for (contents, is_clean) in [
            (vec![claim(1), epochs(), Content::Release], true),
            (vec![claim(1), epochs(), Content::Release, claim(2)], true),
            (vec![claim(1), epochs(), Content::Release, claim(2), claim(3)], true),
            (vec![claim(1), epochs(), Content::Release, claim(2), epochs()], false),
            (vec![claim(1), epochs(), Content::Release, claim(2), epochs(), claim(3)], false),
        ] {
            let entry = |(seq, content)| log::Entry { seq: Seq(seq), term: Seq(1), content };
            let entries: Vec<_> = (1..).zip(contents.clone()).map(entry).collect();
            let mut reader = Behind { shown: entries.len(), entries, then: 0 };
            let mut loading = Loading::new(Arc::new(Limits::default()));
            loading.read(&mut reader, None).await.expect("it is read");
            assert_eq!(loading.finish().restored.is_clean, is_clean, "{contents:?}");
        }
    }

    fn request(number: u64) -> Entry {
        Entry::Request(Box::new(RequestRecord {
            app: AppId::new("games").expect("an id"),
            place: Place::Session(SessionId::new("finals").expect("an id")),
            by: Actor::App,
            id: Key::from(number.to_string()),
            content: number,
            at: 1_000_000 + number,
            reply: Reply::Written(Epoch(1), Revision(number)),
        }))
    }

    fn bytes(entries: impl Iterator<Item = Entry>) -> Vec<u8> {
        let mut bytes = Vec::new();
        entries.for_each(|entry| record::put(&mut bytes, &entry));
        bytes
    }

    #[test]
    fn a_session_that_is_gone_is_not_lost_though_its_beginning_went_before_the_rest_of_it() {
        let engine = engine(settings());
        let live = room(&engine, "finals", |_| ());
        let mark = live.lock().core.mark();
        engine.advance(10_000);
        let record = live.lock().core.record_since(&mark).expect("a frame was made");
        let (app, id) = (record.app.clone(), record.id.clone());
        let gone = Entry::Gone { app, id, epoch: mark.epoch };
        let rest = bytes([Entry::Session(Box::new(record))].into_iter());
        for (entries, lost) in [(vec![], 1), (vec![gone], 0)] {
            let mut loading = Loading::new(Arc::new(Limits::default()));
            let whole = [&*rest, &*bytes(entries.into_iter())].concat();
            let pieces = record::split(&whole, usize::MAX);
            let [piece] = &*pieces else { panic!("it fits one piece") };
            let batch = Content::Batch(piece.clone().into());
            loading.take(Seq(1), batch).expect("it is read");
            assert_eq!(loading.finish().lost.len(), lost);
        }
    }

    #[test]
    fn requests_are_remembered_as_they_were_done_wherever_the_log_tells_of_them() {
        let last = REMEMBERED_IDS as u64;
        let mut loading = Loading::new(Arc::new(Limits::default()));
        // What a snapshot covers is still there as long as others need the batch.
        let batch = |numbers: std::ops::Range<u64>| {
            let pieces = record::split(&bytes(numbers.map(request)), usize::MAX);
            let [piece] = &*pieces else { panic!("it fits one piece") };
            Content::Batch(piece.clone().into())
        };
        loading.take(Seq(1), batch(last - 4..last)).expect("it is read");
        let state = bytes((0..last).map(request)).into();
        let key = b"finals".as_slice().into();
        loading.take(Seq(2), Content::Snapshot { key, state }).expect("it is read");
        loading.take(Seq(3), batch(last..last + 2)).expect("it is read");
        let requests = loading.finish().restored.requests;
        let numbers: Vec<u64> = requests.iter().map(|request| request.content).collect();
        assert_eq!(numbers, (0..last + 2).collect::<Vec<_>>());
    }
}

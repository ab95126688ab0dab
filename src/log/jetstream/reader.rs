//! Reads one partition. What is read comes from any server that has the stream, in large portions;
//! whether there is nothing more is asked of the leader, so a reader that came to the end has seen
//! everything that was stored before.

use super::{
    Shared,
    api::Stored,
    claim::oldest_of,
    entry::{self, Chain, Link, Read, Record},
    pieces::{Made, Piece, Pieces},
    subjects, sweeper,
};
use crate::log::{Content, Entry, Key, LogError, Partition, Reader, Seq};
use async_nats::Subscriber;
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::StreamExt as _;

/// How often somebody who waits looks without having heard of anything.
const LOOK: Duration = Duration::from_millis(500);

/// How long a reader waits at first for servers that are behind.
const CATCH_UP: Duration = Duration::from_secs(3);

/// See [`Reader`].
pub struct JetStreamReader {
    shared: Arc<Shared>,
    partition: Partition,
    place: Place,
    pieces: Pieces,
    /// Since when keys are gone of which something may be left.
    gone: HashMap<Key, Seq>,
    loaded: VecDeque<Entry>,
    wakes: Option<Subscriber>,
}

/// How far a reader has loaded.
#[derive(Debug)]
struct Place {
    /// Where it began.
    from: Seq,
    /// None before the first message.
    next: Option<Seq>,
    /// Everything of the chain below this place is trimmed, as of the start of a reader that wants the
    /// oldest. A server may still have some of it.
    oldest: Seq,
    /// The last of the chain that was loaded.
    last: Option<Seq>,
    /// The term of the last claim. What an older writer stored after that counts for nothing.
    term: Seq,
}

impl fmt::Debug for JetStreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetStreamReader").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Reader for JetStreamReader {
    async fn next(&mut self) -> Result<Option<Entry>, LogError> {
        loop {
            if let Some(entry) = self.loaded.pop_front() {
                return Ok(Some(entry));
            }
            if !self.load().await? {
                return Ok(None);
            }
        }
    }

    async fn changed(&mut self) -> Result<(), LogError> {
        let Some(wakes) = &mut self.wakes else {
            let subject = self.shared.settings.wakes(self.partition);
            let wakes = self.shared.api.connection().client().subscribe(subject).await;
            let failed =
                |error: async_nats::SubscribeError| LogError::Broken(error.to_string().into());
            self.wakes = Some(wakes.map_err(failed)?);
            // What came before that is found by looking.
            return Ok(());
        };
        match timeout(LOOK, wakes.next()).await {
            Ok(None) => Err(LogError::Broken("it is closed".into())),
            Ok(Some(_)) | Err(_) => Ok(()),
        }
    }
}

impl JetStreamReader {
    /// A reader at a place.
    pub(super) fn new(shared: Arc<Shared>, partition: Partition, from: Seq) -> Self {
        let place = Place { from, next: None, oldest: Seq::START, last: None, term: Seq::START };
        Self {
            shared,
            partition,
            place,
            pieces: Pieces::default(),
            gone: HashMap::new(),
            loaded: VecDeque::new(),
            wakes: None,
        }
    }

    /// Loads what follows; whether there was anything.
    async fn load(&mut self) -> Result<bool, LogError> {
        let read = match self.place.next {
            Some(next) => self.read(">", next).await?,
            None => self.begin().await?,
        };
        let is_any = !read.is_empty();
        for stored in read {
            let seq = stored.seq;
            self.take(stored).await?;
            self.place.next = Some(seq.next());
        }
        Ok(is_any)
    }

    /// Waits for servers that are a little behind, so that what is read is as it was when the reader
    /// began, or newer: one that is far behind answers nobody. Then it reads for the first time.
    async fn begin(&mut self) -> Result<Vec<Stored>, LogError> {
        self.shared.has(self.partition)?;
        let until = Instant::now() + CATCH_UP;
        loop {
            let api = &self.shared.patient;
            let info = api.stream(&self.shared.settings.stream(self.partition)).await;
            let info = info.map_err(|error| api.told(&error))?;
            let info = info.ok_or_else(|| self.shared.gone(self.partition))?;
            let replicas = info.cluster.map(|cluster| cluster.replicas).unwrap_or_default();
            let is_level = replicas.iter().all(|it| it.offline || it.lag == 0);
            if is_level || Instant::now() >= until {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.look_around().await?;
        let from = self.place.from.max(Seq(1));
        self.place.next = Some(from);
        let read = self.read(">", from).await?;
        // A snapshot is at the place of its last piece, so those before it are wanted too.
        let Some(first) = read.first() else { return Ok(read) };
        match entry::read(self.partition, first.seq, &first.payload)? {
            Read::Whole(Record::Piece { index, .. }, _)
                if (1..first.seq.0).contains(&index.into()) =>
            {
                self.read(">", Seq(first.seq.0 - u64::from(index))).await
            }
            _ => Ok(read),
        }
    }

    /// Sees what counts for nothing any more, whether or not it is still there.
    async fn look_around(&mut self) -> Result<(), LogError> {
        let oldest = self.oldest(Link::default()).await?.unwrap_or_default();
        if self.place.from > Seq::START && self.place.from < oldest {
            return Err(LogError::Trimmed { partition: self.partition, oldest });
        }
        self.place.oldest = oldest;
        let notes = format!("{}>", self.shared.settings.notes(self.partition));
        let mut from = Seq(1);
        loop {
            let read = self.read(&notes, from).await?;
            let Some(last) = read.last() else { return Ok(()) };
            from = last.seq.next();
            let noted =
                read.iter().filter_map(|it| sweeper::note(&self.shared, self.partition, it));
            self.gone.extend(noted);
        }
    }

    /// Reads what any server has, and if that is nothing, what the leader has.
    async fn read(&self, filter: &str, from: Seq) -> Result<Vec<Stored>, LogError> {
        let (api, stream) = (&self.shared.patient, self.shared.settings.stream(self.partition));
        let read = api.read(&stream, filter, from).await.map_err(|error| api.told(&error))?;
        if !read.is_empty() {
            return Ok(read);
        }
        let next = api.next(&stream, filter, from).await.map_err(|error| api.told(&error))?;
        Ok(next.into_iter().collect())
    }

    async fn take(&mut self, stored: Stored) -> Result<(), LogError> {
        let settings = &self.shared.settings;
        let is_chain = stored.subject == settings.chain(self.partition);
        let snapshots = settings.snapshots(self.partition);
        let notes = settings.notes(self.partition);
        let key = |begin: &str| stored.subject.strip_prefix(begin).and_then(subjects::key_of);
        let (key, noted) = (key(&snapshots), key(&notes));
        let seq = stored.seq;
        let (record, term) = match entry::read(self.partition, seq, &stored.payload)? {
            Read::Whole(record, term) => (Some(record), term),
            Read::Lost => (None, Seq::START),
        };
        match record {
            Some(Record::Chain(chain, link)) if is_chain => {
                self.leave(None).await?;
                self.take_chain(seq, term, chain, link).await?;
            }
            Some(Record::Piece { key: of, index, count, bytes })
                if key.as_ref() == Some(&of) && index < count =>
            {
                let piece = Piece { seq, key: of, index, count, bytes };
                self.take_piece(term, piece).await?;
            }
            Some(Record::Gone { key: of }) if noted.as_ref() == Some(&of) => {
                self.leave(None).await?
            }
            None if !stored.is_of_node => {
                let stream = settings.stream(self.partition);
                tracing::warn!(stream, %seq, "a message that no node has stored is passed over");
                if is_chain {
                    self.leave(None).await?;
                    self.place.last = Some(seq);
                }
            }
            // It is damaged.
            _ => {
                if is_chain {
                    self.leave(None).await?;
                    self.place.last = Some(seq);
                }
                self.pieces.spoil(key.clone(), seq);
                match key {
                    Some(key) => self.lose_unless_replaced(seq, key).await?,
                    None => self.lose(seq, None),
                }
            }
        }
        Ok(())
    }

    async fn take_chain(
        &mut self,
        seq: Seq,
        term: Seq,
        chain: Chain,
        link: Link,
    ) -> Result<(), LogError> {
        if term < self.place.term || seq < self.place.oldest {
            return Ok(());
        }
        let names_none = matches!(chain, Chain::Claim(_)) && link.previous == Seq::START;
        if !names_none {
            self.follow(link).await?;
        }
        self.place.last = Some(seq);
        self.place.term = term;
        let content = match chain {
            Chain::Claim(node) => Content::Claim(node),
            Chain::Batch(batch) => Content::Batch(batch),
            Chain::Release => Content::Release,
            Chain::Trim => return Ok(()),
        };
        self.push(Entry { seq, term, content });
        Ok(())
    }

    /// Checks that an entry of the chain follows on what was read before it. The first may follow on
    /// anything that is trimmed or before the start.
    async fn follow(&self, link: Link) -> Result<(), LogError> {
        let Place { from, last, oldest, .. } = self.place;
        let follows = match last {
            Some(last) => link.previous == last,
            None => link.previous < from.max(oldest).max(Seq(1)),
        };
        if follows {
            return Ok(());
        }
        let begins_anywhere = last.is_none() && from == Seq::START;
        let oldest = self.oldest(link).await?;
        match oldest.filter(|oldest| link.previous < *oldest) {
            Some(_) if begins_anywhere => Ok(()),
            Some(oldest) => Err(LogError::Trimmed { partition: self.partition, oldest }),
            None if begins_anywhere && oldest.is_none() => Ok(()),
            None => {
                let after = last.unwrap_or(Seq::START);
                Err(LogError::Gap { partition: self.partition, after })
            }
        }
    }

    /// Below which place everything of the chain is trimmed; none = the last entry cannot say.
    async fn oldest(&self, link: Link) -> Result<Option<Seq>, LogError> {
        let (api, settings) = (&self.shared.patient, &self.shared.settings);
        let (stream, chain) = (settings.stream(self.partition), settings.chain(self.partition));
        let last = api.last(&stream, &chain).await.map_err(|error| api.told(&error))?;
        let Some(last) = last else { return Ok(None) };
        let oldest = oldest_of(self.partition, &last)?;
        Ok(oldest.map(|oldest| oldest.max(link.oldest)))
    }

    async fn take_piece(&mut self, term: Seq, piece: Piece) -> Result<(), LogError> {
        self.leave(Some(&piece)).await?;
        let (seq, key) = (piece.seq, piece.key.clone());
        let is_last = piece.index + 1 == piece.count;
        // The writer that stored it was deposed already.
        let is_late = term < self.place.term && self.place.term < seq;
        let is_gone = self.gone.get(&key).is_some_and(|gone| seq < *gone);
        match self.pieces.take(piece) {
            Made::Whole(state) if !is_late && !is_gone => {
                self.push(Entry { seq, term, content: Content::Snapshot { key, state } });
            }
            Made::Headless if is_last && !is_gone => {
                self.lose_unless_replaced(seq, key).await?;
            }
            Made::Whole(_) | Made::Nothing | Made::Headless => {}
        }
        Ok(())
    }

    /// Leaves what was begun of a snapshot, unless the next message goes on with it.
    async fn leave(&mut self, next: Option<&Piece>) -> Result<(), LogError> {
        let Some(begun) = self.pieces.cut(next) else { return Ok(()) };
        self.lose_unless_replaced(Seq(begun.next.0 - 1), begun.key).await
    }

    /// A snapshot is not whole. That is right if it was replaced, be it while it was read.
    async fn lose_unless_replaced(&mut self, at: Seq, key: Key) -> Result<(), LogError> {
        let (api, settings) = (&self.shared.patient, &self.shared.settings);
        let subject = subjects::of_key(&settings.snapshots(self.partition), &key);
        let last = api.last(&settings.stream(self.partition), &subject).await;
        let Some(last) = last.map_err(|error| api.told(&error))? else { return Ok(()) };
        let first = match entry::read(self.partition, last.seq, &last.payload)? {
            Read::Whole(Record::Piece { index, .. }, _) => {
                Seq(last.seq.0.saturating_sub(index.into()))
            }
            _ => last.seq,
        };
        let is_gone = self.gone.get(&key).is_some_and(|gone| at < *gone);
        if first <= at && !is_gone {
            self.lose(at, Some(key));
        }
        Ok(())
    }

    fn lose(&mut self, seq: Seq, key: Option<Key>) {
        self.shared.counters.lock().lost_entries += 1;
        self.push(Entry { seq, term: Seq::START, content: Content::Lost { key } });
    }

    fn push(&mut self, entry: Entry) {
        if entry.seq >= self.place.from {
            self.loaded.push_back(entry);
        }
    }
}

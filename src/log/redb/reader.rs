//! Reads one partition, about a MiB at a time, each in a short transaction of its own: a reader
//! that is slow keeps no pages from being used again.

use super::{
    Inner,
    database::{Problem, guarded, in_our_words},
    disk::Fault,
    entry::{self, Read},
    tables::{CHAIN, HEADS, KEYS, Row, SNAPSHOTS},
};
use crate::log::{Content, Entry, Key, LogError, Partition, Reader, Seq};
use bytes::Bytes;
use redb::{Error, ReadTransaction, ReadableDatabase};
use std::{collections::VecDeque, mem, sync::Arc, thread};
use tokio::{sync::watch, task};

/// Bytes that are read in one transaction, and one entry more.
const READ_BYTES: usize = 1 << 20;

/// See [`Reader`].
#[derive(Debug)]
pub struct RedbReader {
    inner: Arc<Inner>,
    place: Place,
    loaded: VecDeque<Entry>,
    head: watch::Receiver<Seq>,
}

/// How far a reader has loaded.
#[derive(Debug, Clone, Copy)]
struct Place {
    partition: Partition,
    /// Where it began.
    from: Seq,
    next: Seq,
    /// Whether everything from `next` on must be there: not so for a reader that wants the oldest.
    exact: bool,
    /// The last of the chain that was loaded.
    last: Option<Seq>,
    salvage: bool,
}

impl RedbReader {
    /// A reader at a place.
    pub(super) fn new(
        inner: Arc<Inner>,
        partition: Partition,
        from: Seq,
        salvage: bool,
        head: watch::Receiver<Seq>,
    ) -> Self {
        let exact = from > Seq::START;
        let place = Place { partition, from, next: from, exact, last: None, salvage };
        Self { inner, place, loaded: VecDeque::new(), head }
    }
}

impl Reader for RedbReader {
    async fn next(&mut self) -> Result<Option<Entry>, LogError> {
        if self.loaded.is_empty() {
            let (inner, place) = (self.inner.clone(), self.place);
            let loaded = task::spawn_blocking(move || load(&inner, place)).await;
            let stopped = |_| LogError::Broken("reading was stopped".into());
            (self.loaded, self.place) = loaded.map_err(stopped)??;
        }
        Ok(self.loaded.pop_front())
    }

    async fn changed(&mut self) -> Result<(), LogError> {
        let next = self.place.next;
        let changed = self.head.wait_for(|head| *head >= next).await;
        changed.map(drop).map_err(|_| LogError::Broken("it is closed".into()))
    }
}

/// What follows on a place, and the place after that.
fn load(inner: &Inner, mut place: Place) -> Result<(VecDeque<Entry>, Place), LogError> {
    let partition = place.partition;
    // The store stays open as long as there is a transaction: it is dropped first.
    let (_open, transaction, raw) = loop {
        let open = inner.database.read();
        let Some(database) = open.as_ref() else {
            // It is broken, closed, or without the space to be opened again.
            let broken = inner.broken.get();
            return Err(broken.map_or(LogError::Full, |why| LogError::Broken(why.clone())));
        };
        let read = guarded(|| {
            let transaction = database.begin_read()?;
            let raw = Raw::load(&transaction, partition, place.next)?;
            Ok((transaction, raw))
        });
        match read {
            Ok((transaction, raw)) => break (open, transaction, raw),
            // A commit has just found no space. The committer is about to open the store again.
            Err(Problem::Redb(Error::PreviousIo)) if inner.faults.worst() == Fault::Space => {
                thread::yield_now();
            }
            Err(problem) => return Err(in_our_words(problem, &inner.faults)),
        }
    };
    let oldest = raw.row.map(|row| row.head.oldest);
    if let Some(oldest) = oldest.filter(|oldest| place.exact && place.next < *oldest) {
        return Err(LogError::Trimmed { partition, oldest });
    }
    let mut entries = VecDeque::with_capacity(raw.found.len());
    for Found { seq, is_snapshot, bytes } in raw.found {
        let entry = match entry::read(partition, seq, &bytes)? {
            Read::Whole(entry, previous) => {
                if !is_snapshot {
                    place.link(previous, oldest, inner)?;
                }
                entry
            }
            Read::Lost => {
                inner.counters.lock().lost_entries += 1;
                let key = if is_snapshot { key_of(&transaction, partition, seq) } else { None };
                Entry { seq, term: Seq::START, content: Content::Lost { key } }
            }
        };
        if !is_snapshot {
            place.last = Some(seq);
        }
        // A key that is damaged may stand before smaller ones.
        place.next = place.next.max(seq.next());
        // Snapshots come from before what is trimmed.
        place.exact |= oldest.is_none_or(|oldest| seq >= oldest);
        entries.push_back(entry);
    }
    if raw.is_end
        && let Some(row) = raw.row
    {
        // The last of the chain is never trimmed, so it has been read unless it is behind the
        // start.
        if place.last.is_some_and(|last| last < row.head.chain) {
            place.gap(inner)?;
            place.last = Some(row.head.chain);
        }
        place.next = place.next.max(row.head.seq.next());
        place.exact = true;
    }
    Ok((entries, place))
}

impl Place {
    /// Checks that an entry of the chain follows on what was read before it. The first may follow
    /// on anything that is trimmed or before the start.
    fn link(&self, previous: Seq, oldest: Option<Seq>, inner: &Inner) -> Result<(), LogError> {
        let follows = match (self.last, oldest) {
            (Some(last), _) => previous == last,
            (None, Some(oldest)) => previous < oldest.max(self.from).max(Seq(1)),
            (None, None) => true,
        };
        if follows { Ok(()) } else { self.gap(inner) }
    }

    fn gap(&self, inner: &Inner) -> Result<(), LogError> {
        if !self.salvage {
            let after = self.last.unwrap_or(Seq::START);
            return Err(LogError::Gap { partition: self.partition, after });
        }
        inner.counters.lock().gaps += 1;
        Ok(())
    }
}

/// An entry as it lies in the store.
struct Found {
    seq: Seq,
    is_snapshot: bool,
    bytes: Vec<u8>,
}

struct Raw {
    found: Vec<Found>,
    /// None if it cannot be read.
    row: Option<Row>,
    /// Whether there is nothing more.
    is_end: bool,
}

impl Raw {
    /// Chain and snapshots are merged by place.
    fn load(
        transaction: &ReadTransaction,
        partition: Partition,
        from: Seq,
    ) -> Result<Self, Problem> {
        let row = transaction.open_table(HEADS)?.get(partition.0)?;
        let row = match row {
            Some(row) => Row::read(row.value()),
            None => Some(Row::default()),
        };
        let range = (partition.0, from.0)..=(partition.0, u64::MAX);
        let mut chain = transaction.open_table(CHAIN)?.range(range.clone())?;
        let mut snapshots = transaction.open_table(SNAPSHOTS)?.range(range)?;
        let mut next = (chain.next().transpose()?, snapshots.next().transpose()?);
        let mut raw = Self { found: Vec::new(), row, is_end: true };
        let mut bytes = 0;
        loop {
            let is_snapshot = match &next {
                (None, None) => return Ok(raw),
                (Some(_), None) => false,
                (None, Some(_)) => true,
                (Some((chain, _)), Some((snapshot, _))) => snapshot.value() < chain.value(),
            };
            let taken = match is_snapshot {
                true => mem::replace(&mut next.1, snapshots.next().transpose()?),
                false => mem::replace(&mut next.0, chain.next().transpose()?),
            };
            let (key, value) = taken.expect("the one that was chosen");
            let seq = Seq(key.value().1);
            if seq < from {
                continue;
            }
            bytes += value.value().len();
            raw.found.push(Found { seq, is_snapshot, bytes: value.value().to_vec() });
            if bytes >= READ_BYTES {
                raw.is_end = next.0.is_none() && next.1.is_none();
                return Ok(raw);
            }
        }
    }
}

/// Whose snapshot lies at a place, if its own bytes do not say.
fn key_of(transaction: &ReadTransaction, partition: Partition, seq: Seq) -> Option<Key> {
    let search = || {
        let keys = transaction.open_table(KEYS)?;
        for entry in keys.range((partition.0, &[][..])..)? {
            let (key, place) = entry?;
            let (of, key) = key.value();
            if of != partition.0 {
                break;
            }
            if place.value() == seq.0 {
                return Ok(Some(Bytes::copy_from_slice(key)));
            }
        }
        Ok(None)
    };
    guarded(search).ok().flatten()
}

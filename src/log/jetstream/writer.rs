//! What writes a partition. A task of its own does what its writer calls, one call after the other,
//! so a call that is given up goes on, and is found when it is settled.

use super::{
    Shared,
    api::RESEND,
    delivery::{Delivery, Outgoing, Undelivered},
    entry::{self, At, Chain, Link, Record},
    room::Room,
    subjects,
    sweeper::Sweeper,
};
use crate::log::{
    AppendError, BootMicros, Numbered, Partition, Seq, Snapshot,
    head::Head,
    numbered::{Dated, Message, Port, Post},
    space::MARGIN,
};
use bytes::Bytes;
use std::{
    collections::{HashSet, VecDeque},
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

/// Bytes of a state in one message.
pub const PIECE_BYTES: usize = 512 * 1024;

/// Messages that are stored as a whole, at most. A server takes 1,000.
const MESSAGES_AT_ONCE: usize = 500;

/// Bytes of states that are stored as a whole, unless one alone has more.
const BYTES_AT_ONCE: usize = 4 << 20;

/// How often it is tried to remove what is trimmed.
const PURGES: u32 = 3;

/// How long nothing else is stored meanwhile: much shorter than an owner may be silent.
const PURGE_WAIT: Duration = Duration::from_secs(1);

type Outcome = Result<Seq, AppendError>;

/// What a writer has of the log.
#[derive(Debug)]
pub struct JetStreamPort {
    jobs: mpsc::Sender<Job>,
    room: Arc<Room>,
    last_sent: LastSent,
}

/// When the last message was sent that is stored; 0 = there is none.
type LastSent = Arc<AtomicU64>;

#[derive(Debug)]
struct Job {
    message: Message,
    reply: oneshot::Sender<Outcome>,
}

impl Port for JetStreamPort {
    async fn post(&self, message: Message) -> Outcome {
        let closed = || AppendError::Broken("it is closed".into());
        let (reply, outcome) = oneshot::channel();
        self.jobs.send(Job { message, reply }).await.map_err(|_| closed())?;
        outcome.await.unwrap_or_else(|_| Err(closed()))
    }

    fn room(&self) -> u64 {
        self.room.left()
    }
}

impl Dated for JetStreamPort {
    fn last_sent(&self) -> BootMicros {
        BootMicros(self.last_sent.load(Ordering::Acquire))
    }
}

/// What a claim has found and stored.
#[derive(Debug, Clone, Copy)]
pub struct Claimed {
    /// Where the partition has come to.
    pub head: Head,
    /// When the claim was sent.
    pub sent: BootMicros,
}

/// Starts a writer whose claim is stored.
pub fn start(
    shared: Arc<Shared>,
    partition: Partition,
    claimed: Claimed,
    room: Arc<Room>,
) -> Numbered<JetStreamPort> {
    let last_sent = LastSent::new(AtomicU64::new(claimed.sent.0));
    let head = claimed.head;
    let (jobs, calls) = mpsc::channel(1);
    let sweeper = Sweeper::start(shared.clone(), partition);
    let task = Task {
        shared,
        partition,
        head,
        kept: head.chain,
        calls,
        pending: None,
        over: None,
        room: room.clone(),
        last_sent: last_sent.clone(),
        sweeper,
        purging: None,
    };
    tokio::spawn(task.run());
    Numbered::new(JetStreamPort { jobs, room, last_sent }, partition, head.term)
}

struct Task {
    shared: Arc<Shared>,
    partition: Partition,
    head: Head,
    /// The last of the chain that is no trim: a trim never removes it.
    kept: Seq,
    calls: mpsc::Receiver<Job>,
    /// The call whose outcome is not known.
    pending: Option<Pending>,
    /// Why nothing more is taken.
    over: Option<AppendError>,
    room: Arc<Room>,
    last_sent: LastSent,
    sweeper: Sweeper,
    /// What is still being removed.
    purging: Option<AbortOnDropHandle<()>>,
}

/// A call that is being done.
struct Pending {
    number: u64,
    /// What is not begun.
    rest: VecDeque<Vec<Draft>>,
    /// What is being stored, and where the partition has come to when it is.
    current: Option<(Delivery, Head)>,
    /// What can be removed at the end.
    purge: Option<Seq>,
    /// Whether its last entry is to be kept when the chain is trimmed.
    is_kept: bool,
}

/// A message whose place is not known yet.
enum Draft {
    Chain(Chain),
    Trim(Seq),
    Snapshot(Record),
}

impl Task {
    /// The life of the task: it ends with its writer.
    async fn run(mut self) {
        while let Some(job) = self.calls.recv().await {
            let outcome = self.call(&job.message).await;
            // A caller that has given up finds out with the same call.
            let _ = job.reply.send(outcome);
        }
    }

    async fn call(&mut self, message: &Message) -> Outcome {
        if let Some(seq) = self.head.admit(message.call)? {
            return Ok(seq);
        }
        if let Some(over) = &self.over {
            return Err(over.clone());
        }
        let number = message.call.number;
        let mut pending = match self.pending.take() {
            Some(pending) if pending.number == number => pending,
            _ => self.begin(number, &message.content)?,
        };
        match self.go_on(&mut pending).await {
            Ok(()) => {
                self.head.released = matches!(message.content, Post::Release);
                self.head.stored(message.call);
                if let Post::Snapshots(snapshots) = &message.content
                    && snapshots.iter().any(|it| it.state.is_none())
                {
                    self.sweeper.wake();
                }
                Ok(self.head.seq)
            }
            Err(error) => {
                match error {
                    AppendError::Unknown => self.pending = Some(pending),
                    AppendError::Full => self.shared.counters.lock().full += 1,
                    _ => self.over = Some(error.clone()),
                }
                Err(error)
            }
        }
    }

    /// Sees whether there is space, and lists what there is to do.
    fn begin(&self, number: u64, content: &Post) -> Result<Pending, AppendError> {
        if !self.has_space(content) {
            self.shared.counters.lock().full += 1;
            return Err(AppendError::Full);
        }
        let mut pending =
            Pending { number, rest: VecDeque::new(), current: None, purge: None, is_kept: true };
        match content {
            Post::Batch(batch, _) => {
                pending.rest.push_back(vec![Draft::Chain(Chain::Batch(batch.clone()))]);
            }
            Post::Release => pending.rest.push_back(vec![Draft::Chain(Chain::Release)]),
            Post::Snapshots(snapshots) => {
                pending.rest = wholes(snapshots);
                pending.is_kept = false;
            }
            Post::Trim(below) => {
                let oldest = self.kept.min(*below);
                pending.is_kept = false;
                if oldest > self.head.oldest {
                    pending.rest.push_back(vec![Draft::Trim(oldest)]);
                    pending.purge = Some(oldest);
                }
            }
        }
        Ok(pending)
    }

    fn has_space(&self, content: &Post) -> bool {
        let bytes = content.bytes() as u64;
        match content {
            Post::Batch(_, left) => self.room.left() >= left + bytes,
            Post::Snapshots(snapshots) if snapshots.iter().any(|it| it.state.is_some()) => {
                self.room.free() >= MARGIN + bytes
            }
            Post::Snapshots(_) | Post::Trim(_) | Post::Release => true,
        }
    }

    async fn go_on(&mut self, pending: &mut Pending) -> Result<(), AppendError> {
        loop {
            if pending.current.is_none() {
                let Some(drafts) = pending.rest.pop_front() else { break };
                pending.current = Some(self.address(drafts));
            }
            let Some((delivery, _)) = &mut pending.current else { continue };
            let started = Instant::now();
            delivery.deliver(&self.shared).await.map_err(in_our_words)?;
            let (delivery, head) = pending.current.take().expect("it was delivered");
            self.stored(&delivery, head, started);
            if pending.is_kept {
                self.kept = self.head.chain;
            }
        }
        if let Some(below) = pending.purge.take() {
            self.purge(below).await;
        }
        Ok(())
    }

    /// Gives drafts their places.
    fn address(&self, drafts: Vec<Draft>) -> (Delivery, Head) {
        let settings = &self.shared.settings;
        let mut head = self.head;
        let mut messages = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let (seq, record) = match draft {
                Draft::Chain(chain) => {
                    let (seq, previous) = head.link();
                    (seq, Record::Chain(chain, Link { previous, oldest: head.oldest }))
                }
                Draft::Trim(oldest) => {
                    let (seq, previous) = head.link();
                    head.oldest = oldest;
                    (seq, Record::Chain(Chain::Trim, Link { previous, oldest }))
                }
                Draft::Snapshot(record) => (head.place(), record),
            };
            let at = At { partition: self.partition, seq, term: head.term };
            let payload = entry::write(at, &record);
            let (subject, replaces) = match &record {
                Record::Chain(..) => (settings.chain(self.partition), false),
                Record::Piece { key, index, .. } => {
                    (subjects::of_key(&settings.snapshots(self.partition), key), *index == 0)
                }
                Record::Gone { key } => {
                    (subjects::of_key(&settings.notes(self.partition), key), true)
                }
            };
            messages.push(Outgoing { subject, replaces, payload });
        }
        (Delivery::new(self.partition, self.head.seq, messages), head)
    }

    fn stored(&mut self, delivery: &Delivery, head: Head, started: Instant) {
        let entries = head.seq.0 - self.head.seq.0;
        self.head = head;
        self.room.take(delivery.bytes());
        if let Some(sent) = delivery.first_sent() {
            self.last_sent.fetch_max(sent.0, Ordering::AcqRel);
        }
        self.shared.count(entries, delivery.bytes(), started.elapsed());
        self.shared.wake(self.partition);
    }

    /// Removes what is trimmed. Mostly there is space when this returns; a server that does not answer
    /// holds nothing else up.
    async fn purge(&mut self, below: Seq) {
        let purge = purge(self.shared.clone(), self.partition, self.room.clone(), below);
        let mut purging = AbortOnDropHandle::new(tokio::spawn(purge));
        // What the one before has not removed, this one does.
        self.purging = None;
        if timeout(PURGE_WAIT, &mut purging).await.is_err() {
            self.purging = Some(purging);
        }
    }
}

/// What is not removed now is removed with the next trim.
async fn purge(shared: Arc<Shared>, partition: Partition, room: Arc<Room>, below: Seq) {
    let settings = &shared.settings;
    let (stream, subject) = (settings.stream(partition), settings.chain(partition));
    for _ in 0..PURGES {
        match shared.api.purge(&stream, &subject, below).await {
            Ok(()) => break,
            Err(error) => {
                tracing::warn!("{stream} is not trimmed: {}", error.words());
                sleep(RESEND).await;
            }
        }
    }
    room.look(&shared, partition).await;
}

/// Snapshots in the groups that are stored as a whole. A subject is replaced by the first message of
/// it alone, so a key that comes again begins the next group.
fn wholes(snapshots: &[Snapshot]) -> VecDeque<Vec<Draft>> {
    let mut wholes = VecDeque::new();
    let mut whole = Vec::new();
    let mut keys = HashSet::new();
    let mut bytes = 0;
    for Snapshot { key, state } in snapshots {
        let size = state.as_ref().map_or(0, Bytes::len);
        let count = size.div_ceil(PIECE_BYTES).max(1);
        let is_too_large = whole.len() + count > MESSAGES_AT_ONCE || bytes + size > BYTES_AT_ONCE;
        if !whole.is_empty() && (is_too_large || keys.contains(key)) {
            wholes.push_back(mem::take(&mut whole));
            keys.clear();
            bytes = 0;
        }
        bytes += size;
        keys.insert(key);
        let Some(state) = state else {
            whole.push(Draft::Snapshot(Record::Gone { key: key.clone() }));
            continue;
        };
        whole.extend((0..count).map(|index| {
            let from = index * PIECE_BYTES;
            let bytes = state.slice(from..size.min(from + PIECE_BYTES));
            let (index, count) = (index as u32, count as u32);
            Draft::Snapshot(Record::Piece { key: key.clone(), index, count, bytes })
        }));
    }
    if !whole.is_empty() {
        wholes.push_back(whole);
    }
    wholes
}

fn in_our_words(error: Undelivered) -> AppendError {
    match error {
        Undelivered::Behind(_) => AppendError::Deposed,
        Undelivered::Full => AppendError::Full,
        Undelivered::Unknown => AppendError::Unknown,
        Undelivered::Broken(why) => AppendError::Broken(why),
    }
}

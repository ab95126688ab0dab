//! The way of a node to the log: questions that are sent again until they are answered.

use crate::clock::Watch;
use parking_lot::Mutex;
use sessiond::{
    cluster::BootMicros,
    log::{
        AppendError, Call, Dated, Entry, Log, LogError, Message, NodeId, Numbered, Partition, Port,
        Post, Reader, Seq, memory::MemoryPort,
    },
    session::limits::{Micros, SECOND},
};
use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    mem,
    sync::Arc,
};

/// After so long without an answer a question is sent again.
const RESEND: Micros = SECOND / 4;

/// So long an answer is waited for.
const PATIENCE: Micros = 5 * SECOND;

/// So long a claim is tried against somebody who writes.
const CLAIM_PATIENCE: Micros = 10 * SECOND;

/// What is asked of the log.
#[derive(Debug, Clone)]
pub enum Ask {
    /// A call of a writer.
    Post(Arc<MemoryPort>, Message),
    /// A claim, which is stored right after this entry or not at all.
    Claim(Partition, NodeId, Seq),
    /// Where a partition ends.
    End(Partition),
    /// All entries of a partition from a place on.
    Read(Partition, Seq),
}

/// A writer whose claim is stored, for whoever gets the answer first.
pub type Claimed = Arc<Mutex<Option<Numbered<MemoryPort>>>>;

#[derive(Debug, Clone)]
pub enum Answer {
    Stored(Result<Seq, AppendError>),
    /// None = something else stands at that place.
    Claimed(Option<Claimed>),
    End(Seq),
    /// None = what follows on the place is trimmed.
    Entries(Option<VecDeque<Entry>>),
}

/// What a process has asked and been answered.
#[derive(Debug)]
pub struct Way {
    pub watch: Watch,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    questions: u64,
    outbox: Vec<(u64, Ask)>,
    /// The questions that are waiting, with their answers.
    waiting: BTreeMap<u64, Option<Answer>>,
    /// The ways of the last writers.
    ports: BTreeMap<Partition, (Arc<MemoryPort>, Arc<Mutex<Sent>>)>,
}

impl Way {
    pub fn new(watch: Watch) -> Arc<Self> {
        Arc::new(Self { watch, state: Mutex::default() })
    }

    /// What is to be sent now.
    pub fn take(&self) -> Vec<(u64, Ask)> {
        mem::take(&mut self.state.lock().outbox)
    }

    /// An answer has come. False = nobody waits for it any more.
    pub fn answered(&self, question: u64, answer: Answer) -> bool {
        match self.state.lock().waiting.get_mut(&question) {
            Some(slot) => {
                slot.get_or_insert(answer);
                true
            }
            None => false,
        }
    }

    /// A release as the next call of a writer with this term, past the writer itself.
    pub fn release_early(&self, partition: Partition, term: Seq) -> Ask {
        let (port, sent) = self.state.lock().ports[&partition].clone();
        let call = Call { term, number: sent.lock().number + 1 };
        Ask::Post(port, Message { partition, call, content: Post::Release })
    }

    /// Asks until there is an answer; none = there is none in time.
    pub async fn ask(&self, ask: Ask) -> Option<Answer> {
        let question = {
            let mut state = self.state.lock();
            state.questions += 1;
            let question = state.questions;
            state.waiting.insert(question, None);
            question
        };
        let _waiting = Waiting(self, question);
        let until = self.watch.now().after(PATIENCE);
        loop {
            self.state.lock().outbox.push((question, ask.clone()));
            let again = self.watch.now().after(RESEND).min(until);
            let answer = self.watch.until(|now| {
                let answer = self.state.lock().waiting.get_mut(&question).and_then(Option::take);
                answer.map(Some).or_else(|| (now >= again).then_some(None))
            });
            if let Some(answer) = answer.await {
                return Some(answer);
            }
            if self.watch.now() >= until {
                return None;
            }
        }
    }
}

/// Whoever gives up waits no more.
struct Waiting<'a>(&'a Way, u64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiting.remove(&self.1);
    }
}

/// The log as a node sees it.
#[derive(Debug, Clone)]
pub struct FarLog(pub Arc<Way>);

impl Log for FarLog {
    type Writer = Numbered<FarPort>;
    type Reader = FarReader;

    async fn claim(&self, partition: Partition, node: NodeId) -> Result<Self::Writer, LogError> {
        let Self(way) = self;
        let silent = || LogError::Unreachable("nothing is answered".into());
        let until = way.watch.now().after(CLAIM_PATIENCE);
        loop {
            let Some(Answer::End(end)) = way.ask(Ask::End(partition)).await else {
                return Err(silent());
            };
            let sent = way.watch.now();
            match way.ask(Ask::Claim(partition, node, end)).await {
                Some(Answer::Claimed(Some(claimed))) => {
                    let writer = claimed.lock().take().ok_or_else(silent)?;
                    return Ok(writer.by(|port| FarPort::new(way.clone(), partition, port, sent)));
                }
                Some(_) if way.watch.now() < until => {}
                _ => return Err(silent()),
            }
        }
    }

    fn read(&self, partition: Partition, from: Seq) -> FarReader {
        assert_eq!(from, Seq::START, "a keeper reads all");
        FarReader { way: self.0.clone(), partition, from, entries: VecDeque::new() }
    }
}

/// See [`Reader`].
#[derive(Debug)]
pub struct FarReader {
    way: Arc<Way>,
    partition: Partition,
    /// From where on it reads next.
    from: Seq,
    /// What it has read.
    entries: VecDeque<Entry>,
}

impl Reader for FarReader {
    async fn next(&mut self) -> Result<Option<Entry>, LogError> {
        let Self { partition, from, .. } = *self;
        if self.entries.is_empty() {
            let Some(Answer::Entries(entries)) = self.way.ask(Ask::Read(partition, from)).await
            else {
                return Err(LogError::Unreachable("nothing is answered".into()));
            };
            self.entries = entries.ok_or(LogError::Trimmed { partition, oldest: from })?;
        }
        let next = self.entries.pop_front();
        self.from = next.as_ref().map_or(from, |entry| entry.seq.next());
        Ok(next)
    }

    async fn changed(&mut self) -> Result<(), LogError> {
        pending().await
    }
}

/// The way of one writer.
#[derive(Debug)]
pub struct FarPort {
    way: Arc<Way>,
    port: Arc<MemoryPort>,
    sent: Arc<Mutex<Sent>>,
}

#[derive(Debug)]
struct Sent {
    /// When the last message was sent that is stored.
    last: BootMicros,
    /// The call whose outcome is not known, and when it was sent first.
    open: Option<(u64, BootMicros)>,
    number: u64,
}

impl FarPort {
    fn new(way: Arc<Way>, partition: Partition, port: MemoryPort, claimed: BootMicros) -> Self {
        let port = Arc::new(port);
        let sent = Arc::new(Mutex::new(Sent { last: claimed, open: None, number: 0 }));
        way.state.lock().ports.insert(partition, (port.clone(), sent.clone()));
        Self { way, port, sent }
    }
}

impl Port for FarPort {
    async fn post(&self, message: Message) -> Result<Seq, AppendError> {
        let number = message.call.number;
        // A trim takes no place here, so the end of the log says nothing of it.
        let takes_a_place = !matches!(message.content, Post::Trim(_));
        let first = {
            let (now, mut sent) = (self.way.watch.now(), self.sent.lock());
            let known = sent.open.filter(|(open, _)| *open == number);
            let first = known.map_or(now, |(_, first)| first);
            sent.open = Some((number, first));
            first
        };
        let answer = self.way.ask(Ask::Post(self.port.clone(), message)).await;
        let Some(Answer::Stored(outcome)) = answer else { return Err(AppendError::Unknown) };
        let mut sent = self.sent.lock();
        sent.open = None;
        if outcome.is_ok() {
            sent.last = if takes_a_place { sent.last.max(first) } else { sent.last };
            sent.number = number;
        }
        outcome
    }

    fn room(&self) -> u64 {
        self.port.room()
    }
}

impl Dated for FarPort {
    fn last_sent(&self) -> BootMicros {
        self.sent.lock().last
    }
}

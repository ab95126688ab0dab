//! What a node says to the others over NATS, and what it does with what it hears.

use super::{
    boot::wall,
    codec::{self, Message, Why},
    error::JoinError,
    notes::Notes,
    rules::{
        BEAT_INTERVAL, Beat, BootMicros, ClaimNow, MOST_NODES, MoveRefused, NodeInfo, Owner,
        Ownership,
    },
    subjects::Subjects,
};
use crate::{
    log::{NodeId, Partition},
    session::limits::Micros,
};
use async_nats::{Client, Subject, Subscriber, connection::State};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_stream::StreamExt;

/// How often it is looked what time alone has changed.
const STEP: Duration = Duration::from_millis(100);

/// How long others have to say that they have the name, and to be heard.
const NAME_WAIT: Duration = Duration::from_millis(1200);

/// How long a node has to hear itself.
const ECHO_WAIT: Duration = Duration::from_secs(5);

/// How long a node has to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// How often a node gets the message that something was released for it, at most.
const TELLINGS: usize = 2;

/// How long it has to say that it claims that. The partition has no owner meanwhile.
const TELLING_WAIT: Duration = Duration::from_millis(500);

/// How long a node has to read what is about to be released for it, so that one that stops still gives
/// all that it has in time. The partition is served meanwhile, and a node that is late goes on reading.
pub(super) const READ_AHEAD_WAIT: Duration = Duration::from_secs(2);

/// What a node may be behind or ahead by its own clock before it is reported.
const CLOCK_DIFFERENCE: Micros = 5_000_000;

/// Another node asks this one to read a partition that it is about to give to it.
#[derive(Debug)]
pub struct ToRead {
    /// Which.
    pub partition: Partition,
    /// Tells it that all that there is now is read.
    pub done: oneshot::Sender<()>,
}

/// A node, for those who speak and listen for it.
pub(super) struct Inner {
    pub(super) client: Client,
    pub(super) subjects: Subjects,
    pub(super) me: Arc<NodeInfo>,
    pub(super) state: Mutex<Ownership>,
    pub(super) owners: watch::Sender<Arc<[Owner]>>,
    /// There may be something to do.
    pub(super) orders: Notify,
    /// There is something to say.
    pub(super) news: Notify,
    /// Something was released.
    pub(super) released: Notify,
    /// Who reads what other nodes are about to give away, and what is to be read.
    pub(super) to_read: (mpsc::Sender<ToRead>, tokio::sync::Mutex<mpsc::Receiver<ToRead>>),
    /// The name is this node's.
    pub(super) joined: AtomicBool,
    /// Where the process is that asks for the name, too, and is to have it.
    pub(super) rival: Mutex<Option<String>>,
    /// Messages that were not understood.
    pub(super) foreign: AtomicU64,
    /// Nodes whose clocks were warned about.
    pub(super) clocks: Mutex<HashSet<NodeId>>,
    pub(super) notes: Notes,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Inner {
    /// One that has not said or heard anything yet.
    pub(super) fn new(
        client: Client,
        subjects: Subjects,
        notes: Notes,
        partitions: usize,
        me: NodeInfo,
    ) -> Self {
        let me = Arc::new(me);
        let state = Ownership::new(me.clone(), partitions, BootMicros::now());
        let owners = watch::Sender::new(state.owners(BootMicros::now()).into());
        let (ask, asked) = mpsc::channel(partitions);
        Self {
            client,
            subjects,
            me,
            state: Mutex::new(state),
            owners,
            orders: Notify::new(),
            news: Notify::new(),
            released: Notify::new(),
            to_read: (ask, tokio::sync::Mutex::new(asked)),
            joined: AtomicBool::new(false),
            rival: Mutex::default(),
            foreign: AtomicU64::new(0),
            clocks: Mutex::default(),
            notes,
        }
    }

    /// Asks who has the name: a process that lives and has it says so. Of two that ask at once, the
    /// lesser id has it.
    pub(super) async fn claim_name(&self, name: &str) -> Result<(), JoinError> {
        let taken = |address| JoinError::NameTaken { name: self.me.name.clone(), address };
        let nats = |error: &dyn std::error::Error| JoinError::Nats(error.to_string());
        let inbox = self.client.new_inbox();
        let mut answers =
            self.client.subscribe(inbox.clone()).await.map_err(|error| nats(&error))?;
        let question = Message::WhoHas { id: self.me.id, address: self.me.address.clone() };
        let question = codec::encode(&question);
        let sent = self.client.publish_with_reply(name.to_owned(), inbox, question).await;
        sent.map_err(|error| nats(&error))?;
        let mut ends_at = Instant::now() + ECHO_WAIT;
        let mut heard_itself = false;
        while let Ok(Some(answer)) = timeout_at(ends_at, answers.next()).await {
            let Ok(Message::Named { id, address, joined }) = codec::decode(&answer.payload) else {
                continue;
            };
            if id == self.me.id {
                // The others had the question at the same time.
                heard_itself = true;
                ends_at = ends_at.min(Instant::now() + NAME_WAIT);
            } else if joined || id < self.me.id {
                return Err(taken(address));
            }
        }
        if let Some(address) = self.rival.lock().take() {
            return Err(taken(address));
        }
        if !heard_itself {
            let prefix = self.subjects.prefix.clone();
            return Err(JoinError::Unheard { subject: name.to_owned(), prefix });
        }
        // By now each of the others was heard twice.
        let state = self.state.lock();
        let others = state.members().filter(|member| member.info.id != self.me.id);
        match others.map(|member| member.info.format).min() {
            Some(theirs) if theirs > self.me.format => {
                Err(JoinError::Older { theirs, known: self.me.format })
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn listen(self: Arc<Self>, mut subscription: Subscriber) {
        while let Some(message) = subscription.next().await {
            let answer = match codec::decode(&message.payload) {
                Ok(Message::ReadAhead(partition)) => {
                    self.read_ahead(partition, message.reply);
                    continue;
                }
                Ok(it) => self.take(it),
                Err(codec::Foreign) => {
                    self.foreign.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        subject = %message.subject,
                        "a message that no node of this version sends is passed over"
                    );
                    None
                }
            };
            if let (Some(answer), Some(reply)) = (answer, message.reply) {
                self.send(async { self.client.publish(reply, codec::encode(&answer)).await }).await;
            }
        }
    }

    /// Takes a message in; what is to be answered.
    fn take(&self, message: Message) -> Option<Message> {
        match message {
            Message::Beat(beat) => {
                self.heard(&beat, Ownership::heard);
                None
            }
            Message::Ping => {
                self.joined.load(Ordering::Acquire).then(|| Message::Beat(self.answer()))
            }
            Message::ClaimNow(asked) => {
                let taken = self.state.lock().claim_now(asked, BootMicros::now());
                self.look();
                self.orders.notify_one();
                Some(Message::Outcome(if taken { Ok(()) } else { Err(Why::Other) }))
            }
            Message::Move { partition, to } => {
                let outcome = self.move_to(partition, &to);
                Some(Message::Outcome(outcome.map_err(|refused| Why::from(&refused))))
            }
            Message::WhoHas { id, address } => {
                if id < self.me.id {
                    // It may have begun to listen after this one had asked.
                    *self.rival.lock() = Some(address);
                }
                Some(Message::Named {
                    id: self.me.id,
                    address: self.me.address.clone(),
                    joined: self.joined.load(Ordering::Acquire),
                })
            }
            // Answers come to those who asked.
            Message::Outcome(_) | Message::Named { .. } => None,
            // That takes its time.
            Message::ReadAhead(_) => None,
        }
    }

    /// Has a partition read here, and says so when that is done.
    fn read_ahead(self: &Arc<Self>, partition: Partition, reply: Option<Subject>) {
        let Some(reply) = reply else { return };
        let (done, read) = oneshot::channel();
        if !self.state.lock().declines(BootMicros::now()) {
            // What is not read says so: `done` is gone.
            let _ = self.to_read.0.try_send(ToRead { partition, done });
        }
        let own = self.clone();
        tokio::spawn(async move {
            let is_read = matches!(timeout(READ_AHEAD_WAIT, read).await, Ok(Ok(())));
            let outcome = Message::Outcome(if is_read { Ok(()) } else { Err(Why::Other) });
            own.send(async { own.client.publish(reply, codec::encode(&outcome)).await }).await;
        });
    }

    fn heard(&self, beat: &Beat, take: impl Fn(&mut Ownership, &Beat, BootMicros) -> bool) {
        let now = BootMicros::now();
        let node = &beat.node;
        let is_new = {
            let mut state = self.state.lock();
            let is_new = state.member(node.id).is_none();
            if !take(&mut state, beat, now) {
                return;
            }
            is_new
        };
        self.look();
        self.orders.notify_one();
        if node.id == self.me.id {
            return;
        }
        if is_new {
            tracing::info!(node = node.name, address = node.address, "a node of the cluster");
        }
        if node.name == self.me.name && self.joined.load(Ordering::Acquire) {
            tracing::error!(
                node = node.name,
                address = node.address,
                "another process of the cluster has the name of this node: stop one of them"
            );
        }
        let difference = wall().abs_diff(beat.wall);
        if difference > CLOCK_DIFFERENCE && self.is_news_of_its_clock(node.id) {
            let seconds = difference / 1_000_000;
            tracing::warn!(
                node = node.name,
                seconds,
                "the clock of a node differs from this one's; tokens and deadlines go by them"
            );
        }
    }

    /// Whether it was not reported yet that the clock of a node differs.
    fn is_news_of_its_clock(&self, node: NodeId) -> bool {
        let mut told = self.clocks.lock();
        if told.len() >= MOST_NODES {
            told.clear();
        }
        told.insert(node)
    }

    pub(super) fn move_to(&self, partition: Partition, to: &str) -> Result<(), MoveRefused> {
        let outcome = self.state.lock().move_to(partition, to, BootMicros::now());
        self.news.notify_one();
        self.orders.notify_one();
        outcome
    }

    /// Tells those who wait if somebody else owns something now.
    pub(super) fn look(&self) {
        let state = self.state.lock();
        let now = state.owners(BootMicros::now());
        self.owners.send_if_modified(|owners| {
            let is_other = owners[..] != now[..];
            if is_other {
                *owners = now.into();
            }
            is_other
        });
    }

    fn beat(&self) -> Beat {
        let mut state = self.state.lock();
        state.step(BootMicros::now());
        state.beat(wall())
    }

    fn answer(&self) -> Beat {
        let mut state = self.state.lock();
        state.step(BootMicros::now());
        state.answer(wall())
    }

    pub(super) async fn beat_on(self: Arc<Self>) {
        loop {
            let beat = codec::encode(&Message::Beat(self.beat()));
            let subject = self.subjects.beat.clone();
            self.send(async { self.client.publish(subject, beat).await }).await;
            let _ = timeout(Duration::from_micros(BEAT_INTERVAL), self.news.notified()).await;
        }
    }

    /// Sends within a bound: while there is no connection, what is to be sent piles up in the client.
    async fn send<E>(&self, sending: impl Future<Output = Result<(), E>>) {
        let _ = timeout(STEP, sending).await;
    }

    /// Looks what time alone has changed.
    pub(super) async fn step_on(self: Arc<Self>) {
        loop {
            let _ = timeout(STEP, self.released.notified()).await;
            let now = BootMicros::now();
            let (to_ask, released) = {
                let mut state = self.state.lock();
                state.step(now);
                (state.nodes_to_ask(now), state.released(now))
            };
            self.look();
            self.orders.notify_one();
            for node in to_ask {
                tokio::spawn(self.clone().ping(node));
            }
            for (to, claim) in released {
                tokio::spawn(self.clone().hand_over(to, claim));
            }
        }
    }

    async fn ping(self: Arc<Self>, node: NodeId) {
        let answer = self.ask(node, &Message::Ping).await;
        match answer {
            Some(Message::Beat(beat)) if beat.node.id == node => {
                self.heard(&beat, Ownership::answered);
            }
            _ => self.state.lock().unanswered(node),
        }
        self.orders.notify_one();
    }

    /// Tells a node that something was released for it. If it does not take that, somebody else does.
    async fn hand_over(self: Arc<Self>, to: NodeId, claim: ClaimNow) {
        for _ in 0..TELLINGS {
            match self.ask_within(TELLING_WAIT, to, &Message::ClaimNow(claim)).await {
                Some(Message::Outcome(Ok(()))) => return,
                Some(_) => break,
                None => sleep(STEP).await,
            }
        }
        tracing::warn!(
            partition = claim.partition.0,
            "what was released for a node is not taken by it"
        );
        self.state.lock().not_taken(to, claim, BootMicros::now());
        self.released.notify_one();
        self.orders.notify_one();
    }

    /// Asks a node; none = it did not answer.
    pub(super) async fn ask(&self, node: NodeId, message: &Message) -> Option<Message> {
        self.ask_within(ANSWER_WAIT, node, message).await
    }

    pub(super) async fn ask_within(
        &self,
        wait: Duration,
        node: NodeId,
        message: &Message,
    ) -> Option<Message> {
        if self.client.connection_state() != State::Connected {
            // It would be sent when there is a connection again, and done although nobody waits for it.
            return None;
        }
        let question: Bytes = codec::encode(message);
        let asking = self.client.request(self.subjects.node(node), question);
        let answer = timeout(wait, asking).await.ok()?.ok()?;
        codec::decode(&answer.payload).ok()
    }
}

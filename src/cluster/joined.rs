//! A node in a cluster: what it says and hears over NATS, and how the program asks it.

use super::{
    boot::wall,
    codec::{self, MAX_NAME_BYTES, Message, Why},
    error::JoinError,
    notes::Notes,
    rules::{
        BEAT_INTERVAL, Beat, BootMicros, ClaimNow, Holding, MOST_NODES, MoveRefused, NodeInfo,
        NodeStatus, Order, Owner, Ownership, PartitionStatus,
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
use tokio_util::sync::{CancellationToken, DropGuard};

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
const READ_AHEAD_WAIT: Duration = Duration::from_secs(2);

/// What a node may be behind or ahead by its own clock before it is reported.
const CLOCK_DIFFERENCE: Micros = 5_000_000;

/// Which cluster, and how it is divided.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name, with which all subjects and streams begin: 1 to 32 letters, digits, - and _.
    pub cluster: String,
    /// How many partitions there are: 1 to 256, the same at all nodes.
    pub partitions: usize,
    /// On how many servers of NATS the notes to all nodes are kept.
    pub replicas: usize,
    /// Whether nothing was ever stored in the partitions: then what the cluster needs is made.
    pub is_new: bool,
}

/// A node in a cluster. Clones are the same node; with the last one it falls silent.
#[derive(Debug, Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
    _alive: Arc<DropGuard>,
}

/// Another node asks this one to read a partition that it is about to give to it.
#[derive(Debug)]
pub struct ToRead {
    /// Which.
    pub partition: Partition,
    /// Tells it that all that there is now is read.
    pub done: oneshot::Sender<()>,
}

struct Inner {
    client: Client,
    subjects: Subjects,
    me: Arc<NodeInfo>,
    state: Mutex<Ownership>,
    owners: watch::Sender<Arc<[Owner]>>,
    /// There may be something to do.
    orders: Notify,
    /// There is something to say.
    news: Notify,
    /// Something was released.
    released: Notify,
    /// Who reads what other nodes are about to give away, and what is to be read.
    to_read: (mpsc::Sender<ToRead>, tokio::sync::Mutex<mpsc::Receiver<ToRead>>),
    /// The name is this node's.
    joined: AtomicBool,
    /// Where the process is that asks for the name, too, and is to have it.
    rival: Mutex<Option<String>>,
    /// Messages that were not understood.
    foreign: AtomicU64,
    /// Nodes whose clocks were warned about.
    clocks: Mutex<HashSet<NodeId>>,
    notes: Notes,
}

impl Cluster {
    /// Joins a cluster, over a client of NATS that hears what it publishes itself. It takes a second
    /// or two: another process that has the name says so.
    pub async fn join(
        client: Client,
        settings: &Settings,
        me: NodeInfo,
    ) -> Result<Self, JoinError> {
        let subjects = Subjects::of(&settings.cluster)?;
        if !(1..=256).contains(&settings.partitions) {
            return Err(JoinError::BadPartitions(settings.partitions));
        }
        let is_fit = (1..=MAX_NAME_BYTES).contains(&me.name.len());
        if !is_fit || me.name.chars().any(char::is_control) {
            return Err(JoinError::BadNodeName { most: MAX_NAME_BYTES });
        }
        let me = Arc::new(me);
        let state = Ownership::new(me.clone(), settings.partitions, BootMicros::now());
        let owners = watch::Sender::new(state.owners(BootMicros::now()).into());
        let inner = Arc::new(Inner {
            notes: Notes::new(&subjects, settings.replicas),
            client,
            subjects,
            me,
            state: Mutex::new(state),
            owners,
            orders: Notify::new(),
            news: Notify::new(),
            released: Notify::new(),
            to_read: {
                let (ask, asked) = mpsc::channel(settings.partitions);
                (ask, tokio::sync::Mutex::new(asked))
            },
            joined: AtomicBool::new(false),
            rival: Mutex::default(),
            foreign: AtomicU64::new(0),
            clocks: Mutex::default(),
        });
        let over = CancellationToken::new();
        let alive = Arc::new(over.clone().drop_guard());
        let name = inner.subjects.name(&inner.me.name);
        for subject in [&inner.subjects.beat, &inner.subjects.node(inner.me.id), &name] {
            let subscription = inner.client.subscribe(subject.clone()).await;
            let subscription = subscription.map_err(|error| JoinError::Nats(error.to_string()))?;
            tokio::spawn(until(over.clone(), inner.clone().listen(subscription)));
        }
        inner.claim_name(&name).await?;
        inner.notes.open(&inner.client, settings.is_new).await?;
        inner.joined.store(true, Ordering::Release);
        tokio::spawn(until(over.clone(), inner.clone().beat_on()));
        tokio::spawn(until(over, inner.clone().step_on()));
        Ok(Self { inner, _alive: alive })
    }

    /// Sends what changes nothing to each subject that this node sends to; those, and what it listens to.
    /// What is not permitted the server says by itself.
    pub async fn probe(&self) -> Vec<String> {
        let Inner { client, subjects, me, notes, .. } = &*self.inner;
        let of_node = subjects.node(me.id);
        // This node hears it, and answers nobody.
        let _ = client.publish(of_node.clone(), codec::encode(&Message::Ping)).await;
        let of_notes = notes.probe(client).await;
        [subjects.beat.clone(), of_node].into_iter().chain(of_notes).collect()
    }

    pub(super) fn client(&self) -> &Client {
        &self.inner.client
    }

    pub(super) fn notes(&self) -> &Notes {
        &self.inner.notes
    }

    /// This node.
    pub fn me(&self) -> &Arc<NodeInfo> {
        &self.inner.me
    }

    /// Waits for what this node is to do next. One task asks; for each order it then says with
    /// [`hold`](Self::hold) what came of it.
    pub async fn order(&self) -> Order {
        loop {
            let woken = self.inner.orders.notified();
            let order = self.inner.state.lock().order(BootMicros::now());
            if let Some(order) = order {
                // Others do not claim what this node says that it claims.
                self.inner.news.notify_one();
                return order;
            }
            woken.await;
        }
    }

    /// What this node does with a partition from now on, as [`Ownership::hold`] says. All nodes hear of
    /// it at once.
    pub fn hold(&self, partition: Partition, holding: Holding) {
        self.inner.state.lock().hold(partition, holding, BootMicros::now());
        self.inner.look();
        self.inner.news.notify_one();
        self.inner.released.notify_one();
        self.inner.orders.notify_one();
    }

    /// Has a node read a partition that is about to be released for it, so that it serves it the sooner.
    /// It returns when the node has read what there is, or cannot.
    pub async fn have_read(&self, partition: Partition, by: NodeId) {
        let question = Message::ReadAhead(partition);
        let answer = self.inner.ask_within(READ_AHEAD_WAIT, by, &question).await;
        if !matches!(answer, Some(Message::Outcome(Ok(())))) {
            tracing::debug!(%partition, "a partition is given to a node that has not read it");
        }
    }

    /// Waits for what this node is to read.
    pub async fn to_read(&self) -> ToRead {
        match self.inner.to_read.1.lock().await.recv().await {
            Some(it) => it,
            // This node itself has the other end.
            None => std::future::pending().await,
        }
    }

    /// Who owns a partition; nobody owns one that there is not.
    pub fn owner(&self, partition: Partition) -> Owner {
        let owners = self.inner.owners.borrow();
        owners.get(usize::from(partition.0)).cloned().unwrap_or(Owner::Nobody)
    }

    /// The owners of all partitions, for a caller that waits until they are others.
    pub fn owners(&self) -> watch::Receiver<Arc<[Owner]>> {
        self.inner.owners.subscribe()
    }

    /// See [`Ownership::silent`].
    pub fn silent(&self, span: Micros) -> Vec<Partition> {
        self.inner.state.lock().silent(span, BootMicros::now())
    }

    /// This node is about to stop: it claims nothing more, and is ordered to give away what it has, if
    /// there is anybody to take it.
    pub fn leave(&self) {
        self.inner.state.lock().leave();
        self.inner.news.notify_one();
        self.inner.orders.notify_one();
    }

    /// Whether somebody has claimed all that this node has released.
    pub fn is_all_taken(&self) -> bool {
        self.inner.state.lock().is_all_taken()
    }

    /// The version of records that every node which is alive can write.
    pub fn format(&self) -> u8 {
        self.inner.state.lock().format(BootMicros::now())
    }

    /// See [`Ownership::format_to_write`].
    pub fn format_to_write(&self) -> u8 {
        self.inner.state.lock().format_to_write(BootMicros::now())
    }

    /// All nodes that are known, this one too, by name.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        self.inner.state.lock().nodes(BootMicros::now())
    }

    /// What is known of all partitions.
    pub fn partitions(&self) -> Vec<PartitionStatus> {
        self.inner.state.lock().partitions(BootMicros::now())
    }

    /// Has a partition moved to the node of a name, where it stays until that node goes. The move has
    /// begun when this returns.
    pub async fn move_to(&self, partition: u32, to: &str) -> Result<(), MoveRefused> {
        let partition = {
            let state = self.inner.state.lock();
            let partition = state.partition(partition)?;
            state.alive_by_name(to, BootMicros::now())?;
            partition
        };
        let owner = match self.owner(partition) {
            Owner::Nobody => return Err(MoveRefused::NoOwner(partition)),
            Owner::Here => return self.inner.move_to(partition, to),
            Owner::There(owner) => owner.id,
        };
        let message = Message::Move { partition, to: to.to_owned() };
        match self.inner.ask(owner, &message).await {
            Some(Message::Outcome(outcome)) => outcome.map_err(|why| why.told(partition, to)),
            _ => Err(MoveRefused::Unanswered(partition)),
        }
    }

    /// How many messages came in that no node of this cluster has sent.
    pub fn foreign(&self) -> u64 {
        self.inner.foreign.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("me", &self.me).finish_non_exhaustive()
    }
}

async fn until(over: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = over.cancelled() => {}
        () = work => {}
    }
}

impl Inner {
    /// Asks who has the name: a process that lives and has it says so. Of two that ask at once, the
    /// lesser id has it.
    async fn claim_name(&self, name: &str) -> Result<(), JoinError> {
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

    async fn listen(self: Arc<Self>, mut subscription: Subscriber) {
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

    fn move_to(&self, partition: Partition, to: &str) -> Result<(), MoveRefused> {
        let outcome = self.state.lock().move_to(partition, to, BootMicros::now());
        self.news.notify_one();
        self.orders.notify_one();
        outcome
    }

    /// Tells those who wait if somebody else owns something now.
    fn look(&self) {
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

    async fn beat_on(self: Arc<Self>) {
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
    async fn step_on(self: Arc<Self>) {
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
    async fn ask(&self, node: NodeId, message: &Message) -> Option<Message> {
        self.ask_within(ANSWER_WAIT, node, message).await
    }

    async fn ask_within(&self, wait: Duration, node: NodeId, message: &Message) -> Option<Message> {
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

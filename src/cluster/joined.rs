//! A node in a cluster, as the program asks it.

use super::{
    codec::{self, MAX_NAME_BYTES, Message},
    error::JoinError,
    inner::{Inner, READ_AHEAD_WAIT, ToRead},
    notes::Notes,
    rules::{
        BootMicros, Holding, MoveRefused, NodeInfo, NodeStatus, Order, Owner, PartitionStatus,
    },
    subjects::Subjects,
};
use crate::{
    log::{NodeId, Partition},
    session::limits::Micros,
};
use async_nats::Client;
use std::sync::{Arc, atomic::Ordering};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

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
        let of_notes = Notes::new(&subjects, settings.replicas);
        let inner = Arc::new(Inner::new(client, subjects, of_notes, settings.partitions, me));
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

async fn until(over: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = over.cancelled() => {}
        () = work => {}
    }
}

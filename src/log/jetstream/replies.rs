//! Who waits for which reply. A message that is sent again names the same place for its reply, so a
//! late one counts; and a place that nobody waits at any more is forgotten.

use async_nats::{Client, Message, Subject};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_util::task::AbortOnDropHandle;

type Waiting = Arc<Mutex<HashMap<u64, mpsc::UnboundedSender<Message>>>>;

/// The places for replies of one log.
#[derive(Debug)]
pub struct Replies {
    inbox: String,
    /// All subjects that begin with it.
    subject: String,
    next: AtomicU64,
    waiting: Waiting,
    _task: AbortOnDropHandle<()>,
}

/// A place for replies to one request.
#[derive(Debug)]
pub struct Place {
    /// What the request names as its reply subject.
    pub subject: Subject,
    id: u64,
    waiting: Waiting,
    replies: mpsc::UnboundedReceiver<Message>,
}

impl Replies {
    /// Begins to listen.
    pub async fn open(client: &Client) -> Result<Self, async_nats::SubscribeError> {
        let inbox = client.new_inbox();
        let subject = format!("{inbox}.*");
        let mut messages = client.subscribe(subject.clone()).await?;
        let waiting = Waiting::default();
        let (places, cut) = (waiting.clone(), inbox.len() + 1);
        let task = tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                let id = message.subject.get(cut..).and_then(|id| id.parse().ok());
                let place = id.and_then(|id: u64| places.lock().get(&id).cloned());
                if let Some(place) = place {
                    // A caller that has left meanwhile needs it no more.
                    let _ = place.send(message);
                }
            }
        });
        let task = AbortOnDropHandle::new(task);
        Ok(Self { inbox, subject, next: AtomicU64::new(0), waiting, _task: task })
    }

    /// Where all replies come in.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// A new place.
    pub fn place(&self) -> Place {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, replies) = mpsc::unbounded_channel();
        self.waiting.lock().insert(id, sender);
        let subject = format!("{}.{id}", self.inbox).into();
        Place { subject, id, waiting: self.waiting.clone(), replies }
    }
}

impl Place {
    /// The next reply; it waits for ever.
    pub async fn reply(&mut self) -> Message {
        match self.replies.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.id);
    }
}

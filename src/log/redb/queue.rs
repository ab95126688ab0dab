//! What waits for the committer.

use crate::log::{
    AppendError, NodeId, Partition, Seq,
    numbered::{Message, Post},
};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// Bytes below which a transaction takes another call up.
const TRANSACTION_BYTES: usize = 16 << 20;

/// The last place that a call took.
pub type Outcome = Result<Seq, AppendError>;

/// Something to do, and who waits for it.
#[derive(Debug)]
pub struct Job {
    pub action: Action,
    pub reply: oneshot::Sender<Outcome>,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Make a node the writer of a partition.
    Claim(Partition, NodeId),
    /// What a writer calls.
    Call(Message),
    /// Give space back to the system.
    Compact,
}

impl Action {
    /// Bytes that are handed over.
    pub fn bytes(&self) -> usize {
        if let Self::Call(message) = self { message.content.bytes() } else { 0 }
    }

    /// How many entries it makes.
    pub fn entries(&self) -> usize {
        match self {
            Self::Call(Message { content: Post::Snapshots(them), .. }) => them.len(),
            Self::Call(Message { content: Post::Trim(_), .. }) | Self::Compact => 0,
            Self::Claim(..) | Self::Call(_) => 1,
        }
    }
}

/// What waits to be done. There are at most as many jobs as there are callers: each waits for its
/// answer.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    /// Adds a job. One that comes too late is dropped, and with it the way to the caller that waits.
    pub fn add(&self, job: Job) {
        let mut waiting = self.waiting.lock();
        if !waiting.closed {
            waiting.jobs.push_back(job);
            self.ready.notify_one();
        }
    }

    /// Nothing more is taken. What waits is still done.
    pub fn close(&self) {
        self.waiting.lock().closed = true;
        self.ready.notify_one();
    }

    /// Waits for the jobs of one transaction; none = there will not be any more.
    pub fn take(&self) -> Option<Vec<Job>> {
        let mut waiting = self.waiting.lock();
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return None;
            }
            self.ready.wait(&mut waiting);
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        while bytes < TRANSACTION_BYTES
            && let Some(job) = waiting.jobs.pop_front()
        {
            bytes += job.action.bytes();
            taken.push(job);
        }
        Some(taken)
    }
}

//! The writer of a partition that says what is stored to the right to answer.

use super::Right;
use crate::log::{AppendError, Dated, Numbered, Seq, Snapshot, Writer};
use bytes::Bytes;
use std::sync::Arc;

/// A writer: whatever it stores extends the right, and it ends when another node has claimed.
#[derive(Debug)]
pub struct Fenced<P> {
    writer: Numbered<P>,
    right: Arc<Right>,
}

impl<P: Dated> Fenced<P> {
    /// The writer of a claim, with the right that began with it.
    pub fn new(writer: Numbered<P>, right: Arc<Right>) -> Self {
        Self { writer, right }
    }

    fn told<T>(&self, outcome: Result<T, AppendError>) -> Result<T, AppendError> {
        match &outcome {
            Ok(_) => self.right.extend(self.writer.last_sent()),
            Err(AppendError::Deposed) => self.right.end(),
            Err(_) => {}
        }
        outcome
    }
}

impl<P: Dated> Writer for Fenced<P> {
    fn term(&self) -> Seq {
        self.writer.term()
    }

    async fn append(&mut self, batch: Bytes) -> Result<Seq, AppendError> {
        let outcome = self.writer.append(batch).await;
        self.told(outcome)
    }

    async fn append_from_reserve(&mut self, batch: Bytes) -> Result<Seq, AppendError> {
        let outcome = self.writer.append_from_reserve(batch).await;
        self.told(outcome)
    }

    fn room(&self) -> u64 {
        self.writer.room()
    }

    async fn snapshot(&mut self, snapshots: Vec<Snapshot>) -> Result<Seq, AppendError> {
        let outcome = self.writer.snapshot(snapshots).await;
        self.told(outcome)
    }

    async fn trim(&mut self, below: Seq) -> Result<(), AppendError> {
        let outcome = self.writer.trim(below).await;
        self.told(outcome)
    }

    async fn settle(&mut self) -> Result<Option<Seq>, AppendError> {
        let outcome = self.writer.settle().await;
        self.told(outcome)
    }

    /// A node that claims after it answers at once: this node must not.
    async fn release(self) -> Result<(), AppendError> {
        self.right.end();
        self.writer.release().await
    }
}

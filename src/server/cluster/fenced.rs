//! The writer of a partition that says what is stored to the right to answer.

use super::Tenure;
use crate::log::{AppendError, Numbered, Seq, Snapshot, Writer, jetstream::JetStreamPort};
use bytes::Bytes;
use std::sync::Arc;

/// A writer: whatever it stores extends the tenure.
#[derive(Debug)]
pub struct Fenced {
    writer: Numbered<JetStreamPort>,
    tenure: Arc<Tenure>,
}

impl Fenced {
    /// The writer of a claim, with the tenure that began with it.
    pub fn new(writer: Numbered<JetStreamPort>, tenure: Arc<Tenure>) -> Self {
        Self { writer, tenure }
    }

    fn told<T>(&self, outcome: Result<T, AppendError>) -> Result<T, AppendError> {
        match &outcome {
            Ok(_) => self.tenure.right().extend(self.writer.last_sent()),
            Err(AppendError::Deposed) => self.tenure.end(),
            Err(_) => {}
        }
        outcome
    }
}

impl Writer for Fenced {
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

    /// Whoever claims after it answers at once: this node must not.
    async fn release(self) -> Result<(), AppendError> {
        self.tenure.end();
        self.writer.release().await
    }
}

//! What a keeper of object streams does, as simply as can be: batches in order, and of each subject the
//! last snapshot, which covers the batches before it.

use sessiond::{
    object_stream::record::Change,
    record::{Entries, Entry, Subject, put},
};
use std::collections::BTreeMap;

#[derive(Debug, Default, Clone)]
pub struct Log {
    pub batches: Vec<Vec<u8>>,
    /// By the key of a subject: how many batches there were, and the state.
    pub snapshots: BTreeMap<Vec<u8>, (usize, Vec<u8>)>,
}

impl Log {
    pub fn append(&mut self, changes: Vec<Change>) {
        self.batches.push(bytes(changes));
    }

    pub fn snapshot(&mut self, subject: Subject, changes: Vec<Change>) {
        self.snapshots.insert(subject.key(), (self.batches.len(), bytes(changes)));
    }

    /// All that is there, subject by subject.
    pub fn changes(&self) -> Vec<Change> {
        let mut subjects: BTreeMap<Vec<u8>, Vec<Change>> = BTreeMap::new();
        for (key, (_, state)) in &self.snapshots {
            subjects.insert(key.clone(), changes(state));
        }
        for (at, batch) in self.batches.iter().enumerate() {
            for change in changes(batch) {
                let key = Subject::of(&Entry::Streams(change.clone())).key();
                if self.snapshots.get(&key).is_none_or(|(before, _)| *before <= at) {
                    subjects.entry(key).or_default().push(change);
                }
            }
        }
        subjects.into_values().flatten().collect()
    }
}

fn bytes(changes: Vec<Change>) -> Vec<u8> {
    let mut bytes = Vec::new();
    changes.into_iter().for_each(|change| put(&mut bytes, &Entry::Streams(change)));
    bytes
}

fn changes(bytes: &[u8]) -> Vec<Change> {
    let change = |entry| match entry {
        Ok(Entry::Streams(change)) => change,
        other => panic!("{other:?}"),
    };
    Entries::of(bytes).map(change).collect()
}

//! Which entries of a log are still needed: those that no snapshot covers.

use crate::{log::Seq, record::Subject};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// What of a log no snapshot covers, and how much it is.
#[derive(Debug, Default)]
pub struct Cover {
    /// Where the first batch is that tells something of a subject which its snapshot does not.
    first: HashMap<Subject, Seq>,
    /// The same the other way round.
    needed: BTreeMap<Seq, BTreeSet<Subject>>,
    /// The batches that are there, with their bytes.
    batches: VecDeque<(Seq, usize)>,
    bytes: usize,
}

impl Cover {
    /// A batch is there.
    pub fn batch_stored(&mut self, seq: Seq, bytes: usize) {
        self.batches.push_back((seq, bytes));
        self.bytes += bytes;
    }

    /// A batch is there that holds a whole subject. Its bytes do not count: it is needed as a snapshot
    /// is, and storing the subject again would only put another one in its place.
    pub fn large_stored(&mut self, seq: Seq) {
        self.batch_stored(seq, 0);
    }

    /// A batch tells something of a subject.
    pub fn needs(&mut self, subject: Subject, seq: Seq) {
        if !self.first.contains_key(&subject) {
            self.needed.entry(seq).or_default().insert(subject.clone());
            self.first.insert(subject, seq);
        }
    }

    /// Nothing that was stored before of a subject is needed any more.
    pub fn covered(&mut self, subject: &Subject) {
        let Some(seq) = self.first.remove(subject) else { return };
        if let Some(subjects) = self.needed.get_mut(&seq) {
            subjects.remove(subject);
            if subjects.is_empty() {
                self.needed.remove(&seq);
            }
        }
    }

    /// The subjects that have gone without a snapshot for longest, so many at most.
    pub fn oldest(&self, most: usize) -> Vec<Subject> {
        self.needed.values().flatten().take(most).cloned().collect()
    }

    /// Bytes of the batches that are there.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets the batches that are not needed, but for the last, and returns where those begin that
    /// are left. None = nothing was forgotten.
    pub fn trim(&mut self) -> Option<Seq> {
        let needed = self.needed.first_key_value().map(|(seq, _)| *seq);
        let mut is_less = false;
        while self.batches.len() > 1
            && let Some(&(seq, bytes)) = self.batches.front()
            && needed.is_none_or(|needed| seq < needed)
        {
            self.batches.pop_front();
            self.bytes -= bytes;
            is_less = true;
        }
        let first = self.batches.front().map(|(seq, _)| *seq);
        first.filter(|_| is_less)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::ids::{AppId, UserId};

    fn user(id: &str) -> Subject {
        Subject::User(AppId::new("app").unwrap(), UserId::new(id).unwrap())
    }

    #[test]
    fn batches_go_when_each_subject_that_they_tell_of_is_covered() {
        let mut cover = Cover::default();
        for (seq, id) in [(1, "ada"), (2, "ben"), (3, "ada"), (4, "cat")] {
            cover.batch_stored(Seq(seq), 10);
            cover.needs(user(id), Seq(seq));
        }
        assert_eq!(cover.trim(), None);
        assert_eq!(cover.oldest(2), [user("ada"), user("ben")]);
        cover.covered(&user("ben"));
        assert_eq!(cover.trim(), None, "the first tells of another");
        cover.covered(&user("ada"));
        assert_eq!((cover.trim(), cover.bytes()), (Some(Seq(4)), 10));
        cover.needs(user("ada"), Seq(5));
        cover.batch_stored(Seq(5), 7);
        cover.covered(&user("cat"));
        assert_eq!((cover.trim(), cover.bytes()), (Some(Seq(5)), 7));
    }
}

//! About whom something changed that no frame tells: a role, a ban, a seat, how a user is connected.

use super::{
    growth::Growth,
    ids::UserId,
    seldom::{Seldom, empty},
};
use std::collections::{BTreeSet, VecDeque};

/// The latest notes, oldest first, each with a number of its own, counted from 1.
#[derive(Debug)]
pub(super) struct Notes {
    latest: Seldom<VecDeque<UserId>>,
    /// How many of them are kept.
    most: usize,
    /// The number of the last note.
    count: u64,
}

empty!(VecDeque<UserId>);

impl Notes {
    /// Those that come after the one with this number; `most` of them are kept.
    pub fn after(count: u64, most: usize) -> Self {
        Self { latest: Seldom::NONE, most, count }
    }

    /// The number of the last note.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Something changed about a user.
    pub fn add(&mut self, user: &UserId) {
        self.latest.grow();
        self.latest.push_back(user.clone());
        if self.latest.len() > self.most {
            self.latest.pop_front();
        }
        self.count += 1;
    }

    /// The users of all notes after this number; none = that is not known any more.
    pub fn since(&self, number: u64) -> Option<BTreeSet<UserId>> {
        let news = usize::try_from(self.count.checked_sub(number)?).ok()?;
        let known = self.latest.len().checked_sub(news)?;
        Some(self.latest.range(known..).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_more_than_is_noted_is_told_so() {
        let mut notes = Notes::after(7, 3);
        assert_eq!(notes.since(7), Some(BTreeSet::new()));
        assert_eq!((notes.since(6), notes.since(8)), (None, None));
        let user = |n: usize| UserId::new(&n.to_string()).unwrap();
        (0..4).for_each(|n| notes.add(&user(n)));
        assert_eq!(notes.since(7), None);
        assert_eq!(notes.since(8).map(|users| users.len()), Some(3));
        assert_eq!(notes.since(notes.count() - 1), Some([user(3)].into()));
    }
}

//! What happened to sessions, for an audience: of each session the last thing, in order.
//!
//! A reader is a place: it has seen the entries up to there. What happened to a session twice since is
//! sent once, as the session is then. So nothing waits for anybody, and a log has an entry for each
//! session that changed and is there, and for so many of those that are gone.
//!
//! An entry moves to the end when something else happens to its session. So a reader that has seen a
//! part knows some sessions as they were when it had seen everything last, and others as they were when
//! it saw their entries.

use crate::{
    engine::filter::{Allowance, Filter, Outline},
    session::ids::SessionId,
};
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

/// How many sessions that are gone a log remembers.
pub const GONE: usize = 16 * 1024;

/// The log of one audience.
#[derive(Debug)]
pub struct Log {
    entries: BTreeMap<u64, Entry>,
    /// The entry of each session.
    by_id: FxHashMap<SessionId, u64>,
    /// The entries of those that are gone.
    gone: BTreeSet<u64>,
    /// The number of the last entry.
    last: u64,
    /// A reader that has seen less misses something.
    horizon: u64,
}

/// How much a reader has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// How much there was when it had seen everything last.
    pub all: u64,
    /// It has seen the entries up to here.
    pub entries: u64,
    /// It got nothing that happened after this: not less than `entries`.
    pub told: u64,
}

impl Seen {
    /// Everything up to a number.
    pub fn up_to(number: u64) -> Self {
        Self { all: number, entries: number, told: number }
    }

    /// The entries up to a number are seen, too.
    pub fn goes_to(&mut self, number: u64) {
        self.entries = number;
        self.told = self.told.max(number);
    }
}

/// What happened to a session last.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Which session.
    pub id: SessionId,
    /// When it came to be there; 0 = it was there before the log.
    born: u64,
    /// What it was before, since this number; none = it was not there.
    was: Option<Outline>,
    was_from: u64,
}

/// Whether a reader knows of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Knows {
    /// It does not.
    No,
    /// It may.
    Perhaps,
    /// It does.
    Yes,
}

impl Entry {
    /// Whether a reader who has not seen this and asks for what the filter chooses knows of the session.
    pub fn is_known(
        &self,
        seen: Seen,
        filter: Option<&Filter>,
        allowance: &mut Allowance,
    ) -> Knows {
        if seen.told < self.born {
            return Knows::No;
        }
        if seen.all < self.was_from {
            return Knows::Perhaps;
        }
        let chosen = |was| filter.is_none_or(|filter| filter.chooses(was, allowance));
        if self.was.as_ref().is_some_and(chosen) { Knows::Yes } else { Knows::No }
    }
}

impl Log {
    /// A log that begins. No later one has a number that an earlier one had, if it is begun later by
    /// this number.
    pub fn new(begin: u64) -> Self {
        Self {
            entries: BTreeMap::new(),
            by_id: FxHashMap::default(),
            gone: BTreeSet::new(),
            last: begin,
            horizon: begin,
        }
    }

    /// How much there is to see.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether a reader that has seen so much can go on.
    pub fn reaches(&self, seen: u64) -> bool {
        self.horizon <= seen
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Something happened to a session. `was` is what it was before; none = it was not there.
    pub fn note(&mut self, id: &SessionId, was: Option<Outline>, is_there: bool) {
        self.last += 1;
        let number = self.last;
        let before = self.by_id.insert(id.clone(), number);
        let entry = before.and_then(|before| {
            self.gone.remove(&before);
            self.entries.remove(&before)
        });
        let born = match (entry, &was) {
            (Some(entry), _) => entry.born,
            (None, None) => number,
            (None, Some(_)) => 0,
        };
        let was_from = before.unwrap_or_default();
        self.entries.insert(number, Entry { id: id.clone(), born, was, was_from });
        if !is_there {
            self.gone.insert(number);
            self.forget();
        }
    }

    fn forget(&mut self) {
        while self.gone.len() > GONE
            && let Some(oldest) = self.gone.pop_first()
        {
            self.horizon = oldest;
            if let Some(entry) = self.entries.remove(&oldest) {
                self.by_id.remove(&entry.id);
            }
        }
    }

    /// What happened since a reader has seen so much, in order.
    pub fn since(&self, seen: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let later = (Bound::Excluded(seen), Bound::Unbounded);
        self.entries.range(later).map(|(number, entry)| (*number, entry))
    }

    /// The same of one session.
    pub fn of(&self, id: &SessionId, seen: u64) -> Option<&Entry> {
        let number = self.by_id.get(id).filter(|number| **number > seen)?;
        self.entries.get(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{engine, room, settings};
    use Knows::{No, Perhaps, Yes};

    const BEGIN: u64 = 100;

    fn id(id: &str) -> SessionId {
        SessionId::new(id).expect("an id")
    }

    fn outline(locked: bool) -> Outline {
        let engine = engine(settings());
        let live = room(&engine, "a", |settings| settings.locked = locked);
        let state = live.lock();
        Outline::shown(&state.core)
    }

    fn known(log: &Log, name: &str, seen: u64) -> Knows {
        let filter = Filter::new("!locked").expect("it is fine");
        let entry = log.of(&id(name), seen).expect("something happened");
        entry.is_known(Seen::up_to(seen), Some(&filter), &mut Allowance::default())
    }

    #[test]
    fn of_each_session_the_last_thing_is_told_in_order() {
        let mut log = Log::new(BEGIN);
        for name in ["a", "b", "a", "c", "b"] {
            log.note(&id(name), Some(outline(false)), true);
        }
        let since = |seen| log.since(seen).map(|(_, it)| it.id.to_string()).collect::<Vec<_>>();
        assert_eq!(since(BEGIN), ["a", "c", "b"]);
        assert_eq!(since(BEGIN + 3), ["c", "b"]);
        assert!(since(log.last()).is_empty());
    }

    #[test]
    fn a_log_says_who_knows_of_a_session() {
        let mut log = Log::new(BEGIN);
        log.note(&id("old"), Some(outline(false)), true);
        assert_eq!(known(&log, "old", BEGIN), Yes);
        log.note(&id("old"), Some(outline(true)), true);
        assert_eq!(known(&log, "old", BEGIN), Perhaps, "it changed twice");
        assert_eq!(known(&log, "old", BEGIN + 1), No, "it was locked");
        log.note(&id("new"), None, true);
        assert_eq!(known(&log, "new", BEGIN + 2), No);
        log.note(&id("new"), Some(outline(false)), false);
        assert_eq!(known(&log, "new", BEGIN + 2), No, "it came and went");
        assert_eq!(known(&log, "new", BEGIN + 3), Yes);
        log.note(&id("new"), None, true);
        assert_eq!(known(&log, "new", BEGIN + 2), No);
        assert_eq!(known(&log, "new", BEGIN + 3), Perhaps);
        assert_eq!(known(&log, "new", BEGIN + 4), No);
    }

    #[test]
    fn who_has_seen_a_part_may_know_what_was_told_in_it_and_misses_what_moved_on() {
        let mut log = Log::new(BEGIN);
        log.note(&id("a"), Some(outline(false)), false);
        log.note(&id("b"), None, true);
        log.note(&id("c"), None, true);
        let known = |log: &Log, name: &str, seen: Seen| {
            let entry = log.of(&id(name), seen.entries).expect("something happened");
            entry.is_known(seen, None, &mut Allowance::default())
        };
        let mut part = Seen::up_to(BEGIN);
        part.goes_to(BEGIN + 2);
        assert_eq!(known(&log, "c", part), No);
        log.note(&id("b"), Some(outline(false)), false);
        assert_eq!(known(&log, "b", part), Perhaps, "it was told when it came");
        log.note(&id("a"), None, true);
        assert_eq!(known(&log, "a", part), Perhaps, "that it went may not have been told");
    }

    #[test]
    fn so_many_sessions_that_are_gone_are_remembered_and_who_has_seen_less_begins_again() {
        let mut log = Log::new(BEGIN);
        log.note(&id("stays"), Some(outline(false)), true);
        for at in 0..=GONE {
            let name = id(&at.to_string());
            log.note(&name, None, true);
            log.note(&name, Some(outline(false)), false);
        }
        assert_eq!(log.len(), GONE + 1);
        assert!(!log.reaches(BEGIN + 2) && log.reaches(BEGIN + 3));
        assert_eq!(log.since(BEGIN).next().map(|(number, _)| number), Some(BEGIN + 1));
    }
}

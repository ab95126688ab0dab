//! What waits because its user writes faster than it may: plain writes, merged key by key into one
//! for each target, so that the last value of a key is never lost.
//!
//! Merging does what the writes would do one after the other. So a write is merged only into one
//! for the very same sessions, only where nothing that waits behind that one writes the same keys
//! there, and only if every session would take both in one; or else it waits by itself. What was
//! merged and is refused at last is taken apart again, so that nothing is lost with it.

use crate::{
    grpc::convert::door::PropsWrite,
    session::{
        command::Write,
        ids::{Key, SessionId},
        limits::Limits,
        member::Stay,
        merge::Patch,
        size,
        value::Value,
    },
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// The most bytes that wait on a stream: those of the merged writes.
const MOST: usize = 64 * 1024;

/// Bytes that a key or a session counts for beside what it is made of.
const OVERHEAD: usize = 16;

/// The writes of a stream that wait, in the order in which they go.
#[derive(Debug, Default)]
pub struct Backlog {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

/// Messages of a client that are dealt with together, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Messages {
    /// The last one before them.
    pub after: u64,
    /// The last of them.
    pub last: u64,
}

/// Writes for the same sessions, merged into one.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Which.
    pub messages: Messages,
    /// Where; none = on the user.
    pub places: Arc<[Place]>,
    /// What happens to each key, and which message says so.
    changes: BTreeMap<Key, (u64, Change)>,
}

/// Where a write goes that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The session.
    pub session: SessionId,
    /// The stay of the user there when it was made; what comes in another one is not the write that
    /// was asked for.
    pub stay: Option<Stay>,
}

/// What happens to a key.
#[derive(Debug, Clone, PartialEq)]
enum Change {
    /// It is this from then on.
    Put(Value),
    /// This map is merged into what is there.
    Merge(Value),
    Remove,
}

impl PropsWrite {
    /// Whether it may be merged with others: it has no condition, and nobody asks for its own result.
    pub fn is_plain(&self) -> bool {
        let is_conditional = !self.write.if_revision.is_empty() || self.term != 0;
        // What is to be stored does not wait, so that its ack says that it is.
        let is_free = self.once.0.is_none() && !self.durable;
        // What was judged is to be made now, on what it was judged by.
        !is_conditional && is_free && self.judgements.is_empty()
    }
}

impl Backlog {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The last message before all that waits.
    pub fn after(&self) -> Option<u64> {
        self.waiting.front().map(|waiting| waiting.messages.after)
    }

    /// Adds a plain write for these places. `takes` says whether all of them would take a write as
    /// things stand. False = too much waits already.
    pub fn add(
        &mut self,
        messages: Messages,
        write: Write,
        mut places: Vec<Place>,
        limits: &Limits,
        takes: impl FnOnce(&Write) -> bool,
    ) -> bool {
        places.sort_unstable_by(|a, b| a.session.cmp(&b.session));
        let changes = changes(write, messages.last);
        let new = Waiting { messages, places: places.into(), changes };
        let place = self.place(&new);
        let both = place.and_then(|at| self.waiting[at].clone().then(&new, limits));
        if let (Some(at), Some(both)) = (place, both)
            && takes(&both.write())
        {
            let bytes = self.bytes - self.waiting[at].bytes() + both.bytes();
            let fits = bytes <= MOST;
            if fits {
                (self.waiting[at], self.bytes) = (both, bytes);
            }
            return fits;
        }
        let bytes = self.bytes + new.bytes();
        let fits = bytes <= MOST;
        if fits {
            self.waiting.push_back(new);
            self.bytes = bytes;
        }
        fits
    }

    /// What goes next.
    pub fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.bytes -= waiting.bytes();
        Some(waiting)
    }

    /// Has what was merged wait for these places again, as the messages said it one after the other,
    /// before all else; false = it is of one message.
    pub fn take_apart(&mut self, waiting: &Waiting, places: Arc<[Place]>) -> bool {
        let mut parts = BTreeMap::<u64, BTreeMap<_, _>>::new();
        for (key, (seq, change)) in &waiting.changes {
            parts.entry(*seq).or_default().insert(key.clone(), (*seq, change.clone()));
        }
        let is_merged = parts.len() > 1;
        if is_merged {
            for (last, changes) in parts.into_iter().rev() {
                // Others of the messages between them may still wait behind.
                let messages = Messages { last, ..waiting.messages };
                let part = Waiting { messages, places: places.clone(), changes };
                self.bytes += part.bytes();
                self.waiting.push_front(part);
            }
        }
        is_merged
    }

    /// Where a write may be merged in: the last one for the same sessions, unless one behind it has
    /// something in common with both.
    fn place(&self, new: &Waiting) -> Option<usize> {
        for (at, waiting) in self.waiting.iter().enumerate().rev() {
            if waiting.places == new.places {
                return Some(at);
            }
            if waiting.meets(new) {
                return None;
            }
        }
        None
    }
}

impl Waiting {
    /// What it does, as one write.
    pub fn write(&self) -> Write {
        let mut write = Write::default();
        for (key, (_, change)) in &self.changes {
            match change {
                Change::Put(value) => write.set.push((key.clone(), value.clone())),
                Change::Merge(value) => {
                    write.set.push((key.clone(), value.clone()));
                    write.merge_maps = true;
                }
                Change::Remove => write.remove.push(key.clone()),
            }
        }
        write
    }

    /// Both in one, this first; none if one write cannot do that.
    fn then(mut self, later: &Self, limits: &Limits) -> Option<Self> {
        self.messages.last = later.messages.last;
        for (key, (seq, later)) in &later.changes {
            let both = match self.changes.remove(key) {
                Some((_, change)) => change.then(later.clone())?,
                None => later.clone(),
            };
            if both.value().is_some_and(|value| size::of(value) > limits.value_bytes) {
                return None;
            }
            self.changes.insert(key.clone(), (*seq, both));
        }
        let mut changes = self.changes.values().map(|(_, change)| change);
        let merges = changes.clone().any(|it| matches!(it, Change::Merge(_)));
        let replaces = changes.any(|it| matches!(it, Change::Put(Value::Map(_))));
        let fits = self.changes.len() <= limits.props_per_user && !(merges && replaces);
        fits.then_some(self)
    }

    /// Whether both write a key in a session, as far as is known: what is written on the user may go
    /// to all of them.
    fn meets(&self, other: &Self) -> bool {
        let (here, there) = (&self.places, &other.places);
        let is_there = |place: &Place| there.iter().any(|it| it.session == place.session);
        let shares_session = here.is_empty() || there.is_empty() || here.iter().any(is_there);
        shares_session && other.changes.keys().any(|key| self.changes.contains_key(key))
    }

    fn bytes(&self) -> usize {
        let ids: usize = self.places.iter().map(|it| it.session.len() + OVERHEAD).sum();
        let change = |(key, (_, change)): (&Key, &(u64, Change))| {
            key.len() + change.value().map_or(0, size::of) + OVERHEAD
        };
        ids + self.changes.iter().map(change).sum::<usize>() + OVERHEAD
    }
}

fn changes(write: Write, seq: u64) -> BTreeMap<Key, (u64, Change)> {
    let merges = write.merge_maps;
    let set = write.set.into_iter().map(|(key, value)| match value {
        Value::Map(_) if merges => (key, Change::Merge(value)),
        value => (key, Change::Put(value)),
    });
    let removed = write.remove.into_iter().map(|key| (key, Change::Remove));
    set.chain(removed).map(|(key, change)| (key, (seq, change))).collect()
}

impl Change {
    fn value(&self) -> Option<&Value> {
        match self {
            Self::Put(value) | Self::Merge(value) => Some(value),
            Self::Remove => None,
        }
    }

    /// Both in one, this first; none if there is no such change.
    fn then(self, later: Self) -> Option<Self> {
        let Self::Merge(new) = later else { return Some(later) };
        match self {
            Self::Put(there) => merged(&there, &new).map(Self::Put),
            // Where a session has a default for the key, it is merged into that.
            Self::Remove => None,
            Self::Merge(there) => {
                if replaces(&there, &new) {
                    return None;
                }
                merged(&there, &new).map(Self::Merge)
            }
        }
    }
}

/// What a map makes of a value that it is merged into.
fn merged(there: &Value, new: &Value) -> Option<Value> {
    Patch::set(new, true).apply(Some(there))
}

/// Whether a map puts a map somewhere in place of something else: merged into a third map, both in
/// one would keep there what one after the other would not.
fn replaces(there: &Value, new: &Value) -> bool {
    match (there, new) {
        (Value::Map(there), Value::Map(new)) => new.iter().any(|(key, new)| {
            let there = there.iter().find(|(known, _)| known == key);
            there.is_some_and(|(_, there)| replaces(there, new))
        }),
        (_, Value::Map(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is set: on the user, and in each session.
    type State = BTreeMap<(String, Key), Value>;

    const SESSIONS: [&str; 2] = ["a", "b"];

    fn message(seq: u64) -> Messages {
        Messages { after: seq - 1, last: seq }
    }

    /// What a write does: on the user = there and in all sessions.
    fn apply(state: &mut State, places: &[Place], write: &Write) {
        let everywhere = ["", "a", "b"].map(str::to_owned);
        let named: Vec<String> = places.iter().map(|it| it.session.to_string()).collect();
        for place in if named.is_empty() { &everywhere[..] } else { &named } {
            for (key, patch) in write.patches(|_| None) {
                let slot = (place.clone(), key.clone());
                match patch.apply(state.get(&slot)) {
                    Some(value) => drop(state.insert(slot, value)),
                    None => drop(state.remove(&slot)),
                }
            }
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let scalar = (0i64..9).prop_map(Value::Integer);
        scalar.prop_recursive(3, 12, 3, |inner| {
            prop::collection::btree_map("[a-b]", inner, 0..3).prop_map(|entries| {
                Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
            })
        })
    }

    fn write() -> impl Strategy<Value = (Write, Vec<Place>)> {
        let changes = prop::collection::btree_map("[x-z]", prop::option::of(value()), 1..3);
        let sessions = prop::sample::subsequence(&SESSIONS[..], 0..=2);
        (changes, sessions, any::<bool>()).prop_map(|(changes, sessions, merge_maps)| {
            let mut write = Write { merge_maps, ..Write::default() };
            for (key, value) in changes {
                match value {
                    Some(value) => write.set.push((key.as_str().into(), value)),
                    None => write.remove.push(key.as_str().into()),
                }
            }
            (write, places(&sessions))
        })
    }

    proptest! {
        #[test]
        fn what_was_merged_does_what_all_do_one_after_the_other(
            before in write(),
            writes in prop::collection::vec(write(), 1..12),
            takes in any::<u16>(),
            apart in any::<u16>(),
        ) {
            let mut one_by_one = State::new();
            apply(&mut one_by_one, &before.1, &before.0);
            let mut at_once = one_by_one.clone();
            let mut backlog = Backlog::default();
            for (seq, (write, places)) in (1..).zip(writes) {
                apply(&mut one_by_one, &places, &write);
                let takes = takes & (1 << seq) != 0;
                assert!(backlog.add(message(seq), write, places, &Limits::default(), |_| takes));
            }
            let mut after = 0;
            while let Some(waiting) = backlog.pop() {
                let is_apart = apart & (1 << waiting.messages.last) != 0;
                if is_apart && backlog.take_apart(&waiting, waiting.places.clone()) {
                    continue;
                }
                let messages = waiting.messages;
                prop_assert!(after <= messages.after && messages.after < messages.last);
                after = messages.after;
                apply(&mut at_once, &waiting.places, &waiting.write());
            }
            prop_assert_eq!(at_once, one_by_one);
            prop_assert_eq!(backlog.bytes, 0);
        }
    }

    fn places(sessions: &[&str]) -> Vec<Place> {
        let place = |id: &&str| Place { session: SessionId::new(id).expect("an id"), stay: None };
        sessions.iter().map(place).collect()
    }

    #[test]
    fn there_is_one_for_each_target_and_each_key_once() {
        let mut backlog = Backlog::default();
        let limits = Limits::default();
        for n in 0..10_000 {
            let key = ["x", "y"][n as usize % 2];
            for sessions in [&["a"][..], &["b"], &["a", "b"], &["b", "a"]] {
                // Another key in those that lie over the others.
                let key = if sessions.len() > 1 { "z" } else { key };
                let write = Write::of(vec![(key.into(), Value::Integer(n))]);
                assert!(backlog.add(message(1), write, places(sessions), &limits, |_| true));
            }
        }
        assert_eq!(backlog.waiting.len(), 3);
        assert!(backlog.bytes < 500);
    }

    #[test]
    fn what_is_merged_into_what_was_removed_waits_by_itself() {
        let mut backlog = Backlog::default();
        let merge = Write { merge_maps: true, ..Write::of(vec![("x".into(), map("a"))]) };
        let remove = Write { remove: vec!["x".into()], ..Write::default() };
        for write in [remove.clone(), merge.clone(), merge.clone()] {
            let limits = Limits::default();
            assert!(backlog.add(message(1), write, places(&["a"]), &limits, |_| true));
        }
        let waiting: Vec<Write> = backlog.waiting.iter().map(Waiting::write).collect();
        assert_eq!(waiting, [remove, merge], "the session may have a default in between");
    }

    #[test]
    fn what_is_taken_apart_says_nothing_of_what_waits_behind_it() {
        let mut backlog = Backlog::default();
        let writes = [("x", "a"), ("x", "b"), ("y", "a"), ("y", "b"), ("z", "a")];
        for (seq, (key, session)) in (1..).zip(writes) {
            let write = Write::of(vec![(key.into(), Value::Null)]);
            let limits = Limits::default();
            assert!(backlog.add(message(seq), write, places(&[session]), &limits, |_| true));
        }
        let first = backlog.pop().expect("one for each session waits");
        assert!(backlog.take_apart(&first, first.places.clone()));
        let order = backlog.waiting.iter().map(|it| (it.messages.after, it.messages.last));
        assert_eq!(order.collect::<Vec<_>>(), [(0, 1), (0, 3), (0, 5), (1, 4)]);
        let one = backlog.waiting[0].clone();
        assert!(!backlog.take_apart(&one, one.places.clone()), "it is of one message");
    }

    fn map(key: &str) -> Value {
        Value::Map([(key.into(), Value::Null)].into())
    }

    #[test]
    fn at_most_64_kib_wait() {
        let mut backlog = Backlog::default();
        let limits = Limits::default();
        let text = |len: usize| Value::Text("x".repeat(len).into());
        let mut add = |key: &str, len| {
            let write = Write::of(vec![(key.into(), text(len))]);
            backlog.add(message(1), write, places(&["a"]), &limits, |_| true)
        };
        assert!(["k", "l", "m", "n"].iter().all(|key| add(key, 16_000)));
        assert!(!add("o", 2_000) && !add("k", 18_000));
        assert!(add("k", 8_000) && add("o", 2_000), "a smaller value makes room");
    }
}

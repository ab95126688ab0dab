//! One stream: its object, key by key, and how each key is read.

use super::error::Refusal;
use super::{
    Functions, KEYS, Lasts,
    function::Function,
    leaf::{ARRAY_BYTES, ARRAY_ELEMENTS, Leaf, Mode, elements, kind},
};
use crate::session::{
    command::Actor,
    error::Violation,
    ids::{Key, UserId},
    size,
    value::Value,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::Arc,
};

/// How many removed keys a stream remembers, so that readers can learn of them.
pub(super) const REMOVALS: usize = 256;

/// How a key is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Func {
    /// By one of the two modes.
    Mode(Mode),
    /// By a function of the app.
    Named(Key),
}

/// A stream as it is set.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The object: top-level keys, which hold no dots. Maps are taken apart.
    pub object: Vec<(Key, Value)>,
    /// The keys that are watched; none = all.
    pub keys: BTreeSet<Key>,
    /// How keys are read that are not read by [`Mode::AllLatest`].
    pub funcs: BTreeMap<Key, Func>,
    /// Who may read; none = everybody in the app.
    pub readers: BTreeSet<UserId>,
}

/// Who may read and who may write.
#[derive(Debug, PartialEq, Eq)]
pub struct Access {
    pub(super) creator: Actor,
    pub(super) readers: BTreeSet<UserId>,
}

impl Access {
    /// Who created the stream.
    pub fn creator(&self) -> &Actor {
        &self.creator
    }

    /// Whether somebody may read, which the creator and the app always may.
    pub fn reads(&self, actor: &Actor) -> bool {
        match actor {
            Actor::App => true,
            Actor::User(user) => {
                self.writes(actor) || self.is_of_all() || self.readers.contains(user.id())
            }
        }
    }

    /// Whether everybody may read.
    pub fn is_of_all(&self) -> bool {
        self.readers.is_empty()
    }

    /// The users who may read, where not everybody may.
    pub fn only(&self) -> impl Iterator<Item = &UserId> {
        let creator = self.creator.user().filter(|_| !self.is_of_all());
        self.readers.iter().chain(creator)
    }

    /// Whether somebody may write.
    pub fn writes(&self, actor: &Actor) -> bool {
        *actor == Actor::App || *actor == self.creator
    }
}

/// What is new in a stream.
#[derive(Debug, Default)]
pub struct Update {
    /// The reader drops what it had of the stream: this is the whole object.
    pub reset: bool,
    /// Keys that are gone; they go before the values come.
    pub removed: Vec<Key>,
    /// What is new.
    pub values: Vec<(Key, Value)>,
    /// Keys of `values` whose elements take the place of what the reader has of the array.
    pub restarted: Vec<Key>,
    /// What a function still has to say.
    pub calls: Vec<Call>,
    /// The stream is gone.
    pub ended: bool,
}

impl Update {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        let Self { reset, removed, values, restarted: _, calls, ended } = self;
        !reset && !ended && removed.is_empty() && values.is_empty() && calls.is_empty()
    }
}

/// A function and what it is to be called with: outside of any lock, for it takes its time.
#[derive(Debug)]
pub struct Call {
    /// The key whose value comes out.
    pub key: Key,
    /// The function.
    pub function: Arc<Function>,
    /// What the key holds.
    pub value: Value,
    /// What it held when the reader read it last; null if it never did, or so long ago that it is
    /// forgotten.
    pub last: Value,
}

/// Where in a stream a read is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The reader has everything up to this revision.
    pub after: u64,
    /// The read goes up to this one.
    pub to: u64,
    /// And has come to this key; empty = it begins.
    pub key: Key,
}

/// How much one read may hold.
#[derive(Debug)]
pub struct Room {
    left: usize,
    is_whole: bool,
}

impl Room {
    /// Room for so many bytes, or for one key that is larger.
    pub fn new(bytes: usize) -> Self {
        Self { left: bytes, is_whole: true }
    }

    /// Takes some of it for what goes before the keys of a stream; false = nothing is left.
    pub fn begin(&mut self, bytes: usize) -> bool {
        let is_left = self.left > 0 || self.is_whole;
        self.left = self.left.saturating_sub(bytes);
        is_left
    }

    /// Takes some of it; false = there is not enough.
    pub fn take(&mut self, bytes: usize) -> bool {
        if bytes > self.left && !self.is_whole {
            return false;
        }
        self.left = self.left.saturating_sub(bytes);
        self.is_whole = false;
        true
    }
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    /// Who may do what.
    pub access: Arc<Access>,
    /// The revision of its last change.
    pub changed: u64,
    /// Where the cursor is that all who bring none share.
    pub shared: Place,
    pub(super) keys: BTreeSet<Key>,
    pub(super) all: Func,
    pub(super) funcs: BTreeMap<Key, Func>,
    pub(super) leaves: BTreeMap<Key, Leaf>,
    pub(super) removed: VecDeque<(u64, Key)>,
    /// A reader that is behind this has to begin again: the stream was set then, or forgot what it removed.
    pub(super) whole_since: u64,
    /// When it was written last, except with its whole app; 0 = never.
    pub(super) recorded: u64,
}

impl Stream {
    /// A new stream.
    pub fn new(creator: Actor, set: Definition, revision: u64) -> Result<Self, Refusal> {
        let Definition { object, keys, funcs, readers } = set;
        let mut stream = Self {
            access: Arc::new(Access { creator, readers }),
            changed: revision,
            shared: Place::default(),
            keys,
            all: Func::Mode(Mode::AllLatest),
            funcs,
            leaves: BTreeMap::new(),
            removed: VecDeque::new(),
            whole_since: revision,
            recorded: 0,
        };
        let mut violations = Vec::new();
        for (key, _) in object.iter().filter(|(key, _)| key.contains('.')) {
            violations.push(Violation::new(
                format!("object[{key:?}]"),
                "must not contain a dot, which stands between a key and the key of a map in it",
            ));
        }
        if !violations.is_empty() {
            return Err(Refusal::Invalid(violations));
        }
        stream.update("object", object, Vec::new(), ARRAY_BYTES, revision)?;
        Ok(stream)
    }

    /// Sets keys and appends to arrays: all or nothing; false = nothing has changed. `field` is
    /// what the request calls the keys to set.
    pub fn update(
        &mut self,
        field: &str,
        set: Vec<(Key, Value)>,
        append: Vec<(Key, Value)>,
        array_bytes: usize,
        revision: u64,
    ) -> Result<bool, Refusal> {
        let plan = self.plan(field, set, append)?;
        let mut changed = false;
        for key in plan.remove {
            changed |= self.remove_leaf(&key, revision);
        }
        for (key, value) in plan.set {
            changed |= match self.leaves.get_mut(&key) {
                Some(leaf) => leaf.set(value, revision, array_bytes),
                None => self.leaves.insert(key, Leaf::new(value, revision)).is_none(),
            };
        }
        for (key, more) in plan.append {
            changed |= match self.leaves.get_mut(&key) {
                Some(leaf) => leaf.append(more, revision, array_bytes),
                None => self.leaves.insert(key, Leaf::new(more, revision)).is_none(),
            };
        }
        if changed {
            self.changed = revision;
        }
        Ok(changed)
    }

    /// Takes maps apart and names all that is wrong.
    fn plan(
        &self,
        field: &str,
        set: Vec<(Key, Value)>,
        append: Vec<(Key, Value)>,
    ) -> Result<Plan, Refusal> {
        let mut violations = Vec::new();
        let mut fault = |field: &str, key: &str, text: String| {
            violations.push(Violation::new(format!("{field}[{key:?}]"), text));
        };
        let named: BTreeSet<Key> = set.iter().map(|(key, _)| key.clone()).collect();
        let mut plan = Plan::default();
        for (key, value) in set {
            if let Some(text) = self.misplaced(&key) {
                fault(field, &key, text);
                continue;
            }
            if elements(&value).is_some_and(|count| count > ARRAY_ELEMENTS) {
                fault(field, &key, format!("has more than {ARRAY_ELEMENTS} elements"));
                continue;
            }
            let Some(outer) = outer(&key) else {
                plan.remove.extend(self.group(&key).cloned());
                match &value {
                    Value::Map(entries) if !entries.is_empty() => {
                        plan.remove.push(key.clone());
                        for (inner, value) in entries.iter() {
                            let path: Key = format!("{key}.{inner}").into();
                            plan.set.insert(path, value.clone());
                        }
                    }
                    _ => drop(plan.set.insert(key, value)),
                }
                continue;
            };
            if named.contains(outer) {
                fault(field, &key, format!("lies in {outer:?}, which is set as a whole"));
                continue;
            }
            plan.remove.push(outer.into());
            plan.set.insert(key, value);
        }
        for (key, more) in append {
            if let Some(text) = self.misplaced(&key) {
                fault("append", &key, text);
            } else if named.contains(&key) || outer(&key).is_some_and(|outer| named.contains(outer))
            {
                fault("append", &key, "is set in the same request".to_owned());
            } else if elements(&more).is_none() {
                fault("append", &key, format!("is {}, which is no array", kind(&more)));
            } else if elements(&more).is_some_and(|count| count > ARRAY_ELEMENTS) {
                fault("append", &key, format!("has more than {ARRAY_ELEMENTS} elements"));
            } else if self.group(&key).next().is_some() {
                fault("append", &key, "the key holds a map, which is no array".to_owned());
            } else if let Some(Err(text)) = self.leaves.get(&key).map(|leaf| leaf.appends(&more)) {
                fault("append", &key, text);
            } else {
                plan.remove.extend(outer(&key).map(Key::from));
                plan.append.insert(key, more);
            }
        }
        if !violations.is_empty() {
            violations.sort_by(|a, b| a.field.cmp(&b.field));
            return Err(Refusal::Invalid(violations));
        }
        plan.remove.retain(|key| !plan.set.contains_key(key) && self.leaves.contains_key(key));
        let writes = plan.set.keys().chain(plan.append.keys());
        let more = writes.filter(|key| !self.leaves.contains_key(*key)).count();
        let gone: BTreeSet<&Key> = plan.remove.iter().collect();
        if more > 0 && self.leaves.len() + more - gone.len() > KEYS {
            return Err(Refusal::LimitReached { limit: "object-stream-keys", most: KEYS });
        }
        Ok(plan)
    }

    /// Says why a key cannot be written, wherever it is.
    fn misplaced(&self, key: &str) -> Option<String> {
        let (outer, inner) = key.split_once('.')?;
        if outer.is_empty() || inner.is_empty() {
            return Some("needs a key on both sides of the dot".to_owned());
        }
        let leaf = self.leaves.get(outer).filter(|leaf| !leaf.is_empty_map())?;
        Some(format!("{outer:?} holds {}, which is no map", kind(&leaf.whole())))
    }

    /// The keys of the map that a top-level key holds.
    fn group(&self, key: &str) -> impl Iterator<Item = &Key> {
        let prefix: Key = format!("{key}.").into();
        let from = Bound::Included(prefix.clone());
        let keys = self.leaves.range((from, Bound::Unbounded)).map(|(key, _)| key);
        let is_top = !key.contains('.');
        keys.take_while(move |key| is_top && key.starts_with(&*prefix))
    }

    /// Removes a key, with what is in it, if it is there.
    pub fn remove(&mut self, key: &str, revision: u64) {
        let mut gone: Vec<Key> = self.group(key).cloned().collect();
        gone.extend(self.leaves.get_key_value(key).map(|(key, _)| key.clone()));
        for key in gone {
            self.remove_leaf(&key, revision);
            self.changed = revision;
        }
    }

    fn remove_leaf(&mut self, key: &str, revision: u64) -> bool {
        let Some((key, _)) = self.leaves.remove_entry(key) else { return false };
        if self.removed.len() == REMOVALS
            && let Some((forgotten, _)) = self.removed.pop_front()
        {
            self.whole_since = self.whole_since.max(forgotten);
        }
        self.removed.push_back((revision, key));
        true
    }

    /// Sets how one key is read, or all of them.
    pub fn set_func(&mut self, key: Option<Key>, func: Func) -> Result<(), Refusal> {
        let Some(key) = key else {
            self.funcs.clear();
            self.all = func;
            return Ok(());
        };
        if !self.funcs.contains_key(&key) && self.funcs.len() >= KEYS {
            return Err(Refusal::LimitReached { limit: "object-stream-keys", most: KEYS });
        }
        self.funcs.insert(key, func);
        Ok(())
    }

    fn func(&self, key: &str) -> &Func {
        let own = self.funcs.get(key);
        let of_map = || outer(key).and_then(|outer| self.funcs.get(outer));
        own.or_else(of_map).unwrap_or(&self.all)
    }

    fn watches(&self, key: &str) -> bool {
        self.keys.is_empty()
            || self.keys.contains(key)
            || outer(key).is_some_and(|outer| self.keys.contains(outer))
    }

    /// Whether there may be something new for those who share the cursor.
    pub fn has_moved(&self) -> bool {
        !self.shared.key.is_empty() || self.changed > self.shared.after
    }

    /// What is new for a reader at a place; with it, the last key that there was room for, if
    /// there was not room for all.
    pub fn read(
        &mut self,
        name: &Key,
        place: &Place,
        functions: &Functions,
        room: &mut Room,
        mut lasts: Option<&mut Lasts>,
    ) -> (Update, Option<Key>) {
        if self.whole_since > place.to {
            // It was set again after this read began: the next read begins it again.
            return (Update::default(), None);
        }
        let begins = place.key.is_empty();
        let is_behind = place.after < self.whole_since;
        let after = if is_behind { 0 } else { place.after };
        let mut update = Update { reset: is_behind && begins, ..Update::default() };
        if begins {
            let told = |(at, key): &&(u64, Key)| {
                *at > after && !self.leaves.contains_key(key) && self.watches(key)
            };
            let gone = self.removed.iter().filter(|_| !is_behind).filter(told);
            let gone: BTreeSet<Key> = gone.map(|(_, key)| key.clone()).collect();
            let bytes = gone.iter().map(|key| size::with_head(key.len())).sum::<usize>();
            if !room.begin(bytes + name.len() + 64) {
                return (Update::default(), Some(Key::default()));
            }
            if let Some(lasts) = &mut lasts {
                gone.iter().for_each(|key| drop(lasts.remove(&(name.clone(), key.clone()))));
            }
            update.removed = gone.into_iter().collect();
        }
        if let Some(lasts) = lasts.as_deref_mut().filter(|_| update.reset) {
            lasts.retain(|(stream, _), _| stream != name);
        }
        let mut done = place.key.clone();
        let from = Bound::Excluded(place.key.clone());
        let keys = self.leaves.range((from, Bound::Unbounded));
        let new: Vec<Key> = keys
            .filter(|(key, leaf)| leaf.changed() > after && self.watches(key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in new {
            let func = self.func(&key).clone();
            let Some(leaf) = self.leaves.get_mut(&key) else { continue };
            let head = 2 * key.len() + 32;
            let mode = match &func {
                Func::Mode(mode) => *mode,
                // A function that is gone would be a defect: such keys show what they hold.
                Func::Named(named) => match functions.get(named) {
                    None => Mode::AllLatest,
                    Some(known) => {
                        if !room.take(head + super::function::INPUT_BYTES) {
                            return (update, Some(done));
                        }
                        let value = leaf.whole();
                        let last = match &mut lasts {
                            Some(lasts) => lasts.insert((name.clone(), key.clone()), value.clone()),
                            None => {
                                let last = leaf.recall(place.after).cloned();
                                leaf.remember();
                                last
                            }
                        };
                        let last = last.unwrap_or(Value::Null);
                        let function = known.function.clone();
                        update.calls.push(Call { key: key.clone(), function, value, last });
                        done = key;
                        continue;
                    }
                },
            };
            if let Some(news) = leaf.news(after, place.to, mode) {
                if !room.take(head + size::of(&news.value)) {
                    return (update, Some(done));
                }
                if news.restarted {
                    update.restarted.push(key.clone());
                }
                update.values.push((key.clone(), news.value));
            }
            done = key;
        }
        (update, None)
    }
}

/// What an update comes down to, key by key.
#[derive(Debug, Default)]
struct Plan {
    remove: Vec<Key>,
    set: BTreeMap<Key, Value>,
    append: BTreeMap<Key, Value>,
}

/// The top-level key that holds the map that a key is in.
fn outer(key: &str) -> Option<&str> {
    key.split_once('.').map(|(outer, _)| outer)
}

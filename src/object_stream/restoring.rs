//! Object streams out of what was written of them. Nothing of it is trusted.

use super::{
    App, Bounds, ENDS, FUNCTIONS, Func, Function, KEYS, Mode, Named, ObjectStreams,
    leaf::{self, ARRAY_ELEMENTS, Array, Leaf, RECALLED, elements},
    record::{
        AppChange, Change, Content, Counter, Elements, End, Gap, Head, LeafChange, NamedFunction,
        Recalled, StreamChange,
    },
    stream::{Access, REMOVALS, Stream},
};
use crate::session::{
    command::Actor,
    ids::{AppId, Key},
    value::Value,
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

/// How many revisions are skipped after an unclean end, and at most as many again. That is more than a
/// server can use while what it writes waits, if that takes a week and it uses a million each second.
pub const LEAP: u64 = 1 << 40;

/// Revisions are less.
const MOST: u64 = 1 << 62;

/// Why streams cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the object streams of the app {app:?} cannot be restored: {cause}")]
pub struct Unfit {
    /// Of which app. A caller that can do without it leaves out all that was written of it, and
    /// says that the end was unclean: then its readers begin again.
    pub app: AppId,
    /// Why.
    pub cause: Cause,
}

/// Why the streams of an app cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// Something is missing between what is known and what comes next.
    #[error("something that was written is missing")]
    Gap,
    /// It makes no sense.
    #[error("what was written contradicts itself: {0}")]
    Contradiction(&'static str),
    /// A function is refused.
    #[error("the function {0:?}: {1}")]
    Function(Key, String),
}

use Cause::{Contradiction, Gap as Missing};

impl ObjectStreams {
    /// The streams of what was written: of each app its last snapshot, then what was written of it
    /// since, in order; and the counter. If there is nothing, these are new streams, whose epoch is
    /// `now`.
    ///
    /// After a clean end they go on as if nothing had happened. After any other, readers may have read
    /// what was never written: revisions go on far behind those, and a reader that comes with a cursor
    /// from between begins again. What [`take_changes`](Self::take_changes) gives first is to be
    /// written before anybody reads, so that another unclean end finds where they went on.
    pub fn restore(
        bounds: Bounds,
        changes: impl IntoIterator<Item = Change>,
        was_clean: bool,
        now: u64,
    ) -> Result<Self, Unfit> {
        let mut restoring = Restoring::default();
        for change in changes {
            let app = change.app().cloned();
            let taken = restoring.take(change);
            if let (Err(cause), Some(app)) = (taken, app) {
                return Err(Unfit { app, cause });
            }
        }
        restoring.end(bounds, was_clean, now)
    }
}

#[derive(Debug, Default)]
struct Restoring {
    counter: Option<Counter>,
    /// The last revision of all.
    revision: u64,
    /// When something was written last.
    serial: u64,
    apps: HashMap<AppId, Known>,
}

/// What is known of an app.
#[derive(Debug, Default)]
struct Known {
    app: Option<App>,
    /// When all of it was written last. What was written before is of no use.
    since: u64,
    /// The streams of which parts are missing yet.
    parts: HashMap<Key, StreamChange>,
}

impl Restoring {
    fn take(&mut self, change: Change) -> Result<(), Cause> {
        match change {
            Change::Counter(counter) => {
                self.serial = self.serial.max(counter.serial);
                self.revision = self.revision.max(counter.revision);
                if self.counter.as_ref().is_none_or(|known| known.serial <= counter.serial) {
                    self.counter = Some(counter);
                }
                Ok(())
            }
            Change::App(change) => {
                self.serial = self.serial.max(change.serial);
                let last = change.ends.last().map_or(0, |end| end.revision);
                self.revision = self.revision.max(last).max(change.shared).max(change.forgotten);
                self.known(&change.app).take_own(change)
            }
            Change::Stream(change) => {
                self.serial = self.serial.max(change.serial);
                self.revision = self.revision.max(change.until);
                self.known(&change.app).take_stream(*change)
            }
            Change::Forgotten { app, serial } => {
                self.serial = self.serial.max(serial);
                let known = self.known(&app);
                if serial >= known.since {
                    *known = Known { since: serial, ..Known::default() };
                }
                Ok(())
            }
        }
    }

    fn known(&mut self, app: &AppId) -> &mut Known {
        self.apps.entry(app.clone()).or_default()
    }

    fn end(self, bounds: Bounds, was_clean: bool, now: u64) -> Result<ObjectStreams, Unfit> {
        let Self { counter, revision, serial, apps } = self;
        let is_new = counter.is_none() && serial == 0;
        let counter = counter.unwrap_or_else(|| Counter {
            epoch: now,
            revision: 0,
            serial,
            forgotten: 0,
            gaps: Default::default(),
        });
        let mut streams = ObjectStreams {
            revision: revision.max(1),
            gaps: counter.gaps,
            serial,
            forgotten: counter.forgotten,
            ..ObjectStreams::new(bounds, counter.epoch.max(1))
        };
        if !was_clean && !is_new {
            // By the clock too, in microseconds: should there be another unclean end before this is
            // written, the next server goes on at another place.
            let leap = LEAP + now % LEAP;
            streams.revision = streams.revision.saturating_add(leap).min(MOST);
            streams.gaps.add(Gap { after: counter.revision, until: streams.revision });
            // There may have been apps of which nothing is known.
            streams.forgotten = streams.revision;
        }
        for (id, known) in apps {
            let Some(mut app) = known.app else { continue };
            let check = check(&app);
            check.map_err(|cause| Unfit { app: id.clone(), cause })?;
            for (name, stream) in &app.streams {
                app.changes.add(name, stream);
            }
            streams.streams += app.streams.len();
            streams.functions += app.functions.len();
            streams.apps.insert(id, app);
        }
        Ok(streams)
    }
}

/// What no single change shows.
fn check(app: &App) -> Result<(), Cause> {
    let funcs = app.streams.values().flat_map(|stream| stream.funcs.values().chain([&stream.all]));
    for func in funcs {
        if super::check_func(Some(app), func).is_err() {
            return Err(Contradiction("a key is read by a function that is not there"));
        }
    }
    Ok(())
}

impl Known {
    fn take_own(&mut self, change: AppChange) -> Result<(), Cause> {
        let AppChange { app: _, serial, after, is_all, forgotten, shared, functions, gone, ends } =
            change;
        if serial < self.since {
            return Ok(());
        }
        if is_all {
            *self = Self { app: Some(App::default()), since: serial, parts: HashMap::new() };
        }
        let app = self.app.as_mut().filter(|app| is_all || app.recorded >= after).ok_or(Missing)?;
        app.recorded = serial;
        app.forgotten = forgotten;
        app.shared = shared;
        if let Some(list) = functions {
            if list.len() > FUNCTIONS {
                return Err(Contradiction("too many functions"));
            }
            app.functions.clear();
            for NamedFunction { name, by, source } in list {
                let function = Function::new(&source);
                let function = function.map_err(|why| Cause::Function(name.clone(), why))?;
                app.functions.insert(name, Named { by, function: Arc::new(function) });
            }
        }
        for name in gone {
            app.streams.remove(&name);
            self.parts.remove(&name);
        }
        for End { revision, name, creator, readers } in ends {
            // Some of it may be known.
            if app.ended.back().is_none_or(|(last, ..)| *last < revision) {
                app.ended.push_back((revision, name, Arc::new(Access { creator, readers })));
            }
        }
        while app.ended.front().is_some_and(|(first, ..)| *first <= forgotten) {
            app.ended.pop_front();
        }
        if app.ended.len() > ENDS {
            return Err(Contradiction("too many ends"));
        }
        Ok(())
    }

    /// Takes a part. Only the last one changes anything: there is no half of a stream.
    fn take_stream(&mut self, change: StreamChange) -> Result<(), Cause> {
        if change.serial < self.since {
            return Ok(());
        }
        let change = match change.head {
            Some(_) => {
                self.parts.remove(&change.name);
                change
            }
            None => {
                let known = self.parts.remove(&change.name).ok_or(Missing)?;
                joined(known, change)?
            }
        };
        if change.more {
            self.parts.insert(change.name.clone(), change);
            return Ok(());
        }
        let app = self.app.as_mut().ok_or(Missing)?;
        let known = app.streams.remove(&change.name);
        let (name, stream) = restored(known, change)?;
        app.streams.insert(name, stream);
        Ok(())
    }
}

/// A part with the one that follows it.
fn joined(mut known: StreamChange, next: StreamChange) -> Result<StreamChange, Cause> {
    let StreamChange {
        app: _,
        name: _,
        serial,
        after,
        since,
        until,
        head: _,
        readers,
        keys,
        funcs,
        removed,
        leaves,
        recalled,
        more,
    } = next;
    if (serial, after, since, until) != (known.serial, known.after, known.since, known.until) {
        return Err(Missing);
    }
    known.readers.extend(readers);
    known.keys.extend(keys);
    known.funcs.extend(funcs);
    known.removed.extend(removed);
    known.leaves.extend(leaves);
    known.recalled.extend(recalled);
    known.more = more;
    Ok(known)
}

/// A stream after a change.
fn restored(known: Option<Stream>, change: StreamChange) -> Result<(Key, Stream), Cause> {
    let StreamChange {
        app: _,
        name,
        serial,
        after,
        since,
        until,
        head,
        readers,
        keys,
        funcs,
        removed,
        leaves,
        recalled,
        more: _,
    } = change;
    let Head { defined, changed, whole_since, shared, leaves: count, remembered } =
        head.ok_or(Missing)?;
    let mut stream = match (since, &defined) {
        (0, Some(_)) => Stream::unset(),
        (0, None) => return Err(Contradiction("a stream without a definition")),
        _ => known.filter(|known| known.recorded >= after).ok_or(Missing)?,
    };
    if let Some(defined) = defined {
        stream.access = Arc::new(Access { creator: defined.creator, readers });
        stream.keys = keys;
        stream.all = defined.all;
        stream.funcs = funcs.into_iter().collect();
    }
    let is_ordered = whole_since <= changed && changed <= until && shared.after <= until;
    if !is_ordered || shared.to > until {
        return Err(Contradiction("a change that comes later"));
    }
    (stream.changed, stream.whole_since, stream.shared) = (changed, whole_since, shared);
    stream.recorded = serial;
    // Some of it may be known.
    stream.removed.retain(|(at, _)| *at <= since);
    for (at, key) in &removed {
        if *at <= since || *at > changed || stream.removed.back().is_some_and(|(last, _)| last > at)
        {
            return Err(Contradiction("removals out of order"));
        }
        stream.removed.push_back((*at, key.clone()));
    }
    while stream.removed.len() > remembered {
        stream.removed.pop_front();
    }
    if stream.removed.len() < remembered || remembered > REMOVALS {
        return Err(Contradiction("other removals than there were"));
    }
    let mut memory: HashMap<Key, VecDeque<leaf::Recalled>> = HashMap::new();
    let mut before = BTreeMap::new();
    for (_, key) in removed {
        stream.leaves.remove(&key);
    }
    for LeafChange { key, changed, content } in leaves {
        if changed > stream.changed {
            return Err(Contradiction("a key that changed after its stream"));
        }
        let known = stream.leaves.remove(&key);
        if content == Content::Same && known.as_ref().is_none_or(|leaf| leaf.changed != changed) {
            return Err(Missing);
        }
        let known = known.unwrap_or_else(|| Leaf::new(Value::Null, changed));
        let Leaf { content: held, changed: _, recalled } = known;
        let content = restored_content(held, content, since, changed)?;
        memory.insert(key.clone(), recalled);
        if before.insert(key, Leaf { content, changed, recalled: VecDeque::new() }).is_some() {
            return Err(Contradiction("a key that comes twice"));
        }
    }
    for (key, recalled) in recalled {
        let leaf = before.get_mut(&key).ok_or(Contradiction("a value of no key"))?;
        let memory = memory.get(&key).into_iter().flatten();
        recall(leaf, memory, recalled)?;
    }
    stream.leaves.append(&mut before);
    if stream.leaves.len() != count || count > KEYS {
        return Err(Contradiction("other keys than there were"));
    }
    if stream.funcs.len() > KEYS {
        return Err(Contradiction("too many ways to read"));
    }
    Ok((name, stream))
}

impl Stream {
    /// A stream that a definition and keys are still to come to.
    fn unset() -> Self {
        Self {
            access: Arc::new(Access { creator: Actor::App, readers: Default::default() }),
            changed: 0,
            shared: Default::default(),
            keys: Default::default(),
            all: Func::Mode(Mode::AllLatest),
            funcs: BTreeMap::new(),
            leaves: BTreeMap::new(),
            removed: VecDeque::new(),
            whole_since: 0,
            recorded: 0,
        }
    }
}

/// What a key holds after a change at a revision, with what changed after another.
fn restored_content(
    held: leaf::Content,
    content: Content,
    since: u64,
    changed: u64,
) -> Result<leaf::Content, Cause> {
    let Elements { began, lost, kept, more, marks } = match content {
        Content::Same => return Ok(held),
        Content::One(value) if elements(&value).is_some() => {
            return Err(Contradiction("an array that is none"));
        }
        Content::One(value) => return Ok(leaf::Content::One(value)),
        Content::Many(elements) => elements,
    };
    let new = leaf::Elements::of(&more).ok_or(Contradiction("an array that is none"))?;
    let (mut last, mut left) = (began, new.len());
    for (at, count) in &marks {
        let is_in_order = *at >= last && *at <= changed && (kept == 0 || *at > since);
        left = left.checked_sub(*count).ok_or(Contradiction("other elements than there were"))?;
        if !is_in_order || *count == 0 {
            return Err(Contradiction("elements out of order"));
        }
        last = *at;
    }
    if left > 0 || kept.saturating_add(new.len()) > ARRAY_ELEMENTS || began.max(lost) > changed {
        return Err(Contradiction("other elements than there were"));
    }
    let mut array = match held {
        _ if kept == 0 => Array { marks: Default::default(), ..Array::new(new, began) },
        leaf::Content::Many(mut array)
            if array.began == began && array.elements.kind() == new.kind() =>
        {
            // Some of what is new may be known.
            let known = array.count(since);
            let first = known.checked_sub(kept).ok_or(Missing)?;
            array.cut(first, known);
            array.add(more);
            array
        }
        _ => return Err(Missing),
    };
    array.lost = lost;
    array.marks.extend(marks);
    Ok(leaf::Content::Many(array))
}

/// Remembers what a reader got of a key.
fn recall<'a>(
    leaf: &mut Leaf,
    mut known: impl Iterator<Item = &'a leaf::Recalled>,
    recalled: Recalled,
) -> Result<(), Cause> {
    let Recalled { from, until, value } = recalled;
    let is_held = from == leaf.changed;
    let last = leaf.recalled.back().map_or(0, |last| last.until);
    if from < last || from > leaf.changed || until.is_none() != is_held {
        return Err(Contradiction("what readers got, out of order"));
    }
    let value = match value {
        Some(value) => value,
        None if is_held => leaf.whole(),
        None => known.find(|known| known.from == from).ok_or(Missing)?.value.clone(),
    };
    if until.is_some_and(|until| until <= from || until > leaf.changed) {
        return Err(Contradiction("what readers got, out of order"));
    }
    let until = until.unwrap_or(u64::MAX);
    leaf.recalled.push_back(leaf::Recalled { from, until, value, is_recorded: true });
    if leaf.recalled.len() > RECALLED {
        return Err(Contradiction("too much of what readers got"));
    }
    Ok(())
}

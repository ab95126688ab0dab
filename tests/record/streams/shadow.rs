//! Whatever is done: what was written at any moment, through the codec, makes the same streams again.

use super::{
    BOUNDS, app, by,
    follower::{COMPUTED, Follower},
    function, integers, key,
    log::Log,
    object, tracked, user,
};
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
};
use sessiond::{
    object_stream::{
        Call, Cursor, Definition, ObjectStreams, Reading, Room, Single, Update, record::Change,
    },
    record::Subject,
    session::{
        command::Actor,
        ids::{Key, UserId},
        value::Value,
    },
};
use std::collections::BTreeMap;

const APPS: [&str; 3] = ["a", "b", "c"];
const NAMES: [&str; 3] = ["s", "t", COMPUTED];
const TOPS: [&str; 3] = ["x", "y", "z"];
const PATHS: [&str; 6] = ["x", "y", "z", "x.p", "y.p", "y.q"];
const ACTORS: [&str; 4] = ["", "ada", "ben", "eve"];
const FUNCTIONS: [&str; 3] = ["value", "last", "value == last ? null : last"];
const WAYS: [&str; 4] = ["", "latest", "f", "g"];

fn actor(at: usize) -> Actor {
    if ACTORS[at].is_empty() { Actor::App } else { user(ACTORS[at]) }
}

/// Something that is done to the streams of an app, mostly by ada.
#[derive(Debug, Clone)]
enum Deed {
    Define {
        name: usize,
        values: BTreeMap<usize, Value>,
        keys: usize,
        readers: usize,
        way: usize,
    },
    Set(usize, usize, Value),
    Append(usize, usize, Value),
    RemoveKey(usize, usize),
    Remove(usize),
    Func(usize, usize),
    AddFunc(usize, usize),
    /// A key that goes, and then another that comes and goes more often than a stream remembers.
    Churn(usize, usize),
    /// Elements, so many that arrays drop some if it is done twice.
    Flood(usize),
    /// Streams that come and go, more than an app remembers if it is done twice.
    Cycle,
    /// Apps that come and go, so many that some are forgotten.
    Crowd,
    Read {
        name: usize,
        actor: usize,
        cursor: usize,
        bytes: usize,
    },
}

#[derive(Debug, Clone)]
enum Step {
    Do(usize, Deed),
    /// Changes are taken, and wait to be appended.
    Take,
    Append,
    Snapshot(usize),
    SnapshotCounter,
    Follow(usize),
    /// Everything is written, and the server starts again.
    Restart,
    /// What was not appended is lost.
    Crash,
}

fn values() -> impl Strategy<Value = Value> {
    let plain = prop_oneof![
        6 => (0..3i64).prop_map(Value::Integer),
        6 => vec(0..3i64, 0..5).prop_map(integers),
        2 => Just(Value::List([Value::Null, Value::Flag(true)].into())),
        1 => Just(Value::Map([].into())),
    ];
    let inner = btree_map(0..2usize, plain.clone(), 0..3);
    let maps = inner.prop_map(|inner| {
        Value::Map(inner.into_iter().map(|(at, value)| (key(["p", "q"][at]), value)).collect())
    });
    prop_oneof![4 => plain, 1 => maps]
}

fn more() -> impl Strategy<Value = Value> {
    vec(0..3i64, 0..4).prop_map(integers)
}

fn deeds() -> impl Strategy<Value = Deed> {
    let defined =
        (0..3usize, btree_map(0..3usize, values(), 0..3), 0..3usize, 0..3usize, 0..4usize);
    prop_oneof![
        4 => defined.prop_map(|(name, values, keys, readers, way)| {
            Deed::Define { name, values, keys, readers, way }
        }),
        6 => (0..3usize, 0..6usize, values()).prop_map(|(n, at, value)| Deed::Set(n, at, value)),
        8 => (0..3usize, 0..6usize, more()).prop_map(|(n, at, more)| Deed::Append(n, at, more)),
        2 => (0..3usize, 0..6usize).prop_map(|(name, at)| Deed::RemoveKey(name, at)),
        1 => (0..3usize).prop_map(Deed::Remove),
        2 => (0..7usize, 0..4usize).prop_map(|(at, way)| Deed::Func(at, way)),
        2 => (0..2usize, 0..3usize).prop_map(|(name, source)| Deed::AddFunc(name, source)),
        1 => (0..3usize, 0..6usize).prop_map(|(name, at)| Deed::Churn(name, at)),
        3 => (0..3usize).prop_map(Deed::Flood),
        1 => Just(Deed::Cycle),
        1 => Just(Deed::Crowd),
        8 => (0..3usize, 0..4usize, 0..20usize, prop_oneof![Just(1usize), Just(200), Just(1 << 20)])
            .prop_map(|(name, actor, cursor, bytes)| Deed::Read { name, actor, cursor, bytes }),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    // Most happens in one app, so that much happens to the same.
    let which = prop_oneof![4 => Just(0usize), 1 => 1..3usize];
    prop_oneof![
        16 => (which.clone(), deeds()).prop_map(|(app, deed)| Step::Do(app, deed)),
        4 => Just(Step::Take),
        4 => Just(Step::Append),
        3 => which.prop_map(Step::Snapshot),
        1 => Just(Step::SnapshotCounter),
        3 => (0..4usize).prop_map(Step::Follow),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ]
}

struct Stage {
    streams: ObjectStreams,
    log: Log,
    /// Taken, and not appended yet.
    taken: Vec<Vec<Change>>,
    /// Cursors that were given out.
    cursors: Vec<Cursor>,
    followers: Vec<Follower>,
    /// The greatest revision that was given out.
    given: u64,
    now: u64,
}

impl Stage {
    fn new() -> Self {
        let follow = |(app, name)| Follower::new(app, actor(name));
        let (mut streams, id, ada) = (tracked(), app("a"), user("ada"));
        // So that functions are there most of the time.
        for name in ["f", "g"] {
            streams.add_func(&id, &ada, &key(name), function("last")).unwrap();
        }
        streams.set(&id, &ada, &key(COMPUTED), object(vec![(key("x"), Value::Null)])).unwrap();
        streams.set_func(&id, &ada, &key(COMPUTED), None, by("f")).unwrap();
        Self {
            streams,
            log: Log::default(),
            taken: Vec::new(),
            cursors: vec![Cursor::default()],
            followers: [("a", 0), ("a", 2), ("b", 3), ("b", 2)].map(follow).into(),
            given: 0,
            now: 1,
        }
    }

    fn gave(&mut self, cursor: Option<Cursor>) {
        let Some(cursor) = cursor else { return };
        self.given = self.given.max(cursor.after);
        self.given = self.given.max(cursor.page.as_ref().map_or(0, |page| page.to));
        if !self.cursors.contains(&cursor) {
            self.cursors.push(cursor);
            // The first one begins with everything.
            if self.cursors.len() > 24 {
                self.cursors.remove(1);
            }
        }
    }

    /// What is refused is refused.
    fn perform(&mut self, at: usize, deed: Deed) {
        let (id, ada, streams) = (app(APPS[at]), user("ada"), &mut self.streams);
        match deed {
            Deed::Define { name, values, keys, readers, way } => {
                let ids: [&[&str]; 3] = [&[], &["ben"], &["eve", "ben"]];
                let id_of = |name: &&str| UserId::new(name).unwrap();
                let watched: [&[&str]; 3] = [&[], &["x"], &["x", "y.p"]];
                let funcs = [(key("y"), by(WAYS[way]))];
                let set = Definition {
                    keys: watched[keys].iter().map(|name| key(name)).collect(),
                    funcs: funcs.into_iter().filter(|_| NAMES[name] == COMPUTED).collect(),
                    readers: ids[readers].iter().map(id_of).collect(),
                    ..object(values.into_iter().map(|(at, it)| (key(TOPS[at]), it)).collect())
                };
                let _ = streams.set(&id, &ada, &key(NAMES[name]), set);
            }
            Deed::Set(name, at, value) => {
                let set = vec![(key(PATHS[at]), value)];
                let _ = streams.update(&id, &ada, &key(NAMES[name]), set, Vec::new());
            }
            Deed::Append(name, at, more) => {
                let append = vec![(key(PATHS[at]), more)];
                let _ = streams.update(&id, &ada, &key(NAMES[name]), Vec::new(), append);
            }
            Deed::RemoveKey(name, at) => {
                let _ = streams.remove_key(&id, &ada, &key(NAMES[name]), PATHS[at]);
            }
            Deed::Remove(name) => drop(streams.remove(&id, &ada, &key(NAMES[name]))),
            Deed::Func(at, way) => {
                let path = PATHS.get(at).map(|path| key(path));
                let _ = streams.set_func(&id, &ada, &key(COMPUTED), path, by(WAYS[way]));
            }
            Deed::AddFunc(name, source) => {
                let name = key(["f", "g"][name]);
                let _ = streams.add_func(&id, &ada, &name, function(FUNCTIONS[source]));
            }
            Deed::Flood(name) => {
                let texts = vec![Value::Text("a".repeat(1000).into()); 40];
                let more = [("long", integers(0..9000)), ("texts", Value::List(texts.into()))];
                for (path, more) in more {
                    let append = vec![(key(path), more)];
                    let _ = streams.update(&id, &ada, &key(NAMES[name]), Vec::new(), append);
                }
            }
            Deed::Churn(name, at) => {
                let _ = streams.remove_key(&id, &ada, &key(NAMES[name]), PATHS[at]);
                for _ in 0..300 {
                    let set = vec![(key("churn"), Value::Null)];
                    let _ = streams.update(&id, &ada, &key(NAMES[name]), set, Vec::new());
                    let _ = streams.remove_key(&id, &ada, &key(NAMES[name]), "churn");
                }
            }
            Deed::Cycle => {
                for _ in 0..600 {
                    let _ = streams.set(&id, &ada, &key("u"), object(Vec::new()));
                    let _ = streams.remove(&id, &ada, &key("u"));
                }
            }
            Deed::Crowd => {
                for number in 0..2 * BOUNDS.streams {
                    let id = app(&format!("crowd {number}"));
                    let _ = streams.set(&id, &ada, &key("u"), object(Vec::new()));
                    let _ = streams.remove(&id, &ada, &key("u"));
                }
            }
            Deed::Read { name, actor: who, cursor, bytes } => {
                let cursor = self.cursors.get(cursor).cloned();
                let mut room = Room::new(bytes);
                let read = match name {
                    0 => None,
                    name => Some(key(NAMES[name])),
                };
                let next = match (read, cursor) {
                    (None, None) => streams.read_shared(&id, &actor(who), &mut room).cursor,
                    (None, Some(cursor)) => {
                        streams.read(&id, &actor(who), None, &cursor, &mut room, None).cursor
                    }
                    (Some(name), cursor) => {
                        let read = streams.read_one(&id, &actor(who), &name, cursor, &mut room);
                        read.ok().and_then(|single| single.cursor)
                    }
                };
                self.gave(next);
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Do(app, deed) => self.perform(app, deed),
            Step::Take => {
                let changes = self.streams.take_changes();
                if !changes.is_empty() {
                    self.taken.push(changes);
                }
                assert_eq!(self.streams.take_changes(), [], "nothing has changed");
            }
            Step::Append if self.taken.is_empty() => {}
            Step::Append => self.log.append(self.taken.remove(0)),
            Step::Snapshot(at) => {
                let id = app(APPS[at]);
                let changes = self.streams.snapshot(&id);
                assert_eq!(changes.is_empty(), self.streams.apps().all(|app| *app != id));
                // Without a serial nobody knows that what is appended later is older.
                if !changes.is_empty() || self.taken.is_empty() {
                    self.log.snapshot(Subject::Streams(id), changes);
                }
            }
            Step::SnapshotCounter if !self.taken.is_empty() => {}
            Step::SnapshotCounter => {
                let counter = self.streams.counter();
                self.log.snapshot(Subject::StreamCounter, vec![counter]);
            }
            Step::Follow(at) => {
                let follower = &mut self.followers[at];
                follower.read(&mut self.streams, 300);
                let cursor = Some(follower.cursor.clone());
                self.gave(cursor);
            }
            Step::Restart => self.restart(),
            Step::Crash => self.crash(),
        }
    }

    fn restart(&mut self) {
        self.step(Step::Take);
        self.taken.drain(..).for_each(|changes| self.log.append(changes));
        let mut next = restored(&self.log, true, self.now);
        self.compare(&mut next);
        // What readers were told before shows when something changes.
        for (at, path) in (1000..).zip(PATHS) {
            for (id, name) in APPS.into_iter().flat_map(|id| NAMES.map(|name| (app(id), name))) {
                for streams in [&mut self.streams, &mut next] {
                    let set = vec![(key(path), Value::Integer(at))];
                    let _ = streams.update(&id, &Actor::App, &key(name), set, Vec::new());
                }
            }
        }
        self.compare(&mut next);
        self.streams = restored(&self.log, true, self.now);
        self.streams.keep_track();
    }

    /// Everybody who reads changes a little, and the same in both.
    fn compare(&mut self, next: &mut ObjectStreams) {
        for app in 0..APPS.len() {
            for who in 0..ACTORS.len() {
                for cursor in &self.cursors {
                    let known = told(&mut self.streams, app, who, cursor);
                    assert_eq!(told(next, app, who, cursor), known, "{cursor}");
                }
            }
        }
    }

    fn crash(&mut self) {
        self.taken.clear();
        self.now += 1_000_000;
        let changes = self.log.changes();
        let counters = changes.iter().filter_map(|change| match change {
            Change::Counter(counter) => Some(counter.revision),
            _ => None,
        });
        let Some(stored) = counters.max() else {
            // Nothing was ever written: the next server has an epoch of its own.
            let mut next = restored(&self.log, false, self.now);
            next.keep_track();
            self.streams = next;
            return;
        };
        // Snapshots may be of later than the counter.
        let (mut clean, mut unclean) =
            (restored(&self.log, true, self.now), restored(&self.log, false, self.now));
        let ids: Vec<_> = clean.apps().cloned().collect();
        for cursor in &self.cursors {
            let is_kept = cursor.page.is_none() && cursor.after <= stored;
            for (at, name) in APPS.iter().enumerate().filter(|(_, name)| ids.contains(&app(name))) {
                for who in 0..ACTORS.len() {
                    let (id, who_is) = (app(name), actor(who));
                    if is_kept {
                        let tell = |streams: &mut ObjectStreams| {
                            let mut room = Room::new(1 << 30);
                            let read = streams.read(&id, &who_is, None, cursor, &mut room, None);
                            let updates = read.updates.into_iter();
                            let updates = updates.map(|(name, update)| (name, news(update)));
                            (read.reset, updates.collect::<Vec<_>>())
                        };
                        assert_eq!(tell(&mut unclean), tell(&mut clean), "{cursor} in {at}");
                    } else {
                        let mut room = Room::new(1 << 30);
                        let read = unclean.read(&id, &who_is, None, cursor, &mut room, None);
                        assert!(read.reset && read.updates.values().all(|update| update.reset));
                        for name in read.updates.keys() {
                            let mut room = Room::new(1 << 30);
                            let cursor = Some(cursor.clone());
                            let single =
                                unclean.read_one(&id, &who_is, name, cursor, &mut room).unwrap();
                            assert!(single.update.reset);
                        }
                    }
                }
            }
        }
        let mut next = restored(&self.log, false, self.now);
        next.keep_track();
        let none = Cursor::default();
        let read = next.read(&app("a"), &Actor::App, None, &none, &mut Room::new(0), None);
        let cursor = read.cursor.unwrap();
        let first = cursor.page.map_or(cursor.after, |page| page.to);
        assert!(first > self.given, "{first} may have been given out before");
        self.streams = next;
    }
}

fn restored(log: &Log, was_clean: bool, now: u64) -> ObjectStreams {
    ObjectStreams::restore(BOUNDS, log.changes(), was_clean, now).unwrap()
}

/// What is told in a read: of each stream, and the rest in words.
type Told = (BTreeMap<Key, News>, String);

/// An update as values: reset, ended, removed, values, restarted, and the calls.
type News = (bool, bool, Vec<Key>, Vec<(Key, Value)>, Vec<Key>, Vec<(Key, String, [Value; 2])>);

fn news(update: Update) -> News {
    let Update { reset, removed, values, restarted, calls, ended } = update;
    let call =
        |Call { key, function, value, last }| (key, function.source().to_owned(), [value, last]);
    (reset, ended, removed, values, restarted, calls.into_iter().map(call).collect())
}

/// All that somebody is told who reads in every way, some of it in small parts.
fn told(streams: &mut ObjectStreams, at: usize, who: usize, cursor: &Cursor) -> Vec<Told> {
    let (id, who) = (app(APPS[at]), actor(who));
    let mut told = Vec::new();
    let all = |Reading { updates, reset, more, cursor }| {
        let updates = updates.into_iter().map(|(name, update)| (name, news(update)));
        (updates.collect(), format!("{reset} {more} {cursor:?}"))
    };
    for bytes in [1, 300, 1 << 20] {
        let room = &mut Room::new(bytes);
        told.push(all(streams.read(&id, &who, None, cursor, room, None)));
        told.push(all(streams.read_shared(&id, &who, &mut Room::new(bytes))));
        for name in NAMES.map(key) {
            for cursor in [Some(cursor.clone()), None] {
                let one = streams.read_one(&id, &who, &name, cursor, &mut Room::new(bytes));
                told.push(match one {
                    Ok(Single { update, more, cursor }) => {
                        ([(name.clone(), news(update))].into(), format!("{more} {cursor:?}"))
                    }
                    Err(refusal) => (BTreeMap::new(), format!("{refusal:?}")),
                });
            }
        }
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_restored_tells_every_reader_the_same(steps in vec(steps(), 1..80)) {
        let mut stage = Stage::new();
        steps.into_iter().for_each(|step| stage.step(step));
        stage.restart();
        for mut follower in std::mem::take(&mut stage.followers) {
            follower.check(&mut stage.streams);
        }
    }
}

#[test]
fn a_read_in_parts_that_saw_what_is_lost_begins_again() {
    let mut stage = Stage::new();
    let define = Deed::Define { name: 1, values: BTreeMap::new(), keys: 0, readers: 0, way: 0 };
    let steps = [
        Step::Do(0, define),
        Step::Follow(0),
        Step::Restart,
        // The part that was left does not tell of the stream.
        Step::Do(0, Deed::Remove(1)),
        Step::Follow(0),
        // And then the stream was never removed.
        Step::Crash,
    ];
    steps.into_iter().for_each(|step| stage.step(step));
    for mut follower in std::mem::take(&mut stage.followers) {
        follower.check(&mut stage.streams);
    }
}

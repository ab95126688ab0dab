//! Those of object streams.

use super::{app, user, values};
use sessiond::{
    object_stream::{
        Func, Mode,
        record::{
            AppChange, Change, Content, Counter, Defined, Elements, End, Gap, Gaps, Head,
            LeafChange, NamedFunction, Place, Recalled, StreamChange,
        },
    },
    record::Entry,
    session::{command::Actor, value::Value},
};

pub fn counter() -> Entry {
    Entry::Streams(Change::Counter(Counter {
        epoch: 1_700_000_000_000_000,
        revision: 40,
        serial: 9,
        forgotten: 3,
        gaps: Gaps {
            horizon: 2,
            list: vec![Gap { after: 4, until: 10 }, Gap { after: 12, until: 20 }],
        },
    }))
}

pub fn app_change() -> Entry {
    let function =
        |name: &str, by| NamedFunction { name: name.into(), by, source: "value - last".into() };
    let end = |revision, creator, readers: &[&str]| End {
        revision,
        name: "old".into(),
        creator,
        readers: readers.iter().map(|name| user(name)).collect(),
    };
    Entry::Streams(Change::App(AppChange {
        app: app(),
        serial: 7,
        after: 6,
        is_all: true,
        forgotten: 5,
        shared: 22,
        functions: Some(vec![
            function("diff", Actor::App),
            function("gain", Actor::of(&user("ada"))),
        ]),
        gone: vec!["old".into()],
        ends: vec![end(21, Actor::App, &[]), end(30, Actor::of(&user("ada")), &["ben", "cleo"])],
    }))
}

pub fn forgotten() -> Entry {
    Entry::Streams(Change::Forgotten { app: app(), serial: 8 })
}

fn leaf(key: &str, changed: u64, content: Content) -> LeafChange {
    LeafChange { key: key.into(), changed, content }
}

fn many(more: Value, marks: &[(u64, usize)]) -> Elements {
    Elements { began: 21, lost: 0, kept: 0, more, marks: marks.to_vec() }
}

/// All of a stream.
fn stream() -> StreamChange {
    let is_array = |value: &Value| {
        matches!(value, Value::Numbers(_) | Value::Floats(_) | Value::Integers(_) | Value::List(_))
    };
    let content = |value: Value| match is_array(&value) {
        true => Content::Many(many(value, &[(22, 1), (23, 1)])),
        false => Content::One(value),
    };
    let mut values = values();
    // As many elements as marks.
    values[7] = Value::Floats([0.25, -0.5].into());
    let leaves = (0..).zip(values).map(|(at, value)| leaf(&format!("k{at}"), 25, content(value)));
    let recalled = |key: &str, from, until, value| (key.into(), Recalled { from, until, value });
    StreamChange {
        app: app(),
        name: "track".into(),
        serial: 7,
        after: 0,
        since: 0,
        until: 30,
        head: Some(Head {
            defined: Some(Defined {
                creator: Actor::of(&user("ada")),
                all: Func::Mode(Mode::Latest),
            }),
            changed: 29,
            whole_since: 20,
            shared: Place { after: 21, to: 28, key: "k3".into() },
            leaves: 11,
            remembered: 2,
        }),
        readers: [user("ben"), user("cleo")].into(),
        keys: ["k1".into(), "map.x".into()].into(),
        funcs: vec![
            ("k1".into(), Func::Named("diff".into())),
            ("k2".into(), Func::Mode(Mode::AllLatest)),
        ],
        removed: vec![(24, "gone".into()), (29, "map.x".into())],
        leaves: leaves.collect(),
        recalled: vec![
            recalled("k1", 22, Some(24), Some(Value::Flag(true))),
            recalled("k1", 25, None, None),
        ],
        more: false,
    }
}

pub fn whole() -> Entry {
    Entry::Streams(Change::Stream(Box::new(stream())))
}

/// What comes after all of it.
pub fn update() -> Entry {
    let elements = Elements {
        lost: 22,
        kept: 1,
        ..many(Value::Integers([7, -8, 9].into()), &[(31, 2), (32, 1)])
    };
    Entry::Streams(Change::Stream(Box::new(StreamChange {
        serial: 9,
        after: 7,
        since: 30,
        until: 33,
        head: Some(Head {
            defined: Some(Defined { creator: Actor::App, all: Func::Named("gain".into()) }),
            changed: 32,
            whole_since: 20,
            shared: Place::default(),
            leaves: 11,
            remembered: 2,
        }),
        readers: Default::default(),
        keys: Default::default(),
        funcs: Vec::new(),
        removed: vec![(31, "new".into())],
        leaves: vec![leaf("k8", 32, Content::Many(elements)), leaf("k1", 25, Content::Same)],
        recalled: vec![("k1".into(), Recalled { from: 22, until: Some(24), value: None })],
        ..stream()
    })))
}

/// Some of a stream, between other parts.
pub fn part() -> Entry {
    Entry::Streams(Change::Stream(Box::new(StreamChange {
        head: None,
        removed: Vec::new(),
        recalled: Vec::new(),
        more: true,
        ..stream()
    })))
}

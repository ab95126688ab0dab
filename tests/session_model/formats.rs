//! Formats at random: a write is accepted if and only if an oracle finds nothing in it that does not
//! fit, and what it is refused for is exactly that.

use super::stage::user;
use proptest::{collection, option, prelude::*, sample, test_runner::Config};
use sessiond::session::{
    Opening, Session,
    command::{Actor, Command, Join, Write},
    epoch::Epoch,
    error::{Faults, Refusal},
    ids::Key,
    limits::Limits,
    role::Role,
    schema::{self, Field, Schema, Type},
    settings::Kind,
    value::Value,
};
use std::sync::Arc;

const TYPES: [Type; 11] = [
    Type::Any,
    Type::Integer,
    Type::Number,
    Type::Text,
    Type::Flag,
    Type::Data,
    Type::Numbers,
    Type::Floats,
    Type::Integers,
    Type::List,
    Type::Map,
];

fn key() -> impl Strategy<Value = Key> {
    sample::select(&["a", "b", "c", "d"][..]).prop_map(Key::from)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Flag),
        (-3_i64..4).prop_map(Value::Integer),
        sample::select(vec![-2.5, -1.0, 0.0, 0.5, 1.0, 2.0, f64::NAN, f64::INFINITY])
            .prop_map(Value::Number),
        "[aä]{0,3}".prop_map(|text| Value::Text(text.into())),
        collection::vec(any::<u8>(), 0..4).prop_map(|data| Value::Data(data.into())),
        collection::vec(Just(0.5), 0..4).prop_map(|items| Value::Numbers(items.into())),
        collection::vec(Just(0.5), 0..4).prop_map(|items| Value::Floats(items.into())),
        collection::vec(Just(5), 0..4).prop_map(|items| Value::Integers(items.into())),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..3).prop_map(|items| Value::List(items.into())),
            collection::btree_map(key(), inner, 0..3)
                .prop_map(|entries| Value::Map(entries.into_iter().collect())),
        ]
    })
}

/// A field between whose bounds something fits.
fn field() -> impl Strategy<Value = Field> {
    let bound = || option::weighted(0.3, -1_i8..3);
    let leaf = (sample::select(&TYPES[..]), bound(), 0_i8..3).prop_map(|(of, min, more)| {
        let has_bounds = !matches!(of, Type::Any | Type::Flag | Type::Map);
        let min = min.filter(|_| has_bounds);
        let max = min.map(|min| min.max(0) + more).filter(|max| max % 2 == 0);
        Field { min: min.map(f64::from), max: max.map(f64::from), ..Field::new(of) }
    });
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            inner
                .clone()
                .prop_map(|items| Field { items: Some(Arc::new(items)), ..Field::new(Type::List) }),
            collection::btree_map(key(), inner, 0..3).prop_map(|fields| Field {
                fields: fields.into_iter().collect(),
                ..Field::new(Type::Map)
            }),
        ]
    })
}

/// A value that fits a field, more or less, so that not all are refused.
fn like(field: &Field) -> BoxedStrategy<Value> {
    let field = field.clone();
    let length = field.min.unwrap_or(0.0).max(0.0) as usize;
    match field.of {
        Type::Number | Type::Integer => {
            let ends = [field.min, field.max].into_iter().flatten().chain([1.0]);
            let ends: Vec<f64> = ends.collect();
            let integer = sample::select(ends.clone()).prop_map(|end| Value::Integer(end as i64));
            let number = sample::select(ends).prop_map(Value::Number);
            if field.of == Type::Integer {
                integer.boxed()
            } else {
                prop_oneof![integer, number].boxed()
            }
        }
        Type::Text => Just(Value::Text("ä".repeat(length).into())).boxed(),
        Type::List => match field.items {
            Some(items) => collection::vec(like(&items), length..length + 2)
                .prop_map(|items| Value::List(items.into()))
                .boxed(),
            None => Just(Value::List(vec![Value::Null; length].into())).boxed(),
        },
        Type::Map => {
            let entries: Vec<_> = field
                .fields
                .iter()
                .map(|(key, field)| (Just(key.clone()), option::of(like(field))))
                .collect();
            let some = |entries: Vec<(Key, Option<Value>)>| {
                entries.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
            };
            entries.prop_map(move |entries| Value::Map(some(entries))).boxed()
        }
        _ => value().boxed(),
    }
}

/// Everything in a value that does not fit, by its path: the rule, as plainly as possible.
fn misfits(field: &Field, value: &Value, path: &str) -> Vec<String> {
    let measured = match value {
        Value::Integer(integer) => *integer as f64,
        Value::Number(number) => *number,
        Value::Text(text) => text.chars().count() as f64,
        Value::Data(data) => data.len() as f64,
        Value::Numbers(items) => items.len() as f64,
        Value::Floats(items) => items.len() as f64,
        Value::Integers(items) => items.len() as f64,
        Value::List(items) => items.len() as f64,
        Value::Null | Value::Flag(_) | Value::Map(_) => 0.0,
    };
    let is_of_type = match field.of {
        Type::Any => true,
        Type::Integer => matches!(value, Value::Integer(_)),
        Type::Number => matches!(value, Value::Integer(_) | Value::Number(_)),
        Type::Text => matches!(value, Value::Text(_)),
        Type::Flag => matches!(value, Value::Flag(_)),
        Type::Data => matches!(value, Value::Data(_)),
        Type::Numbers => matches!(value, Value::Numbers(_)),
        Type::Floats => matches!(value, Value::Floats(_)),
        Type::Integers => matches!(value, Value::Integers(_)),
        Type::List => matches!(value, Value::List(_)),
        Type::Map => matches!(value, Value::Map(_)),
    };
    if !is_of_type {
        return vec![path.to_owned()];
    }
    let mut found = Vec::new();
    if let (Some(items), Value::List(elements)) = (&field.items, value) {
        for (at, element) in elements.iter().enumerate() {
            found.extend(misfits(items, element, &format!("{path}[{at}]")));
        }
    }
    if let Value::Map(entries) = value {
        for (key, entry) in entries.iter().filter(|_| !field.fields.is_empty()) {
            let path = format!("{path}[{key:?}]");
            match field.fields.iter().find(|(known, _)| known == key) {
                Some((_, field)) => found.extend(misfits(field, entry, &path)),
                None => found.push(path),
            }
        }
    }
    // What is no number is neither too small nor too large: it is named once.
    let bounds = [field.min.map(|min| measured >= min), field.max.map(|max| measured <= max)];
    let missed = bounds.into_iter().filter(|is_kept| *is_kept == Some(false)).count();
    let named = if measured.is_nan() { missed.min(1) } else { missed };
    found.extend(std::iter::repeat_n(path.to_owned(), named));
    found
}

/// A format, and a write that mostly fits it.
#[derive(Debug)]
struct Story {
    fields: Vec<(Key, Field)>,
    set: Vec<(Key, Value)>,
    remove: Vec<Key>,
    /// Else by a member.
    by_owner: bool,
}

fn story() -> impl Strategy<Value = Story> {
    let writer = sample::select(vec![None, None, None, Some(Role::Member), Some(Role::Admin)]);
    let top = (field(), option::of(value()), writer).prop_map(|(field, default, writer)| Field {
        default,
        writer,
        ..field
    });
    let fields = collection::btree_map(key(), top, 1..4);
    fields.prop_flat_map(|fields| {
        let known: Vec<_> = fields.into_iter().collect();
        let fitting: Vec<_> = known
            .iter()
            .map(|(key, field)| {
                let value = prop_oneof![5 => like(field), 1 => value()];
                (Just(key.clone()), option::weighted(0.6, value))
            })
            .collect();
        let stray = option::weighted(0.2, (key(), value()));
        let set = (fitting, stray).prop_map(|(fitting, stray)| {
            let mut set: Vec<(Key, Value)> =
                fitting.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            set.extend(stray.filter(|(stray, _)| set.iter().all(|(key, _)| key != stray)));
            set
        });
        let removed = collection::vec(key(), 0..2);
        let story = (Just(known), set, removed, any::<bool>());
        story.prop_map(|(fields, set, mut remove, by_owner)| {
            remove.retain(|removed| set.iter().all(|(key, _)| key != removed));
            Story { fields, set, remove, by_owner }
        })
    })
}

proptest! {
    #![proptest_config(Config {
        failure_persistence: None,
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(3000),
        ..Config::default()
    })]

    #[test]
    fn a_write_is_accepted_if_and_only_if_all_of_it_fits(story in story()) {
        let Story { mut fields, set, remove, by_owner } = story;
        let limits = Arc::new(Limits::default());
        let mut expected: Vec<_> = fields
            .iter()
            .flat_map(|(key, field)| {
                let path = format!("props[{key:?}].default_value");
                field.default.iter().flat_map(move |it| misfits(field, it, &path))
            })
            .collect();
        let mut faults = Faults::default();
        schema::part("props", fields.clone(), &limits, &mut faults);
        let mut found: Vec<_> = faults.close().into_iter().map(|fault| fault.field).collect();
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected, "the defaults have to fit, and all else does");

        for (_, field) in &mut fields {
            let fits = |default: &Value| misfits(field, default, "").is_empty();
            field.default = field.default.clone().filter(fits);
        }
        let mut faults = Faults::default();
        let props = schema::part("props", fields.clone(), &limits, &mut faults);
        prop_assert!(faults.is_empty());
        let schema = Schema { props, ..Schema::default() };
        let opening = Opening {
            schema: Some(Arc::new(schema)),
            ..super::stage::opening_by("ada", Kind::Room)
        };
        let mut session = Session::open(opening, limits, 1, Epoch::default()).expect("it opens");
        let join = Command::Join { user: user("ben"), join: Join::default() };
        session.apply(1, &Actor::App, join).expect("ben joins");
        session.flush(1);

        let field = |key: &Key| fields.iter().find(|(known, _)| known == key).map(|(_, it)| it);
        let mut wrong = Vec::new();
        let mut too_low = Vec::new();
        let named = set.iter().map(|(key, value)| ("write.set", key, Some(value)));
        for (list, key, value) in named.chain(remove.iter().map(|key| ("write.remove", key, None))) {
            let path = format!("{list}[{key:?}]");
            let Some(field) = field(key) else {
                wrong.push(path);
                continue;
            };
            wrong.extend(value.iter().flat_map(|value| misfits(field, value, &path)));
            if !by_owner && field.writer.is_some_and(|writer| writer > Role::Member) {
                too_low.push(path);
            }
        }

        let writer = user(if by_owner { "ada" } else { "ben" });
        let write = Write { set: set.clone(), remove: remove.clone(), ..Write::default() };
        let command = Command::SetProps { user: writer.clone(), write, term: 0 };
        let before = format!("{session:?}");
        let answer = session.apply(1, &Actor::of(&writer), command);
        let (refused, expected) = match answer {
            Ok(_) => (Vec::new(), [wrong, too_low].concat()),
            Err(Refusal::NotAWriter(refused)) => {
                prop_assert_eq!(wrong, Vec::<String>::new());
                (refused, too_low)
            }
            Err(Refusal::Invalid(refused)) => {
                prop_assert!(!wrong.is_empty());
                (refused, [wrong, too_low].concat())
            }
            Err(other) => panic!("{other:?}"),
        };
        let mut refused: Vec<_> = refused.into_iter().map(|fault| fault.field).collect();
        let mut expected = expected;
        refused.sort();
        expected.sort();
        prop_assert_eq!(&refused, &expected);
        if !refused.is_empty() {
            prop_assert_eq!(format!("{session:?}"), before, "nothing changed");
            return Ok(());
        }
        session.flush(2);
        let picture = super::picture::Picture::of_snapshot(&super::picture::Changes::all(
            &session,
            &super::stage::members(),
        ));
        for (key, field) in &fields {
            let written = set.iter().find(|(set, _)| set == key).map(|(_, value)| value.clone());
            let holds = written.or_else(|| field.default.clone());
            prop_assert_eq!(picture.members[&*writer].props.get(key).cloned(), holds);
        }
    }
}

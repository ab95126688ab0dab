//! The rules against a naive model, and one by one.

use super::error::Refusal;
use super::{leaf::ARRAY_ELEMENTS, *};
use crate::session::{error::Violation, ids::UserId};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn app() -> AppId {
    AppId::new("game").expect("an id")
}

fn user(id: &str) -> Actor {
    Actor::User(UserId::new(id).expect("an id").into())
}

fn key(key: &str) -> Key {
    key.into()
}

fn integers(items: impl IntoIterator<Item = i64>) -> Value {
    Value::Integers(items.into_iter().collect())
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.into_iter().map(|(name, value)| (key(name), value)).collect())
}

fn object<const N: usize>(object: [(&str, Value); N]) -> Definition {
    Definition {
        object: object.into_iter().map(|(name, value)| (key(name), value)).collect(),
        keys: BTreeSet::new(),
        funcs: BTreeMap::new(),
        readers: BTreeSet::new(),
    }
}

/// The streams of one app, as their creator and a reader use them.
struct Subject(ObjectStreams);

impl Subject {
    fn new() -> Self {
        Self(ObjectStreams::new(Bounds { streams: 100, value_bytes: 16 * 1024 }, 7))
    }

    fn with<const N: usize>(values: [(&str, Value); N]) -> Self {
        let mut subject = Self::new();
        subject.define("s", object(values)).expect("it is set");
        subject
    }

    fn define(&mut self, name: &str, set: Definition) -> Result<(), Refusal> {
        self.0.set(&app(), &user("ada"), &key(name), set)
    }

    fn set(&mut self, name: &str, value: Value) -> Result<bool, Refusal> {
        self.0.update(&app(), &user("ada"), &key("s"), vec![(key(name), value)], Vec::new())
    }

    fn append(&mut self, name: &str, more: Value) -> Result<bool, Refusal> {
        self.0.update(&app(), &user("ada"), &key("s"), Vec::new(), vec![(key(name), more)])
    }

    fn func(&mut self, name: &str, func: Func) -> Result<(), Refusal> {
        let name = (!name.is_empty()).then(|| key(name));
        self.0.set_func(&app(), &user("ada"), &key("s"), name, func)
    }

    /// What a reader with a cursor gets, and its next cursor.
    fn read(&mut self, cursor: &str) -> (Update, String) {
        let cursor = Cursor::parse(cursor).expect("a cursor");
        let mut room = Room::new(1 << 20);
        let name = key("s");
        let single = self.0.read_one(&app(), &user("bob"), &name, Some(cursor), &mut room);
        let single = single.expect("it is read");
        (single.update, single.cursor.expect("a cursor").to_string())
    }

    /// The values that a reader gets, and its next cursor.
    fn values(&mut self, cursor: &str) -> (Vec<(String, Value)>, String) {
        let (update, cursor) = self.read(cursor);
        let named = |(name, value): (Key, Value)| (name.to_string(), value);
        (update.values.into_iter().map(named).collect(), cursor)
    }
}

fn one(name: &str, value: Value) -> Vec<(String, Value)> {
    vec![(name.to_owned(), value)]
}

fn violations(refusal: Refusal) -> Vec<Violation> {
    match refusal {
        Refusal::Invalid(violations) => violations,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reader_gets_the_object_and_then_what_is_new() {
    let mut s = Subject::with([("n", Value::Integer(1)), ("list", integers([1, 2]))]);
    let (update, cursor) = s.read(BEGINNING);
    assert!(update.reset);
    assert_eq!(update.restarted, [key("list")]);
    assert_eq!(update.values, [(key("list"), integers([1, 2])), (key("n"), Value::Integer(1))]);
    let (update, same) = s.read(&cursor);
    assert!(update.is_empty());
    assert_eq!(same, cursor);

    assert_eq!(s.append("list", integers([3])), Ok(true));
    assert_eq!(s.append("list", integers([4])), Ok(true));
    assert_eq!(s.set("n", Value::Integer(1)), Ok(false));
    assert_eq!(s.values(&cursor).0, one("list", integers([3, 4])));
    assert_eq!(s.set("n", Value::Integer(2)), Ok(true));
    let (values, later) = s.values(&cursor);
    assert_eq!(values.len(), 2);
    assert!(s.values(&later).0.is_empty());
}

#[test]
fn latest_is_the_last_element_or_the_value() {
    let mut s = Subject::with([("n", Value::Integer(1)), ("list", integers([1, 2]))]);
    s.func("", Func::Mode(Mode::Latest)).expect("it is set");
    let (values, cursor) = s.values(BEGINNING);
    let both = [("list".to_owned(), Value::Integer(2)), ("n".to_owned(), Value::Integer(1))];
    assert_eq!(values, both);
    s.append("list", integers([3, 4])).expect("it is appended");
    let (values, cursor) = s.values(&cursor);
    assert_eq!(values, one("list", Value::Integer(4)));
    assert!(s.values(&cursor).0.is_empty());
    s.set("list", integers([])).expect("it is set");
    assert!(s.values(&cursor).0.is_empty());
    s.func("list", Func::Mode(Mode::AllLatest)).expect("it is set");
    s.append("list", integers([5])).expect("it is appended");
    s.set("n", Value::Integer(9)).expect("it is set");
    let (values, _) = s.values(&cursor);
    assert_eq!(values, [("list".to_owned(), integers([5])), ("n".to_owned(), Value::Integer(9))]);
}

#[test]
fn a_shorter_or_other_array_starts_again_and_a_longer_one_goes_on() {
    let mut s = Subject::with([("list", integers([1, 2, 3]))]);
    let (_, cursor) = s.read(BEGINNING);
    let after = |value: Value| {
        let mut s = Subject::with([("list", integers([1, 2, 3]))]);
        let (_, first) = s.read(BEGINNING);
        assert_eq!(first, cursor);
        s.set("list", value).expect("it is set");
        let (update, _) = s.read(&cursor);
        (
            update.values.into_iter().map(|(_, value)| value).collect::<Vec<_>>(),
            !update.restarted.is_empty(),
        )
    };
    assert_eq!(after(integers([1, 2, 3, 4])), (vec![integers([4])], false));
    assert_eq!(after(integers([1, 2])), (vec![integers([1, 2])], true));
    assert_eq!(after(integers([])), (vec![integers([])], true));
    assert_eq!(after(integers([7, 2, 3, 4])), (vec![integers([7, 2, 3, 4])], true));
    assert_eq!(after(Value::Numbers([1.0].into())), (vec![Value::Numbers([1.0].into())], true));
    assert_eq!(after(Value::Integer(1)), (vec![Value::Integer(1)], false));
    assert_eq!(after(integers([1, 2, 3])), (vec![], false));
}

#[test]
fn maps_are_watched_one_level_deep() {
    let mut s = Subject::with([("pos", map([("x", Value::Integer(1)), ("y", Value::Integer(2))]))]);
    let (values, cursor) = s.values(BEGINNING);
    assert_eq!(values.len(), 2);
    s.set("pos", map([("x", Value::Integer(1)), ("y", Value::Integer(3))])).expect("it is set");
    assert_eq!(s.values(&cursor).0, one("pos.y", Value::Integer(3)));
    s.set("pos.x", Value::Integer(5)).expect("it is set");
    s.append("pos.trail", integers([1])).expect("it is appended");
    s.set("deep", map([("in", map([("x", Value::Integer(1))]))])).expect("it is set");
    let (values, cursor) = s.values(&cursor);
    let names: Vec<_> = values.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["deep.in", "pos.trail", "pos.x", "pos.y"]);
    s.set("deep", map([("in", map([("x", Value::Integer(2))]))])).expect("it is set");
    assert_eq!(s.values(&cursor).0, one("deep.in", map([("x", Value::Integer(2))])));
    s.set("pos", map([("x", Value::Integer(5))])).expect("it is set");
    let (update, cursor) = s.read(&cursor);
    assert_eq!(update.removed, [key("pos.trail"), key("pos.y")]);
    s.set("pos", Value::Integer(1)).expect("it is set");
    let (update, cursor) = s.read(&cursor);
    assert_eq!(
        (update.removed, update.values),
        (vec![key("pos.x")], vec![(key("pos"), Value::Integer(1))])
    );
    s.set("pos", map([])).expect("it is set");
    s.set("pos.z", Value::Integer(1)).expect("it is set");
    let (update, _) = s.read(&cursor);
    assert_eq!(
        (update.removed, update.values),
        (vec![key("pos")], vec![(key("pos.z"), Value::Integer(1))])
    );
}

#[test]
fn only_watched_keys_are_read() {
    let pos = map([("x", Value::Integer(1)), ("y", Value::Integer(2))]);
    let keys = [key("pos.x"), key("n")].into();
    let values = [("pos", pos), ("n", Value::Null), ("m", Value::Null)];
    let mut s = Subject::new();
    s.define("s", Definition { keys, ..object(values) }).expect("it is set");
    let (values, cursor) = s.values(BEGINNING);
    assert_eq!(values.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["n", "pos.x"]);
    s.set("m", Value::Integer(1)).expect("it is set");
    s.set("pos.y", Value::Integer(1)).expect("it is set");
    s.0.remove_key(&app(), &user("ada"), &key("s"), "m").expect("it is removed");
    assert!(s.read(&cursor).0.is_empty());
}

#[test]
fn a_wrong_update_changes_nothing_and_names_every_fault() {
    let mut s = Subject::with([
        ("n", Value::Integer(1)),
        ("list", integers([1])),
        ("map", map([("x", Value::Null)])),
    ]);
    let (_, cursor) = s.read(BEGINNING);
    let long = integers(std::iter::repeat_n(0, ARRAY_ELEMENTS + 1));
    let set = [
        ("n.x", Value::Null),
        ("list", integers([1, 2])),
        (".x", Value::Null),
        ("x.", Value::Null),
        ("map", map([])),
        ("map.x", Value::Null),
        ("long", long.clone()),
    ];
    let append = [
        ("n", integers([1])),
        ("list", integers([2])),
        ("map.y", integers([1])),
        ("new", Value::Integer(1)),
        ("long2", long),
    ];
    let all = |pairs: &[(&str, Value)]| pairs.iter().map(|(k, v)| (key(k), v.clone())).collect();
    let update = s.0.update(&app(), &user("ada"), &key("s"), all(&set), all(&append));
    let violations = violations(update.expect_err("it is refused"));
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    let expected = [
        r#"append["list"]"#,
        r#"append["long2"]"#,
        r#"append["map.y"]"#,
        r#"append["n"]"#,
        r#"append["new"]"#,
        r#"set[".x"]"#,
        r#"set["long"]"#,
        r#"set["map.x"]"#,
        r#"set["n.x"]"#,
        r#"set["x."]"#,
    ];
    assert_eq!(fields, expected);
    assert!(s.read(&cursor).0.is_empty());
    for (name, more) in [
        ("list", Value::Numbers([1.0].into())),
        ("list", Value::List([].into())),
        ("map", integers([1])),
    ] {
        assert!(s.append(name, more).is_err());
    }
    let dotted = s.define("t", object([("a.b", Value::Null)]));
    assert!(dotted.is_err());
}

#[test]
fn keys_streams_and_functions_are_bounded() {
    let mut s = Subject::with([]);
    for at in 0..KEYS {
        s.set(&format!("k{at}"), Value::Null).expect("it fits");
    }
    let full = Refusal::LimitReached { limit: "object-stream-keys", most: KEYS };
    assert_eq!(s.set("more", Value::Null), Err(full.clone()));
    assert_eq!(s.append("more", integers([])), Err(full));
    s.set("k0", Value::Integer(1)).expect("it is there already");
    s.0.remove_key(&app(), &user("ada"), &key("s"), "k0").expect("it is there");
    s.set("more", map([("x", Value::Null)])).expect("it fits");
    assert!(s.set("more", map([("x", Value::Null), ("y", Value::Null)])).is_err());
    s.set("more", Value::Null).expect("it fits");

    for at in 1..100 {
        s.define(&format!("s{at}"), object([])).expect("it fits");
    }
    let full = Refusal::LimitReached { limit: "max-object-streams", most: 100 };
    assert_eq!(s.define("one more", object([])), Err(full));
    s.define("s1", object([])).expect("it is there already");
    s.0.remove(&app(), &user("ada"), &key("s1")).expect("it is there");
    s.define("one more", object([])).expect("it fits");

    let add = |s: &mut Subject, name: &str| {
        let function = Function::new("value").expect("it is fine");
        s.0.add_func(&app(), &user("ada"), &key(name), function)
    };
    for at in 0..FUNCTIONS {
        add(&mut s, &format!("f{at}")).expect("it fits");
    }
    let full = Refusal::LimitReached { limit: "object-stream-functions", most: FUNCTIONS };
    assert_eq!(add(&mut s, "more"), Err(full));
    add(&mut s, "f0").expect("it is there already");
    let other = s.0.add_func(&app(), &user("bob"), &key("f0"), Function::new("1").expect("fine"));
    assert_eq!(other, Err(Refusal::NeedsCreator));
}

#[test]
fn an_array_drops_its_oldest_and_tells_who_missed_them() {
    let mut s = Subject::with([("list", integers([]))]);
    let (_, far_behind) = s.read(BEGINNING);
    let half = ARRAY_ELEMENTS as i64 / 2;
    s.append("list", integers(0..half)).expect("it is appended");
    let (_, behind) = s.read(&far_behind);
    s.append("list", integers(half..2 * half)).expect("it is appended");
    let (update, near) = s.read(&far_behind);
    assert_eq!(
        (update.values, update.restarted.len()),
        (vec![(key("list"), integers(0..2 * half))], 0)
    );
    s.append("list", integers([2 * half])).expect("it is appended");

    let (update, _) = s.read(&far_behind);
    assert_eq!(update.values, [(key("list"), integers(1..2 * half + 1))]);
    assert_eq!(update.restarted, [key("list")]);
    let (update, _) = s.read(&behind);
    assert_eq!(
        (update.values, update.restarted.len()),
        (vec![(key("list"), integers(half..2 * half + 1))], 0)
    );
    let (update, _) = s.read(&near);
    assert_eq!(
        (update.values, update.restarted.len()),
        (vec![(key("list"), integers([2 * half]))], 0)
    );

    let text = |at: usize| Value::List([Value::Text(format!("{at:01000}").into())].into());
    for at in 0..100 {
        s.append("texts", text(at)).expect("it is appended");
    }
    let (values, _) = s.values(&near);
    let Some((_, Value::List(kept))) = values.into_iter().find(|(name, _)| name == "texts") else {
        panic!()
    };
    assert_eq!(kept.len(), leaf::ARRAY_BYTES / 1006);
}

#[test]
fn who_may_not_read_learns_nothing_and_readers_do_not_write() {
    let mut s = Subject::new();
    let readers = [UserId::new("bob").expect("an id")].into();
    s.define("s", Definition { readers, ..object([("n", Value::Null)]) }).expect("it is set");
    let name = key("s");
    let write = |s: &mut Subject, actor: &Actor, name: &str| {
        s.0.update(&app(), actor, &key(name), vec![(key("n"), Value::Integer(1))], Vec::new())
    };
    assert_eq!(write(&mut s, &user("bob"), "s"), Err(Refusal::NeedsCreator));
    assert_eq!(write(&mut s, &user("eve"), "s"), Err(Refusal::NotFound));
    assert_eq!(write(&mut s, &user("eve"), "none"), Err(Refusal::NotFound));
    assert_eq!(write(&mut s, &Actor::App, "s"), Ok(true));
    assert_eq!(s.0.check_reads(&app(), &user("ada"), "s"), Ok(()));
    assert_eq!(s.0.check_reads(&app(), &user("bob"), "s"), Ok(()));
    assert_eq!(s.0.check_reads(&app(), &user("eve"), "s"), Err(Refusal::NotFound));
    assert_eq!(s.0.set(&app(), &user("eve"), &name, object([])), Err(Refusal::NameTaken));
    assert_eq!(s.0.set(&app(), &user("bob"), &name, object([])), Err(Refusal::NeedsCreator));
    let all = |s: &mut Subject, actor: &str, cursor: &Cursor| {
        s.0.read(&app(), &user(actor), None, cursor, &mut Room::new(1 << 20), None)
    };
    assert!(all(&mut s, "eve", &Cursor::default()).updates.is_empty());
    let first = all(&mut s, "bob", &Cursor::default());
    assert_eq!(first.updates.len(), 1);

    // Bob is not among the readers any more: for him it has ended.
    let readers = [UserId::new("eve").expect("an id")].into();
    s.define("s", Definition { readers, ..object([]) }).expect("it is set");
    let second = all(&mut s, "bob", &first.cursor.expect("a cursor"));
    assert!(second.updates[&name].ended);
    s.0.remove(&app(), &user("ada"), &name).expect("it is removed");
    let third = all(&mut s, "bob", &second.cursor.expect("a cursor"));
    assert!(third.updates.is_empty());
}

#[test]
fn functions_are_handed_what_the_key_holds_and_held() {
    let mut s = Subject::with([("n", Value::Integer(1))]);
    assert_eq!(s.func("n", Func::Named(key("f"))), Err(Refusal::FunctionNotFound));
    let function = Function::new("value - last").expect("it is fine");
    s.0.add_func(&app(), &user("eve"), &key("f"), function).expect("it is added");
    s.func("n", Func::Named(key("f"))).expect("it is set");
    let call = |update: Update| {
        assert!(update.values.is_empty());
        let [call] = <[Call; 1]>::try_from(update.calls).expect("one call");
        (call.value.clone(), call.last.clone(), call.function.call(&call.value, &call.last).ok())
    };
    let (update, first) = s.read(BEGINNING);
    assert_eq!(call(update), (Value::Integer(1), Value::Null, None));
    s.set("n", Value::Integer(5)).expect("it is set");
    let (update, second) = s.read(&first);
    assert_eq!(call(update), (Value::Integer(5), Value::Integer(1), Some(Value::Integer(4))));
    s.set("n", Value::Integer(7)).expect("it is set");
    let (update, _) = s.read(&second);
    assert_eq!(call(update), (Value::Integer(7), Value::Integer(5), Some(Value::Integer(2))));
    let (update, _) = s.read(&first);
    assert_eq!(call(update), (Value::Integer(7), Value::Integer(1), Some(Value::Integer(6))));
}

#[test]
fn readers_who_are_too_far_behind_begin_again() {
    let mut s = Subject::with([("n", Value::Null)]);
    let (_, cursor) = s.read(BEGINNING);
    let cycle = |s: &mut Subject| {
        s.set("k", Value::Null).expect("it is set");
        s.0.remove_key(&app(), &user("ada"), &key("s"), "k").expect("it is removed");
    };
    (0..256).for_each(|_| cycle(&mut s));
    assert_eq!(s.read(&cursor).0.removed, [key("k")]);
    cycle(&mut s);
    let (update, _) = s.read(&cursor);
    assert!(update.reset && update.removed.is_empty());
    assert_eq!(update.values, [(key("n"), Value::Null)]);

    let foreign = Cursor { epoch: 8, after: 1, page: None };
    assert!(s.read(&foreign.to_string()).0.reset);
    let future = Cursor { epoch: 7, after: 1 << 40, page: None };
    assert!(s.read(&future.to_string()).0.reset);

    let all = |s: &mut Subject, cursor: &Cursor| {
        s.0.read(&app(), &user("bob"), None, cursor, &mut Room::new(1 << 20), None)
    };
    let now = all(&mut s, &Cursor::default()).cursor.expect("a cursor");
    for _ in 0..=ENDS {
        s.define("t", object([])).expect("it is set");
        s.0.remove(&app(), &user("ada"), &key("t")).expect("it is removed");
    }
    assert!(all(&mut s, &now).reset);
    let now = all(&mut s, &Cursor::default()).cursor.expect("a cursor");
    assert!(!all(&mut s, &now).reset);
}

#[test]
fn a_stream_that_is_set_anew_in_the_middle_of_a_read_begins_again() {
    let mut s = Subject::with([("a", Value::Integer(1)), ("b", Value::Integer(2))]);
    let mut cursor = Cursor::default();
    let mut read = |s: &mut Subject| {
        let name = key("s");
        let single =
            s.0.read_one(&app(), &user("bob"), &name, Some(cursor.clone()), &mut Room::new(1));
        let single = single.expect("it is read");
        cursor = single.cursor.expect("a cursor");
        (single.update.reset, single.update.values, single.more)
    };
    assert_eq!(read(&mut s), (true, vec![(key("a"), Value::Integer(1))], true));
    s.define("s", object([("c", Value::Integer(3)), ("d", integers([4]))])).expect("it is set");
    assert_eq!(read(&mut s), (false, vec![], false));
    assert_eq!(read(&mut s), (true, vec![(key("c"), Value::Integer(3))], true));
    assert_eq!(read(&mut s), (false, vec![(key("d"), integers([4]))], false));
    assert_eq!(read(&mut s), (false, vec![], false));
}

#[test]
fn what_readers_held_goes_with_the_keys_and_streams() {
    let mut s = Subject::new();
    let function = Function::new("last").expect("it is fine");
    s.0.add_func(&app(), &user("ada"), &key("f"), function).expect("it is added");
    let (mut lasts, mut cursor) = (Lasts::new(), Cursor::default());
    let mut read = |s: &mut Subject| {
        let (bob, room) = (user("bob"), &mut Room::new(1 << 20));
        let reading = s.0.read(&app(), &bob, None, &cursor, room, Some(&mut lasts));
        cursor = reading.cursor.expect("a cursor");
        lasts.len()
    };
    for at in 0..2000 {
        s.define("s", object([])).expect("it is set");
        s.func("", Func::Named(key("f"))).expect("it is set");
        s.set(&format!("k{at}"), Value::Integer(1)).expect("it is set");
        assert_eq!(read(&mut s), 1);
    }
    s.set("k", Value::Integer(1)).expect("it is set");
    assert_eq!(read(&mut s), 2);
    s.0.remove_key(&app(), &user("ada"), &key("s"), "k").expect("it is removed");
    assert_eq!(read(&mut s), 1);
    s.0.remove(&app(), &user("ada"), &key("s")).expect("it is removed");
    assert_eq!(read(&mut s), 0);
}

#[test]
fn apps_that_are_left_empty_are_forgotten() {
    let mut streams = ObjectStreams::new(Bounds { streams: 10, value_bytes: 1024 }, 7);
    let app = |at: usize| AppId::new(&format!("app {at}")).expect("an id");
    let read = |streams: &mut ObjectStreams, at: usize, cursor: &Cursor| {
        streams.read(&app(at), &Actor::App, None, cursor, &mut Room::new(1000), None)
    };
    streams.set(&app(0), &Actor::App, &key("s"), object([])).expect("it is set");
    let cursor = read(&mut streams, 0, &Cursor::default()).cursor.expect("a cursor");
    for at in 0..100 {
        streams.set(&app(at), &Actor::App, &key("s"), object([])).expect("it is set");
        streams.remove(&app(at), &Actor::App, &key("s")).expect("it is removed");
    }
    assert!(streams.apps.len() <= 21);
    assert!(read(&mut streams, 0, &cursor).reset);
}

/// What a stream holds, said naively.
type Object = BTreeMap<String, Value>;

#[derive(Debug, Clone)]
enum Deed {
    Define(usize, Vec<(usize, Value)>),
    Set(usize, usize, Value),
    Append(usize, usize, Vec<i64>),
    RemoveKey(usize, usize),
    Remove(usize),
    Read(usize, usize),
}

const NAMES: [&str; 2] = ["s", "t"];
const TOPS: [&str; 3] = ["a", "b", "c"];
const PATHS: [&str; 6] = ["a", "b", "c", "a.x", "b.x", "b.y"];

fn values() -> impl Strategy<Value = Value> {
    let plain = prop_oneof![
        (0..3i64).prop_map(Value::Integer),
        prop::collection::vec(0..3i64, 0..5).prop_map(integers),
        Just(Value::Numbers([0.5].into())),
    ];
    let inner = prop::collection::btree_map(0..2usize, plain.clone(), 0..3);
    let maps = inner.prop_map(|inner| {
        Value::Map(inner.into_iter().map(|(at, value)| (key(["x", "y"][at]), value)).collect())
    });
    prop_oneof![3 => plain, 1 => maps]
}

fn deeds() -> impl Strategy<Value = Deed> {
    let object = prop::collection::vec((0..3usize, values()), 0..3);
    prop_oneof![
        1 => (0..2usize, object).prop_map(|(name, object)| Deed::Define(name, object)),
        6 => (0..2usize, 0..6usize, values()).prop_map(|(name, at, value)| Deed::Set(name, at, value)),
        8 => (0..2usize, 0..6usize, prop::collection::vec(0..3i64, 0..4))
            .prop_map(|(name, at, more)| Deed::Append(name, at, more)),
        2 => (0..2usize, 0..6usize).prop_map(|(name, at)| Deed::RemoveKey(name, at)),
        1 => (0..2usize).prop_map(Deed::Remove),
        8 => (0..4usize, 0..2usize).prop_map(|(reader, name)| Deed::Read(reader, name)),
    ]
}

/// Sets a key of the naive object.
fn put(object: &mut Object, path: &str, value: &Value) {
    object.retain(|known, _| known != path && !known.starts_with(&format!("{path}.")));
    match (value, path.contains('.')) {
        (Value::Map(entries), false) if !entries.is_empty() => {
            for (inner, value) in entries.iter() {
                object.insert(format!("{path}.{inner}"), value.clone());
            }
        }
        _ => {
            if let Some((outer, _)) = path.split_once('.') {
                object.remove(outer);
            }
            object.insert(path.to_owned(), value.clone());
        }
    }
}

/// What a reader makes of what it gets.
#[derive(Debug, Default)]
struct Rebuilt(BTreeMap<String, Object>);

impl Rebuilt {
    fn apply(&mut self, name: &str, update: Update) {
        if update.ended {
            self.0.remove(name);
        }
        if update.reset {
            self.0.insert(name.to_owned(), Object::new());
        }
        let Some(object) = self.0.get_mut(name) else {
            assert!(update.ended || update.is_empty(), "news of an unknown stream");
            return;
        };
        for key in &update.removed {
            object.remove(&**key);
        }
        for (key, value) in update.values {
            let goes_on = !update.restarted.contains(&key);
            match (object.get_mut(&*key), &value) {
                (Some(Value::Integers(known)), Value::Integers(more)) if goes_on => {
                    *known = known.iter().chain(&**more).copied().collect();
                }
                (Some(Value::Numbers(known)), Value::Numbers(more)) if goes_on => {
                    *known = known.iter().chain(&**more).copied().collect();
                }
                _ => drop(object.insert(key.to_string(), value)),
            }
        }
    }
}

/// A reader, who reads one of the four ways.
#[derive(Default)]
struct Reader {
    rebuilt: Rebuilt,
    cursors: BTreeMap<&'static str, Cursor>,
}

impl Reader {
    /// Reads one reply; whether it was empty.
    fn read(&mut self, s: &mut Subject, way: usize, name: usize) -> bool {
        let (bob, name) = (user("bob"), NAMES[name]);
        let single = |reading: Result<Single, Refusal>| match reading {
            Ok(reading) => Some(reading),
            Err(Refusal::NotFound) => None,
            Err(other) => panic!("{other:?}"),
        };
        match way {
            // One stream by a cursor, with little room; or by the shared one.
            0 | 1 => {
                let cursor = (way == 0).then(|| self.cursors.entry(name).or_default());
                let room = &mut Room::new(90);
                let sent = cursor.as_deref().cloned();
                let reading = single(s.0.read_one(&app(), &bob, &key(name), sent, room));
                let Some(reading) = reading else {
                    return self.rebuilt.0.remove(name).is_none();
                };
                if let Some(cursor) = cursor {
                    let text = reading.cursor.expect("a cursor").to_string();
                    *cursor = Cursor::parse(&text).expect("its text");
                }
                let is_empty = reading.update.is_empty() && !reading.more;
                self.rebuilt.apply(name, reading.update);
                is_empty
            }
            // All streams by a cursor, with little room; or by the shared one.
            _ => {
                let cursor = self.cursors.entry("").or_default();
                let reading = match way {
                    2 => s.0.read(&app(), &bob, None, cursor, &mut Room::new(120), None),
                    _ => s.0.read_shared(&app(), &bob, &mut Room::new(120)),
                };
                let text = reading.cursor.clone().unwrap_or_default().to_string();
                *cursor = Cursor::parse(&text).expect("its text");
                if reading.reset {
                    self.rebuilt.0.clear();
                }
                let is_empty = reading.updates.is_empty() && !reading.more;
                for (name, update) in reading.updates {
                    self.rebuilt.apply(&name, update);
                }
                is_empty
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_reader_rebuilds_the_objects(deeds in prop::collection::vec(deeds(), 1..60), shared in 0..2usize) {
        let mut s = Subject::new();
        let ada = user("ada");
        let mut model: BTreeMap<String, Object> = BTreeMap::new();
        let mut readers: Vec<_> = (0..4).map(|_| Reader::default()).collect();
        // Two who share the cursor would take each other's news.
        let ways = [0, 2, [1, 3][shared]];
        for deed in deeds {
            match deed {
                Deed::Define(name, values) => {
                    let mut object = Object::new();
                    let values: BTreeMap<_, _> = values.into_iter().collect();
                    values.iter().for_each(|(at, value)| put(&mut object, TOPS[*at], value));
                    let definition = Definition {
                        object: values.into_iter().map(|(at, value)| (key(TOPS[at]), value)).collect(),
                        ..super::tests::object([])
                    };
                    s.define(NAMES[name], definition).expect("it is set");
                    model.insert(NAMES[name].to_owned(), object);
                }
                Deed::Set(name, at, value) => {
                    let set = vec![(key(PATHS[at]), value.clone())];
                    if s.0.update(&app(), &ada, &key(NAMES[name]), set, Vec::new()).is_ok() {
                        put(model.get_mut(NAMES[name]).expect("it is there"), PATHS[at], &value);
                    }
                }
                Deed::Append(name, at, more) => {
                    let append = vec![(key(PATHS[at]), integers(more.clone()))];
                    if s.0.update(&app(), &ada, &key(NAMES[name]), Vec::new(), append).is_ok() {
                        let object = model.get_mut(NAMES[name]).expect("it is there");
                        let before = match object.get(PATHS[at]) {
                            Some(Value::Integers(items)) => items.to_vec(),
                            _ => Vec::new(),
                        };
                        put(object, PATHS[at], &integers(before.into_iter().chain(more)));
                    }
                }
                Deed::RemoveKey(name, at) => {
                    let removed = s.0.remove_key(&app(), &ada, &key(NAMES[name]), PATHS[at]);
                    if removed.is_ok() {
                        let object = model.get_mut(NAMES[name]).expect("it is there");
                        let inner = format!("{}.", PATHS[at]);
                        object.retain(|known, _| known != PATHS[at] && !known.starts_with(&inner));
                    }
                }
                Deed::Remove(name) => {
                    let removed = s.0.remove(&app(), &ada, &key(NAMES[name]));
                    prop_assert_eq!(removed.is_ok(), model.remove(NAMES[name]).is_some());
                }
                Deed::Read(way, name) if ways.contains(&way) => {
                    readers[way].read(&mut s, way, name);
                }
                Deed::Read(..) => {}
            }
        }
        for way in ways {
            let mut quiet = 0;
            for turn in 0..1000 {
                let was_empty = readers[way].read(&mut s, way, turn % 2);
                quiet = if was_empty { quiet + 1 } else { 0 };
                if quiet == 4 {
                    break;
                }
            }
            prop_assert_eq!(quiet, 4);
            prop_assert_eq!(&readers[way].rebuilt.0, &model, "way {}", way);
        }
    }
}

/// Who may read a stream of ada's; none = everybody.
fn only_for(readers: &[&str]) -> Definition {
    let readers = readers.iter().map(|id| UserId::new(id).expect("an id")).collect();
    Definition { readers, ..object([("x", Value::Integer(0))]) }
}

#[test]
fn a_read_looks_at_no_stream_that_its_reader_may_not_read() {
    let mut subject = Subject::new();
    for at in 0..90 {
        subject.define(&format!("ann {at}"), only_for(&["ann"])).expect("it is set");
    }
    for at in 0..5 {
        subject.define(&format!("bob {at}"), only_for(&["bob"])).expect("it is set");
    }
    subject.define("all", only_for(&[])).expect("it is set");
    let looks = |subject: &Subject, after: u64, who: &Actor| {
        subject.0.apps[&app()].changes.after(after, who).count()
    };
    for (who, most) in [("ann", 91), ("bob", 6), ("eve", 1), ("ada", 96)] {
        assert_eq!(looks(&subject, 0, &user(who)), most, "{who}");
    }
    assert_eq!(looks(&subject, 0, &Actor::App), 96);
    // One that has read everything looks at what has changed since, not at all that is its own.
    let last = subject.0.revision;
    subject.define("bob 0", only_for(&["bob"])).expect("it is set");
    assert_eq!(looks(&subject, last, &user("bob")), 1);
    for at in 0..90 {
        subject.0.remove(&app(), &user("ada"), &key(&format!("ann {at}"))).expect("it is hers");
    }
    assert_eq!([0, 1].map(|after| looks(&subject, after, &user("ann"))), [1, 1]);
}

proptest! {
    #[test]
    fn a_reader_of_all_gets_what_changed_and_may_be_read(
        steps in prop::collection::vec((0..4_usize, 0..8_usize, 0..5_usize), 1..60),
    ) {
        let readers: [&[&str]; 5] = [&[], &["ann"], &["ann", "bob"], &["ada"], &["eve"]];
        let actors = [user("ann"), user("bob"), user("ada"), user("kim"), Actor::App];
        let mut subject = Subject::new();
        let name = |at: usize| key(&format!("s{at}"));
        let mut changed = BTreeSet::new();
        let mut cursor = Cursor { epoch: 7, after: 1, page: None };
        for (number, (what, at, who)) in steps.into_iter().enumerate() {
            let ada = user("ada");
            let is_there = match what {
                0 => {
                    // It may not be there.
                    let _ = subject.0.remove(&app(), &ada, &name(at));
                    false
                }
                1 => subject.define(&name(at), only_for(readers[who])).is_ok(),
                _ => {
                    let set = vec![(key("x"), Value::Integer(1 + number as i64))];
                    subject.0.update(&app(), &ada, &name(at), set, Vec::new()).is_ok()
                }
            };
            match is_there {
                true => changed.insert(name(at)),
                false => changed.remove(&name(at)),
            };
            for actor in &actors {
                let may = |name: &&Key| subject.0.check_reads(&app(), actor, name).is_ok();
                let expected: Vec<Key> = changed.iter().filter(may).cloned().collect();
                let (streams, mut room) = (&mut subject.0, Room::new(1 << 20));
                let reading = streams.read(&app(), actor, None, &cursor, &mut room, None);
                let told = reading.updates.into_iter().filter(|(_, update)| !update.ended);
                let told: Vec<Key> = told.map(|(name, _)| name).collect();
                prop_assert_eq!(told, expected);
            }
            if number % 7 == 6 {
                changed.clear();
                cursor.after = subject.0.revision;
            }
        }
    }
}

//! Writes that merge maps into the maps that are there.

use crate::session_model::stage::{Outcome, Stage, host, members, opening_by, set, text, user};
use sessiond::session::{
    Opening,
    command::{Actor, Command, Write},
    error::{Faults, Refusal},
    limits::Limits,
    schema::{self, Fields, Schema},
    settings::Kind,
    user::User,
    value::Value,
};

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.map(|(key, value)| (key.into(), value)).into())
}

fn merging(write: Write) -> Write {
    Write { merge_maps: true, ..write }
}

fn merge(stage: &mut Stage, name: &str, key: &str, value: Value) -> Outcome {
    stage.write(name, merging(set(key, value)), 0)
}

fn merge_data(stage: &mut Stage, name: &str, shared: Write, private: Write) -> Outcome {
    let data = Command::SetData { shared: merging(shared), private: merging(private), term: 0 };
    stage.try_to(Actor::of(&user(name)), data)
}

fn shows(stage: &mut Stage, name: &str, key: &str) -> Value {
    stage.tick();
    stage.shows(&members(), name, key).expect("it is there")
}

#[test]
fn a_map_is_merged_into_the_map_that_is_there_and_so_are_the_maps_within() {
    let mut stage = Stage::room().with(&["ada"]);
    let inner = map([("x", text("1")), ("y", text("1"))]);
    stage.set("ada", "at", map([("inner", inner.clone()), ("other", text("1"))])).unwrap();
    merge(&mut stage, "ada", "at", map([("inner", map([("y", text("2"))]))])).unwrap();
    merge(&mut stage, "ada", "at", map([("new", map([("z", text("3"))]))])).unwrap();
    let expected = map([
        ("inner", map([("x", text("1")), ("y", text("2"))])),
        ("new", map([("z", text("3"))])),
        ("other", text("1")),
    ]);
    assert_eq!(shows(&mut stage, "ada", "at"), expected);
    stage.set("ada", "at", map([("inner", inner.clone())])).unwrap();
    assert_eq!(shows(&mut stage, "ada", "at"), map([("inner", inner)]), "replaced whole");
}

#[test]
fn what_is_no_map_on_either_side_is_replaced() {
    let mut stage = Stage::room().with(&["ada"]);
    let list = Value::List([map([("a", text("1"))])].into());
    for (there, new) in [
        (text("1"), map([("a", text("1"))])),
        (map([("a", text("1"))]), text("2")),
        (map([("a", text("1"))]), Value::Null),
        (list.clone(), Value::List([map([("b", text("1"))])].into())),
        (map([("a", map([("b", text("1"))]))]), map([("a", text("3"))])),
        (map([("a", text("1"))]), map([("a", map([("b", text("3"))]))])),
    ] {
        stage.set("ada", "x", there).unwrap();
        merge(&mut stage, "ada", "x", new.clone()).unwrap();
        assert_eq!(shows(&mut stage, "ada", "x"), new);
    }
    merge(&mut stage, "ada", "nothing there", map([("a", text("1"))])).unwrap();
    assert_eq!(shows(&mut stage, "ada", "nothing there"), map([("a", text("1"))]));
    let removal = Write { remove: vec!["x".into()], ..Write::default() };
    stage.write("ada", merging(removal), 0).unwrap();
    stage.tick();
    assert_eq!(stage.shows(&members(), "ada", "x"), None);
}

#[test]
fn a_map_of_the_session_is_merged_into_what_was_set_on_the_user() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.write_on_user("ada", set("x", map([("of", text("user"))])));
    merge(&mut stage, "ada", "x", map([("also", text("session"))])).unwrap();
    let both = map([("also", text("session")), ("of", text("user"))]);
    assert_eq!(shows(&mut stage, "ada", "x"), both);
}

#[test]
fn on_the_user_a_map_is_merged_into_the_users() {
    let mut record = User::default();
    record.write(&set("x", map([("a", text("1"))])));
    let write = merging(set("x", map([("b", text("2"))])));
    let write = record.merged(write, 16 * 1024).unwrap();
    assert_eq!(write, set("x", map([("a", text("1")), ("b", text("2"))])));
}

#[test]
fn what_is_accepted_is_merged_into_whether_a_frame_shows_it_or_not() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.set("ada", "x", map([("a", text("1"))])).unwrap();
    stage.tick();
    stage.set("ada", "x", map([("b", text("1"))])).unwrap();
    merge(&mut stage, "ada", "x", map([("c", text("1"))])).unwrap();
    let expected = map([("b", text("1")), ("c", text("1"))]);
    assert_eq!(shows(&mut stage, "ada", "x"), expected);
}

#[test]
fn a_value_too_large_when_merged_is_refused_by_its_field_with_the_size_and_changes_nothing() {
    // Each entry has 19 bytes, and the map a head of 2: exactly two entries fit.
    let limits = Limits { value_bytes: 2 + 2 * 19, ..Limits::default() };
    let mut stage = Stage::open_with(opening_by("ada", Kind::Room), limits);
    let entry = |key| map([(key, text("0123456789"))]);
    stage.set("ada", "x", entry("a")).unwrap();
    merge(&mut stage, "ada", "x", entry("b")).unwrap();
    let before = stage.tick();
    let too_much =
        Write { set: vec![("x".into(), entry("c")), ("y".into(), text("1"))], ..Write::default() };
    let refused = stage.write("ada", merging(too_much.clone()), 0);
    let Err(Refusal::Invalid(faults)) = refused else { panic!("{refused:?}") };
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].field, r#"write.set["x"]"#);
    assert_eq!(faults[0].description, "has 59 bytes when merged, more than 40");
    assert_eq!(stage.tick(), before, "nothing was accepted");

    let fits = || Write {
        set: vec![("x".into(), map([("a", text("0123456789")), ("b", text("0123456789"))]))],
        ..Write::default()
    };
    merge_data(&mut stage, "ada", fits(), fits()).unwrap();
    let before = stage.tick();
    let refused = merge_data(&mut stage, "ada", too_much.clone(), too_much);
    let Err(Refusal::Invalid(faults)) = refused else { panic!("{refused:?}") };
    let fields: Vec<_> = faults.iter().map(|fault| &*fault.field).collect();
    assert_eq!(fields, [r#"set["x"]"#, r#"private_set["x"]"#]);
    assert_eq!(stage.tick(), before, "nothing was accepted");
}

#[test]
fn both_parts_of_the_data_are_merged_each_into_itself() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room));
    merge_data(
        &mut stage,
        "ada",
        set("x", map([("a", text("s"))])),
        set("x", map([("a", text("p"))])),
    )
    .unwrap();
    merge_data(
        &mut stage,
        "ada",
        set("x", map([("b", text("s"))])),
        set("x", map([("b", text("p"))])),
    )
    .unwrap();
    stage.tick();
    let picture = stage.picture(&host());
    assert_eq!(picture.data["x"], map([("a", text("s")), ("b", text("s"))]));
    assert_eq!(picture.private_data["x"], map([("a", text("p")), ("b", text("p"))]));
}

#[test]
fn a_lost_comparison_merges_nothing() {
    let mut stage = Stage::room().with(&["ada"]);
    stage.set("ada", "x", map([("a", text("1"))])).unwrap();
    let at = stage.tick();
    stage.set("ada", "x", map([("a", text("2"))])).unwrap();
    let compared =
        Write { if_revision: vec![("x".into(), at)], ..set("x", map([("b", text("1"))])) };
    let refused = stage.write("ada", merging(compared), 0);
    assert!(matches!(refused, Err(Refusal::RevisionChanged(_))), "{refused:?}");
    assert_eq!(shows(&mut stage, "ada", "x"), map([("a", text("2"))]));
}

#[test]
fn what_a_kicked_user_merged_is_dropped_and_what_others_merged_stays() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room)).with(&["ben", "cat"]);
    merge_data(&mut stage, "ada", set("x", map([("base", text("1"))])), Write::default()).unwrap();
    stage.tick();
    // More writes than are told apart, all of them by the same two in turn.
    for turn in 0..12 {
        let key = format!("of ben {turn}");
        let both = map([(&*key, text("1")), ("last", text("ben"))]);
        merge_data(&mut stage, "ben", set("x", both), Write::default()).unwrap();
        let key = format!("of cat {turn}");
        let both = map([(&*key, text("1")), ("cat", text("was here"))]);
        merge_data(&mut stage, "cat", set("x", both), Write::default()).unwrap();
    }
    let kick = Command::Kick { target: user("ben"), reason: "".into() };
    stage.try_to(Actor::of(&user("ada")), kick).unwrap();
    stage.tick();
    let Value::Map(entries) = &stage.picture(&members()).data["x"] else { panic!("a map") };
    let keys: Vec<_> = entries.iter().map(|(key, _)| &**key).collect();
    assert_eq!(keys.len(), 2 + 12, "{keys:?}");
    assert!(keys.iter().all(|key| !key.contains("ben") && *key != "last"), "{keys:?}");
}

#[test]
fn what_was_merged_upon_a_dropped_write_stays_without_it() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room)).with(&["ben"]);
    let ben = Command::SetData {
        shared: set("x", map([("of", text("ben"))])),
        private: Write::default(),
        term: 0,
    };
    stage.try_to(Actor::of(&user("ben")), ben).unwrap();
    merge_data(&mut stage, "ada", set("x", map([("also", text("ada"))])), Write::default())
        .unwrap();
    let kick = Command::Kick { target: user("ben"), reason: "".into() };
    stage.try_to(Actor::of(&user("ada")), kick).unwrap();
    stage.tick();
    assert_eq!(stage.picture(&members()).data["x"], map([("also", text("ada"))]));
}

/// A format whose props, data and private data each hold a map `x` that shows `{a: default}`.
fn with_defaults() -> Stage {
    let part = |path: &str| -> Fields {
        let default = map([("a", text("default")), ("b", text("default")), ("c", text("default"))]);
        let fields = schema::by_example(vec![("x".into(), default)]);
        schema::part(path, fields, &Limits::default(), &mut Faults::default())
    };
    let schema =
        Schema { props: part("props"), data: part("data"), private_data: part("private_data") };
    let schema = Some(std::sync::Arc::new(schema));
    Stage::open(Opening { schema, ..opening_by("ada", Kind::Room) }).with(&["ben"])
}

#[test]
fn a_map_is_merged_into_the_default_of_the_format() {
    let mut stage = with_defaults();
    merge(&mut stage, "ada", "x", map([("b", text("of ada"))])).unwrap();
    let whole = map([("a", text("default")), ("b", text("of ada")), ("c", text("default"))]);
    assert_eq!(shows(&mut stage, "ada", "x"), whole);
    let refused = merge(&mut stage, "ada", "x", map([("d", text("unknown"))]));
    let Err(Refusal::Invalid(faults)) = refused else { panic!("{refused:?}") };
    assert_eq!(faults[0].field, r#"write.set["x"]["d"]"#);
    assert_eq!(shows(&mut stage, "ada", "x"), whole);
}

#[test]
fn a_map_is_merged_into_what_it_was_set_back_to() {
    let mut stage = with_defaults();
    let of = |key, name| set("x", map([(key, text(name))]));
    merge_data(&mut stage, "ben", of("a", "ben"), Write::default()).unwrap();
    merge_data(&mut stage, "ada", of("b", "ada"), Write::default()).unwrap();
    // Removed, it is the default again, and what follows is merged into that.
    let removal = Write { remove: vec!["x".into()], ..Write::default() };
    merge_data(&mut stage, "ben", removal, Write::default()).unwrap();
    merge_data(&mut stage, "ben", of("c", "ben"), Write::default()).unwrap();
    merge_data(&mut stage, "ada", of("a", "ada"), Write::default()).unwrap();
    let data = |stage: &Stage| stage.picture(&members()).data["x"].clone();
    stage.session.flush(stage.now);
    let whole = map([("a", text("ada")), ("b", text("default")), ("c", text("ben"))]);
    assert_eq!(data(&stage), whole);

    merge_data(&mut stage, "ben", of("a", "ben"), Write::default()).unwrap();
    let removal = Write { remove: vec!["x".into()], ..Write::default() };
    merge_data(&mut stage, "ada", removal, Write::default()).unwrap();
    merge_data(&mut stage, "ada", of("b", "ada"), Write::default()).unwrap();
    let kick = Command::Kick { target: user("ben"), reason: "".into() };
    stage.try_to(Actor::of(&user("ada")), kick).unwrap();
    stage.tick();
    let whole = map([("a", text("default")), ("b", text("ada")), ("c", text("default"))]);
    assert_eq!(data(&stage), whole);
}

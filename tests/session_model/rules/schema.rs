//! The fixed format of a session, and what a reset does.

use crate::session_model::{
    picture::Changes,
    position::NoDelta,
    stage::{
        Stage, host, keys, members, opening, opening_by, remove, set, spectator, text, too_low,
        user,
    },
};
use sessiond::session::{
    Opening, Session,
    command::{Actor, Command, Join, Write},
    epoch::Epoch,
    error::{FAULTS_BYTES, Faults, Refusal},
    ids::Key,
    limits::Limits,
    revision::Revision,
    role::Role,
    schema::{self, Field, Fields, Schema, Type},
    settings::{Kind, Setting},
    value::Value,
};
use std::sync::Arc;

fn number(number: f64) -> Value {
    Value::Number(number)
}

fn map(entries: &[(&str, Value)]) -> Value {
    let mut entries: Vec<_> =
        entries.iter().map(|(key, value)| (Key::from(*key), value.clone())).collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Value::Map(entries.into())
}

fn list(items: &[Value]) -> Value {
    Value::List(items.into())
}

fn values(values: &[(&str, Value)]) -> Vec<(Key, Value)> {
    values.iter().map(|(key, value)| (Key::from(*key), value.clone())).collect()
}

/// A part out of these fields, and the paths of what is wrong with them.
fn judged(fields: Vec<(&str, Field)>) -> (Fields, Vec<String>) {
    let fields = fields.into_iter().map(|(key, field)| (key.into(), field)).collect();
    let mut faults = Faults::default();
    let part = schema::part("props", fields, &Limits::default(), &mut faults);
    (part, faults.close().into_iter().map(|fault| fault.field).collect())
}

fn fields(fields: Vec<(&str, Field)>) -> Fields {
    let (part, faults) = judged(fields);
    assert_eq!(faults, [""; 0]);
    part
}

fn example(examples: &[(&str, Value)]) -> Fields {
    let mut faults = Faults::default();
    let fields = schema::by_example(values(examples));
    let part = schema::part("props_example", fields, &Limits::default(), &mut faults);
    assert!(faults.is_empty());
    part
}

/// The format of a game: players have a name and a place, the session an end, the host a secret.
fn game() -> Schema {
    let place = map(&[("x", Value::Integer(0)), ("y", Value::Integer(0))]);
    Schema {
        props: example(&[("name", text("unset")), ("pos", place)]),
        data: example(&[("endTime", Value::Integer(1_262_304_000))]),
        private_data: example(&[("secret", text("none"))]),
    }
}

fn playing(schema: Schema) -> Opening {
    Opening { schema: Some(Arc::new(schema)), ..opening_by("ada", Kind::Room) }
}

/// The props of a schema are these fields.
fn with_props(props: Fields) -> Stage {
    Stage::open(playing(Schema { props, ..Schema::default() }))
}

fn of(of: Type) -> Field {
    Field::new(of)
}

/// The paths that a write is refused for.
fn blamed<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> Vec<String> {
    match outcome {
        Err(Refusal::Invalid(faults)) => faults.into_iter().map(|fault| fault.field).collect(),
        other => panic!("it is refused for its fields, not {other:?}"),
    }
}

impl Stage {
    fn reset(&mut self, name: &str, schema: Option<Schema>) -> Result<Revision, Refusal> {
        let actor = if name.is_empty() { Actor::App } else { Actor::of(&user(name)) };
        let frame = self.session.reset(self.now, &actor, schema.map(Arc::new))?;
        assert_eq!(frame.revision, self.session.revision());
        Ok(frame.revision)
    }

    fn set_data(&mut self, name: &str, shared: Write, private: Write) -> Result<(), Refusal> {
        let actor = if name.is_empty() { Actor::App } else { Actor::of(&user(name)) };
        self.try_to(actor, Command::SetData { shared, private, term: 0 }).map(|_| ())
    }
}

#[test]
fn by_example_numbers_and_integers_become_number_and_maps_get_fields_of_their_own() {
    let deep = map(&[("in", map(&[("x", Value::Integer(1)), ("t", text("a"))])), ("l", list(&[]))]);
    let part = example(&[("deep", deep.clone()), ("n", number(0.5)), ("null", Value::Null)]);
    let [(_, field), (_, n), (_, null)] = &*part else { panic!("three keys") };
    assert_eq!((field.of, &field.default), (Type::Map, &Some(deep)));
    let [(inner_key, inner), (_, l)] = &*field.fields else { panic!("two entries") };
    assert_eq!((&**inner_key, inner.of, &inner.default), ("in", Type::Map, &None));
    let types: Vec<_> = inner.fields.iter().map(|(key, it)| (&**key, it.of)).collect();
    assert_eq!(types, [("t", Type::Text), ("x", Type::Number)]);
    assert_eq!((l.of, n.of, null.of), (Type::List, Type::Number, Type::Any));
    assert_eq!(null.default, Some(Value::Null));
}

#[test]
fn numbers_given_as_integers_by_example_accept_fractions() {
    let mut stage = Stage::open(playing(game()));
    let place = map(&[("x", number(0.5)), ("y", Value::Integer(7))]);
    stage.set("ada", "pos", place.clone()).unwrap();
    stage.set_data("ada", set("endTime", number(1.5)), Write::default()).unwrap();
    stage.tick();
    assert_eq!(stage.shows(&members(), "ada", "pos"), Some(place));
    assert_eq!(stage.picture(&members()).data["endTime"], number(1.5));
}

#[test]
fn opening_and_joining_set_the_defaults_and_first_props_and_data_override_them() {
    let mut opening = playing(game());
    opening.data = values(&[("endTime", Value::Integer(7))]);
    opening.opener.as_mut().unwrap().1.props = values(&[("name", text("Ada"))]);
    let mut stage = Stage::open(opening);
    stage.join_with("spy", spectator()).unwrap();
    stage.join("ben").unwrap();
    stage.tick();
    let picture = stage.picture(&host());
    assert_eq!(picture.data["endTime"], Value::Integer(7));
    assert_eq!(picture.private_data["secret"], text("none"));
    assert_eq!(stage.shows(&members(), "ada", "name"), Some(text("Ada")));
    assert_eq!(stage.shows(&members(), "ben", "name"), Some(text("unset")));
    assert_eq!(stage.picture(&members()).members["ben"].props.len(), 2);
    assert!(stage.picture(&members()).members["spy"].props.is_empty(), "spectators have none");

    let role = |role| Command::SetRole { target: user("spy"), role, user_props: Vec::new() };
    stage.try_to(Actor::App, role(Role::Member)).unwrap();
    stage.tick();
    assert_eq!(stage.shows(&members(), "spy", "name"), Some(text("unset")));
    stage.try_to(Actor::App, role(Role::Spectator)).unwrap();
    stage.tick();
    assert!(stage.picture(&members()).members["spy"].props.is_empty());
}

#[test]
fn data_that_nobody_writes_is_framed_as_the_schema_has_it_after_opening_and_after_a_reset() {
    let mut stage = Stage::open(playing(game()));
    stage.tick();
    assert_eq!(stage.picture(&host()).private_data["secret"], text("none"));
    assert!(!stage.picture(&members()).data.is_empty());

    let data = example(&[("round", Value::Integer(1))]);
    stage.reset("ada", Some(Schema { data, ..Schema::default() })).unwrap();
    let picture = stage.picture(&host());
    let shown: Vec<_> = picture.data.into_iter().collect();
    assert_eq!(shown, values(&[("round", Value::Integer(1))]));
    assert!(picture.private_data.is_empty());
}

#[test]
fn a_write_is_refused_whole_with_every_violation_named() {
    let mut stage = Stage::open(playing(game()));
    let before = format!("{:?}", stage.session);
    let place = map(&[("x", text("left")), ("y", number(1.0)), ("z", Value::Null)]);
    let mut write = Write::of(values(&[
        ("name", Value::Flag(true)),
        ("pos", place),
        ("nmae", text("Ada")),
        ("plain", number(1.0)),
    ]));
    (write.plain, write.remove) = (1, vec!["gone".into()]);
    let found = blamed(stage.write("ada", write, 0));
    let expected = [
        r#"write.set["name"]"#,
        r#"write.set["pos"]["x"]"#,
        r#"write.set["pos"]["z"]"#,
        r#"write.set["nmae"]"#,
        r#"write.json["plain"]"#,
        r#"write.remove["gone"]"#,
    ];
    assert_eq!(found, expected);
    let data = stage.set_data("ada", set("endTime", text("never")), remove("other"));
    assert_eq!(blamed(data), [r#"set["endTime"]"#, r#"private_remove["other"]"#]);
    let join = Join { props: values(&[("nmae", text("Ben"))]), ..Join::default() };
    assert_eq!(blamed(stage.join_with("ben", join.clone())), [r#"join.props["nmae"]"#]);
    assert_eq!(format!("{:?}", stage.session), before, "refused commands change nothing");

    let mut opening = playing(game());
    opening.data = values(&[("start", Value::Integer(0))]);
    opening.private_data = values(&[("secret", Value::Integer(0))]);
    let found = Session::open(opening, Arc::new(Limits::default()), 1, Epoch::default());
    assert_eq!(blamed(found), [r#"data["start"]"#, r#"private_data["secret"]"#]);
    let mut opening = playing(game());
    opening.opener.as_mut().unwrap().1.props = values(&[("name", Value::Null)]);
    let found = Session::open(opening, Arc::new(Limits::default()), 1, Epoch::default());
    assert_eq!(blamed(found), [r#"join.props["name"]"#]);
}

#[test]
fn so_many_violations_are_named_as_a_refusal_can_tell() {
    let mut stage = Stage::open(playing(game()));
    let many: Vec<_> = (0..5000).map(|n| (Key::from(format!("key {n}")), Value::Null)).collect();
    let Err(Refusal::Invalid(named)) = stage.write("ada", Write::of(many), 0) else { panic!() };
    let bytes: usize = named.iter().map(|it| it.field.len() + it.description.len()).sum();
    assert!(bytes < FAULTS_BYTES + 32);
    let counted = format!("and {} more", 5000 - (named.len() - 1));
    assert_eq!(named.last().unwrap().description, counted);
}

#[test]
fn a_partial_write_is_fine_and_a_key_that_is_removed_goes_back_to_its_default() {
    let bare = of(Type::Text);
    let named = Field { default: Some(text("unset")), ..of(Type::Text) };
    let mut stage = with_props(fields(vec![("team", bare), ("name", named)]));
    stage.set("ada", "team", text("red")).unwrap();
    stage.set("ada", "name", text("Ada")).unwrap();
    stage.tick();
    assert_eq!(stage.shows(&members(), "ada", "name"), Some(text("Ada")));
    stage.remove("ada", "name").unwrap();
    stage.remove("ada", "team").unwrap();
    stage.tick();
    assert_eq!(stage.shows(&members(), "ada", "name"), Some(text("unset")));
    assert_eq!(stage.shows(&members(), "ada", "team"), None);

    let mut stage = Stage::open(playing(game()));
    stage.set_data("ada", set("endTime", Value::Integer(1)), Write::default()).unwrap();
    stage.tick();
    stage.set_data("ada", remove("endTime"), Write::default()).unwrap();
    stage.tick();
    assert_eq!(stage.picture(&members()).data["endTime"], Value::Integer(1_262_304_000));
}

#[test]
fn bounds_are_of_the_value_of_numbers_and_of_the_length_of_the_rest() {
    let between =
        |of, min: f64, max: f64| Field { min: Some(min), max: Some(max), ..Field::new(of) };
    let large = (1_i64 << 53) + 1;
    let cases: Vec<(Field, Value, bool)> = vec![
        (between(Type::Number, 0.5, 1.5), number(0.5), true),
        (between(Type::Number, 0.5, 1.5), number(1.6), false),
        (between(Type::Number, 0.5, 1.5), Value::Integer(1), true),
        (between(Type::Number, 0.5, 1.5), Value::Integer(0), false),
        (between(Type::Number, 0.5, 1.5), number(f64::NAN), false),
        (of(Type::Number), number(f64::NAN), true),
        (between(Type::Integer, 1.5, 2.5), Value::Integer(2), true),
        (between(Type::Integer, 1.5, 2.5), Value::Integer(1), false),
        (between(Type::Integer, 0.0, 9_007_199_254_740_992.0), Value::Integer(large), false),
        (between(Type::Integer, f64::NEG_INFINITY, f64::INFINITY), Value::Integer(i64::MIN), true),
        (of(Type::Integer), number(1.0), false),
        (between(Type::Text, 2.0, 3.0), text("äöü"), true),
        (between(Type::Text, 2.0, 3.0), text("a"), false),
        (between(Type::Text, 2.0, 3.0), text("abcd"), false),
        (between(Type::Data, 1.0, 2.0), Value::Data([1, 2, 3].into()), false),
        (between(Type::Numbers, 1.0, 2.0), Value::Numbers([1.0].into()), true),
        (between(Type::Floats, 1.0, 2.0), Value::Floats([].into()), false),
        (between(Type::Integers, 1.0, 2.0), Value::Integers([1, 2, 3].into()), false),
        (between(Type::List, 1.0, 2.0), list(&[Value::Null]), true),
        (between(Type::List, 1.0, 2.0), list(&[]), false),
    ];
    for (field, value, fits) in cases {
        let told = format!("{field:?} {value:?}");
        let mut stage = with_props(fields(vec![("x", field)]));
        assert_eq!(stage.set("ada", "x", value).is_ok(), fits, "{told}");
    }
}

#[test]
fn entries_of_maps_and_elements_of_lists_have_formats_of_their_own() {
    let item = Field { max: Some(10.0), ..of(Type::Integer) };
    let items = Field { items: Some(Arc::new(item)), ..of(Type::List) };
    let inner: Fields = Arc::new([("scores".into(), items)]);
    let mut stage = with_props(fields(vec![
        ("m", Field { fields: inner, ..of(Type::Map) }),
        ("any", of(Type::Map)),
    ]));
    let scores = |scores: &[Value]| map(&[("scores", list(scores))]);
    stage.set("ada", "m", scores(&[Value::Integer(1), Value::Integer(10)])).unwrap();
    stage.set("ada", "m", map(&[])).unwrap();
    stage.set("ada", "any", scores(&[text("what you like")])).unwrap();
    let wrong = stage.set("ada", "m", scores(&[Value::Integer(11), Value::Integer(1), text("a")]));
    let expected = [r#"write.set["m"]["scores"][0]"#, r#"write.set["m"]["scores"][2]"#];
    assert_eq!(blamed(wrong), expected);
}

#[test]
fn only_who_has_the_role_writes_a_key_and_the_keys_are_named() {
    let by = |writer, default: i64| Field {
        writer: Some(writer),
        default: Some(Value::Integer(default)),
        ..of(Type::Integer)
    };
    let part = fields(vec![("rank", by(Role::Admin, 1)), ("x", of(Type::Integer))]);
    let schema = Schema { props: part.clone(), data: part, ..Schema::default() };
    let mut stage = Stage::open(playing(schema)).with(&["ben"]);
    let both = || Write::of(values(&[("rank", Value::Integer(9)), ("x", Value::Integer(9))]));
    let needs_writer = |outcome: Result<(), Refusal>, path: &str| {
        let Err(Refusal::NotAWriter(named)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(named.iter().map(|it| &*it.field).collect::<Vec<_>>(), [path]);
    };
    needs_writer(stage.write("ben", both(), 0).map(|_| ()), r#"write.set["rank"]"#);
    needs_writer(stage.remove("ben", "rank").map(|_| ()), r#"write.remove["rank"]"#);
    needs_writer(stage.set_data("ben", both(), Write::default()), r#"set["rank"]"#);
    let join = Join { props: values(&[("rank", Value::Integer(9))]), ..Join::default() };
    needs_writer(stage.join_with("cleo", join).map(|_| ()), r#"join.props["rank"]"#);
    // What is wrong whoever writes it comes first, and names the others too.
    let wrong = Write::of(values(&[("rank", text("first")), ("x", text("a"))]));
    assert_eq!(blamed(stage.write("ben", wrong, 0)).len(), 3);

    stage.write("ada", both(), 0).unwrap();
    stage.set_data("ada", both(), Write::default()).unwrap();
    let by_app = Command::SetProps { user: user("ben"), write: both(), term: 0 };
    stage.try_to(Actor::App, by_app).unwrap();
    stage.tick();
    assert_eq!(stage.shows(&members(), "ben", "rank"), Some(Value::Integer(9)));
}

#[test]
fn a_session_with_a_schema_takes_only_writes_that_name_it() {
    let mut stage = Stage::open(playing(game()));
    let user_props = values(&[("name", text("of the user")), ("mood", text("good"))]);
    let join = Join { user_props: user_props.clone(), ..Join::default() };
    stage.join_with("ben", join.clone()).unwrap();
    stage.join_with("spy", Join { user_props: user_props.clone(), ..spectator() }).unwrap();
    let revision = stage.tick();
    assert_eq!(stage.shows(&members(), "ben", "name"), Some(text("unset")));
    let on_user = |name: &str, key: &str| Command::UserProps {
        user: user(name),
        write: set(key, text("later")),
        hidden: true,
    };
    let needs_id = Err(Refusal::SessionIdNeeded);
    assert_eq!(stage.try_to(Actor::App, on_user("ben", "name")), needs_id);
    assert_eq!(stage.try_to(Actor::App, on_user("ben", "mood")), needs_id);
    assert!(!stage.try_to(Actor::App, on_user("spy", "name")).unwrap().concerned);
    stage.update(Setting::Propnames(keys(&["pos"])));
    assert!(!stage.try_to(Actor::App, on_user("ben", "name")).unwrap().concerned);
    stage.update(Setting::Propnames(keys(&[])));
    let member = Command::SetRole { target: user("spy"), role: Role::Member, user_props };
    stage.try_to(Actor::App, member).unwrap();
    assert_eq!(stage.tick(), revision.next());
    for name in ["ben", "spy"] {
        assert_eq!(stage.shows(&members(), name, "name"), Some(text("unset")));
        assert_eq!(stage.shows(&members(), name, "mood"), None);
    }
}

#[test]
fn a_new_host_takes_over_what_it_has_not_set_itself_and_a_default_is_not_set() {
    let part = example(&[("a", text("unset")), ("b", text("unset")), ("c", text("unset"))]);
    let schema = Schema { props: part, ..Schema::default() };
    let opening = Opening { schema: Some(Arc::new(schema)), ..opening_by("ada", Kind::Hosted) };
    let mut stage = Stage::open(opening).with(&["ben"]);
    for (name, key) in [("ada", "a"), ("ada", "b"), ("ben", "b")] {
        stage.set(name, key, text(name)).unwrap();
    }
    stage.tick();
    stage.leave("ada");
    stage.tick();
    assert_eq!(stage.host(), Some("ben"));
    for (key, value) in [("a", "ada"), ("b", "ben"), ("c", "unset")] {
        assert_eq!(stage.shows(&members(), "ben", key), Some(text(value)), "{key}");
    }
}

#[test]
fn a_key_that_is_removed_is_set_back_to_its_default() {
    let mut stage = Stage::open(playing(game()));
    stage.set("ada", "name", text("Ada")).unwrap();
    stage.tick();
    assert_eq!(stage.shows(&members(), "ada", "name"), Some(text("Ada")));
    stage.remove("ada", "name").unwrap();
    stage.tick();
    let news = stage.news(&members()).of("ada").unwrap().props.clone();
    assert_eq!(news.set["name"], text("unset"));
    assert!(news.removed.is_empty(), "it holds a value all the time");
}

#[test]
fn every_fault_of_a_schema_is_named() {
    let bad_default =
        Field { max: Some(5.0), default: Some(Value::Integer(6)), ..of(Type::Integer) };
    let nested_default =
        Field { default: Some(Value::Null), writer: Some(Role::Admin), ..of(Type::Any) };
    let nested = |of: Type| Field {
        fields: Arc::new([("x".into(), nested_default.clone())]),
        ..Field::new(of)
    };
    let bounds =
        |of: Type, min: f64, max: f64| Field { min: Some(min), max: Some(max), ..Field::new(of) };
    let deep = (1..9)
        .fold(of(Type::Any), |inner, _| Field { items: Some(Arc::new(inner)), ..of(Type::List) });
    let wrong_map = Field {
        fields: Arc::new([("x".into(), of(Type::Flag))]),
        default: Some(map(&[("x", Value::Null), ("y", Value::Null)])),
        ..of(Type::Map)
    };
    let (_, faults) = judged(vec![
        ("default out of bounds", bad_default),
        ("min > max", bounds(Type::Number, 2.0, 1.0)),
        ("nothing whole", bounds(Type::Integer, 0.2, 0.8)),
        ("no length", bounds(Type::Text, -5.0, -1.0)),
        ("no numbers", bounds(Type::Number, f64::NAN, 1.0)),
        ("no bounds", bounds(Type::Flag, 0.0, 1.0)),
        ("fields", nested(Type::List)),
        ("nested", nested(Type::Map)),
        ("items", Field { items: Some(Arc::new(of(Type::Any))), ..of(Type::Map) }),
        ("deep", deep),
        ("default of a map", wrong_map),
        ("fine", bounds(Type::Integer, 0.2, 1.0)),
    ]);
    let items = ".items".repeat(8);
    let mut expected = vec![
        r#"props["default out of bounds"].default_value"#.to_owned(),
        r#"props["min > max"].max"#.to_owned(),
        r#"props["nothing whole"].max"#.to_owned(),
        r#"props["no length"].max"#.to_owned(),
        r#"props["no numbers"].min"#.to_owned(),
        r#"props["no bounds"].min"#.to_owned(),
        r#"props["no bounds"].max"#.to_owned(),
        r#"props["fields"].fields"#.to_owned(),
        r#"props["fields"].fields["x"].default_value"#.to_owned(),
        r#"props["fields"].fields["x"].writer"#.to_owned(),
        r#"props["nested"].fields["x"].default_value"#.to_owned(),
        r#"props["nested"].fields["x"].writer"#.to_owned(),
        r#"props["items"].items"#.to_owned(),
        format!(r#"props["deep"]{items}"#),
        r#"props["default of a map"].default_value["x"]"#.to_owned(),
        r#"props["default of a map"].default_value["y"]"#.to_owned(),
    ];
    expected.sort();
    let mut faults = faults;
    faults.sort();
    assert_eq!(faults, expected);
}

#[test]
fn a_reset_sets_all_props_and_all_data_to_the_defaults_of_the_new_schema() {
    let mut stage = Stage::open(playing(game())).with(&["ben"]);
    stage.join_with("spy", spectator()).unwrap();
    stage.set("ben", "name", text("Ben")).unwrap();
    let now = set("endTime", Value::Integer(1));
    stage.set_data("ada", now, set("secret", text("swordfish"))).unwrap();
    let epoch = stage.session.epoch();
    let before = stage.tick();
    let next = Schema {
        props: example(&[("score", Value::Integer(0))]),
        data: example(&[("round", Value::Integer(1))]),
        ..Schema::default()
    };
    assert_eq!(stage.reset("ada", Some(next.clone())), Ok(before.next()));
    assert!(!stage.session.is_open(), "its frame is made");
    assert_eq!(stage.session.epoch(), epoch);
    let picture = stage.picture(&host());
    assert_eq!(picture.session.as_ref().unwrap().schema.as_deref(), Some(&next));
    assert_eq!(
        picture.data.into_iter().collect::<Vec<_>>(),
        values(&[("round", Value::Integer(1))])
    );
    assert!(picture.private_data.is_empty());
    for (name, props) in [("ada", 1), ("ben", 1), ("spy", 0)] {
        assert_eq!(picture.members[name].props.len(), props, "{name}");
    }
    assert_eq!(stage.shows(&members(), "ben", "score"), Some(Value::Integer(0)));
    assert_eq!(blamed(stage.set("ben", "name", text("Ben"))), [r#"write.set["name"]"#]);
    stage.set("ben", "score", Value::Integer(3)).unwrap();
    // Who joins later is in the new format too, and so is a reset that names none.
    stage.join("cleo").unwrap();
    stage.tick();
    assert_eq!(stage.shows(&members(), "cleo", "score"), Some(Value::Integer(0)));
    stage.reset("ada", None).unwrap();
    assert_eq!(stage.shows(&members(), "ben", "score"), Some(Value::Integer(0)));
}

#[test]
fn a_reset_discards_the_writes_of_the_open_frame_which_keep_their_positions() {
    let mut stage = Stage::open(playing(game())).with(&["ben"]);
    stage.set("ada", "name", text("framed")).unwrap();
    let before = stage.tick();
    let written = stage.set("ada", "name", text("open")).unwrap().revision;
    stage.set_data("ada", set("endTime", Value::Integer(1)), Write::default()).unwrap();
    let joined =
        stage.join_with("cleo", Join { props: values(&[("name", text("C"))]), ..Join::default() });
    assert_eq!((written, joined.unwrap().revision), (before.next(), before.next()));
    stage.leave("ben");
    stage.update(Setting::Unlisted(true));
    assert_eq!(stage.reset("ada", None), Ok(before.next().next()), "a frame of its own");
    let picture = stage.picture(&members());
    assert_eq!(picture.members.keys().collect::<Vec<_>>(), ["ada", "cleo"]);
    assert!(picture.session.unwrap().settings.unlisted, "what is no write stays");
    for name in ["ada", "cleo"] {
        assert_eq!(stage.shows(&members(), name, "name"), Some(text("unset")));
    }
    assert_eq!(picture.data["endTime"], Value::Integer(1_262_304_000));
    // What comes after it is in the next frame.
    let after = stage.set("ada", "name", text("after")).unwrap();
    assert_eq!(after.revision, Revision(before.0 + 3));
    stage.tick();
    assert_eq!(stage.shows(&members(), "ada", "name"), Some(text("after")));
}

#[test]
fn no_delta_leads_across_a_reset() {
    let mut stage = Stage::open(playing(game())).with(&["ben"]);
    let mut old = Vec::new();
    for n in 0..3 {
        stage.set("ben", "name", text(&n.to_string())).unwrap();
        stage.tick();
        old.push(stage.position(&members()));
    }
    let reset = stage.reset("ada", None).unwrap();
    assert_eq!((stage.session.horizon(), stage.session.reset_revision()), (reset, reset));
    for at in old {
        assert_eq!(stage.resume(at, &members()), Err(NoDelta::TooOld));
    }
    let at = stage.position(&members());
    stage.set("ben", "name", text("Ben")).unwrap();
    stage.leave("ada");
    stage.tick();
    assert_eq!(stage.resume(at, &members()), Ok(()));
    let changes = Changes::after(&stage.session, &members(), at.revision);
    assert_eq!(changes.of("ben").unwrap().props.set["name"], text("Ben"));
    assert_eq!(changes.left.len(), 1);
}

#[test]
fn a_reset_without_any_schema_clears_everything_whichever_way_it_came() {
    let mut stage = Stage::open(opening_by("ada", Kind::Room)).with(&["ben"]);
    stage.write_on_user("ben", set("mood", text("good")));
    stage.set("ben", "x", text("of the session")).unwrap();
    stage.set_data("ada", set("d", text("1")), set("p", text("1"))).unwrap();
    stage.tick();
    stage.reset("ada", None).unwrap();
    let picture = stage.picture(&host());
    assert!(picture.data.is_empty() && picture.private_data.is_empty());
    assert!(picture.members["ben"].props.is_empty());
    stage.set("ben", "anything", Value::Null).unwrap();
    stage.write_on_user("ben", set("mood", text("good")));
    stage.reset("ada", Some(game())).unwrap();
    assert_eq!(stage.shows(&members(), "ben", "mood"), None);
    assert_eq!(stage.shows(&members(), "ben", "name"), Some(text("unset")));
}

#[test]
fn admins_reset_or_members_where_the_settings_say_so() {
    let mut stage = Stage::open(playing(game())).with(&["ben"]);
    stage.join_with("spy", spectator()).unwrap();
    stage.tick();
    let before = format!("{:?}", stage.session);
    for name in ["ben", "spy", "outsider"] {
        assert_eq!(stage.reset(name, None), too_low(Role::Admin), "{name}");
    }
    assert_eq!(format!("{:?}", stage.session), before);
    stage.update(Setting::ResetRole(Role::Member));
    stage.tick();
    assert_eq!(stage.reset("spy", None), too_low(Role::Member));
    assert_eq!(stage.reset("outsider", None), Err(Refusal::NotAMember));
    stage.reset("ben", None).unwrap();
    stage.reset("", None).unwrap();
    stage.try_to(Actor::App, Command::Delete).unwrap();
    assert_eq!(stage.reset("", None), Err(Refusal::SessionNotFound));
}

#[test]
fn a_host_that_is_gone_leaves_nothing_across_a_reset() {
    let part = example(&[("a", text("unset"))]);
    let schema = Schema { props: part, ..Schema::default() };
    let mut stage =
        Stage::open(Opening { schema: Some(Arc::new(schema)), ..opening(Kind::Hosted) });
    stage.update(Setting::HostGrace(1_000_000));
    stage.update(Setting::EmptyTtl(60_000_000));
    stage.stream("ada");
    stage.set("ada", "a", text("of ada")).unwrap();
    stage.tick();
    stage.lose_stream("ada");
    stage.tick();
    stage.reset("", None).unwrap();
    stage.pass(2_000_000);
    stage.join("ben").unwrap();
    stage.tick();
    assert_eq!(stage.host(), Some("ben"));
    assert_eq!(stage.shows(&members(), "ben", "a"), Some(text("unset")));
}

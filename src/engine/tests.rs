//! What several sessions of a user come to together.

use super::error::Refusal;
use super::{Engine, EngineSettings, Live, WriteOutcome, is_taken, testing};
use crate::session::{
    Info, Opening, Session,
    command::{Actor, Command, Join, Write},
    ids::{AppId, SessionId, UserId},
    limits::Limits,
    member::Departure,
    private::{Pair, Private},
    settings::{Keys, Kind, Setting, Settings},
    value::Value,
    view::{ChangeSink, Class, MemberChange, View},
};
use std::{collections::BTreeMap, sync::Arc};

fn engine() -> Engine {
    testing::engine(EngineSettings { shards: 1, ..testing::settings() })
}

fn room(engine: &Engine, id: &str, capacity: usize) -> Arc<Live> {
    let (app, id) = (AppId::new("default"), SessionId::new(id));
    let mut settings = engine.default_session();
    settings.capacity = capacity;
    let opening = Opening::new(app.expect("an id"), id.expect("an id"), Kind::Room, settings);
    engine.open(opening, false).expect("it opens").0.live
}

fn user(id: &str) -> UserId {
    UserId::new(id).expect("an id")
}

fn set(key: &str, value: i64) -> Write {
    Write::of(vec![(key.into(), Value::Integer(value))])
}

/// What is accepted of a user's key in a session.
fn holds(live: &Live, name: &str, key: &str) -> Option<Value> {
    let mut state = live.lock();
    let now = state.core.last_frame_at() + 1;
    state.core.flush(now);
    let select_all = Command::Update(vec![Setting::Propnames(Keys::default())]);
    state.core.apply(now, &Actor::App, select_all).expect("the app may");
    state.core.flush(now);
    let mut seen = Seen::default();
    state.core.show_all(&View { class: Class::Host, props: Keys::default() }, &mut seen);
    seen.props.remove(&(name.to_owned(), key.to_owned()))
}

/// The props that a view shows.
#[derive(Default)]
struct Seen {
    user: String,
    props: BTreeMap<(String, String), Value>,
}

impl ChangeSink<'_> for Seen {
    fn session(&mut self, _: &Session, _: &Info, _: Class) {}
    fn data(&mut self, _: &str, _: Option<&Value>) {}
    fn private_data(&mut self, _: &str, _: Option<&Value>) {}
    fn left(&mut self, _: &str, _: Departure) {}

    fn member(&mut self, change: MemberChange<'_>) {
        self.user = change.user.to_string();
    }

    fn prop(&mut self, key: &str, value: Option<&Value>) {
        let value = value.expect("a snapshot removes nothing").clone();
        self.props.insert((self.user.clone(), key.to_owned()), value);
    }
}

/// A room that ada has joined and that shows these keys.
fn showing(engine: &Engine, id: &str, keys: &[&str]) -> Arc<Live> {
    let live = room(engine, id, 5);
    let keys = Keys::new(keys.iter().map(|key| (*key).into()).collect());
    let select = Command::Update(vec![Setting::Propnames(keys)]);
    engine.command(&live, &Actor::App, select).expect("the app may");
    engine.join(&live, &user("ada"), Join::default()).expect("there is a place");
    live
}

fn write(engine: &Engine, write: &Write) -> Vec<WriteOutcome> {
    let app = AppId::new("default").expect("an id");
    engine.write_user(&app, &user("ada"), write).expect("there is room on the user")
}

#[test]
fn a_write_on_the_user_reaches_every_session_whether_it_shows_the_key_or_not() {
    let engine = engine();
    let (shows, hides) = (showing(&engine, "a", &["x"]), showing(&engine, "b", &["y"]));
    let outcomes = write(&engine, &set("x", 1));
    assert!(outcomes.iter().map(|(id, _)| id).eq([&shows.id]), "one is concerned");
    let later = showing(&engine, "c", &["x"]);
    for live in [shows, hides, later] {
        assert_eq!(holds(&live, "ada", "x"), Some(Value::Integer(1)), "{}", live.id);
    }
}

#[test]
fn a_write_on_the_user_that_no_session_takes_and_some_refuse_changes_nothing_anywhere() {
    let engine = engine();
    let most = Limits::default().props_per_user;
    let (full, hides) = (showing(&engine, "full", &["x"]), showing(&engine, "hides", &["y"]));
    let fill = Write::of((0..most).map(|n| (format!("k{n}").into(), Value::Null)).collect());
    let fill = Command::SetProps { user: user("ada"), write: fill, term: 0 };
    engine.command(&full, &Actor::App, fill).expect("it is just full");
    let outcomes = write(&engine, &set("x", 1));
    assert!(!is_taken(&outcomes), "{outcomes:?}");
    let refusal = Refusal::props_per_user(most);
    assert_eq!(outcomes, [(full.id.clone(), Err(refusal))]);
    let later = showing(&engine, "later", &["x"]);
    for live in [&full, &hides, &later] {
        assert_eq!(holds(live, "ada", "x"), None, "{}", live.id);
    }
    // What one takes is refused where there is no room, and taken everywhere else.
    let takes = showing(&engine, "takes", &["x"]);
    let outcomes = write(&engine, &set("x", 2));
    assert!(is_taken(&outcomes));
    let refusing = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).map(|(id, _)| id);
    assert!(refusing.eq([&full.id]));
    assert_eq!(holds(&full, "ada", "x"), None);
    for live in [&hides, &takes] {
        assert_eq!(holds(live, "ada", "x"), Some(Value::Integer(2)), "{}", live.id);
    }
}

#[test]
fn a_private_session_opens_with_what_is_set_on_its_source_and_takes_what_follows() {
    let engine = engine();
    let _elsewhere = showing(&engine, "a", &[]);
    write(&engine, &set("x", 1));
    for opener in ["ada", "ben"] {
        let (app, id) = (AppId::new("default"), SessionId::new(opener));
        let settings = Settings::new(10_000, 10);
        let opening = Opening {
            opener: Some((user(opener), Join::default())),
            ..Opening::new(app.expect("an id"), id.expect("an id"), Kind::Private, settings)
        };
        let pair = Pair { source: user("ada"), listener: user(&format!("ear of {opener}")) };
        let listener = pair.listener.clone();
        let opening = match opener {
            "ada" => opening,
            _ => Opening { opener: Some((listener, Join::default())), ..opening },
        };
        let private = Private::of(pair, None, Vec::new());
        let (joined, _) = engine.open_private(opening, private, true).expect("it opens");
        assert_eq!(holds(&joined.live, "ada", "x"), Some(Value::Integer(1)));
        write(&engine, &set("y", 2));
        assert_eq!(holds(&joined.live, "ada", "y"), Some(Value::Integer(2)));
        let seen = joined.live.lock().core.members().membership("ada").map(|it| it.disconnected);
        assert_eq!(seen, Some(false), "she is in another session");
    }
}

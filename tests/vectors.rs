//! The test vectors of `proto/testdata`: updates as a client gets them, and the state that they lead
//! to, both made by the core. The files must be what the core makes; `VECTORS=write cargo test --test
//! vectors` makes them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Map, Value as Json, json};
use sessiond::{
    engine::{Clock, Delivery, Engine, EngineSettings, Live, Options, Resume, Step, Subscription},
    grpc::encode::Wire,
    proto,
    session::{
        Opening,
        command::{Actor, Command, Join, Write},
        ids::{AppId, Key, SessionId, UserId},
        limits::{Limits, SECOND},
        role::Role,
        settings::{Keys, Kind, Presence, Setting, Settings},
        value::Value,
    },
};
use std::{
    fs,
    path::PathBuf,
    pin::pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker},
};

const BEGIN: u64 = 1_767_225_600_000_000;
const TICK: u64 = 10_000;

/// Messages of so many bytes make steps that come in parts without making files that are large.
const SMALL: usize = 4096;

/// The bytes before a message.
const PREFIX: usize = 5;

/// A session that something happens to, with one reader whose updates are noted.
struct Scene {
    engine: Engine,
    live: Arc<Live>,
    reader: Actor,
    options: Options,
    subscription: Subscription,
    steps: Vec<Json>,
}

fn user(name: &str) -> UserId {
    UserId::new(name).expect("an id")
}

fn number(number: f64) -> Value {
    Value::Number(number)
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn keys(keys: &[&str]) -> Keys {
    Arc::new(keys.iter().map(|key| Key::from(*key)).collect())
}

fn join() -> Join {
    Join { presence: Some(Presence::Explicit), ..Join::default() }
}

impl Scene {
    fn open(kind: Kind, reader: &str, delivery: Delivery, most: usize) -> Self {
        let settings = EngineSettings {
            shards: 1,
            tick: TICK,
            user_ttl: 60 * SECOND,
            max_sessions: 10,
            max_users: 1000,
            max_sessions_per_user: 10,
            max_listeners_per_user: 10,
            max_updates_per_second: 1_000_000,
            max_changes_per_second: 1_000_000,
            max_logs_bytes: 1 << 20,
            events: Default::default(),
            max_replay_bytes: 1 << 20,
            keeping: None,
            limits: Limits::default(),
            judged: Default::default(),
        };
        let encoder = Arc::new(Wire::with_messages_of(most));
        let engine = Engine::new(settings, Clock::stepped(BEGIN), encoder);
        let app = AppId::new("default").expect("an id");
        let id = SessionId::new("finals").expect("an id");
        let settings = Settings { hostprops: keys(&["x"]), ..Settings::new(TICK, 100) };
        let settings = if kind == Kind::Hosted { settings } else { Settings::new(TICK, 100) };
        let opening = Opening {
            opener: Some((user("ada"), join())),
            ..Opening::new(app, id, kind, settings)
        };
        let live = engine.open(opening, false).expect("it opens").0.live;
        let reader = Actor::of(&user(reader));
        let options = Options { delivery, ..Options::default() };
        if reader.user().is_some_and(|reader| &**reader != "ada") {
            let spectator = Join { spectator: true, ..join() };
            let who = reader.user().expect("a user").clone();
            engine.join(&live, &who, spectator).expect("it joins");
        }
        engine.advance(TICK);
        let subscription = engine.subscribe(&live, &reader, None, options.clone()).expect("it may");
        let steps = Vec::new();
        let mut scene = Self { engine, live, reader, options, subscription, steps };
        scene.note("the first message is a snapshot", false);
        scene
    }

    fn command(&self, actor: &Actor, command: Command) {
        self.engine.command(&self.live, actor, command).expect("it is accepted");
    }

    fn join<const N: usize>(&self, name: &str, props: [(&str, Value); N]) {
        let props = props.map(|(key, value)| (Key::from(key), value)).into();
        let join = Join { props, ..join() };
        self.engine.join(&self.live, &user(name), join).expect("it joins");
    }

    fn leave(&self, name: &str) {
        let leave = Command::Leave { user: user(name), keep_role: false };
        self.command(&Actor::of(&user(name)), leave);
    }

    fn write(&self, name: &str, set: &[(&str, Value)], remove: &[&str]) {
        let set = set.iter().map(|(key, value)| (Key::from(*key), value.clone())).collect();
        let remove = remove.iter().map(|key| Key::from(*key)).collect();
        let write = Write { set, remove, ..Write::default() };
        let command = Command::SetProps { user: user(name), write, term: 0 };
        self.command(&Actor::of(&user(name)), command);
    }

    fn data(&self, set: &[(&str, Value)], private: &[(&str, Value)]) {
        let of = |set: &[(&str, Value)]| {
            Write::of(set.iter().map(|(key, value)| (Key::from(*key), value.clone())).collect())
        };
        let command = Command::SetData { shared: of(set), private: of(private), term: 0 };
        self.command(&Actor::App, command);
    }

    fn reset(&self) {
        let reset = pin!(self.engine.reset(&self.live, &Actor::App, None));
        let outcome = reset.poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(outcome, Poll::Ready(Ok(_))), "no frame is in flight");
    }

    /// Ticks, and notes what the reader gets, and what it has to have then.
    fn tick(&mut self, about: &str) {
        self.engine.advance(TICK);
        self.note(about, false);
    }

    fn note(&mut self, about: &str, resumed: bool) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut updates = Vec::new();
        while let Poll::Ready((step, _)) = self.subscription.poll_step(&mut cx) {
            match step {
                Step::Update(encoded) => updates.extend(encoded.messages.iter().map(|message| {
                    let response =
                        proto::SubscribeToSessionResponse::decode(&message.bytes[PREFIX..]);
                    response.expect("it decodes").update.expect("an update")
                })),
                Step::Heartbeat => updates.push(proto::SessionUpdate {
                    to_revision: self.subscription.position().revision.0,
                    body: Some(proto::session_update::Body::Heartbeat(proto::Heartbeat {})),
                    ..Default::default()
                }),
                Step::Quiet | Step::Ended(_) => {}
            }
        }
        let updates: Vec<Json> = updates.iter().map(both).collect();
        let state = self.state();
        self.steps.push(json!({
            "about": about,
            "resumed": resumed,
            "updates": updates,
            "state": state,
        }));
    }

    /// The reader is cut, something happens, and it comes back where it was.
    fn cut(&mut self, about: &str, meanwhile: impl FnOnce(&Self), options: Option<Options>) {
        let at = self.subscription.position();
        let view = {
            let state = self.live.lock();
            let class = state.core.class_of(&self.reader);
            let view = sessiond::session::view::View { class, props: self.options.props.clone() };
            self.options.delivery.fingerprint(&state.core, &view, None)
        };
        meanwhile(self);
        self.engine.advance(TICK);
        let options = options.unwrap_or_else(|| self.options.clone());
        let resume = Resume { epoch: at.epoch, revision: at.revision, view };
        let resumed = Options { resume: Some(resume), ..options.clone() };
        self.subscription =
            self.engine.subscribe(&self.live, &self.reader, None, resumed).expect("it may");
        self.options = options;
        self.note(about, true);
    }

    /// What the reader has to have: a snapshot by name says it.
    fn state(&self) -> Json {
        let options = Options { props: self.options.props.clone(), ..Options::default() };
        let mut whole =
            self.engine.subscribe(&self.live, &self.reader, None, options).expect("it may");
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready((Step::Update(encoded), _)) = whole.poll_step(&mut cx) else {
            panic!("a snapshot comes first")
        };
        let mut state = proto::Changes::default();
        let mut revision = 0;
        for message in &encoded.messages {
            let response = proto::SubscribeToSessionResponse::decode(&message.bytes[PREFIX..]);
            let update = response.expect("it decodes").update.expect("an update");
            revision = update.to_revision;
            let part = match update.body.expect("a body") {
                proto::session_update::Body::Snapshot(it) => it.state.expect("a state"),
                proto::session_update::Body::Changes(changes) => changes,
                other => panic!("not a part: {other:?}"),
            };
            state.session = state.session.or(part.session);
            state.data.extend(part.data);
            state.private_data.extend(part.private_data);
            for member in part.members {
                match state.members.last_mut().filter(|it| it.user_id == member.user_id) {
                    Some(known) => known.props.extend(member.props),
                    None => state.members.push(member),
                }
            }
        }
        let values = |named: &[proto::NamedValue]| -> Map<String, Json> {
            named.iter().map(|named| (named.name.clone(), value_of(named))).collect()
        };
        let members = state.members.iter().map(|member| {
            json!({
                "userId": member.user_id,
                "role": member.role().as_str_name(),
                "disconnected": member.disconnected.unwrap_or_default(),
                "joinOrder": member.join_order.to_string(),
                "props": values(&member.props),
            })
        });
        let members: Vec<Json> = members.collect();
        json!({
            "revision": revision.to_string(),
            "session": state.session.as_ref().map(|info| json_of("SessionInfo", info)),
            "data": values(&state.data),
            "privateData": values(&state.private_data),
            "members": members,
        })
    }
}

/// A value without its name.
fn value_of(named: &proto::NamedValue) -> Json {
    let value =
        proto::Value::decode(&*named.encode_to_vec()).expect("its bytes are those of a value");
    json_of("Value", &value)
}

fn json_of(name: &str, message: &impl Message) -> Json {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        DescriptorPool::decode(proto::DESCRIPTORS).expect("the descriptors are compiled in")
    });
    let descriptor = POOL.get_message_by_name(&format!("sessiond.v1.{name}")).expect("it is one");
    let message =
        DynamicMessage::decode(descriptor, &*message.encode_to_vec()).expect("it decodes");
    let json = message.serialize_with_options(
        serde_json::value::Serializer,
        &SerializeOptions::new().stringify_64_bit_integers(true),
    );
    json.expect("it has a form in JSON")
}

/// An update in both forms.
fn both(update: &proto::SessionUpdate) -> Json {
    let binary = STANDARD.encode(update.encode_to_vec());
    json!({ "binary": binary, "json": json_of("SessionUpdate", update) })
}

/// What members do, and all kinds of values.
fn members_write_and_go(delivery: Delivery, most: usize) -> Vec<Json> {
    let mut scene = Scene::open(Kind::Room, "eye", delivery, most);
    scene.join("bob", [("x", number(1.5)), ("name", text("Bob"))]);
    scene.join("cid", [("x", number(2.5)), ("name", text("Cid"))]);
    scene.tick("two members join with props");
    scene.write("bob", &[("x", number(3.0))], &[]);
    scene.write("cid", &[("x", number(4.0))], &[]);
    scene.tick("both write the same prop");
    let kinds = [
        ("null", Value::Null),
        ("flag", Value::Flag(false)),
        ("integer", Value::Integer(i64::MIN)),
        ("number", number(f64::NAN)),
        ("text", text("")),
        ("data", Value::Data(vec![0, 255].into())),
        ("numbers", Value::Numbers([0.5, -0.0].into())),
        ("one float", Value::Floats([0.5].into())),
        ("floats", Value::Floats([0.5, 1.5].into())),
        ("integers", Value::Integers([-1, 1 << 60].into())),
        ("list", Value::List([Value::Integer(1), Value::Null].into())),
        ("map", Value::Map([("a".into(), Value::Map([].into()))].into())),
    ];
    scene.write("bob", &kinds, &[]);
    scene.tick("values of every kind");
    scene.write("bob", &[("mixed", number(1.0))], &[]);
    scene.write("cid", &[("mixed", text("one"))], &[]);
    scene.tick("values of different kinds under one key");
    scene.write("bob", &[("x", number(5.0))], &["name", "null"]);
    scene.tick("a prop is set and others are removed");
    scene.write("bob", &[("name", text("Robert"))], &[]);
    scene.tick("a prop that was removed is set again");
    scene.data(&[("level", Value::Integer(7))], &[("seed", Value::Integer(99))]);
    scene.tick("shared session data, and private data that the reader does not see");
    let role =
        Command::SetRole { target: user("cid"), role: Role::Moderator, user_props: Vec::new() };
    scene.command(&Actor::App, role);
    scene.tick("a role changes");
    let settings = vec![Setting::Capacity(50)];
    scene.engine.update(&scene.live, &Actor::App, settings).expect("it is accepted");
    scene.tick("the settings change");
    scene.leave("cid");
    scene.tick("a member leaves");
    scene.leave("bob");
    scene.join("bob", [("x", number(6.0))]);
    scene.tick("a member leaves and comes back within a tick");
    for name in ["dan", "eve", "fay"] {
        scene.join(name, [("x", number(0.0)), ("y", number(0.0))]);
    }
    scene.tick("three members join");
    for (name, x) in [("dan", 1.0), ("fay", 2.0)] {
        scene.write(name, &[("x", number(x)), ("y", number(-x))], &[]);
    }
    scene.write("eve", &[("y", number(9.0))], &[]);
    scene.tick("members write different props");
    scene.steps
}

fn steps_in_parts(delivery: Delivery) -> Vec<Json> {
    let mut scene = Scene::open(Kind::Room, "eye", delivery, SMALL);
    for at in 0..6 {
        let long = text(&format!("{at}").repeat(700));
        scene.join(&format!("user-{at}"), [("a", long.clone()), ("b", long), ("x", number(1.0))]);
    }
    scene.tick("more joins than fit into a message");
    for at in 0..6 {
        let long = text(&format!("{}", 9 - at).repeat(800));
        scene.write(&format!("user-{at}"), &[("a", long), ("x", number(2.0))], &[]);
    }
    scene.tick("more changes than fit into a message");
    scene.steps
}

fn resumes(delivery: Delivery) -> Vec<Json> {
    let mut scene = Scene::open(Kind::Room, "eye", delivery, 1 << 20);
    scene.join("bob", [("x", number(1.0)), ("y", number(1.0))]);
    scene.tick("a member joins");
    let writes = |scene: &Scene| {
        scene.write("bob", &[("x", number(2.0))], &[]);
        scene.engine.advance(TICK);
        scene.join("cid", [("x", number(3.0)), ("z", number(3.0))]);
        scene.engine.advance(TICK);
        scene.write("bob", &[], &["y"]);
    };
    scene.cut(
        "the stream is cut and resumed: one merged step, with the names that were kept",
        writes,
        None,
    );
    scene.cut("the same, and nothing has happened: a heartbeat", |_| {}, None);
    let fewer = Options { props: keys(&["x"]), ..scene.options.clone() };
    scene.cut("resumed with another selection: a snapshot VIEW_CHANGED", |_| {}, Some(fewer));
    scene.write("bob", &[("x", number(4.0)), ("w", number(4.0))], &[]);
    scene.tick("only what is selected comes");
    scene.steps
}

fn views_change(delivery: Delivery) -> Vec<Json> {
    let mut scene = Scene::open(Kind::Hosted, "eye", delivery, 1 << 20);
    scene.write("ada", &[("x", number(1.0)), ("secret", number(1.0))], &[]);
    scene.join("bob", [("x", number(2.0)), ("y", number(2.0))]);
    scene.tick("members see the host's hostprops, and nothing of other members");
    let swap = Command::SwapHost { target: Some(user("bob")), term: 0 };
    scene.command(&Actor::App, swap);
    scene.tick("another member becomes host");
    let shown = vec![Setting::Hostprops(keys(&["x", "y"]))];
    scene.engine.update(&scene.live, &Actor::App, shown).expect("it is accepted");
    scene.tick("more is selected: a snapshot VIEW_CHANGED");
    scene.reset();
    scene.tick("the session is reset: a snapshot RESET_SCHEMA");
    scene.steps
}

#[test]
fn the_vectors_are_what_the_core_makes() {
    let large = 1 << 20;
    let named = Delivery::Latest;
    let vectors = [
        ("named", "LATEST, NAMED", members_write_and_go(named, large)),
        ("columns", "LATEST, COLUMNS", members_write_and_go(Delivery::Columns, large)),
        ("all", "ALL", members_write_and_go(Delivery::All, large)),
        ("parts_named", "LATEST, NAMED, in parts", steps_in_parts(named)),
        ("parts_columns", "LATEST, COLUMNS, in parts", steps_in_parts(Delivery::Columns)),
        ("parts_all", "ALL, in parts", steps_in_parts(Delivery::All)),
        ("resume_named", "LATEST, NAMED, resumed", resumes(named)),
        ("resume_columns", "LATEST, COLUMNS, resumed", resumes(Delivery::Columns)),
        ("resume_all", "ALL, resumed", resumes(Delivery::All)),
        ("views_named", "LATEST, NAMED, views that change", views_change(named)),
        ("views_columns", "LATEST, COLUMNS, views that change", views_change(Delivery::Columns)),
        ("views_all", "ALL, views that change", views_change(Delivery::All)),
    ];
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proto/testdata");
    let writes = std::env::var("VECTORS").is_ok_and(|it| it == "write");
    for (name, about, steps) in vectors {
        assert!(steps.iter().all(|step| step["updates"] != json!([])), "{name}: each step comes");
        let made = json!({ "about": about, "steps": steps });
        let made = format!("{}\n", serde_json::to_string_pretty(&made).expect("it is JSON"));
        let file = folder.join(format!("{name}.json"));
        if writes {
            fs::create_dir_all(&folder).expect("there is room");
            fs::write(&file, made).expect("there is room");
            continue;
        }
        let known = fs::read_to_string(&file).unwrap_or_default();
        let hint = "VECTORS=write cargo test --test vectors";
        assert!(known == made, "{} is not what the core makes: {hint}", file.display());
    }
}

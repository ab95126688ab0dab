//! One entry of each kind, with something in every field. They are written out, so that whoever adds
//! a field says here what is read where it is missing.

use sessiond::{
    record::{Entry, Place, Reply, RequestRecord, UserRecord},
    session::{
        Info,
        ban::Ban,
        command::Actor,
        epoch::Epoch,
        ids::{AppId, SessionId, UserId},
        judging::{Operation, Rule},
        limits::Limits,
        member::Departure,
        password::PasswordHash,
        private::Pair,
        record::{
            Begin, Birth, Connection, Heritage, Joined, Mark, Member, Name, People, Person, Record,
            Removal, Removed, Slot, Status, Waiting,
        },
        revision::Revision,
        role::Role,
        schema::{Field, Schema, Type},
        settings::{Durability, Keys, Kind, Pacing, Presence, Settings},
        value::Value,
    },
};
use std::sync::Arc;

#[path = "stream_entries.rs"]
mod streams;

/// All of them, by the names of their files.
pub fn entries() -> Vec<(&'static str, Entry)> {
    let session = |record| Entry::Session(Box::new(record));
    let gone = Entry::Gone { app: app(), id: id(), epoch: Epoch(1_000_000) };
    vec![
        ("snapshot", session(snapshot())),
        ("update", session(update())),
        ("two_numbers", session(two_numbers())),
        ("private", session(private())),
        ("ruled", session(ruled())),
        ("gone", gone),
        ("greatest_epoch", Entry::GreatestEpoch(Epoch(1_700_000_000_000_000))),
        (
            "user",
            Entry::User(UserRecord {
                app: app(),
                user: user("ada"),
                props: vec![("x".into(), Value::Number(1.5))],
            }),
        ),
        (
            "request_replied",
            request(Place::App, Actor::App, Reply::Message(b"\x0a\x01x"[..].into())),
        ),
        (
            "request_written",
            request(
                Place::Session(id()),
                Actor::of(&user("ada")),
                Reply::Written(Epoch(1_000_000), Revision(7)),
            ),
        ),
        ("streams_counter", streams::counter()),
        ("streams_app", streams::app_change()),
        ("streams_forgotten", streams::forgotten()),
        ("stream", streams::whole()),
        ("stream_update", streams::update()),
        ("stream_part", streams::part()),
        (
            "request_on_user",
            request(
                Place::User(user("ben")),
                Actor::of(&user("ada")),
                Reply::OnUser(vec![(id(), Epoch(1_000_000), Revision(7))]),
            ),
        ),
    ]
}

fn request(place: Place, by: Actor, reply: Reply) -> Entry {
    let (id, content, at) = ("once".into(), 0xfeed, 1_700_000_000_000_000);
    Entry::Request(Box::new(RequestRecord { app: app(), place, by, id, content, at, reply }))
}

pub fn limits() -> Arc<Limits> {
    Arc::new(Limits::default())
}

fn app() -> AppId {
    AppId::new("default").unwrap()
}

fn id() -> SessionId {
    SessionId::new("race").unwrap()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn mark(revision: u64, notes: u64) -> Mark {
    Mark { epoch: Epoch(1_000_000), revision: Revision(revision), notes }
}

fn info(host: &str, schema: Option<Schema>) -> Arc<Info> {
    let keys = |keys: &[&str]| Keys::new(keys.iter().map(|key| (*key).into()).collect());
    Arc::new(Info {
        settings: Arc::new(Settings {
            name: Some("Race".into()),
            propnames: keys(&["x", "y"]),
            hostprops: keys(&["x"]),
            tick: 50_000,
            pacing: Pacing::Eager,
            capacity: 8,
            locked: true,
            unlisted: true,
            metadata: [("map".into(), Value::Text("hills".into()))].into(),
            successors: [user("cleo")].into(),
            host_grace: 5_000_000,
            inherit_host_data: true,
            presence: Some(Presence::Tied),
            rejoin_grace: 20_000_000,
            empty_ttl: 60_000_000,
            max_age: 3_600_000_000,
            exclusive: true,
            data_role: Role::Moderator,
            reset_role: Role::Owner,
            durability: Durability::Sync,
            rules: [].into(),
        }),
        owner: Some(user("ada")),
        host: Some(user(host)),
        term: 3,
        has_password: true,
        schema: schema.map(Arc::new),
    })
}

fn schema() -> Schema {
    let text = Field { max: Some(8.0), ..Field::new(Type::Text) };
    let list = Field { items: Some(Arc::new(text.clone())), ..Field::new(Type::List) };
    let map =
        Field { fields: [("l".into(), list), ("t".into(), text)].into(), ..Field::new(Type::Map) };
    let number = Field {
        default: Some(Value::Number(0.5)),
        min: Some(-1.0),
        writer: Some(Role::Admin),
        ..Field::new(Type::Number)
    };
    Schema {
        props: [("x".into(), number)].into(),
        data: [("m".into(), map)].into(),
        private_data: [].into(),
    }
}

fn values() -> Vec<Value> {
    vec![
        Value::Null,
        Value::Flag(false),
        Value::Integer(-7),
        Value::Number(-0.0),
        Value::Text("".into()),
        Value::Data([0, 255].into()),
        Value::Numbers([1.5, f64::INFINITY].into()),
        Value::Floats([0.25].into()),
        Value::Integers([i64::MIN, 0].into()),
        Value::List([Value::List([].into()), Value::Flag(true)].into()),
        Value::Map([("a".into(), Value::Null), ("b".into(), Value::Map([].into()))].into()),
    ]
}

fn slot(place: u32, revision: u64, value: Option<Value>) -> Slot {
    Slot { place, revision: Revision(revision), value }
}

fn name(place: u32, key: &str, news: u64) -> Name {
    Name { place, key: key.into(), serial: u64::from(place) + 1, news: Revision(news) }
}

fn member(order: u64, name: &str, slots: Vec<Slot>) -> Member {
    Member {
        order,
        changed: Revision(9),
        joined: Some(Joined {
            user: user(name),
            at: 2_000_000 + order,
            revision: Revision(2),
            replaces: Revision(order - 1),
        }),
        status: Some(Status {
            role: if order == 1 { Role::Owner } else { Role::Member },
            disconnected: order > 1,
            revision: Revision(4),
        }),
        hosting: Revision(3),
        slots,
    }
}

fn person(name: &str) -> Person {
    Person { user: user(name), role: None, ban: None, seat: None, connection: None }
}

fn connection(presence: Presence, until: Option<u64>) -> Option<Connection> {
    Some(Connection { presence, absent: false, has_streamed: true, until })
}

fn snapshot() -> Record {
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
    let all = (0..).zip(values()).map(|(place, value)| slot(place, 5, Some(value)));
    let ban = Some(Ban { reason: "spam".into(), until: Some(8_000_000_000) });
    let removal = |revision, what| Removal { revision: Revision(revision), at: 2_500_000, what };
    Record {
        app: app(),
        id: id(),
        begin: Begin::Nothing(Birth {
            kind: Kind::Hosted,
            pair: None,
            opened_at: 1_000_000,
            epoch: Epoch(900_000),
        }),
        until: mark(9, 4),
        framed_at: 3_000_000,
        info: Some(info("ada", Some(schema()))),
        info_revision: Revision(6),
        sight_revision: Revision(5),
        password: Some(Some(PasswordHash::new(b"hash"))),
        names: (0..).zip(keys).map(|(place, key)| name(place, key, 5)).collect(),
        numbered: 20,
        data: all.collect(),
        private_data: vec![slot(2, 9, None)],
        members: vec![
            member(2, "ben", vec![slot(0, 9, Some(Value::Number(1.0))), slot(1, 9, None)]),
            member(1, "ada", vec![slot(3, 8, Some(Value::Integer(2)))]),
        ],
        joins: 3,
        removals: vec![
            removal(3, Some(Removed::Member(user("cleo"), Departure::Kicked))),
            removal(7, None),
            removal(9, Some(Removed::Prop(2, 1))),
            removal(9, Some(Removed::PrivateData(2))),
        ],
        remembered: 4,
        horizon: Revision(2),
        reset_revision: Revision(1),
        people: People {
            is_all: true,
            list: vec![
                Person {
                    role: Some(Role::Owner),
                    connection: connection(Presence::Explicit, None),
                    ..person("ada")
                },
                Person { connection: connection(Presence::Tied, Some(3_500_000)), ..person("ben") },
                Person { ban, ..person("cleo") },
                Person { seat: Some(9_000_000), role: Some(Role::Spectator), ..person("dan") },
            ],
        },
        heritage: Some(Heritage { of: 3, props: vec![("x".into(), Value::Flag(true))] }),
        host_until: Some(4_000_000),
        empty_since: Some(2_700_000),
        waiting: vec![
            Waiting { order: 1, key: "hidden".into(), value: Some(Value::Null) },
            Waiting { order: 1, key: "d".into(), value: None },
        ],
        skipped: vec![Revision(3)],
        epoch_revision: Revision(2),
        has_ended: false,
    }
}

/// What comes after the snapshot.
fn update() -> Record {
    Record {
        begin: Begin::Mark(mark(9, 4)),
        until: mark(11, 6),
        framed_at: 3_200_000,
        info: Some(info("ben", None)),
        info_revision: Revision(10),
        sight_revision: Revision(10),
        password: Some(None),
        names: vec![Name { serial: 21, ..name(11, "new", 11) }],
        numbered: 21,
        data: vec![slot(0, 10, None)],
        private_data: Vec::new(),
        members: vec![Member {
            order: 2,
            changed: Revision(11),
            joined: None,
            status: Some(Status { role: Role::Admin, disconnected: false, revision: Revision(10) }),
            hosting: Revision(10),
            slots: vec![slot(11, 11, Some(Value::Flag(true)))],
        }],
        removals: vec![
            Removal { revision: Revision(10), at: 3_100_000, what: Some(Removed::Data(0)) },
            Removal {
                revision: Revision(11),
                at: 3_200_000,
                what: Some(Removed::Member(user("ada"), Departure::Lost)),
            },
        ],
        remembered: 3,
        horizon: Revision(9),
        people: People {
            is_all: false,
            list: vec![
                Person {
                    role: Some(Role::Admin),
                    connection: connection(Presence::Tied, None),
                    ..person("ben")
                },
                person("cleo"),
            ],
        },
        heritage: None,
        host_until: None,
        empty_since: None,
        waiting: Vec::new(),
        ..snapshot()
    }
}

/// What a tick makes most of the time.
fn two_numbers() -> Record {
    let number = |place, value| slot(place, 10, Some(Value::Number(value)));
    Record {
        begin: Begin::Mark(mark(9, 4)),
        until: mark(10, 4),
        info: None,
        password: None,
        names: Vec::new(),
        data: Vec::new(),
        private_data: Vec::new(),
        members: vec![Member {
            order: 2,
            changed: Revision(10),
            joined: None,
            status: None,
            hosting: Revision(0),
            slots: vec![number(0, 1.5), number(1, -2.5)],
        }],
        removals: Vec::new(),
        people: People::default(),
        heritage: None,
        host_until: None,
        empty_since: None,
        waiting: Vec::new(),
        ..snapshot()
    }
}

fn ruled() -> Record {
    let mut record = snapshot();
    let rule = |name: &str, on: &[Operation]| Rule {
        name: name.into(),
        on: on.iter().copied().collect(),
        expression: "request.props.x < 100".into(),
        message: "too far".into(),
    };
    if let Some(info) = &mut record.info {
        let rules = [rule("near", &[Operation::Write]), rule("all", &Operation::ALL)];
        Arc::make_mut(&mut Arc::make_mut(info).settings).rules = rules.into();
    }
    record
}

fn private() -> Record {
    let pair = Some(Pair { source: user("ada"), listener: user("ben") });
    let absent =
        Connection { presence: Presence::Explicit, absent: true, has_streamed: false, until: None };
    Record {
        begin: Begin::Nothing(Birth {
            kind: Kind::Private,
            pair,
            opened_at: 1_000_000,
            epoch: Epoch(900_000),
        }),
        members: vec![member(1, "ada", Vec::new())],
        removals: Vec::new(),
        remembered: 0,
        people: People {
            is_all: true,
            list: vec![Person { connection: Some(absent), ..person("ada") }],
        },
        skipped: vec![Revision(3)],
        has_ended: true,
        ..snapshot()
    }
}

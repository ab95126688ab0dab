//! What clients ask of a node, and how its engine does it: what the handlers of calls do there.

use bytes::Bytes;
use sessiond::{
    engine::{Begun, Engine, Refusal, Reply, RequestId, Scope, SessionKey},
    session::{
        Info, Opening, Session,
        ban::Ban,
        command::{Actor, Command, Join, Write},
        ids::{AppId, Key, SessionId, UserId},
        limits::SECOND,
        member::Departure,
        opening::People,
        role::Role,
        settings::{Durability, Kind, Presence, Setting},
        value::Value,
        view::{ChangeSink, Class, MemberChange, View},
    },
};
use std::collections::BTreeMap;

/// What is written of a session, each by one writer, in numbers that rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fact {
    /// A setting.
    Settings,
    /// Odd: a user is banned. Even: it is not.
    Ban,
    /// Odd: a user is a moderator. Even: a member.
    Role,
    /// Session data, answered when it is shown.
    Data,
    /// Session data, answered when it is stored.
    StoredData,
    /// A user's props in the session, answered when they are stored.
    StoredProps,
    /// A user's props on the user, answered when they are stored.
    OnUser,
}

pub const FACTS: [Fact; 7] = [
    Fact::Settings,
    Fact::Ban,
    Fact::Role,
    Fact::Data,
    Fact::StoredData,
    Fact::StoredProps,
    Fact::OnUser,
];

#[derive(Debug, Clone)]
pub struct Request {
    pub app: AppId,
    pub session: SessionId,
    pub what: What,
    /// The id of the request; none = it is a read.
    pub id: Option<Key>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Open(Durability),
    Delete,
    Put(Fact, u64),
    Look,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Done,
    /// The number of each fact that is there; of one with two states whether it is there.
    Found(BTreeMap<Fact, u64>),
    NotFound,
    /// This node cannot say now.
    Unavailable,
    Refused(String),
}

/// The user of a session who writes.
pub fn writer(session: &SessionId) -> UserId {
    user("ada", session)
}

fn promoted(session: &SessionId) -> UserId {
    user("ben", session)
}

fn banned(session: &SessionId) -> UserId {
    user("eve", session)
}

fn user(name: &str, session: &SessionId) -> UserId {
    UserId::new(&format!("{name}-{session}")).expect("an id")
}

/// Does what is asked, and waits until it may be answered.
pub async fn serve(engine: Engine, request: Request) -> Outcome {
    let outcome = match request.what {
        What::Look => look(&engine, &request).await,
        what => act(&engine, &request, what).await.map(|()| Outcome::Done),
    };
    outcome.unwrap_or_else(|refusal| match refusal {
        Refusal::Draining | Refusal::StoreFull | Refusal::Starting => Outcome::Unavailable,
        refusal if refusal.is_not_found() => Outcome::NotFound,
        refusal => Outcome::Refused(format!("{refusal:?}")),
    })
}

async fn act(engine: &Engine, request: &Request, what: What) -> Result<(), Refusal> {
    let Request { app, session, .. } = request;
    let command = |actor: &Actor, command: Command| {
        let live = engine.find(app, Some(&SessionKey::Id(session.clone())), actor)?;
        engine.command(&live, actor, command)
    };
    let ends = matches!(what, What::Delete);
    let scope = Scope::new(app, (!ends).then_some(session), &Actor::App).about(session.clone());
    match what {
        What::Look => unreachable!("it is a read"),
        What::Open(durability) => {
            let opening = opening(engine, request, durability);
            once(engine, request, &scope, || engine.open(opening, false).map(drop)).await?;
        }
        What::Delete => {
            once(engine, request, &scope, || command(&Actor::App, Command::Delete).map(drop))
                .await?;
        }
        What::Put(fact, number) => match of_fact(session, fact, number) {
            Put::Command(of_app) => {
                once(engine, request, &scope, || command(&Actor::App, of_app).map(drop)).await?;
            }
            Put::Props(write) => {
                let user = writer(session);
                let actor = Actor::of(&user);
                let scope = Scope::new(app, Some(session), &actor);
                let write = Command::SetProps { user, write, term: 0 };
                let act = || Ok(Reply::Written(command(&actor, write)?));
                engine.once(&scope, request_id(request), act)?;
            }
            Put::OnUser(write) => {
                let user = writer(session);
                // A user is nobody without a session: there is none to keep the props for.
                engine.find(app, Some(&SessionKey::Id(session.clone())), &Actor::App)?;
                let scope = Scope::of_user(app, &user, &Actor::of(&user));
                let act = || Ok(Reply::OnUser(engine.write_user(app, &user, &write)?.into()));
                engine.once(&scope, request_id(request), act)?;
            }
        },
    }
    let found = engine.find(app, Some(&SessionKey::Id(session.clone())), &Actor::App);
    match (found, what) {
        (Ok(live), What::Put(Fact::Data, _)) => {
            let position = engine.pending_position(&live);
            engine.framed(&live, position).await
        }
        (Ok(live), _) => {
            engine.stored(&live).await;
            if matches!(what, What::Put(Fact::OnUser, _)) {
                engine.all_stored().await;
            }
            Ok(())
        }
        (Err(_), _) => {
            engine.all_stored().await;
            Ok(())
        }
    }
}

fn request_id(request: &Request) -> RequestId {
    let id = request.id.clone().expect("whoever changes something names its request");
    let content = RequestId::content_of("simulated", format!("{:?}", request.what).as_bytes());
    RequestId { field: "request_id", id, content }
}

/// Does something once, as calls do that may wait on their way.
async fn once(
    engine: &Engine,
    request: &Request,
    scope: &Scope,
    act: impl FnOnce() -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    match engine.begin(scope, &request_id(request)).await? {
        Begun::Act(ticket) => engine.pinned(|| {
            act()?;
            ticket.succeeded(Reply::Message(Bytes::new()), None);
            Ok(())
        }),
        Begun::Replay(_) => Ok(()),
    }
}

fn opening(engine: &Engine, request: &Request, durability: Durability) -> Opening {
    let Request { app, session, .. } = request;
    let mut settings = engine.default_session();
    settings.durability = durability;
    settings.empty_ttl = 3600 * SECOND;
    let join = Join { presence: Some(Presence::Explicit), ..Join::default() };
    let people = People {
        roles: vec![(writer(session), Role::Owner)],
        users: [writer(session), promoted(session)].map(|user| (user, join.clone())).into(),
        bans: Vec::new(),
    };
    let opening = Opening::new(app.clone(), session.clone(), Kind::Room, settings);
    Opening { people, ..opening }
}

enum Put {
    Command(Command),
    Props(Write),
    OnUser(Write),
}

fn of_fact(session: &SessionId, fact: Fact, number: u64) -> Put {
    let value = Value::Integer(number as i64);
    let write = |key: &str| Write::of(vec![(key.into(), value.clone())]);
    let data = |key| {
        let (shared, private) = (write(key), Write::default());
        Put::Command(Command::SetData { shared, private, term: 0 })
    };
    let is_odd = number % 2 == 1;
    match fact {
        Fact::Settings => {
            let metadata = Setting::Metadata([("n".into(), value)].into());
            Put::Command(Command::Update(vec![metadata]))
        }
        Fact::Ban if is_odd => {
            let ban = Ban { reason: number.to_string().into(), until: None };
            Put::Command(Command::Ban { target: banned(session), ban })
        }
        Fact::Ban => Put::Command(Command::Unban { target: banned(session) }),
        Fact::Role => {
            let role = if is_odd { Role::Moderator } else { Role::Member };
            let target = promoted(session);
            Put::Command(Command::SetRole { target, role, user_props: Vec::new() })
        }
        Fact::Data => data("plain"),
        Fact::StoredData => data("stored"),
        Fact::StoredProps => Put::Props(write("stored")),
        Fact::OnUser => Put::OnUser(write("own")),
    }
}

/// What the session shows, and who is banned.
async fn look(engine: &Engine, request: &Request) -> Result<Outcome, Refusal> {
    let Request { app, session, .. } = request;
    let live = engine.find(app, Some(&SessionKey::Id(session.clone())), &Actor::App)?;
    let state = engine.shown(&live).await?;
    let mut found = Sink::of(session);
    let view = View { class: Class::Host, props: Default::default() };
    state.core.show_all(&view, &mut found);
    let bans = state.core.bans(engine.clock().now(), &Actor::App);
    let ban = bans.iter().find(|(user, _)| *user == banned(session));
    let number = ban.map_or(0, |(_, ban)| ban.reason.parse().unwrap_or(u64::MAX));
    found.facts.insert(Fact::Ban, number);
    Ok(Outcome::Found(found.facts))
}

struct Sink {
    writer: UserId,
    promoted: UserId,
    member: Option<UserId>,
    facts: BTreeMap<Fact, u64>,
}

impl Sink {
    fn of(session: &SessionId) -> Self {
        let (writer, promoted) = (writer(session), promoted(session));
        Self { writer, promoted, member: None, facts: FACTS.map(|fact| (fact, 0)).into() }
    }
}

fn number(value: Option<&Value>) -> u64 {
    match value {
        Some(Value::Integer(number)) => *number as u64,
        _ => 0,
    }
}

impl<'a> ChangeSink<'a> for Sink {
    fn session(&mut self, _: &Session, info: &Info, _: Class) {
        let value = info.settings.metadata.iter().find(|(key, _)| &**key == "n");
        self.facts.insert(Fact::Settings, number(value.map(|(_, value)| value)));
    }

    fn data(&mut self, key: &str, value: Option<&Value>) {
        let fact = if key == "plain" { Fact::Data } else { Fact::StoredData };
        self.facts.insert(fact, number(value));
    }

    fn private_data(&mut self, _: &str, _: Option<&Value>) {}

    fn member(&mut self, change: MemberChange<'a>) {
        self.member = Some(change.user.clone());
        if *change.user == self.promoted {
            let is_moderator = change.role == Some(Role::Moderator);
            self.facts.insert(Fact::Role, u64::from(is_moderator));
        }
    }

    fn prop(&mut self, key: &'a str, value: Option<&'a Value>) {
        if self.member.as_ref() == Some(&self.writer) {
            let fact = if key == "own" { Fact::OnUser } else { Fact::StoredProps };
            self.facts.insert(fact, number(value));
        }
    }

    fn left(&mut self, _: &str, _: Departure) {}
}

//! What happened in a session, change by change: out of its records, and as lines of JSON.

use super::{
    Result,
    contents::{no_session, session_name},
    json, note,
    seen::{Seen, Values},
    text::{moment, plain},
    value,
};
use crate::{
    log::{Content, Entry},
    record::{self, Entries, Joiner, Subject},
    session::{
        ids::{AppId, Key, SessionId, UserId},
        limits::{Limits, Micros},
        member::Departure,
        record::{Begin, Person, Record, Removed},
        replica::Replica,
        role::Role,
        value::Value,
    },
};
use serde_json::{Map, Value as Json, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Something that changed in a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// What readers learn of it as a whole, all of it.
    Session(Json),
    /// A user joined.
    Join(UserId, Role),
    /// A member left, if known how.
    Leave(UserId, Option<String>),
    /// A member has another role, or its stream is lost or back.
    Status(UserId, Role, bool),
    /// Somebody or something has other values.
    Values(Owner, Write),
    /// What is kept about a user: role, ban, seat.
    Person(Json),
    /// The session is over.
    Ended,
}

/// Whose values changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Those of a member.
    Member(UserId),
    /// Shared session data.
    Data,
    /// Private session data.
    PrivateData,
}

/// Which values changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Write {
    /// Those that are set.
    pub set: Vec<(Key, Value)>,
    /// Those that are removed.
    pub remove: Vec<Key>,
}

impl Change {
    /// The line of a change.
    pub fn write(&self, at: Micros) -> Json {
        let (name, of) = match self {
            Self::Session(info) => ("session", info.clone()),
            Self::Join(user, role) => ("join", json!({ "user": **user, "role": role.to_string() })),
            Self::Leave(user, reason) => ("leave", json!({ "user": **user, "reason": reason })),
            Self::Status(user, role, disconnected) => {
                let role = role.to_string();
                ("status", json!({ "user": **user, "role": role, "disconnected": disconnected }))
            }
            Self::Values(owner, Write { set, remove }) => {
                let remove: Vec<_> = remove.iter().map(|key| key.to_string()).collect();
                let mut of = Map::new();
                let name = match owner {
                    Owner::Member(user) => {
                        of.insert("user".to_owned(), Json::from(&**user as &str));
                        "props"
                    }
                    Owner::Data => "data",
                    Owner::PrivateData => "private_data",
                };
                if !set.is_empty() {
                    of.insert("set".to_owned(), value::write_all(set));
                }
                if !remove.is_empty() {
                    of.insert("remove".to_owned(), remove.into());
                }
                (name, Json::Object(of))
            }
            Self::Person(person) => ("person", person.clone()),
            Self::Ended => ("ended", json!({})),
        };
        json!({ "at": moment(at), name: of })
    }

    /// Reads a line; an error says what is wrong with it.
    pub fn read(line: &Json) -> std::result::Result<(Micros, Self), &'static str> {
        let object = line.as_object().ok_or("it is no object")?;
        let at = object.get("at").and_then(Json::as_str).and_then(super::text::read_moment);
        let at = at.ok_or("\"at\" is no moment")?;
        let mut others = object.iter().filter(|(name, _)| *name != "at");
        let (Some((name, of)), None) = (others.next(), others.next()) else {
            return Err("a line has one change");
        };
        let user = || {
            let user = of["user"].as_str().ok_or("there is no user")?;
            UserId::new(user).map_err(|_| "the user is no id")
        };
        let role = || role_of(of["role"].as_str().unwrap_or("member")).ok_or("the role is none");
        let change = match name.as_str() {
            "session" => Self::Session(of.clone()),
            "join" => Self::Join(user()?, role()?),
            "leave" => Self::Leave(user()?, of["reason"].as_str().map(str::to_owned)),
            "status" => {
                Self::Status(user()?, role()?, of["disconnected"].as_bool().unwrap_or_default())
            }
            "props" => Self::Values(Owner::Member(user()?), write_of(of)?),
            "data" => Self::Values(Owner::Data, write_of(of)?),
            "private_data" => Self::Values(Owner::PrivateData, write_of(of)?),
            "person" => Self::Person(of.clone()),
            "ended" => Self::Ended,
            _ => return Err("it is no change that is known here"),
        };
        Ok((at, change))
    }
}

fn role_of(name: &str) -> Option<Role> {
    let all = [Role::Spectator, Role::Member, Role::Moderator, Role::Admin, Role::Owner];
    all.into_iter().find(|role| role.to_string() == name)
}

fn write_of(json: &Json) -> std::result::Result<Write, &'static str> {
    let set = match json.get("set") {
        Some(set) => value::read_all(set).ok_or("what is set is no values")?,
        None => Vec::new(),
    };
    let remove = match json.get("remove").map(|remove| remove.as_array()) {
        Some(keys) => keys.ok_or("what is removed is no list")?.as_slice(),
        None => &[],
    };
    let key = |key: &Json| key.as_str().map(Key::from).ok_or("what is removed is no list of keys");
    Ok(Write { set, remove: remove.iter().map(key).collect::<std::result::Result<_, _>>()? })
}

/// The history of one session, out of the entries of the log.
#[derive(Debug)]
pub struct History {
    /// As it is typed.
    name: String,
    subject: Option<Vec<u8>>,
    /// None until there is a snapshot, and behind what is lost.
    session: Option<Replica>,
    seen: Seen,
    at: Micros,
    was_found: bool,
    has_begun: bool,
    lost: u64,
    limits: Arc<Limits>,
    joiner: Joiner,
}

impl History {
    /// That of the session with this name.
    pub fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            subject: None,
            session: None,
            seen: Seen::default(),
            at: 0,
            was_found: false,
            has_begun: false,
            lost: 0,
            limits: Arc::default(),
            joiner: Joiner::default(),
        }
    }

    /// The lines that an entry of the log adds.
    pub fn take(&mut self, entry: &Entry, salvage: bool) -> Result<Vec<Json>> {
        let bytes = match &entry.content {
            Content::Batch(piece) => match self.joiner.push(piece) {
                Some(batch) => batch,
                None => return Ok(Vec::new()),
            },
            Content::Snapshot { state, .. } => {
                self.joiner.clear();
                state.to_vec()
            }
            Content::Claim(_) | Content::Release | Content::Lost { .. } => {
                self.joiner.clear();
                return Ok(Vec::new());
            }
        };
        let mut lines = Vec::new();
        for entry_within in Entries::of(&bytes) {
            match entry_within {
                Ok(record::Entry::Session(record)) => {
                    if self.is_mine(&record.app, &record.id)? {
                        lines.extend(self.record(*record)?);
                    }
                }
                Ok(record::Entry::Gone { app, id, epoch }) => {
                    let is_older = |session: &Replica| session.epoch() <= epoch;
                    if self.is_mine(&app, &id)? && self.session.as_ref().is_some_and(is_older) {
                        lines.extend(self.end());
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    let line = format!("entry {} of the store: {error}", entry.seq);
                    if !salvage {
                        return Err(line);
                    }
                    note(line);
                    self.lost += 1;
                }
            }
        }
        Ok(lines)
    }

    /// Whether the session was there, and something of it.
    pub fn found(&self) -> Result<()> {
        let name = plain(&self.name);
        match (self.was_found, self.has_begun) {
            (true, true) => Ok(()),
            (true, false) => Err(format!("nothing is left from which session {name} goes on")),
            (false, _) => Err(no_session(&self.name)),
        }
    }

    /// How often something is lost.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn is_mine(&mut self, app: &AppId, id: &SessionId) -> Result<bool> {
        if format!("{app}/{id}") != self.name {
            return Ok(false);
        }
        let key = Subject::Session(app.clone(), id.clone()).key();
        self.was_found = true;
        if *self.subject.get_or_insert_with(|| key.clone()) != key {
            return Err(format!("several sessions are called {}", session_name(app, id)));
        }
        Ok(true)
    }

    fn record(&mut self, record: Record) -> Result<Vec<Json>> {
        let is_whole = matches!(record.begin, Begin::Nothing(_));
        if self.session.is_none() && !is_whole {
            // It goes on from a snapshot that a later one has replaced, or from what is lost.
            return Ok(Vec::new());
        }
        self.at = self.at.max(record.framed_at);
        let left: BTreeMap<_, _> = record
            .removals
            .iter()
            .filter_map(|removal| match &removal.what {
                Some(Removed::Member(user, departure)) => Some((user.clone(), *departure)),
                _ => None,
            })
            .collect();
        let applied = match self.session.take() {
            Some(session) => session.apply(record),
            None => Replica::begin(record, self.limits.clone()),
        };
        let session = match applied {
            Ok(session) => session,
            Err(unfit) => {
                note(format!("session {}: {unfit}", plain(&self.name)));
                self.lost += 1;
                return Ok(Vec::new());
            }
        };
        self.has_begun = true;
        let seen = Seen::of(&session);
        let mut lines = self.lines(&changes(&session, &self.seen, &seen, &left));
        (self.seen, self.session) = (seen, Some(session));
        if self.seen.has_ended {
            lines.extend(self.end());
        }
        Ok(lines)
    }

    fn end(&mut self) -> Vec<Json> {
        (self.seen, self.session) = (Seen::default(), None);
        self.lines(&[Change::Ended])
    }

    fn lines(&self, changes: &[Change]) -> Vec<Json> {
        changes.iter().map(|change| change.write(self.at)).collect()
    }
}

/// What leads from one to the other.
fn changes(
    session: &Replica,
    from: &Seen,
    to: &Seen,
    left: &BTreeMap<UserId, Departure>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    if let Some(info) = to.info.as_deref().filter(|_| from.info != to.info) {
        let mut told = json::info(info);
        told["app"] = Json::from(&**session.app() as &str);
        told["session"] = Json::from(&**session.id() as &str);
        told["kind"] = json::kind_name(session.kind()).into();
        changes.push(Change::Session(told));
    }
    let same =
        |user: &UserId, order| to.members.get(user).is_some_and(|seated| seated.order == order);
    for (user, seated) in &from.members {
        if !same(user, seated.order) {
            let reason = left.get(user).map(|departure| format!("{departure:?}").to_lowercase());
            changes.push(Change::Leave(user.clone(), reason));
        }
    }
    let mut members: Vec<_> = to.members.iter().collect();
    members.sort_by_key(|(_, seated)| seated.order);
    for (user, now) in members {
        let before = from.members.get(user).filter(|before| before.order == now.order);
        let status = |role, disconnected| Change::Status(user.clone(), role, disconnected);
        match before {
            None => {
                changes.push(Change::Join(user.clone(), now.role));
                changes.extend(now.disconnected.then(|| status(now.role, true)));
            }
            Some(before) => {
                let is_other = (before.role, before.disconnected) != (now.role, now.disconnected);
                changes.extend(is_other.then(|| status(now.role, now.disconnected)));
            }
        }
        let nothing = Values::new();
        let before = before.map_or(&nothing, |before| &before.props);
        changes.extend(values(Owner::Member(user.clone()), before, &now.props));
    }
    changes.extend(values(Owner::Data, &from.data, &to.data));
    changes.extend(values(Owner::PrivateData, &from.private_data, &to.private_data));
    let users: BTreeSet<_> = from.people.keys().chain(to.people.keys()).collect();
    for user in users {
        let now = kept(to, user);
        if now != kept(from, user) {
            let told = now.map_or_else(|| json!({ "user": **user }), |now| json::person(&now));
            changes.push(Change::Person(told));
        }
    }
    changes
}

/// What is kept about a user beside how it is connected, if anything is.
fn kept(seen: &Seen, user: &UserId) -> Option<Person> {
    let Person { user, role, ban, seat, connection: _ } = seen.people.get(user)?.clone();
    let is_any = role.is_some() || ban.is_some() || seat.is_some();
    is_any.then_some(Person { user, role, ban, seat, connection: None })
}

fn values(owner: Owner, from: &Values, to: &Values) -> Option<Change> {
    let set = to.iter().filter(|(key, value)| from.get(*key) != Some(*value));
    let set: Vec<_> = set.map(|(key, value)| (key.clone(), value.clone())).collect();
    let remove: Vec<_> = from.keys().filter(|key| !to.contains_key(*key)).cloned().collect();
    let is_news = !set.is_empty() || !remove.is_empty();
    is_news.then_some(Change::Values(owner, Write { set, remove }))
}

//! A session, and what is known of it by those who use it.

use crate::{
    calls::{Calls, Users},
    facts::Register,
    rebuilt::{Rebuilt, State},
    values::int,
};
use sessiond::proto::{
    self, Durability, GetSessionInfoResponse, OpenPrivateSessionRequest, OpenSharedSessionRequest,
    Position, Role, SessionKind, SessionSettings,
};
use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};
use tonic::Status;

/// What is written of a session, each by one writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// A setting, by UpdateSession.
    Settings,
    /// Odd: a user is banned. Even: it is not.
    Ban,
    /// Odd: a user is a moderator. Even: a member.
    Role,
    /// Odd: a user joins. Even: it is kicked.
    Guest,
    /// Session data, with ack ACCEPTED.
    Data,
    /// Session data, with ack DURABLE.
    StoredData,
    /// A user's props in the session, by a call with ack DURABLE.
    StoredProps,
    /// A user's props on the user, by a call with ack DURABLE.
    OnUser,
    /// A user's props in the session, up a stream.
    Streamed,
    /// The same with ack DURABLE.
    StoredStreamed,
}

impl Fact {
    /// Whether what is answered is stored.
    pub fn is_stored(self) -> bool {
        !matches!(self, Self::Data | Self::Streamed)
    }
}

/// Those that are written by calls of the app, one after the other.
pub const CONTROL: [Fact; 4] = [Fact::Settings, Fact::Ban, Fact::Role, Fact::Guest];

/// Those that are written by other calls.
pub const CALLS: [Fact; 4] = [Fact::Data, Fact::StoredData, Fact::StoredProps, Fact::OnUser];

const ALL: [Fact; 10] = [
    Fact::Settings,
    Fact::Ban,
    Fact::Role,
    Fact::Guest,
    Fact::Data,
    Fact::StoredData,
    Fact::StoredProps,
    Fact::OnUser,
    Fact::Streamed,
    Fact::StoredStreamed,
];

/// So many revisions back it is remembered what each showed.
const REMEMBERED: u64 = 1_000;

/// A session that is there all the time; it is opened again when it was not stored.
#[derive(Debug)]
pub struct Slot {
    pub number: usize,
    pub durability: Durability,
    pub kind: SessionKind,
    /// How often it was opened.
    pub opened: u64,
    pub epoch: u64,
    /// The last revision that anybody was shown.
    pub shown: u64,
    /// Positions that were promised and lost, each with how many kills there were before: they are not
    /// those of a frame.
    pub lost: Vec<(u64, Position)>,
    /// Revisions under which `plain` was written or shown in histories that were lost since.
    pub abandoned: Vec<u64>,
    /// What each revision showed, by the fingerprint of the view.
    hashes: BTreeMap<(u64, u32), u64>,
    pub facts: BTreeMap<Fact, Register>,
    /// What the app's reader knows, to resume.
    pub reader: Option<Rebuilt>,
    /// What the writer's stream knows, to resume.
    pub member: Option<Rebuilt>,
}

impl Slot {
    pub fn new(number: usize) -> Self {
        let durability = match number % 3 {
            0 => Durability::Sync,
            1 => Durability::Async,
            _ => Durability::None,
        };
        let kind = match number % 16 {
            3 | 8 | 13 => SessionKind::Hosted,
            5 => SessionKind::Private,
            _ => SessionKind::Room,
        };
        Self {
            number,
            durability,
            kind,
            opened: 0,
            epoch: 0,
            shown: 0,
            lost: Vec::new(),
            abandoned: Vec::new(),
            hashes: BTreeMap::new(),
            facts: ALL.map(|fact| (fact, Register::default())).into(),
            reader: None,
            member: None,
        }
    }

    /// The same before it is opened for the first time, or again.
    pub fn again(&self) -> Self {
        let mut again = Self { opened: self.opened + 1, ..Self::new(self.number) };
        // What is set on the user is there before the session is.
        let own = self.facts[&Fact::OnUser].clone();
        again.facts.insert(Fact::OnUser, own);
        again
    }

    pub fn id(&self) -> String {
        format!("session-{}-{}", self.number, self.opened)
    }

    pub fn users(&self) -> Users {
        Users(self.number)
    }

    pub fn is_kept(&self) -> bool {
        self.durability != Durability::None
    }

    pub fn fact(&mut self, fact: Fact) -> &mut Register {
        self.facts.get_mut(&fact).expect("all are there")
    }

    /// Whether this is written here.
    pub fn has(&self, fact: Fact) -> bool {
        match fact {
            Fact::Ban | Fact::Role | Fact::Guest => self.kind != SessionKind::Private,
            Fact::StoredData | Fact::StoredProps | Fact::StoredStreamed => self.is_kept(),
            _ => true,
        }
    }

    /// Somebody is shown a position.
    pub fn note_position(&mut self, position: Position) {
        if position.epoch == self.epoch {
            self.shown = self.shown.max(position.revision);
        }
    }

    /// Somebody is shown a state. Whoever is shown the same position in the same view sees the same.
    pub fn note(&mut self, copy: &Rebuilt) -> Result<(), String> {
        if copy.epoch != self.epoch {
            return Err(format!("epoch {} is shown in epoch {}", copy.epoch, self.epoch));
        }
        self.shown = self.shown.max(copy.revision);
        let mut hasher = DefaultHasher::new();
        format!("{:?}", copy.state).hash(&mut hasher);
        let hash = hasher.finish();
        let key = (copy.revision, copy.view);
        if *self.hashes.entry(key).or_insert(hash) != hash {
            let state = &copy.state;
            return Err(format!("two states at {}: one of them is {state:?}", copy.revision));
        }
        let oldest = self.shown.saturating_sub(REMEMBERED);
        while self.hashes.first_key_value().is_some_and(|((revision, _), _)| *revision < oldest) {
            self.hashes.pop_first();
        }
        Ok(())
    }

    /// It goes on in another epoch.
    pub fn begin(&mut self, position: Position) {
        (self.epoch, self.shown) = (position.epoch, position.revision);
        self.hashes.clear();
        self.lost.clear();
    }

    /// Opens it. It is the same request each time.
    pub async fn open(&mut self, calls: &mut Calls) -> Result<(), Status> {
        let users = self.users();
        let is_hosted = self.kind == SessionKind::Hosted;
        let grace = prost_types::Duration { seconds: 3_600, nanos: 0 };
        let settings = SessionSettings {
            durability: self.durability.into(),
            host_grace: is_hosted.then_some(grace),
            ..Default::default()
        };
        let request_id = format!("open-{}", self.id());
        let position = if self.kind == SessionKind::Private {
            let request = OpenPrivateSessionRequest {
                app: calls.of.clone(),
                session_id: self.id(),
                source_id: users.writer(),
                listener_id: users.promoted(),
                settings: Some(settings),
                data: [("opened".to_owned(), int(self.opened as i64))].into(),
                request_id,
                ..Default::default()
            };
            calls.app.open_private_session(request).await?.into_inner().position
        } else {
            let request = OpenSharedSessionRequest {
                app: calls.of.clone(),
                session_id: self.id(),
                kind: self.kind.into(),
                settings: Some(settings),
                roles: [(users.writer(), Role::Owner as i32)].into(),
                users: vec![users.writer(), users.promoted()],
                data: [("opened".to_owned(), int(self.opened as i64))].into(),
                request_id,
                ..Default::default()
            };
            calls.app.open_shared_session(request).await?.into_inner().position
        };
        self.begin(position.unwrap_or_default());
        Ok(())
    }

    /// The number of a fact that is there. Of a fact that has two states, it is the one of the last two
    /// numbers that fits what is there.
    pub fn find(&self, fact: Fact, state: &State, info: &GetSessionInfoResponse) -> u64 {
        let users = self.users();
        let of = |user: &str, key| number(state.members.get(user).and_then(|it| it.props.get(key)));
        let metadata = state.session.as_ref().and_then(|session| session.settings.as_ref());
        let sent = self.facts[&fact].sent;
        let is_so = match fact {
            Fact::Settings => {
                let value = metadata.and_then(|settings| settings.metadata.get("n"));
                let kind = value.and_then(|value| value.kind.clone());
                let Some(proto::value::Kind::Integer(number)) = kind else { return 0 };
                return number as u64;
            }
            Fact::Data => return number(state.data.get("plain")),
            Fact::StoredData => return number(state.data.get("stored")),
            Fact::StoredProps => return of(&users.writer(), "stored"),
            Fact::OnUser => return of(&users.writer(), "own"),
            Fact::Streamed => return of(&users.writer(), "streamed"),
            Fact::StoredStreamed => return of(&users.writer(), "stored-streamed"),
            Fact::Ban => {
                let ban = info.bans.iter().find(|ban| ban.user_id == users.banned());
                if let Some(ban) = ban {
                    return ban.reason.parse().unwrap_or(u64::MAX);
                }
                false
            }
            Fact::Role => {
                let member = state.members.get(&users.promoted());
                member.is_some_and(|member| member.role == Role::Moderator)
            }
            Fact::Guest => state.members.contains_key(&users.guest()),
        };
        if (sent % 2 == 1) == is_so { sent } else { sent.saturating_sub(1) }
    }
}

/// A value that is shown, as the number that was written.
fn number(shown: Option<&String>) -> u64 {
    let Some(shown) = shown else { return 0 };
    shown.trim_end_matches('i').parse().unwrap_or(u64::MAX)
}

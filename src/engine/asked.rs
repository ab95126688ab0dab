//! What somebody asks for, as it is judged: by rules, and by backends that have a say in it.

use super::{filter::Outline, live::Live};
use crate::{
    expression::Mention,
    session::{
        Opening,
        command::{Join, Write},
        epoch::Epoch,
        ids::{AppId, Key, SessionId, UserId},
        judging::Operation,
        limits::Micros,
        role::Role,
        settings::{Kind, Settings},
        value::Value,
    },
};
use std::sync::Arc;

/// What somebody asks for, with all that those who judge it look at. It is taken before anything is
/// done, and judged without any lock.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The namespace.
    pub app: AppId,
    /// The session that it is about; none = all that the user joins.
    pub session_id: Option<SessionId>,
    /// Who asks, or for whom it is asked.
    pub user: UserId,
    /// With which credential.
    pub bearer: Bearer,
    /// The session as it is; none if it is to be opened.
    pub session: Option<Outline>,
    /// What the user is in the session; none = no member.
    pub member: Option<Standing>,
    /// What is asked for.
    pub request: Request,
}

/// Who presents a credential, as it is sent to those who judge. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The scope of the credential: `user`, `backend`, `app` or `read`; `none` where nobody is asked
    /// for one.
    pub scope: &'static str,
    /// The highest role that it allows its user.
    pub most: Role,
    /// Whom it names as its subject.
    pub subject: Option<Arc<str>>,
}

/// What a user is in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The role.
    pub role: Role,
    /// Whether the user is the host.
    pub is_host: bool,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// To open a session.
    Open {
        /// Who sees whom in it.
        kind: Kind,
        /// Its settings.
        settings: Box<Settings>,
        /// The first props of the user who opens it.
        props: Vec<(Key, Value)>,
        /// Who else joins at once.
        users: Vec<UserId>,
    },
    /// To join.
    Join {
        /// As a spectator.
        spectator: bool,
        /// First props.
        props: Vec<(Key, Value)>,
    },
    /// To write props.
    Props {
        /// Keys to set.
        set: Vec<(Key, Value)>,
        /// Keys to remove.
        remove: Vec<Key>,
    },
    /// To write session data.
    Data {
        /// In the shared part.
        shared: Box<Write>,
        /// In the private part.
        private: Box<Write>,
    },
    /// To receive.
    Subscribe,
}

impl Request {
    /// The operation that it is.
    pub fn operation(&self) -> Operation {
        match self {
            Self::Open { .. } => Operation::Open,
            Self::Join { .. } => Operation::Join,
            Self::Props { .. } | Self::Data { .. } => Operation::Write,
            Self::Subscribe => Operation::Subscribe,
        }
    }

    fn settings(&self) -> Option<&Settings> {
        match self {
            Self::Open { settings, .. } => Some(settings),
            _ => None,
        }
    }

    /// The keys to set of props.
    pub fn props(&self) -> &[(Key, Value)] {
        match self {
            Self::Open { props, .. } | Self::Join { props, .. } => props,
            Self::Props { set, .. } => set,
            Self::Data { .. } | Self::Subscribe => &[],
        }
    }
}

/// Who has refused what was judged, and what is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A rule does not hold.
    Rule {
        /// How it is called.
        name: Key,
        /// What the rule has to say.
        message: Key,
        /// Why it could not be evaluated; none = it is not true.
        why: Option<String>,
    },
    /// A backend refuses.
    Hook {
        /// How the hook is called.
        name: Arc<str>,
        /// What the backend has to say.
        message: String,
        /// The same for programs.
        reason: Option<Arc<str>>,
    },
    /// A backend that has a say in it cannot be asked.
    HookUnavailable {
        /// How the hook is called.
        name: Arc<str>,
        /// When it is worth trying again.
        retry_after: Micros,
    },
}

impl Asked {
    /// The opening of a session.
    pub fn opening(opening: &Opening, user: &UserId, bearer: &Bearer) -> Self {
        let opener = opening.opener.iter().find(|(opener, _)| opener == user);
        let props = opener.map(|(_, join)| join.props.clone()).unwrap_or_default();
        Self {
            app: opening.app.clone(),
            session_id: Some(opening.id.clone()),
            user: user.clone(),
            bearer: bearer.clone(),
            session: None,
            member: None,
            request: Request::Open {
                kind: opening.kind,
                settings: Box::new(opening.settings.clone()),
                props,
                users: opening.people.users.iter().map(|(user, _)| user.clone()).collect(),
            },
        }
    }

    /// First props of a user who opens a session or joins one at its opening, as the write that
    /// they are.
    pub fn first_props(
        opening: &Opening,
        (user, join): (&UserId, &Join),
        role: Role,
        now: Micros,
        bearer: &Bearer,
    ) -> Self {
        let request = Request::Props { set: join.props.clone(), remove: Vec::new() };
        Self::at_opening(opening, user, now, bearer, request).as_role(role)
    }

    /// That somebody joins a session at its opening.
    pub fn first_join(
        opening: &Opening,
        (user, join): (&UserId, &Join),
        now: Micros,
        bearer: &Bearer,
    ) -> Self {
        let (spectator, props) = (join.spectator, join.props.clone());
        Self::at_opening(opening, user, now, bearer, Request::Join { spectator, props })
    }

    fn at_opening(
        opening: &Opening,
        user: &UserId,
        now: Micros,
        bearer: &Bearer,
        request: Request,
    ) -> Self {
        Self {
            app: opening.app.clone(),
            session_id: Some(opening.id.clone()),
            user: user.clone(),
            bearer: bearer.clone(),
            session: Some(Outline::opening(opening, now)),
            member: None,
            request,
        }
    }

    /// What is asked of a session as it is; also in which epoch that is.
    pub fn of(live: &Live, user: &UserId, bearer: &Bearer, request: Request) -> (Self, Epoch) {
        let (session, member, epoch) = {
            let core = &live.lock().core;
            let is_host = core.accepted_info().host.as_ref() == Some(user);
            let membership = core.members().membership(user);
            let role = |role: Role| role.min(bearer.most);
            let member = membership.map(|it| Standing { role: role(it.role), is_host });
            (Outline::accepted(core), member, core.epoch())
        };
        let asked = Self {
            app: live.app.clone(),
            session_id: Some(live.id.clone()),
            user: user.clone(),
            bearer: bearer.clone(),
            session: Some(session),
            member,
            request,
        };
        (asked, epoch)
    }

    /// The same of somebody who is about to have this role there.
    pub fn as_role(mut self, role: Role) -> Self {
        let role = role.min(self.bearer.most);
        self.member.get_or_insert(Standing { role, is_host: false });
        self
    }

    /// What stands for a name of the vocabulary of rules; none = there is no such thing.
    pub(super) fn look(&self, mention: &Mention) -> Option<Value> {
        let Mention { name, key, .. } = mention;
        let key = key.as_ref();
        let text = |text: &str| Value::Text(text.into());
        let integer = |number: i64| Value::Integer(number);
        if let Some(name) = name.strip_prefix("session.") {
            return self.session.as_ref()?.look(name, key);
        }
        let settings = self.request.settings();
        Some(match *name {
            "request.user_id" => text(&self.user),
            "request.session_id" => text(self.session_id.as_deref().unwrap_or_default()),
            "request.target" => text(match &self.request {
                Request::Data { .. } => "DATA",
                _ => "PROPS",
            }),
            "request.props" => entries(self.request.props(), key)?,
            "request.removed" => match &self.request {
                Request::Props { remove, .. } => keys(remove.iter()),
                Request::Data { shared, .. } => keys(shared.remove.iter()),
                _ => keys([].iter()),
            },
            "request.private_removed" => match &self.request {
                Request::Data { private, .. } => keys(private.remove.iter()),
                _ => keys([].iter()),
            },
            "request.data" => match &self.request {
                Request::Data { shared, .. } => entries(&shared.set, key)?,
                _ => entries(&[], key)?,
            },
            "request.private_data" => match &self.request {
                Request::Data { private, .. } => entries(&private.set, key)?,
                _ => entries(&[], key)?,
            },
            "request.spectator" => match &self.request {
                Request::Join { spectator, .. } => Value::Flag(*spectator),
                _ => return None,
            },
            "request.kind" => match &self.request {
                Request::Open { kind, .. } => text(super::filter::kind(*kind)),
                _ => return None,
            },
            "request.name" => text(settings?.name.as_deref().unwrap_or_default()),
            "request.capacity" => integer(settings?.capacity as i64),
            "request.locked" => Value::Flag(settings?.locked),
            "request.unlisted" => Value::Flag(settings?.unlisted),
            "request.metadata" => entries(&settings?.metadata, key)?,
            "member.role" => integer(rank(self.member?.role)),
            "member.is_host" => Value::Flag(self.member?.is_host),
            "caller.scope" => text(self.bearer.scope),
            "caller.subject" => text(self.bearer.subject.as_deref().unwrap_or_default()),
            "SPECTATOR" => integer(rank(Role::Spectator)),
            "MEMBER" => integer(rank(Role::Member)),
            "MODERATOR" => integer(rank(Role::Moderator)),
            "ADMIN" => integer(rank(Role::Admin)),
            "OWNER" => integer(rank(Role::Owner)),
            _ => return None,
        })
    }
}

/// A role as a number: the higher, the more it may.
fn rank(role: Role) -> i64 {
    role as i64
}

/// A map, or the entry of a key, if it is there.
fn entries(all: &[(Key, Value)], key: Option<&Key>) -> Option<Value> {
    match key {
        None => {
            let mut all = all.to_vec();
            all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            Some(Value::Map(all.into()))
        }
        Some(key) => all.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone()),
    }
}

fn keys<'a>(keys: impl Iterator<Item = &'a Key>) -> Value {
    Value::List(keys.map(|key| Value::Text(key.clone())).collect())
}

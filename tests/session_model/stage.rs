//! A session to try one rule on: what users do to it, in sentences.

use super::{
    picture::{Changes, Picture},
    position::{NoDelta, Position},
};
use sessiond::session::{
    Opening, Session,
    access::Standing,
    command::{Accepted, Actor, Command, Join, Write},
    epoch::Epoch,
    error::Refusal,
    ids::{AppId, Key, SessionId, UserId},
    limits::{Limits, Micros},
    private::{Pair, Private},
    revision::Revision,
    role::Role,
    settings::{Keys, Kind, Presence, Setting, Settings},
    value::Value,
    view::{Class, View},
};
use std::sync::Arc;

pub type Outcome = Result<Accepted, Refusal>;

pub struct Stage {
    pub session: Session,
    pub now: Micros,
}

pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub fn text(text: &str) -> Value {
    Value::Text(text.into())
}

pub fn keys(keys: &[&str]) -> Keys {
    Keys::new(keys.iter().copied().map(Key::from).collect())
}

pub fn set(key: &str, value: Value) -> Write {
    Write::of(vec![(key.into(), value)])
}

pub fn remove(key: &str) -> Write {
    Write { remove: vec![key.into()], ..Write::default() }
}

/// What members see.
pub fn members() -> View {
    View { class: Class::Members, props: Keys::default() }
}

/// What the host sees; in a room the owner.
pub fn host() -> View {
    View { class: Class::Host, props: Keys::default() }
}

pub fn tied() -> Join {
    Join { presence: Some(Presence::Tied), ..Join::default() }
}

pub fn spectator() -> Join {
    Join { spectator: true, ..Join::default() }
}

pub fn too_low<T>(needs: Role) -> Result<T, Refusal> {
    Err(Refusal::RoleTooLow { needs })
}

/// A session to open, without anybody in it.
pub fn opening(kind: Kind) -> Opening {
    let (app, id) = (AppId::new("app").unwrap(), SessionId::new("session").unwrap());
    Opening::new(app, id, kind, Settings::new(10_000, 10))
}

/// A private session of ada, who has not joined, to ben, who has.
pub fn opening_private() -> Opening {
    let pair = Pair { source: user("ada"), listener: user("ben") };
    let private = Some(Private::of(pair, None, Vec::new()));
    Opening { private, ..opening_by("ben", Kind::Private) }
}

/// A session with an owner who has joined.
pub fn opening_by(owner: &str, kind: Kind) -> Opening {
    Opening { opener: Some((user(owner), Join::default())), ..opening(kind) }
}

impl Stage {
    /// A room that nobody has joined; opened by the app.
    pub fn room() -> Self {
        Self::open(opening(Kind::Room))
    }

    /// A hosted session that nobody has joined; opened by the app.
    pub fn hosted() -> Self {
        Self::open(opening(Kind::Hosted))
    }

    pub fn open(opening: Opening) -> Self {
        Self::open_with(opening, Limits::default())
    }

    pub fn open_with(opening: Opening, limits: Limits) -> Self {
        let now = 1_000_000_000;
        let session = Session::open(opening, Arc::new(limits), now, Epoch::default()).unwrap();
        Self { session, now }
    }

    /// With users who have joined and are shown.
    pub fn with(mut self, users: &[&str]) -> Self {
        for user in users {
            self.join(user).unwrap();
        }
        self.tick();
        self
    }

    pub fn try_to(&mut self, actor: Actor, command: Command) -> Outcome {
        self.session.apply(self.now, &actor, command)
    }

    pub fn join(&mut self, name: &str) -> Outcome {
        self.join_with(name, Join::default())
    }

    pub fn join_with(&mut self, name: &str, join: Join) -> Outcome {
        let user = user(name);
        self.try_to(Actor::of(&user), Command::Join { user, join })
    }

    /// Joins with a stream that stays open.
    pub fn stream(&mut self, name: &str) {
        self.join_with(name, tied()).unwrap();
        self.open_stream(name);
    }

    pub fn open_stream(&mut self, name: &str) {
        let user = user(name);
        self.try_to(Actor::of(&user), Command::StreamOpened { user }).unwrap();
    }

    /// The client lets a stream go.
    pub fn lose_stream(&mut self, name: &str) {
        self.close_stream(name, true);
    }

    pub fn close_stream(&mut self, name: &str, lost: bool) {
        let user = user(name);
        let membership = self.session.members().membership(&user).unwrap().order;
        let closed = Command::StreamClosed { user: user.clone(), membership, lost };
        self.try_to(Actor::of(&user), closed).unwrap();
    }

    pub fn leave(&mut self, name: &str) {
        let user = user(name);
        let leave = Command::Leave { user: user.clone(), keep_role: false };
        self.try_to(Actor::of(&user), leave).unwrap();
    }

    pub fn set(&mut self, name: &str, key: &str, value: Value) -> Outcome {
        self.write(name, set(key, value), 0)
    }

    pub fn remove(&mut self, name: &str, key: &str) -> Outcome {
        self.write(name, remove(key), 0)
    }

    pub fn write(&mut self, name: &str, write: Write, term: u64) -> Outcome {
        let user = user(name);
        self.try_to(Actor::of(&user), Command::SetProps { user, write, term })
    }

    /// What the session makes of it; the user's record is elsewhere.
    pub fn try_on_user(&mut self, name: &str, write: Write, hidden: bool) -> Outcome {
        self.try_to(Actor::App, Command::UserProps { user: user(name), write, hidden })
    }

    pub fn write_on_user(&mut self, name: &str, write: Write) -> Accepted {
        self.try_on_user(name, write, true).unwrap()
    }

    pub fn update(&mut self, change: Setting) {
        self.try_to(Actor::App, Command::Update(vec![change])).unwrap();
    }

    /// Time passes, and what is due is done.
    pub fn pass(&mut self, span: Micros) {
        self.now += span;
        self.session.pass_time(self.now);
    }

    /// Makes a frame, or not; returns the last revision.
    pub fn tick(&mut self) -> Revision {
        self.session.flush(self.now);
        self.session.revision()
    }

    /// What a view is sent that has everything before the last frame.
    pub fn news(&self, view: &View) -> Changes {
        Changes::after(&self.session, view, self.session.revision().previous())
    }

    /// What a view is sent that has everything up to a revision.
    pub fn since(&self, view: &View, revision: Revision) -> Changes {
        Changes::after(&self.session, view, revision)
    }

    pub fn picture(&self, view: &View) -> Picture {
        Picture::of_snapshot(&Changes::all(&self.session, view))
    }

    /// What a view shows of a prop.
    pub fn shows(&self, view: &View, name: &str, key: &str) -> Option<Value> {
        self.picture(view).members.get(name)?.props.get(key).cloned()
    }

    pub fn position(&self, view: &View) -> Position {
        Position::latest(&self.session, view)
    }

    pub fn resume(&self, at: Position, view: &View) -> Result<(), NoDelta> {
        at.resume(&self.session, view)
    }

    pub fn host(&self) -> Option<&str> {
        self.session.accepted_info().host.as_deref()
    }

    pub fn owner(&self) -> Option<&str> {
        self.session.accepted_info().owner.as_deref()
    }

    pub fn standing(&self, name: &str) -> Standing {
        self.session.standing(&Actor::of(&user(name)))
    }

    pub fn is_in(&self, name: &str) -> bool {
        self.session.members().membership(name).is_some()
    }

    pub fn is_disconnected(&self, name: &str) -> bool {
        self.session.members().membership(name).unwrap().disconnected
    }

    /// Everyone in join order.
    pub fn joined(&self) -> Vec<&str> {
        self.session.members().joined().map(|(_, user, _)| &**user).collect()
    }
}

//! What is written down of a session so that it outlives its owner: everything that changed between
//! two marks, no matter who may see it.

use super::{
    Info,
    ban::Ban,
    epoch::Epoch,
    ids::{AppId, Key, SessionId, UserId},
    limits::Micros,
    member::Departure,
    password::PasswordHash,
    private::Pair,
    revision::Revision,
    role::Role,
    settings::{Kind, Presence},
    value::Value,
};
use std::sync::Arc;

/// How far a session is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The incarnation of its history.
    pub epoch: Epoch,
    /// The last frame.
    pub revision: Revision,
    /// How many changes there were that no frame tells.
    pub notes: u64,
}

/// Everything that changed of a session between two marks. Without the first of them it is a
/// *snapshot*: everything that there is.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The namespace of the session.
    pub app: AppId,
    /// Its id.
    pub id: SessionId,
    /// What came before.
    pub begin: Begin,
    /// Up to where it tells.
    pub until: Mark,
    /// When the last frame was made.
    pub framed_at: Micros,
    /// What readers learn of the session, if that changed.
    pub info: Option<Arc<Info>>,
    /// The frame at which that last changed.
    pub info_revision: Revision,
    /// The frame at which it last changed who sees which keys of whom.
    pub sight_revision: Revision,
    /// The password, if it changed; within, none = nobody needs one.
    pub password: Option<Option<PasswordHash>>,
    /// The keys that somebody came to show, and those that were never shown before.
    pub names: Vec<Name>,
    /// How many keys the session has numbered.
    pub numbered: u64,
    /// Shared session data.
    pub data: Vec<Slot>,
    /// Private session data.
    pub private_data: Vec<Slot>,
    /// The members that changed, in the order in which they did.
    pub members: Vec<Member>,
    /// How many memberships there have been.
    pub joins: u64,
    /// What went, in this order.
    pub removals: Vec<Removal>,
    /// Of all removals so many are remembered, the latest.
    pub remembered: u64,
    /// Deltas begin at this frame or later.
    pub horizon: Revision,
    /// The frame of the last reset.
    pub reset_revision: Revision,
    /// About whom something changed that no frame tells.
    pub people: People,
    /// What a host that is gone has left for the next one.
    pub heritage: Option<Heritage>,
    /// When a lost host is replaced.
    pub host_until: Option<Micros>,
    /// Since when nobody is there by whom the session lives.
    pub empty_since: Option<Micros>,
    /// What was accepted and waits for a frame that something else makes: props of users that no
    /// view shows as it is.
    pub waiting: Vec<Waiting>,
    /// The frames after which revisions were skipped, the latest last.
    pub skipped: Vec<Revision>,
    /// The revision with which the epoch began; none = it is the epoch of the opening.
    pub epoch_revision: Revision,
    /// The session is over.
    pub has_ended: bool,
}

/// What came before a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Begin {
    /// Nothing: the record is a snapshot.
    Nothing(Birth),
    /// Everything up to a mark.
    Mark(Mark),
}

/// What never changes of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Birth {
    /// Who sees whom.
    pub kind: Kind,
    /// Between whom, if it is a private session.
    pub pair: Option<Pair>,
    /// When it was opened.
    pub opened_at: Micros,
    /// The epoch in which it was opened.
    pub epoch: Epoch,
}

/// A key of the session.
#[derive(Debug, Clone, PartialEq)]
pub struct Name {
    /// Where it stands in the order of keys; slots name it by that.
    pub place: u32,
    /// The key.
    pub key: Key,
    /// The number that no other key of the session ever has.
    pub serial: u64,
    /// The last frame at which a member came to show it that did not before.
    pub news: Revision,
}

/// A value under a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// The key, by [`Name::place`].
    pub place: u32,
    /// The frame at which it last changed.
    pub revision: Revision,
    /// The value; none = it was removed.
    pub value: Option<Value>,
}

/// What changed of a member.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Which membership, counted from 1.
    pub order: u64,
    /// The frame at which anything last changed.
    pub changed: Revision,
    /// Who joined, if that is news.
    pub joined: Option<Joined>,
    /// Role and connection, if they changed.
    pub status: Option<Status>,
    /// The frame at which it last became or ceased to be host.
    pub hosting: Revision,
    /// The props that changed.
    pub slots: Vec<Slot>,
}

/// A membership that begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// Who.
    pub user: UserId,
    /// When.
    pub at: Micros,
    /// The frame that shows it first.
    pub revision: Revision,
    /// The frame at which an earlier membership of the user ended, if that is remembered.
    pub replaces: Revision,
}

/// How a member is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The role.
    pub role: Role,
    /// The last stream is lost.
    pub disconnected: bool,
    /// The frame at which either last changed.
    pub revision: Revision,
}

/// Something that went.
#[derive(Debug, Clone, PartialEq)]
pub struct Removal {
    /// The frame at which it went.
    pub revision: Revision,
    /// When.
    pub at: Micros,
    /// What; none = it is back, or went with something else. It only counts.
    pub what: Option<Removed>,
}

/// What went.
#[derive(Debug, Clone, PartialEq)]
pub enum Removed {
    /// A prop of a member: the membership and [`Name::place`].
    Prop(u64, u32),
    /// Shared session data, by [`Name::place`].
    Data(u32),
    /// Private session data, by [`Name::place`].
    PrivateData(u32),
    /// A member.
    Member(UserId, Departure),
}

/// About whom something changed that no frame tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct People {
    /// This is everybody of whom there is anything to tell, in place of what was said before.
    pub is_all: bool,
    /// Each user once, in the order of users.
    pub list: Vec<Person>,
}

/// All that no frame tells of a user.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// Who.
    pub user: UserId,
    /// The role that stays with the user, joined or not.
    pub role: Option<Role>,
    /// Why and until when it may not join.
    pub ban: Option<Ban>,
    /// Until when a place is held for it.
    pub seat: Option<Micros>,
    /// How it is connected, if it is a member.
    pub connection: Option<Connection>,
}

/// How a member is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// What happens when the last stream is lost.
    pub presence: Presence,
    /// It is shown without having joined.
    pub absent: bool,
    /// It has had a stream.
    pub has_streamed: bool,
    /// When it leaves if no stream comes.
    pub until: Option<Micros>,
}

/// What the next host takes over.
#[derive(Debug, Clone, PartialEq)]
pub struct Heritage {
    /// The membership that leaves it.
    pub of: u64,
    /// The props.
    pub props: Vec<(Key, Value)>,
}

/// A prop that waits for a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// Whose, by membership.
    pub order: u64,
    /// The key.
    pub key: Key,
    /// The value; none = it is removed.
    pub value: Option<Value>,
}

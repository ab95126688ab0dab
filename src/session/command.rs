//! What can be asked of a session.

use super::{
    ban::Ban,
    epoch::Epoch,
    ids::{Key, UserId},
    limits::Micros,
    member::Stay,
    password::PasswordHash,
    revision::Revision,
    role::Role,
    settings::{Presence, Setting},
    value::Value,
};
use std::{
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The app itself: it may do everything.
    App,
    /// A user, judged by its role.
    User(Acting),
}

/// A user who acts. Whose credential it is makes it nobody else.
#[derive(Debug, Clone)]
pub struct Acting {
    id: UserId,
    /// The highest role that it may use: its credential says so.
    most: Role,
}

impl Acting {
    /// A user who uses no higher role than this, whichever it has.
    pub fn at_most(id: UserId, most: Role) -> Self {
        Self { id, most }
    }

    /// Who it is.
    pub fn id(&self) -> &UserId {
        &self.id
    }

    /// The role that it may use where it has this one.
    pub fn limit(&self, role: Role) -> Role {
        role.min(self.most)
    }
}

impl From<UserId> for Acting {
    fn from(id: UserId) -> Self {
        Self::at_most(id, Role::Owner)
    }
}

impl Deref for Acting {
    type Target = UserId;

    fn deref(&self) -> &UserId {
        &self.id
    }
}

impl PartialEq for Acting {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Acting {}

impl Hash for Acting {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl Actor {
    /// A user who may use whichever role it has.
    pub fn of(user: &UserId) -> Self {
        Self::User(user.clone().into())
    }

    /// The user, if it is one.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::App => None,
            Self::User(user) => Some(user.id()),
        }
    }
}

/// Keys to set and keys to remove; no key twice.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Write {
    /// New values.
    pub set: Vec<(Key, Value)>,
    /// Keys that go.
    pub remove: Vec<Key>,
    /// Keys that must not have changed after a revision, or all of the write is refused.
    pub if_revision: Vec<(Key, Revision)>,
    /// How many of the last in `set` came as plain JSON, where their faults are to be named.
    pub plain: usize,
    /// Maps are merged into the maps that are there, those within them too; see [`Write::merged`].
    pub merge_maps: bool,
    /// The stay in which it was made, if it comes late: it changes nothing in another one.
    pub made_in: Option<Stay>,
    /// In which epoch of the session it was judged and found good; none = it was not judged.
    pub judged: Option<Epoch>,
}

impl Write {
    /// A write that only sets.
    pub fn of(set: Vec<(Key, Value)>) -> Self {
        Self { set, ..Self::default() }
    }

    /// Whether it names no key.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// All keys that it names.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.set.iter().map(|(key, _)| key).chain(&self.remove)
    }
}

/// How a user joins.
#[derive(Debug, Clone, Default)]
pub struct Join {
    /// As a spectator; a higher role that the user has in the session wins.
    pub spectator: bool,
    /// What happens when the last stream is lost; none = as it is, or for a new membership tied if
    /// a stream joins, else explicit.
    pub presence: Option<Presence>,
    /// The call that joins is a stream.
    pub is_stream: bool,
    /// The app itself has the user join: it is no change that the user makes.
    pub is_by_app: bool,
    /// First props, over what is set on the user; they are those of a new membership only.
    pub props: Vec<(Key, Value)>,
    /// What is set on the user.
    pub user_props: Vec<(Key, Value)>,
    /// The password of the session that the user has given and that was found right.
    pub proven: Option<PasswordHash>,
    /// Leaves the other exclusive session that the user is in, instead of being refused.
    pub moves: bool,
    /// In which epoch of the session it was judged and found good; none = it was not judged.
    pub judged: Option<Epoch>,
    /// The role that its judge gives to a new member. An owner stays one.
    pub role: Option<Role>,
}

impl Command {
    /// Whether the actor learns of the success only when it is stored, in a session that is.
    pub fn is_stored_at_once(&self) -> bool {
        match self {
            Self::Delete
            | Self::Update(_)
            | Self::SetRole { .. }
            | Self::Kick { .. }
            | Self::Ban { .. }
            | Self::Unban { .. }
            | Self::SwapHost { .. } => true,
            Self::Join { .. }
            | Self::Leave { .. }
            | Self::SetProps { .. }
            | Self::UserProps { .. }
            | Self::SetData { .. }
            | Self::ReserveSeats { .. }
            | Self::ReleaseSeats { .. }
            | Self::SourceSeen { .. }
            | Self::StreamOpened { .. }
            | Self::StreamClosed { .. } => false,
        }
    }

    /// Whether it counts as one of the changes of sessions and members that a user may make in a second.
    /// A join is counted with the record of the user. What ends something that was counted when it began
    /// is not, and neither is what counts as an update.
    pub fn is_change(&self) -> bool {
        match self {
            Self::Update(_)
            | Self::SetRole { .. }
            | Self::Kick { .. }
            | Self::Ban { .. }
            | Self::Unban { .. }
            | Self::ReserveSeats { .. }
            | Self::ReleaseSeats { .. }
            | Self::SwapHost { .. } => true,
            Self::Join { .. }
            | Self::Leave { .. }
            | Self::Delete
            | Self::SetProps { .. }
            | Self::UserProps { .. }
            | Self::SetData { .. }
            | Self::SourceSeen { .. }
            | Self::StreamOpened { .. }
            | Self::StreamClosed { .. } => false,
        }
    }

    /// What it costs to store it.
    pub fn cost(&self) -> Cost {
        match self {
            Self::StreamOpened { .. }
            | Self::StreamClosed { .. }
            | Self::SourceSeen { .. }
            | Self::ReleaseSeats { .. } => Cost::Nothing,
            Self::Leave { .. } | Self::Delete => Cost::Less,
            Self::Join { .. }
            | Self::Update(_)
            | Self::SetProps { .. }
            | Self::UserProps { .. }
            | Self::SetData { .. }
            | Self::SetRole { .. }
            | Self::Kick { .. }
            | Self::Ban { .. }
            | Self::ReserveSeats { .. }
            | Self::Unban { .. }
            | Self::SwapHost { .. } => Cost::More,
        }
    }
}

/// What is asked. Each is accepted whole or refused whole.
#[derive(Debug, Clone)]
pub enum Command {
    /// A user joins.
    Join {
        /// Who.
        user: UserId,
        /// How.
        join: Join,
    },
    /// A user leaves.
    Leave {
        /// Who.
        user: UserId,
        /// The role waits for its return.
        keep_role: bool,
    },
    /// The session ends.
    Delete,
    /// Settings change.
    Update(Vec<Setting>),
    /// A user's props change in this session.
    SetProps {
        /// Whose.
        user: UserId,
        /// How.
        write: Write,
        /// The term in which the writer believes to be host; 0 = any.
        term: u64,
    },
    /// Session data changes.
    SetData {
        /// The shared part.
        shared: Write,
        /// The private part.
        private: Write,
        /// As in `SetProps`.
        term: u64,
    },
    /// Somebody gets a role.
    SetRole {
        /// Who.
        target: UserId,
        /// Which.
        role: Role,
        /// What is set on the user, for a spectator that comes to send.
        user_props: Vec<(Key, Value)>,
    },
    /// A member has to go.
    Kick {
        /// Who.
        target: UserId,
        /// What is said to it.
        reason: Arc<str>,
    },
    /// A user has to go and stay away.
    Ban {
        /// Who.
        target: UserId,
        /// Why and until when.
        ban: Ban,
    },
    /// A user may come back.
    Unban {
        /// Who.
        target: UserId,
    },
    /// Places are held for users who have not joined.
    ReserveSeats {
        /// For whom, each once: for all of them or for none.
        users: Vec<UserId>,
        /// Until then, or until they join.
        until: Micros,
    },
    /// Places are given back.
    ReleaseSeats {
        /// Whose.
        users: Vec<UserId>,
    },
    /// Somebody else becomes host.
    SwapHost {
        /// Who; none = the first by the session's order who is not host already.
        target: Option<UserId>,
        /// As in `SetProps`.
        term: u64,
    },
    /// Props change on the user itself.
    UserProps {
        /// Whose.
        user: UserId,
        /// How.
        write: Write,
        /// Also where the session shows none of the keys; otherwise such a session is only asked
        /// whether there is room.
        hidden: bool,
    },
    /// The app sees the source of a private session, or does not any more.
    SourceSeen {
        /// Whether it has a stream, or has joined a session.
        is_present: bool,
    },
    /// A member's stream begins.
    StreamOpened {
        /// Whose.
        user: UserId,
    },
    /// A member's stream is over.
    StreamClosed {
        /// Whose.
        user: UserId,
        /// The membership that it belonged to, by [`super::member::Membership::order`].
        membership: u64,
        /// The client caused it: cancelled, lost or silent.
        lost: bool,
    },
}

/// What became of an accepted command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The frame that shows it.
    pub revision: Revision,
    /// Whether it concerns the session at all: a write on the user does only where the session
    /// selects a written key.
    pub concerned: bool,
}

/// What it costs to store a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// It is done whether there is space or not: it gives something up, or tells what has happened
    /// anyway.
    Nothing,
    /// It takes away more than it adds.
    Less,
    /// It adds something.
    More,
}

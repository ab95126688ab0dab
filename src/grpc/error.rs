//! Why a call is refused: by the rules, by the engine, by the object streams, or because of the call
//! itself. [`super::status`] says it to clients.

use crate::{
    cluster::{MoveRefused, NotTold},
    engine, object_stream,
    session::{
        error::{Refusal as Rule, Violation},
        limits::Micros,
    },
};

/// Why a call was refused. A refused call has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The rules of the session refuse.
    Rules(Rule),
    /// The engine refuses.
    Engine(engine::Refusal),
    /// The object streams refuse.
    Objects(object_stream::Refusal),
    /// The request is wrong whatever the state is; every fault is named.
    Invalid(Vec<Violation>),
    /// The caller may not act for this user.
    NotEntitled,
    /// The credential of the caller does not allow this.
    Uncovered(Uncovered),
    /// Nobody is asked for a credential.
    NoIdentity,
    /// The server is no node of a cluster.
    NoCluster,
    /// A partition is not moved.
    NotMoved(MoveRefused),
    /// Nothing can be sent to all nodes of the cluster.
    NotTold(NotTold),
    /// Whether the credential is valid cannot be said at the moment.
    KeysUnavailable {
        /// Why, in words that help no forger.
        why: String,
    },
    /// The caller has no valid credential.
    Unauthenticated {
        /// What is wrong with it, in words that help no forger.
        why: String,
        /// What became of it.
        fault: CredentialFault,
    },
    /// The caller has no valid credential, and too many calls of its address had none.
    TooManyRefused {
        /// How many there may be in a second.
        most: u64,
        /// After how long there may be one more.
        retry_after: Micros,
    },
    /// The server does not have this.
    NotImplemented {
        /// The call or the path of the field.
        field: String,
    },
    /// A field of the request names what is refused.
    Of {
        /// Its path.
        field: String,
        /// Why.
        why: Box<Refusal>,
    },
    /// One of several subscriptions that open together was refused, and so are all.
    Subscription {
        /// The path of the subscription.
        field: String,
        /// Why it was.
        why: Box<Refusal>,
    },
    /// The message could not be decoded.
    Malformed(String),
    /// The message is over the size limit.
    MessageTooLarge {
        /// How many bytes it may have.
        most: usize,
    },
    /// The reply would be over the size limit.
    ReplyTooLarge {
        /// How many bytes it may have.
        most: usize,
    },
    /// The sequence number of a message is not above that of the one before.
    SeqNotRising {
        /// That of the message.
        seq: u64,
        /// That of the one before.
        last: u64,
    },
    /// The server has more to do than it can.
    Overloaded {
        /// When to try again.
        retry_after: Micros,
    },
    /// The node that was asked does not have the app, or the one that has it cannot be reached. Nothing
    /// of the call was done, not even of a stream: it may be sent to another node as a whole.
    NotOwner,
    /// The node that has the app was lost before it had answered.
    NodeLost {
        /// Whether the call is a stream, which ends with it.
        is_stream: bool,
        /// When to come back: not all at the same moment.
        retry_after: Micros,
    },
    /// The gateway has no attached user who may see the view.
    NoView,
    /// The gateway has no attached user, or no view, of that handle.
    UnknownHandle {
        /// The client's number.
        handle: u32,
    },
    /// More of a message was refused than is named.
    MoreRefused {
        /// How much.
        others: usize,
    },
    /// The first message of a stream is not the opening one, or a later one is.
    WrongFirstMessage(&'static str),
}

/// What is wrong with a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialFault {
    /// There is none, or it was never valid.
    Bad,
    /// It was valid, and has expired.
    Expired,
    /// It was revoked.
    Revoked,
}

/// What a credential does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncovered {
    /// The call at all.
    Call,
    /// The app.
    App,
    /// To act as that user.
    User,
    /// To act as the app itself.
    AsApp,
    /// That session.
    Session,
    /// Sessions that the call does not name.
    OtherSessions,
    /// The role that the call would need or give.
    Role,
}

impl Refusal {
    /// No such session, or none that the caller may know of.
    pub const NOT_FOUND: Self = Self::Rules(Rule::SessionNotFound);

    /// The server is stopping.
    pub const DRAINING: Self = Self::Engine(engine::Refusal::Draining);

    /// One field at fault.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(field, description)])
    }

    /// After how long it is worth trying again what is over the rate of a user or an app.
    pub fn retry_after(&self) -> Option<Micros> {
        match self {
            Self::Rules(Rule::RateLimited { retry_after, .. }) => Some(*retry_after),
            Self::Engine(refusal) => refusal.retry_after(),
            _ => None,
        }
    }

    /// The refusal of what a field names.
    pub fn of(self, field: impl Into<String>) -> Self {
        Self::Of { field: field.into(), why: Box::new(self) }
    }

    /// The same with the faults of a message that stands at `prefix` in the request.
    pub fn within(self, prefix: &str) -> Self {
        self.within_unless(prefix, |_| false)
    }

    /// The same, but for the fields that stand in the request itself.
    pub fn within_unless(self, prefix: &str, is_outside: impl Fn(&str) -> bool) -> Self {
        self.renamed(|field| (!is_outside(field)).then(|| format!("{prefix}{field}")))
    }

    /// The same with the fields at fault under other paths; none = a path stays as it is.
    pub fn renamed(mut self, path_of: impl Fn(&str) -> Option<String>) -> Self {
        if let Self::Invalid(faults)
        | Self::Rules(Rule::Invalid(faults) | Rule::NotAWriter(faults)) = &mut self
        {
            for fault in faults.iter_mut().filter(|fault| !fault.field.is_empty()) {
                if let Some(path) = path_of(&fault.field) {
                    fault.field = path;
                }
            }
        }
        self
    }
}

impl From<Rule> for Refusal {
    fn from(rule: Rule) -> Self {
        engine::Refusal::from(rule).into()
    }
}

impl From<engine::Refusal> for Refusal {
    fn from(refusal: engine::Refusal) -> Self {
        match refusal {
            engine::Refusal::Rules(rule) => Self::Rules(rule),
            engine::Refusal::OfUser { at, why } => Self::from(*why).of(format!("users[{at}]")),
            refusal => Self::Engine(refusal),
        }
    }
}

impl From<object_stream::Refusal> for Refusal {
    fn from(refusal: object_stream::Refusal) -> Self {
        Self::Objects(refusal)
    }
}

//! Why a command is refused, in the words of the domain. `grpc::status` turns them into statuses.

use super::{ids::SessionId, limits::Micros, role::Role};
use std::{borrow::Cow, fmt};

/// A field at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the request.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
    /// How many faults that nobody names it counts; 0 for one that is named.
    pub unnamed: usize,
}

impl Violation {
    /// `description` is wrong with `field`.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into(), unnamed: 0 }
    }

    /// The faults that are only counted.
    pub fn rest(unnamed: usize) -> Self {
        Self { field: String::new(), description: format!("and {unnamed} more"), unnamed }
    }
}

/// A text that has so many bytes at most, and says so if it was longer.
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    const MORE: char = '…';
    if text.len() <= most {
        return text.into();
    }
    let mut end = most - MORE.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MORE}", &text[..end]).into()
}

/// Bytes of the faults of a request that are kept; further ones are counted. A client is told fewer
/// still.
pub const FAULTS_BYTES: usize = 4 * 1024;

/// The faults of one request: all of them, named as far as a refusal can tell them.
#[derive(Debug, Default)]
pub struct Faults {
    /// The path of the message that is being looked at, where it lies in another one.
    prefix: String,
    named: Vec<Violation>,
    /// Bytes of what is in there.
    bytes: usize,
    /// Faults that are only counted.
    unnamed: usize,
}

impl Faults {
    /// Notes a fault.
    pub fn add(&mut self, field: impl fmt::Display, description: impl Into<String>) {
        // Who is at fault thousands of times does not have thousands of texts made.
        if self.unnamed > 0 {
            self.unnamed += 1;
            return;
        }
        let violation = Violation::new(format!("{}{field}", self.prefix), description);
        let bytes = violation.field.len() + violation.description.len() + 8;
        if self.bytes + bytes > FAULTS_BYTES {
            self.unnamed += 1;
            return;
        }
        self.bytes += bytes;
        self.named.push(violation);
    }

    /// From now on paths begin with this, too; returns how to go back.
    pub fn enter(&mut self, prefix: &str) -> usize {
        let outside = self.prefix.len();
        self.prefix.push_str(prefix);
        outside
    }

    /// Back to what [`Faults::enter`] returned.
    pub fn back_to(&mut self, outside: usize) {
        self.prefix.truncate(outside);
    }

    /// The path of the message that is being looked at, with the dot behind it.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.named.len() + self.unnamed
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// The faults, the last one counting those that are not named.
    pub fn close(self) -> Vec<Violation> {
        let Self { mut named, unnamed, .. } = self;
        if unnamed > 0 {
            named.push(Violation::rest(unnamed));
        }
        named
    }
}

/// The path of a field in a request, put into words only where something is wrong with it.
#[derive(Debug, Clone, Copy)]
pub enum Path<'a> {
    /// Where it begins.
    Root(&'a str),
    /// A field of a message.
    Field(&'a Path<'a>, &'a str),
    /// An entry of a map.
    Key(&'a Path<'a>, &'a str),
    /// An element of a list.
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(root) => f.write_str(root),
            Self::Field(within, name) => write!(f, "{within}.{name}"),
            Self::Key(within, key) => {
                // A path is for people to find the field by: a long key is cut.
                let shown: String = key.chars().take(64).collect();
                write!(f, "{within}[{shown:?}]")
            }
            Self::Item(within, at) => write!(f, "{within}[{at}]"),
        }
    }
}

/// Why a command was refused. A refused command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request is wrong whatever the state is; every fault is named.
    #[error("{}", list(.0))]
    Invalid(Vec<Violation>),
    /// No such session, or none that the caller may know of.
    #[error("there is no such session")]
    SessionNotFound,
    /// The session id is taken.
    #[error("a session with this id is open")]
    SessionExists,
    /// The session name is taken.
    #[error("a session with this name is open")]
    NameTaken,
    /// The user has not joined.
    #[error("the user is not a member of the session")]
    NotAMember,
    /// The session's password is missing or wrong.
    #[error("the session has a password, and this is not it")]
    WrongPassword,
    /// Too many wrong passwords came from the same place.
    #[error("too many wrong passwords: {most} at once, then one every {} s", each / 1_000_000)]
    TooManyGuesses {
        /// How many may come at once.
        most: u64,
        /// After how long there may be one more.
        each: Micros,
        /// When the next one may come.
        retry_after: Micros,
    },
    /// So many passwords wait to be hashed that no more are taken.
    #[error("{most} passwords wait to be checked already")]
    PasswordsBusy {
        /// Which bound it is.
        limit: &'static str,
        /// How many may wait.
        most: usize,
        /// When to try again.
        retry_after: Micros,
    },
    /// The session takes nobody new.
    #[error("the session is locked")]
    Locked,
    /// The user is in another exclusive session.
    #[error("the user is in another exclusive session")]
    AlreadyInSession {
        /// Which one, if whoever asks may know.
        session: Option<SessionId>,
    },
    /// The session has no place left.
    #[error("the session is full: it has places for {capacity}")]
    Full {
        /// How many places it has.
        capacity: usize,
    },
    /// The user's role does not allow it.
    #[error("this needs the role {needs} or a higher one")]
    RoleTooLow {
        /// The lowest role that would.
        needs: Role,
    },
    /// The schema lets only higher roles write these keys.
    #[error("{}", list(.0))]
    NotAWriter(Vec<Violation>),
    /// The session has a schema, and takes only writes that name it.
    #[error("the session has a schema: a write must name it")]
    SchemaNeedsSessionId,
    /// Only the host may do it.
    #[error("this needs the host")]
    NeedsHost,
    /// Only the source may do it.
    #[error("a private session shows its source's props and private data alone")]
    NeedsSource,
    /// Only the source and the listener join a private session.
    #[error("only its source and its listener join a private session")]
    NotOfThePair,
    /// Somebody wants to listen to a user who has not opened a session for it.
    #[error("only the source, or the app itself, opens a private session")]
    NoConsent,
    /// The target's rank is not below the actor's.
    #[error("nobody acts on somebody of the same or a higher rank")]
    TargetRank,
    /// The user is banned.
    #[error("the user is banned from the session")]
    Banned {
        /// When the ban ends; none = never.
        until: Option<Micros>,
    },
    /// There is no such ban.
    #[error("the user is not banned")]
    BanNotFound,
    /// The target has not joined, or nobody matches.
    #[error("there is no such member")]
    MemberNotFound,
    /// Nobody can become host, or not the one who is named.
    #[error("a host has to be a connected member who is no spectator")]
    NoCandidate,
    /// The call does not fit the kind of the session.
    #[error("this is for hosted sessions")]
    WrongKind,
    /// A key changed after the revision that the write names.
    #[error("{}", list(.0))]
    RevisionChanged(Vec<Violation>),
    /// The position is of another epoch, or beyond the open frame.
    #[error("the session has no such position")]
    UnknownPosition,
    /// The request id is that of a request with other content.
    #[error("{field}: the id was used for a request with other content; choose a new one")]
    RequestIdReused {
        /// The path of the field.
        field: &'static str,
    },
    /// No such object stream, or none that the caller may read.
    #[error("there is no such object stream")]
    StreamNotFound,
    /// The name of an object stream is taken by one that the caller may not read.
    #[error("an object stream with this name is there")]
    StreamNameTaken,
    /// Only who created the object stream or function, or the app itself, may do it.
    #[error("this needs its creator or the app itself")]
    NeedsCreator,
    /// No stream function of that name.
    #[error("there is no such stream function")]
    FunctionNotFound,
    /// The expression of a stream function is refused.
    #[error("the expression {0}")]
    BadExpression(String),
    /// The term is not the current one.
    #[error("the host's term is {current}")]
    StaleTerm {
        /// The current one.
        current: u64,
    },
    /// A write names the term of a host, and its writer is none.
    #[error("the writer is not the host")]
    NotTheHost,
    /// A bound was met.
    #[error("{limit}: at most {most}")]
    LimitReached {
        /// Which one, as the configuration calls it.
        limit: &'static str,
        /// Its value.
        most: usize,
    },
    /// Too many updates a second.
    #[error("more than {per_second} updates a second")]
    RateLimited {
        /// The rate.
        per_second: u64,
        /// When the next one fits.
        retry_after: Micros,
    },
    /// The server is stopping.
    #[error("the server is stopping")]
    Draining,
    /// The caller may not act for this app or user.
    #[error("only the app itself may do this")]
    NotEntitled,
    /// The server does not have this yet.
    #[error("{field}: this server does not have it yet")]
    NotImplemented {
        /// The call or the path of the field.
        field: String,
    },
    /// The server has no durable store.
    #[error("ack: the server has no durable store; leave it out or ask for ACCEPTED")]
    NoStore,
    /// One of several users that a call is about is refused, and so all of it is.
    #[error("{field}: {why}")]
    Of {
        /// The path of the field that names the user.
        field: String,
        /// Why.
        why: Box<Refusal>,
    },
    /// The message could not be decoded.
    #[error("the message cannot be decoded: {0}")]
    Malformed(String),
    /// The message is over the size limit.
    #[error("the message has more than {most} bytes")]
    MessageTooLarge {
        /// How many it may have.
        most: usize,
    },
    /// The reply would be over the size limit.
    #[error("the reply would have more than {most} bytes")]
    ReplyTooLarge {
        /// How many it may have.
        most: usize,
    },
    /// The sequence number of a message is not above that of the one before.
    #[error("seq must rise from message to message, from 1 on: {seq} came after {last}")]
    SeqNotRising {
        /// That of the message.
        seq: u64,
        /// That of the one before.
        last: u64,
    },
    /// One of several subscriptions that are had together or not at all was refused.
    #[error("{field}: {refusal}")]
    Subscription {
        /// The path of the subscription.
        field: String,
        /// Why it was.
        refusal: Box<Refusal>,
    },
    /// The first message of a stream is not the opening one, or a later one is.
    #[error("{0}")]
    WrongFirstMessage(&'static str),
}

impl Refusal {
    /// One field at fault.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(field, description)])
    }

    /// The refusal of the user that a field names.
    pub fn of(self, field: impl Into<String>) -> Self {
        Self::Of { field: field.into(), why: Box::new(self) }
    }

    /// The same with the faults of a message that stands at `prefix` in the request.
    pub fn within(self, prefix: &str) -> Self {
        self.within_unless(prefix, |_| false)
    }

    /// The same, but for the fields that stand in the request itself.
    pub fn within_unless(mut self, prefix: &str, is_outside: impl Fn(&str) -> bool) -> Self {
        if let Self::Invalid(faults) | Self::NotAWriter(faults) = &mut self {
            let is_inside = |field: &str| !field.is_empty() && !is_outside(field);
            for fault in faults.iter_mut().filter(|fault| is_inside(&fault.field)) {
                fault.field.insert_str(0, prefix);
            }
        }
        self
    }
}

/// The first few; the details have more of them.
fn list(violations: &[Violation]) -> String {
    /// Bytes of those that are named here.
    const LISTED_BYTES: usize = 320;
    let mut text = String::new();
    let mut listed = 0;
    for Violation { field, description, .. } in violations.iter().filter(|it| it.unnamed == 0) {
        let one = format!("{field}: {description}");
        if listed > 0 && text.len() + one.len() > LISTED_BYTES {
            break;
        }
        let separator = if listed > 0 { "; " } else { "" };
        text = text + separator + &cut(&one, LISTED_BYTES);
        listed += 1;
    }
    let all: usize = violations.iter().map(|it| it.unnamed.max(1)).sum();
    if all > listed {
        text.push_str(&format!("; and {} more", all - listed));
    }
    text
}

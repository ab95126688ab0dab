//! Why a command is refused, in the words of the rules; what a client gets of it is not said here.

use super::{limits::Micros, role::Role};
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

/// Bytes of the faults of a request that are kept; further ones are counted. A client gets fewer
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
        // For a request with thousands of faults, thousands of texts are not made.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The request is wrong whatever the state is; every fault is named.
    Invalid(Vec<Violation>),
    /// No such session, or none that the caller may know of.
    SessionNotFound,
    /// The user has not joined.
    NotAMember,
    /// The session's password is missing or wrong.
    WrongPassword,
    /// The session takes no new member.
    Locked,
    /// The session has no place left.
    Full {
        /// How many places it has.
        capacity: usize,
    },
    /// The user's role does not allow it.
    RoleTooLow {
        /// The lowest role that would.
        needs: Role,
    },
    /// The schema lets only higher roles write these keys.
    NotAWriter(Vec<Violation>),
    /// The session has a schema, or judges writes, and takes only writes that name it.
    SessionIdNeeded,
    /// It is to be judged before, and was not in this epoch.
    NotJudged,
    /// Only the host may do it.
    NeedsHost,
    /// Only the source may do it.
    NeedsSource,
    /// Only the source and the listener join a private session.
    NotOfThePair,
    /// The target's rank is not below the actor's.
    TargetRank,
    /// The user is banned.
    Banned {
        /// When the ban ends; none = never.
        until: Option<Micros>,
    },
    /// There is no such ban.
    BanNotFound,
    /// The target has not joined, or no member matches.
    MemberNotFound,
    /// No member can become host, or not the named one.
    NoCandidate,
    /// The command does not fit the kind of the session.
    WrongKind,
    /// A key changed after the revision that the write names.
    RevisionChanged(Vec<Violation>),
    /// The position is of another epoch, or beyond the open frame.
    UnknownPosition,
    /// The term is not the current one.
    StaleTerm {
        /// The current one.
        current: u64,
    },
    /// A write names the term of a host, and its writer is not the host.
    NotTheHost,
    /// A bound was met.
    LimitReached {
        /// Which one.
        limit: Limit,
        /// Its value.
        most: usize,
    },
    /// Too many of something a second.
    RateLimited {
        /// Of what.
        rate: Rate,
        /// How many there may be.
        per_second: u64,
        /// When the next one fits.
        retry_after: Micros,
    },
    /// One of the users that join at the opening is refused, and so is the opening.
    OfUser {
        /// Which one.
        at: usize,
        /// Why.
        why: Box<Refusal>,
    },
}

/// What a user may do so often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Write.
    Updates,
    /// Change what sessions there are, who is in them and what holds there.
    Changes,
}

/// The bounds of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Keys of a user in a session, and on the user.
    PropsPerUser,
    /// Users with another role than member.
    Roles,
    /// Banned users.
    Bans,
}

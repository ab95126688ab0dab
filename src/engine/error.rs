//! Why the engine refuses: the rules of a session do, or there is another reason beside them.

use super::{apps::AppLimit, asked::Verdict};
use crate::session::{
    error::{Limit, Refusal as Rule},
    ids::{AppId, SessionId},
    limits::Micros,
};

/// Why something was refused. What is refused has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The rules of the session refuse.
    Rules(Rule),
    /// The session id is taken.
    SessionExists,
    /// The session name is taken.
    NameTaken,
    /// The user is in another exclusive session.
    AlreadyInSession {
        /// Which one, if the caller may know.
        session: Option<SessionId>,
    },
    /// The listener asks for a private session that the source has not opened.
    NoConsent,
    /// Too many wrong passwords came from the same address.
    TooManyGuesses {
        /// How many may come at once.
        most: u64,
        /// After how long there may be one more.
        each: Micros,
        /// When the next one may come.
        retry_after: Micros,
    },
    /// So many passwords wait to be hashed that no more are taken.
    PasswordsBusy {
        /// Which bound it is.
        limit: &'static str,
        /// How many may wait.
        most: usize,
        /// When to try again.
        retry_after: Micros,
    },
    /// The request id is that of a request with other content.
    RequestIdReused {
        /// The path of the field.
        field: &'static str,
    },
    /// A bound of the engine was met.
    LimitReached {
        /// Which one, as the configuration calls it.
        limit: &'static str,
        /// Its value.
        most: usize,
    },
    /// The app has as much of something as it may.
    AppLimit {
        /// Which app.
        app: AppId,
        /// Of what.
        limit: AppLimit,
        /// How much it may have.
        most: u64,
        /// When to try again, if that is known.
        retry_after: Option<Micros>,
    },
    /// One of the users that join at the opening is refused, and so is the opening.
    OfUser {
        /// Which one.
        at: usize,
        /// Why.
        why: Box<Refusal>,
    },
    /// Its judge refuses.
    Judged(Box<Verdict>),
    /// The session, chosen among others, judges joins, and this one was not judged there.
    NotJudged {
        /// Which one.
        session: SessionId,
    },
    /// Something is to be stored, and there is no store, or the session has no part in it.
    NoStore,
    /// There is no space left in the store: nothing that is to be stored is taken.
    StoreFull,
    /// The server reads its store, or joins its cluster.
    Starting,
    /// The server is stopping.
    Draining,
}

impl Refusal {
    /// No such session, or none that the caller may know of.
    pub const NOT_FOUND: Self = Self::Rules(Rule::SessionNotFound);

    /// Whether there is no such session, or none that the caller may know of.
    pub fn is_not_found(&self) -> bool {
        *self == Self::NOT_FOUND
    }

    /// After how long it is worth trying again what is over the rate of a user or an app.
    pub fn retry_after(&self) -> Option<Micros> {
        match self {
            Self::Rules(Rule::RateLimited { retry_after, .. }) => Some(*retry_after),
            Self::AppLimit { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The keys that a user may have in a session are used up.
    pub fn props_per_user(most: usize) -> Self {
        Rule::LimitReached { limit: Limit::PropsPerUser, most }.into()
    }
}

impl From<Verdict> for Refusal {
    fn from(verdict: Verdict) -> Self {
        Self::Judged(Box::new(verdict))
    }
}

impl From<Rule> for Refusal {
    fn from(rule: Rule) -> Self {
        match rule {
            Rule::OfUser { at, why } => Self::OfUser { at, why: Box::new((*why).into()) },
            rule => Self::Rules(rule),
        }
    }
}

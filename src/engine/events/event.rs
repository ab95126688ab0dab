//! What a journal keeps of what happened.

use crate::session::{
    command::Actor,
    event::What,
    ids::{AppId, SessionId, UserId},
    judging::Operation,
    limits::Micros,
};
use std::{mem::size_of, sync::Arc};

/// Something that happened in an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppEvent {
    /// Where.
    pub app: AppId,
    /// Which journal of this process it is in: each has its own number.
    pub journal: u64,
    /// Counts the events of the app; the next one has the next number.
    pub number: u64,
    /// When.
    pub at: Micros,
    /// In which session, if it is about one.
    pub session: Option<SessionId>,
    /// Who caused it; none = nobody did.
    pub by: Option<Actor>,
    /// With which credential; none = nobody was asked for one.
    pub credential: Option<Arc<Credential>>,
    /// What.
    pub what: AppWhat,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppWhat {
    /// Something in a session.
    InSession(What),
    /// Credentials are refused before they expire, or not any more.
    Credentials {
        /// Which.
        revoked: Revoked,
        /// They are not refused any more.
        is_restored: bool,
    },
    /// A rule or a hook refused something.
    Refused(JudgedRefusal),
}

/// Names a credential in events. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A token.
    Token {
        /// The name of its issuer in the settings.
        issuer: Arc<str>,
        /// Its id, if it has one.
        id: Option<Arc<str>>,
        /// Whom it names as its subject.
        subject: Option<Arc<str>>,
    },
    /// A key of a backend, by its id.
    Key(Arc<str>),
    /// A client certificate, by the name of its entry in the settings.
    Certificate(Arc<str>),
}

/// Which credentials are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// The token with this id.
    Token(Arc<str>),
    /// The key with this id.
    Key(Arc<str>),
    /// All tokens of a user.
    User(UserId),
    /// Those that were issued before a moment.
    IssuedBefore {
        /// The moment.
        time: Micros,
        /// Only tokens of this issuer.
        issuer: Option<Arc<str>>,
        /// Only tokens of this user.
        user: Option<UserId>,
    },
}

/// That a judge refused something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedRefusal {
    /// Who refused it.
    pub by: RefusedBy,
    /// The name of the rule or hook.
    pub name: Arc<str>,
    /// What was asked for.
    pub operation: Operation,
    /// In the words of the rule or hook.
    pub message: Arc<str>,
}

/// Who refuses what is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusedBy {
    /// A rule of the server or of the session.
    Rule {
        /// It could not be evaluated.
        is_faulty: bool,
    },
    /// A hook.
    Hook {
        /// Why, for programs.
        reason: Option<Arc<str>>,
    },
}

impl AppEvent {
    /// A name that no other event has; `process` is that of [`Engine::process`].
    ///
    /// [`Engine::process`]: crate::engine::Engine::process
    pub fn name(&self, process: u64) -> String {
        format!("{process:016x}-{:x}-{:x}", self.journal, self.number)
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        let user = |user: &Option<UserId>| user.as_ref().map_or(0, |it| it.len());
        let by = self.by.as_ref().and_then(Actor::user).map_or(0, |it| it.len());
        let texts = match &self.what {
            AppWhat::InSession(what) => match what {
                What::Opened(_) | What::Ended(_) | What::Reset { .. } => 0,
                What::Joined { user, .. }
                | What::Left { user, .. }
                | What::RoleChanged { user, .. }
                | What::Unbanned { user } => user.len(),
                What::OwnerChanged { from, to } | What::HostChanged { from, to, .. } => {
                    user(from) + user(to)
                }
                What::Kicked { user, reason } | What::Banned { user, reason, .. } => {
                    user.len() + reason.len()
                }
                What::SettingsChanged { names } => names.len() * size_of::<&str>(),
                What::SeatsReserved { users, .. } | What::SeatsReleased { users } => {
                    users.iter().map(|user| user.len() + size_of::<UserId>()).sum()
                }
            },
            AppWhat::Credentials { revoked, .. } => match revoked {
                Revoked::Token(id) | Revoked::Key(id) => id.len(),
                Revoked::User(user) => user.len(),
                Revoked::IssuedBefore { issuer, user: it, .. } => {
                    issuer.as_ref().map_or(0, |it| it.len()) + user(it)
                }
            },
            AppWhat::Refused(JudgedRefusal { by, name, operation: _, message }) => {
                let reason = match by {
                    RefusedBy::Rule { .. } | RefusedBy::Hook { reason: None } => 0,
                    RefusedBy::Hook { reason: Some(reason) } => reason.len(),
                };
                name.len() + message.len() + reason
            }
        };
        let session = self.session.as_ref().map_or(0, |it| it.len());
        let credential = self.credential.as_ref().map_or(0, |it| it.bytes());
        // The counters of the `Arc` that holds it, and its place in the journal.
        size_of::<Self>() + 3 * size_of::<usize>() + session + by + credential + texts
    }
}

impl Credential {
    fn bytes(&self) -> usize {
        let text = |it: &Option<Arc<str>>| it.as_ref().map_or(0, |it| it.len());
        let texts = match self {
            Self::Token { issuer, id, subject } => issuer.len() + text(id) + text(subject),
            Self::Key(name) | Self::Certificate(name) => name.len(),
        };
        size_of::<Self>() + texts
    }
}

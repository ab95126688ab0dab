//! What a credential allows.

use crate::session::{
    ids::{AppId, SessionId, UserId},
    limits::Micros,
    role::Role,
};
use std::{collections::BTreeSet, fmt, sync::Arc};

/// What a credential that was found good allows. It is shared: by the calls that present it and by
/// the streams that it opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Where it may be used.
    pub apps: Apps,
    /// As whom it may act.
    pub kind: Kind,
    /// The only sessions that it may touch; none = all that its user may.
    pub sessions: Option<BTreeSet<SessionId>>,
    /// The highest role that its user may use, whichever it has.
    pub most: Role,
    /// From when on it is refused, leeway included; none = it does not expire.
    pub expires: Option<Micros>,
    /// When it was issued, if it says so.
    pub issued: Option<Micros>,
    /// Which credential it is.
    pub id: CredentialId,
    /// Whom the credential names as its subject: the user of a user's token, a name of a backend's.
    pub subject: Option<Arc<str>>,
    /// What of the settings it hangs on.
    pub(crate) origin: Origin,
}

impl Grant {
    /// What everybody may do where nobody is asked for a credential: act as any user of any app, and
    /// as every app itself.
    pub fn of_anybody() -> Self {
        Self {
            apps: Apps::All,
            kind: Kind::Backend { may_act_as_app: true },
            sessions: None,
            most: Role::Owner,
            expires: None,
            issued: None,
            id: CredentialId::None,
            subject: None,
            origin: Origin::Nothing,
        }
    }

    /// What somebody without a credential may do where one is asked for: nothing.
    pub fn of_nobody() -> Self {
        Self { apps: Apps::Only(BTreeSet::new()), kind: Kind::Reader, ..Self::of_anybody() }
    }

    /// Whether it may be used in an app.
    pub fn allows_app(&self, app: &str) -> bool {
        match &self.apps {
            Apps::All => true,
            Apps::Only(apps) => apps.contains(app),
        }
    }

    /// Whether it may touch a session of an app that it may be used in.
    pub fn allows_session(&self, session: &str) -> bool {
        self.sessions.as_ref().is_none_or(|sessions| sessions.contains(session))
    }

    /// Whether its time is over.
    pub fn has_expired(&self, now: Micros) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }
}

/// Where a credential may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Apps {
    /// In every app.
    All,
    /// In these.
    Only(BTreeSet<AppId>),
}

impl Apps {
    /// Whether everything in `self` is in `other`.
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::All) => true,
            (Self::All, Self::Only(_)) => false,
            (Self::Only(own), Self::Only(others)) => own.is_subset(others),
        }
    }
}

/// As whom a credential may act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// As this user and nobody else.
    User(UserId),
    /// As any user of its apps.
    Backend {
        /// And as the app itself, above every role.
        may_act_as_app: bool,
    },
    /// It reads only, what the app itself may see.
    Reader,
}

impl Kind {
    /// The scope that gives it.
    pub fn scope(&self) -> Scope {
        match self {
            Self::User(_) => Scope::User,
            Self::Backend { may_act_as_app: false } => Scope::Backend,
            Self::Backend { may_act_as_app: true } => Scope::App,
            Self::Reader => Scope::Read,
        }
    }
}

/// What credentials are for, as it is written in tokens and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// `user`: acts as its subject.
    User,
    /// `backend`: acts as any user.
    Backend,
    /// `app`: like `backend`, and as the app itself.
    App,
    /// `read`: reads only.
    Read,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::User, Self::Backend, Self::App, Self::Read];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Backend => "backend",
            Self::App => "app",
            Self::Read => "read",
        }
    }

    /// The scope that a word stands for.
    pub fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.word() == word)
    }

    /// What it allows to somebody who is no user; none for the scope of users.
    pub fn kind_without_user(self) -> Option<Kind> {
        match self {
            Self::User => None,
            Self::Backend => Some(Kind::Backend { may_act_as_app: false }),
            Self::App => Some(Kind::Backend { may_act_as_app: true }),
            Self::Read => Some(Kind::Reader),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Names a credential in logs and in the audit, and for revoking it. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CredentialId {
    /// None: nobody was asked for a credential.
    None,
    /// A token.
    Token {
        /// The name of its issuer in the settings.
        issuer: Arc<str>,
        /// Its `jti`, if it has one.
        jti: Option<Arc<str>>,
    },
    /// A key of a backend, by its id.
    Key(Arc<str>),
    /// A client certificate, by the name of its entry in the settings.
    Certificate(Arc<str>),
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no credential"),
            Self::Token { issuer, jti: Some(jti) } => write!(f, "token {jti} of {issuer}"),
            Self::Token { issuer, jti: None } => write!(f, "a token of {issuer}"),
            Self::Key(id) => write!(f, "key {id}"),
            Self::Certificate(name) => write!(f, "certificate {name}"),
        }
    }
}

/// What of the settings a grant hangs on: when that goes, the grant goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nothing: nobody was asked for a credential.
    Nothing,
    /// The issuer's settings and the key that verified the token, by their prints.
    Token { issuer: [u8; 32], key: [u8; 32] },
    /// The entry of a key file, by its print.
    Key([u8; 32]),
    /// The entry of the table of certificates, by its print.
    Certificate([u8; 32]),
}

//! Credentials that are refused before their time is over.

use super::grant::{Apps, CredentialId, Grant};
use crate::session::{
    ids::{AppId, UserId},
    limits::Micros,
};
use parking_lot::RwLock;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// The most revocations by a call, and by the settings, of single tokens, keys and users.
pub const MAX_SINGLE: usize = 100_000;

/// The most "issued before": each is compared with each credential.
pub const MAX_BEFORE: usize = 1_000;

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Revocation {
    /// Every token with this `jti`.
    Token(Arc<str>),
    /// An API key, by its id.
    Key(Arc<str>),
    /// All tokens of a user, until the revocation is over.
    User {
        /// In this app; none = in all.
        app: Option<AppId>,
        /// The user.
        user: UserId,
    },
    /// What was issued before a moment, or does not say when it was issued.
    IssuedBefore {
        /// What may be used in this app; none = in any.
        app: Option<AppId>,
        /// Tokens of the issuer of this name in the settings; none = tokens and keys of all.
        issuer: Option<Arc<str>>,
        /// Tokens of this user; none = all.
        user: Option<UserId>,
        /// The moment.
        time: Micros,
    },
}

/// There is no room for another revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no room for another revocation; revoke what was issued before a moment instead")]
pub struct NoRoom;

/// What is revoked, by calls and by the settings.
#[derive(Debug, Default)]
pub struct Revocations {
    /// Those of calls, and when they are over: when all tokens of their time have expired.
    called: RwLock<Called>,
    set: RwLock<Arc<Set>>,
}

#[derive(Debug, Default)]
struct Called {
    until: HashMap<Revocation, Micros>,
    before: usize,
    set: Set,
}

/// Revocations, for looking them up.
#[derive(Debug, Default)]
pub struct Set {
    tokens: HashSet<Arc<str>>,
    keys: HashSet<Arc<str>>,
    users: HashSet<(Option<AppId>, UserId)>,
    before: Vec<Before>,
}

/// What was issued before a moment.
#[derive(Debug)]
struct Before {
    app: Option<AppId>,
    issuer: Option<Arc<str>>,
    user: Option<UserId>,
    time: Micros,
}

impl Set {
    /// Of some revocations.
    pub fn of<'a>(revocations: impl IntoIterator<Item = &'a Revocation>) -> Self {
        let mut set = Self::default();
        for revocation in revocations {
            set.add(revocation.clone());
        }
        set
    }

    fn add(&mut self, revocation: Revocation) {
        match revocation {
            Revocation::Token(jti) => _ = self.tokens.insert(jti),
            Revocation::Key(id) => _ = self.keys.insert(id),
            Revocation::User { app, user } => _ = self.users.insert((app, user)),
            Revocation::IssuedBefore { app, issuer, user, time } => {
                self.before.push(Before { app, issuer, user, time });
            }
        }
    }

    fn has(&self, grant: &Grant) -> bool {
        let by_id = match &grant.id {
            CredentialId::Token { jti, .. } => {
                jti.as_ref().is_some_and(|jti| self.tokens.contains(jti))
            }
            CredentialId::Key(id) => self.keys.contains(id),
            CredentialId::Certificate(_) | CredentialId::None => false,
        };
        by_id || self.has_user(grant) || self.before.iter().any(|before| before.has(grant))
    }

    fn has_user(&self, grant: &Grant) -> bool {
        let Some(user) = user_of(grant) else { return false };
        if self.users.is_empty() {
            return false;
        }
        let is_listed = |app: Option<AppId>| self.users.contains(&(app, user.clone()));
        let of_app = || match &grant.apps {
            Apps::All => self.users.iter().any(|(_, it)| *it == user),
            Apps::Only(apps) => apps.iter().any(|app| is_listed(Some(app.clone()))),
        };
        is_listed(None) || of_app()
    }
}

impl Before {
    fn has(&self, grant: &Grant) -> bool {
        let own_issuer = match &grant.id {
            CredentialId::Token { issuer, .. } => Some(issuer),
            CredentialId::Key(_) => None,
            // A certificate is not issued by anybody whom the settings know.
            CredentialId::Certificate(_) | CredentialId::None => return false,
        };
        let Self { app, issuer, user, time } = self;
        app.as_ref().is_none_or(|app| grant.allows_app(app))
            && issuer.as_ref().is_none_or(|issuer| own_issuer == Some(issuer))
            && user.as_ref().is_none_or(|user| user_of(grant).as_ref() == Some(user))
            && grant.issued.is_none_or(|issued| issued < *time)
    }
}

/// The user who is the subject of a credential, whatever it is for.
fn user_of(grant: &Grant) -> Option<UserId> {
    grant.subject.as_ref().and_then(|subject| UserId::new(subject).ok())
}

impl Revocations {
    /// Revokes until a moment. Revoking again moves the moment.
    pub fn revoke(&self, revocation: Revocation, until: Micros, now: Micros) -> Result<(), NoRoom> {
        let mut called = self.called.write();
        let is_before = matches!(revocation, Revocation::IssuedBefore { .. });
        let has_room = |called: &Called| {
            if is_before {
                called.before < MAX_BEFORE
            } else {
                called.until.len() - called.before < MAX_SINGLE
            }
        };
        let is_new = !called.until.contains_key(&revocation);
        if is_new && !has_room(&called) {
            called.forget(now);
            if !has_room(&called) {
                return Err(NoRoom);
            }
        }
        called.until.insert(revocation.clone(), until);
        if is_new {
            called.before += usize::from(is_before);
            called.set.add(revocation);
        }
        Ok(())
    }

    /// Takes a revocation back. False = there is none by a call.
    pub fn restore(&self, revocation: &Revocation) -> bool {
        let mut called = self.called.write();
        let was_there = called.until.remove(revocation).is_some();
        if was_there {
            called.rebuild();
        }
        was_there
    }

    /// Replaces those of the settings.
    pub(super) fn set(&self, set: Arc<Set>) {
        *self.set.write() = set;
    }

    /// Forgets those that are over.
    pub fn forget(&self, now: Micros) {
        if self.called.read().until.values().any(|until| *until <= now) {
            self.called.write().forget(now);
        }
    }

    /// Whether a credential is revoked.
    pub fn has(&self, grant: &Grant) -> bool {
        self.set.read().has(grant) || self.called.read().set.has(grant)
    }

    /// Those by calls, and until when.
    pub fn list(&self) -> Vec<(Revocation, Micros)> {
        let called = self.called.read();
        called.until.iter().map(|(revocation, until)| (revocation.clone(), *until)).collect()
    }
}

impl Called {
    fn forget(&mut self, now: Micros) {
        self.until.retain(|_, until| *until > now);
        self.rebuild();
    }

    fn rebuild(&mut self) {
        self.set = Set::of(self.until.keys());
        self.before = self.set.before.len();
    }
}

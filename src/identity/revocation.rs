//! Credentials that are refused before their time is over.

use super::grant::{Apps, CredentialId, Grant};
use crate::session::{
    ids::{AppId, UserId},
    limits::Micros,
};
use parking_lot::RwLock;
use std::{
    collections::{BTreeMap, HashSet},
    ops::{Bound, Deref},
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

impl Revocation {
    /// Where it stands among all, as text: no two have the same. What may hold a line break, ids of
    /// tokens and names of issuers, comes last.
    pub fn place(&self) -> String {
        fn of<T: Deref<Target = str>>(id: &Option<T>) -> &str {
            id.as_deref().unwrap_or_default()
        }
        match self {
            Revocation::Token(id) => format!("token\n{id}"),
            Revocation::Key(id) => format!("key\n{id}"),
            Revocation::User { app, user } => format!("user\n{user}\n{}", of(app)),
            Revocation::IssuedBefore { app, issuer, user, time } => {
                format!("before\n{time:020}\n{}\n{}\n{}", of(app), of(user), of(issuer))
            }
        }
    }
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
    /// By [`Revocation::place`], with the end of each.
    all: BTreeMap<String, (Revocation, Micros)>,
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
    /// Revokes until a moment. Revoking again moves the moment; false = it was revoked already.
    pub fn revoke(
        &self,
        revocation: Revocation,
        until: Micros,
        now: Micros,
    ) -> Result<bool, NoRoom> {
        let mut called = self.called.write();
        called.make_room(&revocation, now)?;
        let is_before = matches!(revocation, Revocation::IssuedBefore { .. });
        let before = called.all.insert(revocation.place(), (revocation.clone(), until));
        if before.is_none() {
            called.before += usize::from(is_before);
            called.set.add(revocation);
        }
        Ok(before.is_none())
    }

    /// Whether there is room for a revocation.
    pub fn check_room(&self, revocation: &Revocation, now: Micros) -> Result<(), NoRoom> {
        self.called.write().make_room(revocation, now)
    }

    /// Whether there is a revocation by a call.
    pub fn is_called(&self, revocation: &Revocation) -> bool {
        self.called.read().all.contains_key(&revocation.place())
    }

    /// Takes a revocation back. False = there is none by a call.
    pub fn restore(&self, revocation: &Revocation) -> bool {
        let mut called = self.called.write();
        let was_there = called.all.remove(&revocation.place()).is_some();
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
        if self.called.read().all.values().any(|(_, until)| *until <= now) {
            self.called.write().forget(now);
        }
    }

    /// Whether a credential is revoked.
    pub fn has(&self, grant: &Grant) -> bool {
        self.set.read().has(grant) || self.called.read().set.has(grant)
    }

    /// At most so many of those by calls that stand behind a place, in order, and until when each
    /// lasts; then the place of the last one, if there are more behind it.
    pub fn page(&self, after: &str, most: usize) -> (Vec<(Revocation, Micros)>, Option<String>) {
        let called = self.called.read();
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        let mut rest = called.all.range::<str, _>(behind).peekable();
        let mut page = Vec::new();
        let mut last = None;
        while let Some((place, revocation)) = rest.next_if(|_| page.len() < most) {
            page.push(revocation.clone());
            last = Some(place);
        }
        let next = rest.peek().and_then(|_| last.cloned());
        (page, next)
    }
}

impl Called {
    fn has_room(&self, revocation: &Revocation) -> bool {
        match revocation {
            Revocation::IssuedBefore { .. } => self.before < MAX_BEFORE,
            _ => self.all.len() - self.before < MAX_SINGLE,
        }
    }

    /// Forgets what is over if there is no room else.
    fn make_room(&mut self, revocation: &Revocation, now: Micros) -> Result<(), NoRoom> {
        if self.has_room(revocation) || self.all.contains_key(&revocation.place()) {
            return Ok(());
        }
        self.forget(now);
        if self.has_room(revocation) { Ok(()) } else { Err(NoRoom) }
    }

    fn forget(&mut self, now: Micros) {
        self.all.retain(|_, (_, until)| *until > now);
        self.rebuild();
    }

    fn rebuild(&mut self) {
        self.set = Set::of(self.all.values().map(|(revocation, _)| revocation));
        self.before = self.set.before.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(user: &str, app: Option<&str>) -> Revocation {
        let app = app.map(|app| AppId::new(app).expect("an id"));
        Revocation::User { app, user: UserId::new(user).expect("an id") }
    }

    fn before(app: Option<&str>, issuer: Option<&str>) -> Revocation {
        let app = app.map(|app| AppId::new(app).expect("an id"));
        Revocation::IssuedBefore { app, issuer: issuer.map(Arc::from), user: None, time: 7 }
    }

    #[test]
    fn no_two_revocations_have_the_same_place() {
        let all = [
            Revocation::Token("a".into()),
            Revocation::Token("a\nb".into()),
            Revocation::Key("a".into()),
            user("a", None),
            user("a", Some("b")),
            user("a b", None),
            before(None, None),
            before(Some("b"), None),
            before(None, Some("b")),
            before(None, Some("b\n")),
            before(None, Some("\nb")),
        ];
        let places: HashSet<_> = all.iter().map(Revocation::place).collect();
        assert_eq!(places.len(), all.len(), "{places:?}");
    }

    #[test]
    fn pages_have_each_revocation_once_also_while_others_come_and_go() {
        let revocations = Revocations::default();
        let token = |number: usize| Revocation::Token(format!("t{number:03}").into());
        for number in (0..50).rev().map(|number| number * 2) {
            revocations.revoke(token(number), 9, 0).expect("there is room");
        }
        let mut seen = Vec::new();
        let mut after = String::new();
        loop {
            let (page, next) = revocations.page(&after, 7);
            assert!(page.len() <= 7 && page.iter().all(|(_, until)| *until == 9));
            seen.extend(page.into_iter().map(|(revocation, _)| revocation));
            let Some(next) = next else { break };
            after = next;
            // Behind the reader, and the place at which it is.
            revocations.revoke(token(1), 9, 0).expect("there is room");
            revocations.restore(seen.last().expect("a page that is not the last has some"));
        }
        let all: Vec<_> = (0..50).map(|number| token(number * 2)).collect();
        assert_eq!(seen, all);
        assert_eq!(revocations.page("", 100).1, None);
        assert_eq!(revocations.page("user\n", 100), (Vec::new(), None));
    }
}

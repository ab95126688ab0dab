//! Who has to give the session's password, and what is known of it here: a hash that somebody else
//! makes and compares, because that takes long.

use super::{
    Session,
    command::{Actor, Join},
    error::Refusal,
    ids::UserId,
    limits::Micros,
    role::Role,
};
use std::{fmt, sync::Arc};

/// What a password was hashed to: opaque, and equal only to itself, as each has a salt of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Arc<[u8]>);

impl PasswordHash {
    /// A hash that was made.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// What whoever made it wrote down.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Session {
    /// The password that has to be proven before somebody joins; none if the join needs none.
    /// Refused where no password would help, so that nobody compares one in vain.
    pub fn password_for(
        &self,
        now: Micros,
        user: &UserId,
        join: &Join,
    ) -> Result<Option<&PasswordHash>, Refusal> {
        if self.members.membership(user).is_some() || self.check_password(user, None).is_ok() {
            return Ok(None);
        }
        match self.check_join(now, user, join) {
            Err(Refusal::WrongPassword | Refusal::SessionNotFound) => Ok(self.password.as_ref()),
            Err(refusal) => Err(refusal),
            Ok(()) => Ok(None),
        }
    }

    /// Whether somebody may know of the session by joining it like this: asked before anything else
    /// that could refuse, so that nothing tells an unlisted session from none.
    pub fn check_may_know(&self, user: &UserId, join: &Join) -> Result<(), Refusal> {
        match self.check_password(user, join.proven.as_ref()) {
            Err(Refusal::SessionNotFound) => Err(Refusal::SessionNotFound),
            _ => Ok(()),
        }
    }

    /// Whether somebody new may pass. The opener does, and who has come to moderate does. It has to
    /// be the password in force that was proven, not one that was changed since.
    pub(super) fn check_password(
        &self,
        user: &UserId,
        proven: Option<&PasswordHash>,
    ) -> Result<(), Refusal> {
        let Some(password) = &self.password else { return Ok(()) };
        let opens = self.revision == 0;
        let is_trusted = self.roles.get(user).is_some_and(|role| *role >= Role::Moderator);
        if proven == Some(password) || opens || is_trusted {
            return Ok(());
        }
        // To whom the session is not there it is not there with a wrong password either.
        Err(match self.is_visible_to(&Actor::User(user.clone())) {
            true => Refusal::WrongPassword,
            false => Refusal::SessionNotFound,
        })
    }
}

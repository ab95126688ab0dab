//! Roles, and who has which.

use super::{ids::UserId, seldom::empty};
use rustc_hash::FxHashMap;
use std::fmt;

/// A user's role in one session. The order is the rank: the owner is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Receives, never sends.
    Spectator,
    /// Writes its own props and receives.
    Member,
    /// Kicks, bans, swaps the host.
    Moderator,
    /// Changes settings.
    Admin,
    /// Everything.
    Owner,
}

impl Role {
    /// All of them, the lowest first.
    pub const ALL: [Self; 5] =
        [Self::Spectator, Self::Member, Self::Moderator, Self::Admin, Self::Owner];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Spectator => "spectator",
            Self::Member => "member",
            Self::Moderator => "moderator",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// The role with this word.
    pub fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How many users may have a role other than member, whether they have joined or not.
pub const ROLES: usize = 20_000;

/// Roles other than member, of people who have joined and of people who have not.
#[derive(Debug, Default)]
pub(super) struct Roles {
    pub(super) by_user: FxHashMap<UserId, Role>,
    /// The users who got or lost one since somebody last asked.
    pub(super) changed: Vec<UserId>,
}

empty!(Roles);

impl Roles {
    /// The role of a user, if it has one.
    pub fn of(&self, user: &str) -> Option<Role> {
        self.by_user.get(user).copied()
    }

    /// Whether a user may get a role.
    pub fn has_room(&self, user: &str, role: Role) -> bool {
        self.by_user.len() < ROLES || role == Role::Member || self.by_user.contains_key(user)
    }

    /// Gives a role. That of a member is none.
    pub fn give(&mut self, user: UserId, role: Role) {
        if role == Role::Member {
            return self.withdraw(&user);
        }
        self.by_user.insert(user.clone(), role);
        self.changed.push(user);
    }

    /// Takes whatever role a user has.
    pub fn withdraw(&mut self, user: &str) {
        self.changed.extend(self.by_user.remove_entry(user).map(|(user, _)| user));
    }

    /// Who has one.
    pub fn users(&self) -> impl Iterator<Item = &UserId> {
        self.by_user.keys()
    }
}

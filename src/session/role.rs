//! Roles, and who has which.

use super::ids::UserId;
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

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Spectator => "spectator",
            Role::Member => "member",
            Role::Moderator => "moderator",
            Role::Admin => "admin",
            Role::Owner => "owner",
        })
    }
}

/// How many users may have a role other than member, whether they have joined or not.
pub const ROLES: usize = 20_000;

/// Roles other than member, of people who have joined and of people who have not.
#[derive(Debug, Default)]
pub(super) struct Roles(FxHashMap<UserId, Role>);

impl Roles {
    /// The role of a user, if it has one.
    pub fn of(&self, user: &str) -> Option<Role> {
        self.0.get(user).copied()
    }

    /// Whether a user may get a role.
    pub fn has_room(&self, user: &str, role: Role) -> bool {
        self.0.len() < ROLES || role == Role::Member || self.0.contains_key(user)
    }

    /// Gives a role. That of a member is none.
    pub fn give(&mut self, user: UserId, role: Role) {
        match role {
            Role::Member => self.0.remove(&user),
            role => self.0.insert(user, role),
        };
    }

    /// Takes whatever role a user has.
    pub fn take(&mut self, user: &str) {
        self.0.remove(user);
    }
}

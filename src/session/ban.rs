//! Who is kept out.

use super::{
    error::{Limit, Refusal},
    ids::UserId,
    limits::Micros,
    seldom::empty,
};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// How many bans a session remembers.
const BANS: usize = 10_000;

/// Why somebody may not join, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// In the words of the one who banned.
    pub reason: Arc<str>,
    /// When it ends; none = never.
    pub until: Option<Micros>,
}

impl Ban {
    fn holds(&self, now: Micros) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// The bans of a session.
#[derive(Debug, Default)]
pub(super) struct Bans(pub(super) FxHashMap<UserId, Ban>);

empty!(Bans);

impl Bans {
    /// The ban of a user, while it holds.
    pub fn of(&self, now: Micros, user: &str) -> Option<&Ban> {
        self.0.get(user).filter(|ban| ban.holds(now))
    }

    /// Those that hold, in the order of users.
    pub fn all(&self, now: Micros) -> Vec<(UserId, Ban)> {
        let holding = self.0.iter().filter(|(_, ban)| ban.holds(now));
        let mut bans: Vec<_> = holding.map(|(user, ban)| (user.clone(), ban.clone())).collect();
        bans.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        bans
    }

    /// Bans a user, in place of an earlier ban, if there is room.
    pub fn add(&mut self, now: Micros, user: UserId, ban: Ban) -> Result<(), Refusal> {
        if self.0.len() >= BANS && !self.0.contains_key(&user) {
            if self.0.values().all(|ban| ban.holds(now)) {
                return Err(Refusal::LimitReached { limit: Limit::Bans, most: BANS });
            }
            self.0.retain(|_, ban| ban.holds(now));
        }
        self.0.insert(user, ban);
        Ok(())
    }

    /// Ends a ban that holds.
    pub fn lift(&mut self, now: Micros, user: &str) -> Result<(), Refusal> {
        self.of(now, user).ok_or(Refusal::BanNotFound)?;
        self.0.remove(user);
        Ok(())
    }
}

impl FromIterator<(UserId, Ban)> for Bans {
    fn from_iter<T: IntoIterator<Item = (UserId, Ban)>>(bans: T) -> Self {
        Self(bans.into_iter().collect())
    }
}

//! A user within an app: props that its sessions begin with, and how fast it may write.

use super::{
    command::Write,
    error::{Limit, Refusal},
    ids::{Key, SessionId},
    limits::{Micros, SECOND},
    schema::Paths,
    value::Value,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Bound, Deref},
};

/// In how many sessions a write counts as one update: as many as a stream of updates carries.
pub const SESSIONS_PER_UPDATE: usize = 64;

/// One user.
#[derive(Debug, Default)]
pub struct User {
    props: BTreeMap<Key, Value>,
    /// The sessions that it has joined.
    pub sessions: Joined,
    /// The exclusive session that it joined last: the only one that it can be in. Whether it still is
    /// in there, that session knows.
    pub slot: Option<SessionId>,
    /// The private sessions that show it as their source, whether it has joined them or not.
    pub sources: BTreeSet<SessionId>,
    /// Open streams, whether of a session or not.
    pub streams: u32,
    /// When it was last seen without membership and stream; it is forgotten `user_ttl` later.
    pub idle_since: Option<Micros>,
    /// When the token bucket is full again.
    full_at: Micros,
}

/// The sessions that a user has joined, in the order of ids.
#[derive(Debug, Default)]
pub struct Joined {
    ids: BTreeSet<SessionId>,
    entries: u64,
}

impl Joined {
    /// A session is joined.
    pub fn insert(&mut self, id: SessionId) {
        self.entries += u64::from(self.ids.insert(id));
    }

    /// A session was left or has ended.
    pub fn remove(&mut self, id: &SessionId) {
        self.ids.remove(id);
    }

    /// The first from a place on.
    pub fn first(&self, from: Bound<&SessionId>) -> Option<SessionId> {
        self.ids.range::<SessionId, _>((from, Bound::Unbounded)).next().cloned()
    }

    /// How often a session was joined: where it has risen, there may be another one.
    pub fn entries(&self) -> u64 {
        self.entries
    }
}

impl Deref for Joined {
    type Target = BTreeSet<SessionId>;

    fn deref(&self) -> &Self::Target {
        &self.ids
    }
}

impl User {
    /// The write that replaces where this one merges: into what is set on the user.
    pub fn merged(&self, write: Write, most_bytes: usize) -> Result<Write, Refusal> {
        write.merged(Paths::PROPS, most_bytes, |key| self.props.get(key))
    }

    /// Whether a write of props fits.
    pub fn check_room(&self, write: &Write, most: usize) -> Result<(), Refusal> {
        let more = write.set.iter().filter(|(key, _)| !self.props.contains_key(key)).count();
        let fewer = write.remove.iter().filter(|key| self.props.contains_key(*key)).count();
        if more > 0 && self.props.len() + more - fewer > most {
            return Err(Refusal::LimitReached { limit: Limit::PropsPerUser, most });
        }
        Ok(())
    }

    /// Writes props on the user.
    pub fn write(&mut self, write: &Write) {
        for key in &write.remove {
            self.props.remove(key);
        }
        self.props.extend(write.set.iter().cloned());
    }

    /// All props that are set on the user.
    pub fn props(&self) -> Vec<(Key, Value)> {
        self.props.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Takes one update out of a bucket that holds a second's worth. A refused one takes nothing.
    pub fn take_update(&mut self, now: Micros, per_second: u64) -> Result<(), Refusal> {
        let each = SECOND / per_second.clamp(1, SECOND);
        let full_at = self.full_at.max(now) + each;
        if full_at > now + SECOND {
            let retry_after = full_at - (now + SECOND);
            return Err(Refusal::RateLimited { per_second, retry_after });
        }
        self.full_at = full_at;
        Ok(())
    }

    /// Counts an update that was let through as so many more, if it is made in many sessions. The next
    /// ones wait for them. Returns how many more.
    pub fn owe_updates(&mut self, now: Micros, per_second: u64, sessions: usize) -> u64 {
        let more = (sessions.saturating_sub(1) / SESSIONS_PER_UPDATE) as u64;
        if more > 0 {
            let each = SECOND / per_second.clamp(1, SECOND);
            self.full_at = self.full_at.max(now) + more * each;
        }
        more
    }

    /// Whether the app sees the user: it has a stream, or has joined a session.
    pub fn is_present(&self) -> bool {
        !self.sessions.is_empty() || self.streams > 0
    }

    /// Notes whether the user still has a membership or stream, or is shown to somebody.
    pub fn settle(&mut self, now: Micros) {
        let idle = !self.is_present() && self.sources.is_empty();
        self.idle_since = idle.then_some(self.idle_since.unwrap_or(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_in_many_sessions_is_made_up_for_later() {
        let mut user = User::default();
        let now = 5 * SECOND;
        for sessions in [0, 1, SESSIONS_PER_UPDATE] {
            user.owe_updates(now, 200, sessions);
        }
        assert!((0..200).all(|_| user.take_update(now, 200).is_ok()), "these are one each");
        user.owe_updates(now, 200, SESSIONS_PER_UPDATE + 1);
        user.owe_updates(now, 200, 10 * SESSIONS_PER_UPDATE);
        let refused = user.take_update(now, 200);
        assert_eq!(refused, Err(Refusal::RateLimited { per_second: 200, retry_after: 11 * 5000 }));
        assert!(user.take_update(now + 11 * 5000, 200).is_ok());
    }

    #[test]
    fn a_second_of_updates_fits_at_once_and_then_one_at_a_time() {
        let mut user = User::default();
        let now = 5 * SECOND;
        assert!((0..200).all(|_| user.take_update(now, 200).is_ok()));
        let refused = user.take_update(now, 200);
        assert_eq!(refused, Err(Refusal::RateLimited { per_second: 200, retry_after: 5000 }));
        assert!(user.take_update(now + 5000, 200).is_ok());
        assert!(user.take_update(now + 5001, 200).is_err());
        assert!((0..200).all(|_| user.take_update(now + 10 * SECOND, 200).is_ok()));
    }
}

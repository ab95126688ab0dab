//! A user within an app: props that its sessions begin with, and how fast it may write.

use super::{
    command::Write,
    error::{Limit, Rate, Refusal},
    ids::{Key, SessionId},
    limits::{Micros, SECOND},
    schema::Paths,
    seldom::{Seldom, empty},
    value::Value,
};
use smallvec::SmallVec;
use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
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
    pub sources: Seldom<BTreeSet<SessionId>>,
    /// Open streams, whether of a session or not.
    pub streams: u32,
    /// When it was last seen without membership and stream; it is forgotten `user_ttl` later.
    pub idle_since: Option<Micros>,
    updates: Bucket,
    changes: Bucket,
}

/// A bucket of tokens, as when it is full again.
#[derive(Debug, Default)]
struct Bucket(Micros);

impl Bucket {
    /// Whether `count` are there of `most`, one of which comes back after `each`; else says after how
    /// long they are.
    fn check(&self, now: Micros, each: Micros, most: u64, count: u64) -> Result<(), Micros> {
        let full_at = self.0.max(now) + count * each;
        match full_at.checked_sub(now + most * each) {
            Some(wait @ 1..) => Err(wait),
            _ => Ok(()),
        }
    }

    /// Takes them whether they are there or not.
    fn owe(&mut self, now: Micros, each: Micros, count: u64) {
        self.0 = self.0.max(now) + count * each;
    }
}

/// How often a user may change what sessions there are and who is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeRate {
    /// So often a second.
    pub per_second: u64,
    /// So many at once.
    pub at_once: u64,
}

/// The sessions that a user has joined, in the order of ids. Most are in one.
#[derive(Debug, Default)]
pub struct Joined {
    ids: SmallVec<[SessionId; 1]>,
    entries: u64,
}

impl Joined {
    /// A session is joined.
    pub fn insert(&mut self, id: SessionId) {
        if let Err(at) = self.ids.binary_search(&id) {
            self.ids.insert(at, id);
            self.entries += 1;
        }
    }

    /// A session was left or has ended.
    pub fn remove(&mut self, id: &SessionId) {
        if let Ok(at) = self.ids.binary_search(id) {
            self.ids.remove(at);
        }
        if self.ids.len() <= 1 {
            self.ids.shrink_to_fit();
        }
    }

    /// Whether a session is among them.
    pub fn contains(&self, id: &SessionId) -> bool {
        self.ids.binary_search(id).is_ok()
    }

    /// The first from a place on.
    pub fn first(&self, from: Bound<&SessionId>) -> Option<SessionId> {
        let at = match from {
            Bound::Unbounded => 0,
            Bound::Included(id) => self.ids.partition_point(|known| known < id),
            Bound::Excluded(id) => self.ids.partition_point(|known| known <= id),
        };
        self.ids.get(at).cloned()
    }

    /// How often a session was joined: where it has risen, there may be another one.
    pub fn entries(&self) -> u64 {
        self.entries
    }
}

impl Deref for Joined {
    type Target = [SessionId];

    fn deref(&self) -> &Self::Target {
        &self.ids
    }
}

empty!(BTreeSet<SessionId>);

impl User {
    /// The sessions that it has joined and those that show it as their source, in the order of ids.
    pub fn everywhere(&self) -> impl Iterator<Item = &SessionId> {
        let mut joined = self.sessions.iter().peekable();
        let mut sources = self.sources.iter().peekable();
        iter::from_fn(move || match (joined.peek(), sources.peek()) {
            (Some(one), Some(other)) if one > other => sources.next(),
            (Some(one), Some(other)) => {
                if one == other {
                    sources.next();
                }
                joined.next()
            }
            (None, _) => sources.next(),
            (_, None) => joined.next(),
        })
    }

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
        let (each, most) = (each(per_second), per_second.clamp(1, SECOND));
        self.updates.check(now, each, most, 1).map_err(|retry_after| {
            let rate = Rate::Updates;
            Refusal::RateLimited { rate, per_second, retry_after }
        })?;
        self.updates.owe(now, each, 1);
        Ok(())
    }

    /// Counts an update that was let through as so many more, if it is made in many sessions. The next
    /// ones wait for them. Returns how many more.
    pub fn owe_updates(&mut self, now: Micros, per_second: u64, sessions: usize) -> u64 {
        let more = (sessions.saturating_sub(1) / SESSIONS_PER_UPDATE) as u64;
        self.updates.owe(now, each(per_second), more);
        more
    }

    /// Takes one change of sessions or members out of its bucket. A refused one takes nothing. Leaving
    /// takes none: a user who leaves has joined before.
    pub fn take_change(&mut self, now: Micros, rate: ChangeRate) -> Result<(), Refusal> {
        self.check_changes(now, rate, 1)?;
        self.owe_changes(now, rate, 1);
        Ok(())
    }

    /// Whether so many changes fit at once.
    pub fn check_changes(
        &self,
        now: Micros,
        rate: ChangeRate,
        count: usize,
    ) -> Result<(), Refusal> {
        let ChangeRate { per_second, at_once } = rate;
        let checked = self.changes.check(now, each(per_second), at_once, count as u64);
        checked.map_err(|retry_after| {
            let rate = Rate::Changes;
            Refusal::RateLimited { rate, per_second, retry_after }
        })
    }

    /// Counts so many changes that were let through with one. The next ones wait for them.
    pub fn owe_changes(&mut self, now: Micros, rate: ChangeRate, count: usize) {
        self.changes.owe(now, each(rate.per_second), count as u64);
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

/// After how long a token comes back.
fn each(per_second: u64) -> Micros {
    SECOND / per_second.clamp(1, SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(rate: Rate, per_second: u64, retry_after: Micros) -> Refusal {
        Refusal::RateLimited { rate, per_second, retry_after }
    }

    #[test]
    fn changes_have_a_bucket_of_their_own_and_what_comes_with_one_is_made_up_for_later() {
        let mut user = User::default();
        let (now, rate) = (5 * SECOND, ChangeRate { per_second: 20, at_once: 3 });
        assert_eq!(user.check_changes(now, rate, 4), Err(over(Rate::Changes, 20, 50_000)));
        assert!((0..3).all(|_| user.take_change(now, rate).is_ok()));
        assert_eq!(user.take_change(now, rate), Err(over(Rate::Changes, 20, 50_000)));
        assert!(user.take_update(now, 1).is_ok(), "updates are counted apart");
        assert!(user.take_change(now + 50_000, rate).is_ok());
        assert!(user.take_change(now + 99_999, rate).is_err());
        let now = now + 10 * SECOND;
        assert!((0..3).all(|_| user.take_change(now, rate).is_ok()), "no more are saved up");
        assert!(user.take_change(now, rate).is_err());
        user.owe_changes(now, rate, 100);
        assert_eq!(user.take_change(now, rate), Err(over(Rate::Changes, 20, 101 * 50_000)));
        assert!(user.take_change(now + 101 * 50_000, rate).is_ok());
    }

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
        assert_eq!(refused, Err(over(Rate::Updates, 200, 11 * 5000)));
        assert!(user.take_update(now + 11 * 5000, 200).is_ok());
    }

    #[test]
    fn sessions_are_found_in_the_order_of_ids_each_once() {
        let id = |id: &str| SessionId::new(id).unwrap();
        let mut user = User::default();
        ["d", "b", "c", "b"].map(id).into_iter().for_each(|id| user.sessions.insert(id));
        user.sources.extend(["a", "c", "e"].map(id));
        assert_eq!(user.everywhere().map(|id| &**id).collect::<String>(), "abcde");
        user.sessions.remove(&id("c"));
        assert_eq!((user.sessions.len(), user.sessions.entries()), (2, 3));
        assert!(user.sessions.contains(&id("b")) && !user.sessions.contains(&id("c")));
        let (b, c) = (id("b"), id("c"));
        let first = |from| user.sessions.first(from).map(|id| id.to_string());
        assert_eq!(first(Bound::Unbounded).as_deref(), Some("b"));
        assert_eq!(first(Bound::Included(&b)).as_deref(), Some("b"));
        assert_eq!(first(Bound::Excluded(&b)).as_deref(), Some("d"));
        assert_eq!(first(Bound::Included(&c)).as_deref(), Some("d"));
        assert_eq!(first(Bound::Excluded(&id("d"))), None);
    }

    #[test]
    fn a_second_of_updates_fits_at_once_and_then_one_at_a_time() {
        let mut user = User::default();
        let now = 5 * SECOND;
        assert!((0..200).all(|_| user.take_update(now, 200).is_ok()));
        let refused = user.take_update(now, 200);
        assert_eq!(refused, Err(over(Rate::Updates, 200, 5000)));
        assert!(user.take_update(now + 5000, 200).is_ok());
        assert!(user.take_update(now + 5001, 200).is_err());
        assert!((0..200).all(|_| user.take_update(now + 10 * SECOND, 200).is_ok()));
    }
}

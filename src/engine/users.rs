//! Users beyond their sessions: their records, their streams, how fast they may write.

use super::{Engine, shard::Job};
use crate::session::{
    error::Refusal,
    ids::{AppId, UserId},
    user::User,
};
use parking_lot::Mutex;
use std::sync::Arc;

/// Guards a user's record.
pub type UserRecord = Arc<Mutex<User>>;

impl Engine {
    /// Takes one update of a user out of its bucket.
    pub fn take_update(&self, app: &AppId, user: &UserId) -> Result<(), Refusal> {
        let (now, rate) = (self.clock().now(), self.inner.settings.max_updates_per_second);
        self.with_user(app, user, |record| record.take_update(now, rate))
    }

    /// A stream of a user begins: as long as it has one it is not forgotten.
    pub fn user_stream(&self, app: &AppId, user: &UserId) -> Result<UserStream, Refusal> {
        self.check_draining()?;
        let record = self.inner.registry.user_or_new(app, user)?;
        self.with_record(app, user, &record, |record| record.streams += 1);
        Ok(UserStream { engine: self.clone(), app: app.clone(), user: user.clone(), record })
    }

    /// Runs something with a user locked; a user that is idle afterwards is forgotten later.
    pub(super) fn with_user<T>(
        &self,
        app: &AppId,
        user: &UserId,
        with: impl FnOnce(&mut User) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let record = self.inner.registry.user_or_new(app, user)?;
        self.with_record(app, user, &record, with)
    }

    pub(super) fn with_record<T>(
        &self,
        app: &AppId,
        user: &UserId,
        record: &UserRecord,
        with: impl FnOnce(&mut User) -> T,
    ) -> T {
        let mut record = record.lock();
        let was_present = record.is_present();
        let outcome = with(&mut record);
        self.settle_user((app, user), &mut record, was_present);
        outcome
    }

    /// Runs something with several users locked, none named twice. They are locked in the order of
    /// their ids, so that two who do this never wait for each other.
    pub(super) fn with_users<T>(
        &self,
        app: &AppId,
        users: &[UserId],
        with: impl FnOnce(&mut [&mut User]) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut records = Vec::with_capacity(users.len());
        for user in users {
            match self.inner.registry.user_or_new(app, user) {
                Ok(record) => records.push(record),
                Err(refusal) => {
                    for (user, record) in users.iter().zip(&records) {
                        self.with_record(app, user, record, |_| ());
                    }
                    return Err(refusal);
                }
            }
        }
        let mut order: Vec<usize> = (0..users.len()).collect();
        order.sort_unstable_by_key(|&at| &users[at]);
        let mut locked: Vec<_> = order.iter().map(|&at| (at, records[at].lock())).collect();
        locked.sort_unstable_by_key(|(at, _)| *at);
        let present: Vec<bool> = locked.iter().map(|(_, record)| record.is_present()).collect();
        let mut unlocked: Vec<&mut User> =
            locked.iter_mut().map(|(_, record)| &mut **record).collect();
        let outcome = with(&mut unlocked);
        for ((user, (_, record)), was_present) in users.iter().zip(&mut locked).zip(present) {
            self.settle_user((app, user), record, was_present);
        }
        outcome
    }

    /// Private sessions show whether their source is present; a user that is idle now is forgotten
    /// later.
    fn settle_user(&self, (app, user): (&AppId, &UserId), record: &mut User, was_present: bool) {
        if record.is_present() != was_present {
            self.tell_of_source(app, record);
        }
        let now = self.clock().now();
        let was_idle = record.idle_since.is_some();
        record.settle(now);
        if record.idle_since.is_some() && !was_idle {
            let at = now + self.inner.settings.user_ttl;
            self.shard(0).add(at, Job::Forget(app.clone(), user.clone()));
        }
    }
}

/// A stream of a user, whether it receives a session or not.
#[derive(Debug)]
pub struct UserStream {
    engine: Engine,
    /// The namespace.
    pub app: AppId,
    /// Who.
    pub user: UserId,
    record: UserRecord,
}

impl UserStream {
    /// Takes one update of the user out of its bucket.
    pub fn take_update(&self) -> Result<(), Refusal> {
        let rate = self.engine.inner.settings.max_updates_per_second;
        self.record.lock().take_update(self.engine.clock().now(), rate)
    }
}

impl Drop for UserStream {
    fn drop(&mut self) {
        self.engine.with_record(&self.app, &self.user, &self.record, |record| record.streams -= 1);
    }
}

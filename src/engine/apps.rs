//! Apps: what each has, and how much of the server it may take.
//!
//! A session, the record of a user, a stream and a call look their app up once and hold it. What
//! there is of an app is counted by what holds it, so what ends gives back what it had.

mod bucket;
mod lanes;
mod limits;

pub use lanes::Lanes;
pub use limits::{AppLimit, AppLimits};

use super::{Clock, Engine, error::Refusal, live::State};
use crate::session::{
    ids::AppId,
    limits::{Micros, SECOND},
};
use bucket::Bucket;
use dashmap::{DashMap, Entry};
use parking_lot::RwLock;
use rustc_hash::FxBuildHasher;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

/// How much an app may owe of its bytes before nothing more is begun for it. For what was sent, its
/// sender pays first in any case.
pub const MOST_OWED: Micros = SECOND;

/// How many apps nobody holds are kept before they are looked for.
const UNHELD: usize = 64;

/// What stands for no limit.
const UNLIMITED: u64 = u64::MAX;

/// One app.
#[derive(Debug)]
pub struct App {
    id: AppId,
    most: [AtomicU64; AppLimit::ALL.len()],
    /// How many there are of what is counted.
    counts: [AtomicUsize; AppLimit::ALL.len()],
    /// What was taken of what comes in every second.
    buckets: [Bucket; AppLimit::ALL.len()],
}

/// How far apps are limited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppsSettings {
    /// Each app that is not named.
    pub others: AppLimits,
    /// The apps that are named.
    pub named: HashMap<AppId, AppLimits>,
}

impl AppsSettings {
    fn of(&self, app: &AppId) -> &AppLimits {
        self.named.get(app).unwrap_or(&self.others)
    }
}

impl App {
    pub(super) fn new(id: AppId, limits: &AppLimits) -> Self {
        let app = Self {
            id,
            most: Default::default(),
            counts: Default::default(),
            buckets: Default::default(),
        };
        app.limit(limits);
        app
    }

    /// The id.
    pub fn id(&self) -> &AppId {
        &self.id
    }

    fn limit(&self, limits: &AppLimits) {
        for limit in AppLimit::ALL {
            let most = limits.most(limit).unwrap_or(UNLIMITED);
            if self.most[limit.place()].swap(most, Relaxed) != most {
                // What was owed was owed by another rate.
                self.buckets[limit.place()].fill();
            }
        }
    }

    /// Whether it might as well be new to its rates.
    fn is_rested(&self, now: Micros) -> bool {
        self.buckets.iter().all(|bucket| bucket.is_full(now))
    }

    /// Its limit; none = it has none.
    fn most(&self, limit: AppLimit) -> Option<u64> {
        let most = self.most[limit.place()].load(Relaxed);
        (most != UNLIMITED).then_some(most)
    }

    /// How many there are of what is counted.
    pub fn count(&self, limit: AppLimit) -> usize {
        self.counts[limit.place()].load(Relaxed)
    }

    fn refusal(&self, limit: AppLimit, most: u64, retry_after: Option<Micros>) -> Refusal {
        Refusal::AppLimit { app: self.id.clone(), limit, most, retry_after }
    }

    /// Takes something that there is so much of in a second, or refuses it and takes nothing.
    pub fn take(&self, limit: AppLimit, now: Micros, count: u64) -> Result<(), Refusal> {
        let Some(most) = self.most(limit) else { return Ok(()) };
        let taken = self.buckets[limit.place()].take(now, count, most);
        taken.map_err(|retry_after| self.refusal(limit, most, Some(retry_after)))
    }

    /// The same for users, who leave a fifth to the backends of the app: else one of them could keep a
    /// backend from banning it.
    pub fn take_for_user(&self, limit: AppLimit, now: Micros, count: u64) -> Result<(), Refusal> {
        let Some(most) = self.most(limit) else { return Ok(()) };
        let taken = self.buckets[limit.place()].take_sparing(now, count, most);
        taken.map_err(|retry_after| self.refusal(limit, most, Some(retry_after)))
    }

    /// Takes it whether it is there or not. Returns how long it takes until nothing is owed.
    pub fn spend(&self, limit: AppLimit, now: Micros, count: u64) -> Micros {
        let Some(most) = self.most(limit) else { return 0 };
        self.buckets[limit.place()].spend(now, count, most)
    }

    /// How long it takes until nothing is owed.
    pub fn owed(&self, limit: AppLimit, now: Micros) -> Micros {
        if self.most(limit).is_none() { 0 } else { self.buckets[limit.place()].owed(now) }
    }

    /// Refuses something that more is owed of than `most_owed`.
    pub fn check_owed(
        &self,
        limit: AppLimit,
        now: Micros,
        most_owed: Micros,
    ) -> Result<(), Refusal> {
        let Some(most) = self.most(limit) else { return Ok(()) };
        match self.buckets[limit.place()].owed(now) {
            owed if owed > most_owed => Err(self.refusal(limit, most, Some(owed - most_owed))),
            _ => Ok(()),
        }
    }

    /// Puts back what was taken and not used.
    pub(super) fn give_back(&self, limit: AppLimit, count: u64) {
        if let Some(most) = self.most(limit) {
            self.buckets[limit.place()].give_back(count, most);
        }
    }

    /// Whether it has a limit of its own.
    pub fn is_limited(&self, limit: AppLimit) -> bool {
        self.most(limit).is_some()
    }

    /// Takes something whether it is there or not, and says when it is paid.
    pub fn turn(&self, limit: AppLimit, now: Micros, count: u64) -> Turn {
        let most = self.most[limit.place()].load(Relaxed);
        Turn { at: now + self.spend(limit, now, count), most }
    }

    /// How long it takes until a turn comes; none = it has come. Under another limit than that which
    /// it was given by, it has.
    pub fn wait(&self, limit: AppLimit, turn: Turn, now: Micros) -> Option<Micros> {
        let waits = now < turn.at && self.most(limit) == Some(turn.most);
        waits.then(|| turn.at - now)
    }

    /// Refuses an update whose turn has not come.
    pub(super) fn check_turn(&self, turn: Turn, now: Micros) -> Result<(), Refusal> {
        match self.wait(AppLimit::Updates, turn, now) {
            // Another limit may hold by then.
            Some(wait) => Err(self.refusal(AppLimit::Updates, turn.most, Some(wait.min(SECOND)))),
            None => Ok(()),
        }
    }

    /// Whether so many more fit.
    pub fn check_room(&self, limit: AppLimit, more: usize) -> Result<(), Refusal> {
        match self.most(limit) {
            Some(most) if (self.count(limit) + more) as u64 > most => {
                Err(self.refusal(limit, most, None))
            }
            _ => Ok(()),
        }
    }

    /// Counts so many more as long as something holds them, if they fit.
    pub fn enter(self: &Arc<Self>, limit: AppLimit, count: usize) -> Result<Share, Refusal> {
        let mut share = Share { app: self.clone(), limit, count: 0 };
        share.grow(count)?;
        Ok(share)
    }

    /// The same, however many there are.
    pub(super) fn hold(self: &Arc<Self>, limit: AppLimit, count: usize) -> Share {
        let mut share = Share { app: self.clone(), limit, count: 0 };
        share.set(count);
        share
    }
}

/// When something is paid that was taken beyond the rate of an app.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    at: Micros,
    /// By which limit.
    most: u64,
}

/// What something counts for in its app. Dropped, it gives that back.
#[derive(Debug)]
pub struct Share {
    app: Arc<App>,
    limit: AppLimit,
    /// There is no room for more of anything.
    count: u32,
}

impl Share {
    /// The app.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// So many more, if they fit.
    pub fn grow(&mut self, more: usize) -> Result<(), Refusal> {
        let Self { app, limit, .. } = self;
        let counts = &app.counts[limit.place()];
        let Some(most) = app.most(*limit) else {
            counts.fetch_add(more, Relaxed);
            self.count += more as u32;
            return Ok(());
        };
        let fits = |count: usize| {
            let count = count + more;
            (more == 0 || count as u64 <= most).then_some(count)
        };
        counts.fetch_update(Relaxed, Relaxed, fits).map_err(|_| app.refusal(*limit, most, None))?;
        self.count += more as u32;
        Ok(())
    }

    /// So many, whether they fit or not.
    pub(super) fn set(&mut self, count: usize) {
        let counts = &self.app.counts[self.limit.place()];
        let known = self.count as usize;
        if count > known {
            counts.fetch_add(count - known, Relaxed);
        } else if count < known {
            counts.fetch_sub(known - count, Relaxed);
        }
        self.count = count as u32;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// All apps that somebody holds.
#[derive(Debug)]
pub(super) struct Apps {
    clock: Clock,
    apps: DashMap<AppId, Arc<App>, FxBuildHasher>,
    /// Locked before the map. What is looked up gets the limits that hold.
    settings: RwLock<AppsSettings>,
    /// How many there were when those that nobody holds were looked for.
    held: AtomicUsize,
}

impl Apps {
    /// None yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            apps: DashMap::default(),
            settings: RwLock::default(),
            held: AtomicUsize::new(0),
        }
    }

    /// An app.
    pub fn of(&self, id: &AppId) -> Arc<App> {
        if let Some(app) = self.apps.get(id) {
            return app.clone();
        }
        let settings = self.settings.read();
        let app = match self.apps.entry(id.clone()) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(place) => {
                let app = Arc::new(App::new(id.clone(), settings.of(id)));
                place.insert(app.clone());
                app
            }
        };
        drop(settings);
        if self.apps.len() > 2 * self.held.load(Relaxed) + UNHELD {
            // A caller that names apps that there are not leaves none behind.
            let now = self.clock.now();
            self.apps.retain(|_, app| Arc::strong_count(app) > 1 || !app.is_rested(now));
            self.held.store(self.apps.len(), Relaxed);
        }
        app
    }

    /// Limits all apps otherwise from now on. What is over a limit stays.
    pub fn limit(&self, settings: AppsSettings) {
        let mut known = self.settings.write();
        for entry in &self.apps {
            entry.value().limit(settings.of(entry.key()));
        }
        *known = settings;
    }
}

impl State {
    /// The app has as many members more or fewer as the session.
    pub(super) fn settle_members(&mut self) {
        if !self.closed {
            self.members_in_app.set(self.core.members().joined_count());
        }
    }

    /// One more, who leaves another session of the app for this one.
    pub(super) fn count_moving_member(&mut self) {
        self.members_in_app.set(self.core.members().joined_count() + 1);
    }
}

impl Engine {
    /// An app, to be held by a caller that has more to do with it.
    pub fn app(&self, id: &AppId) -> Arc<App> {
        self.inner.apps.of(id)
    }

    /// Limits apps otherwise from now on. What exists and is over a limit stays; no more is added.
    pub fn limit_apps(&self, settings: AppsSettings) {
        self.inner.apps.limit(settings);
    }
}

#[cfg(test)]
mod tests;

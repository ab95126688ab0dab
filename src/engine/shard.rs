//! What is due when: one list per runtime, which alone works it off.
//!
//! The owner of a job on a list holds its [`Listed`], and the job goes with it: what ends leaves
//! nothing on a list, however far off its moment is. The lock of a list is the last one that anybody takes.

use super::{
    Engine, events::EventJournal, gateway::Gateway, live::Live, requests::Remembered,
    watch::Journal,
};
use crate::session::{
    ids::{AppId, UserId},
    limits::Micros,
};
use parking_lot::Mutex;
use slab::Slab;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    future::pending,
    num::NonZeroU64,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};
use tokio::sync::Notify;

/// Something to do at a moment. Whom it is about is found again then, and keeps its [`Listed`].
#[derive(Debug)]
pub(super) enum Job {
    /// Frame a session that changed.
    Tick(Weak<Live>),
    /// Let a session notice that time has passed.
    Deadline(Weak<Live>),
    /// Take a record of a session.
    Record(Weak<Live>),
    /// Wake a stream, unless it has put its alarm off.
    Alarm(Weak<Alarm>),
    /// Give up a gateway that was waited for in vain.
    Gateway(Weak<Gateway>),
    /// Forget a user that is still idle.
    Forget(Box<(AppId, UserId)>),
    /// Wake those who watch the sessions of an app, and forget what nobody watches.
    Journal(Weak<Journal>),
    /// Wake those who watch what happens in an app, and make room for what happens next.
    Events(Weak<EventJournal>),
    /// Forget what was remembered for requests with an id, where it is too old.
    Requests(Box<Remembered>),
}

/// The jobs of one runtime; clones are the same one. A session that nothing happens to has none, so
/// an idle service does no work per session.
#[derive(Debug, Clone, Default)]
pub struct Shard {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Nothing else is locked, woken or dropped while this is locked.
    jobs: Mutex<Jobs>,
    /// The runtime sleeps until then; a thread that adds something earlier wakes it.
    asleep_until: AtomicU64,
    wake: Notify,
    /// Since when the thread has had no rest; 0 = it rests, or nobody says.
    busy_since: AtomicU64,
}

/// Jobs by moment: those of one tick are many and have one moment.
#[derive(Debug, Default)]
struct Jobs {
    moments: BTreeMap<Micros, Moment>,
    /// How many moments there have been.
    begun: u64,
}

/// Those of ticks have many jobs, and those that are far off one each: so the first one takes no room
/// of its own.
#[derive(Debug)]
struct Moment {
    /// Tells it from a later one at the same time.
    number: NonZeroU64,
    first: Option<Job>,
    others: Option<Box<Slab<Job>>>,
}

impl Moment {
    /// Adds a job; returns its key.
    fn insert(&mut self, job: Job) -> usize {
        if self.first.is_none() {
            self.first = Some(job);
            return 0;
        }
        1 + self.others.get_or_insert_default().insert(job)
    }

    fn remove(&mut self, key: usize) -> Option<Job> {
        match key.checked_sub(1) {
            None => self.first.take(),
            Some(key) => self.others.as_mut()?.try_remove(key),
        }
    }

    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.as_ref().map_or(0, |jobs| jobs.len())
    }

    fn into_jobs(self) -> impl Iterator<Item = Job> {
        let others = self.others.into_iter().flat_map(|jobs| *jobs);
        self.first.into_iter().chain(others.map(|(_, job)| job))
    }
}

/// A job on the list of a shard; dropped, it takes the job off.
#[derive(Debug)]
#[must_use]
pub(super) struct Listed {
    shard: Shard,
    at: Micros,
    /// None = it was taken out.
    spot: Option<Spot>,
}

/// Where on the list a job is.
#[derive(Debug, Clone, Copy)]
struct Spot {
    /// The number of its moment.
    moment: NonZeroU64,
    /// Where in the moment.
    key: usize,
}

impl Listed {
    /// When the job falls due.
    pub fn at(&self) -> Micros {
        self.at
    }

    /// The job has fallen due: it was taken out, and there is nothing to take off.
    pub fn fell_due(mut self) {
        self.spot = None;
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(spot) = self.spot {
            // The lock is free again when the job is dropped.
            let _job = self.shard.inner.jobs.lock().remove(self.at, spot);
        }
    }
}

impl Jobs {
    fn add(&mut self, at: Micros, job: Job) -> Spot {
        let moment = self.moments.entry(at).or_insert_with(|| {
            let number = NonZeroU64::MIN.saturating_add(self.begun);
            self.begun += 1;
            Moment { number, first: None, others: None }
        });
        Spot { moment: moment.number, key: moment.insert(job) }
    }

    /// Takes a job out, if its moment was not.
    fn remove(&mut self, at: Micros, spot: Spot) -> Option<Job> {
        let Entry::Occupied(mut entry) = self.moments.entry(at) else { return None };
        let moment = entry.get_mut();
        if moment.number != spot.moment {
            return None;
        }
        let job = moment.remove(spot.key);
        if moment.len() == 0 {
            entry.remove();
        }
        job
    }
}

impl Shard {
    /// Adds a job.
    pub(super) fn add(&self, at: Micros, job: Job) -> Listed {
        let spot = self.inner.jobs.lock().add(at, job);
        if at < self.inner.asleep_until.load(Ordering::SeqCst) {
            self.inner.wake.notify_one();
        }
        Listed { shard: self.clone(), at, spot: Some(spot) }
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Micros> {
        self.inner.jobs.lock().moments.first_key_value().map(|(at, _)| *at)
    }

    /// How many jobs there are.
    pub(super) fn jobs(&self) -> usize {
        self.inner.jobs.lock().moments.values().map(Moment::len).sum()
    }

    /// Takes the earliest jobs out, if they are due.
    pub(super) fn take_due(&self, now: Micros) -> Option<impl Iterator<Item = Job> + use<>> {
        let mut jobs = self.inner.jobs.lock();
        let entry = jobs.moments.first_entry().filter(|entry| *entry.key() <= now)?;
        Some(entry.remove().into_jobs())
    }

    /// The thread has nothing to do.
    pub(super) fn rests(&self) {
        self.inner.busy_since.store(0, Ordering::Relaxed);
    }

    /// The thread has something to do again.
    pub(super) fn wakes(&self, now: Micros) {
        self.inner.busy_since.store(now, Ordering::Relaxed);
    }

    /// Since when the thread may not have come to read what was there to be read.
    pub(super) fn busy_since(&self, now: Micros) -> Micros {
        match self.inner.busy_since.load(Ordering::Relaxed) {
            0 => now,
            since => since.min(now),
        }
    }

    /// Works the jobs off as they fall due, for ever.
    pub(super) async fn run(&self, engine: &Engine) {
        let Inner { asleep_until, wake, .. } = &*self.inner;
        loop {
            engine.run_due(self);
            asleep_until.store(u64::MAX, Ordering::SeqCst);
            let next = self.next();
            asleep_until.store(next.unwrap_or(u64::MAX), Ordering::SeqCst);
            // Added between the look and the store: the adder saw u64::MAX and has notified.
            let due = async {
                match next.and_then(|at| engine.clock().instant(at)) {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = wake.notified() => {}
            }
            asleep_until.store(0, Ordering::SeqCst);
        }
    }
}

/// Wakes a stream at a moment that may be put off cheaply: the list is touched only when the moment
/// comes nearer or the old one has passed.
#[derive(Debug)]
pub struct Alarm {
    rung: AtomicBool,
    state: Mutex<AlarmState>,
}

#[derive(Debug)]
struct AlarmState {
    at: Micros,
    /// Not later than `at`.
    listed: Option<Listed>,
    waker: Option<Waker>,
}

impl Alarm {
    /// An alarm that is not set.
    pub fn new() -> Arc<Self> {
        let state = AlarmState { at: Micros::MAX, listed: None, waker: None };
        Arc::new(Self { rung: AtomicBool::new(false), state: Mutex::new(state) })
    }

    /// Wakes `waker` at `at` instead of whenever it was set to before.
    pub fn set(self: &Arc<Self>, shard: &Shard, at: Micros, waker: &Waker) {
        let mut state = self.state.lock();
        state.at = at;
        self.rung.store(false, Ordering::Release);
        self.list(&mut state, shard);
        let _before = state.waker.replace(waker.clone());
        drop(state);
    }

    /// Whether it has rung since it was set.
    pub fn has_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    pub(super) fn ring(self: &Arc<Self>, shard: &Shard, now: Micros) {
        let mut state = self.state.lock();
        if let Some(listed) = state.listed.take_if(|listed| listed.at() <= now) {
            listed.fell_due();
        }
        if state.at > now {
            return self.list(&mut state, shard);
        }
        state.at = Micros::MAX;
        self.rung.store(true, Ordering::Release);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Sees to it that it is on the list, for its moment or an earlier one.
    fn list(self: &Arc<Self>, state: &mut AlarmState, shard: &Shard) {
        if state.at < state.listed.as_ref().map_or(Micros::MAX, Listed::at) {
            state.listed = Some(shard.add(state.at, Job::Alarm(Arc::downgrade(self))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{engine, settings};

    fn job() -> Job {
        Job::Alarm(Weak::new())
    }

    #[test]
    fn a_job_is_on_the_list_until_it_falls_due_or_is_dropped() {
        let shard = Shard::default();
        let (first, second, later) =
            (shard.add(5, job()), shard.add(5, job()), shard.add(6, job()));
        drop(first);
        assert_eq!((shard.next(), shard.jobs()), (Some(5), 2));
        drop(second);
        assert_eq!((shard.next(), shard.jobs()), (Some(6), 1));
        assert!(shard.take_due(5).is_none());
        assert_eq!(shard.take_due(6).map(Iterator::count), Some(1));
        drop(later);
        assert_eq!((shard.next(), shard.jobs()), (None, 0));
    }

    #[test]
    fn who_drops_a_job_that_fell_due_takes_no_other_one_off() {
        let shard = Shard::default();
        let due = shard.add(5, job());
        assert_eq!(shard.take_due(5).map(Iterator::count), Some(1));
        let next = shard.add(5, job());
        drop(due);
        assert_eq!(shard.jobs(), 1, "it has the same moment and place");
        drop(next);
        assert_eq!(shard.jobs(), 0);
    }

    #[test]
    fn an_alarm_that_is_put_off_stays_on_the_list_for_its_first_moment() {
        let engine = engine(settings());
        let (shard, now) = (engine.shard(0), engine.clock().now());
        let alarm = Alarm::new();
        for (at, listed) in [(20, 20), (30, 20), (40, 20), (10, 10), (50, 10)] {
            alarm.set(shard, now + at, Waker::noop());
            assert_eq!((shard.next(), shard.jobs()), (Some(now + listed), 1));
        }
        engine.advance(10);
        assert!(!alarm.has_rung());
        assert_eq!(shard.next(), Some(now + 50));
        engine.advance(40);
        assert!(alarm.has_rung());
        assert_eq!(shard.jobs(), 0);
        alarm.set(shard, now + 60, Waker::noop());
        assert!(!alarm.has_rung(), "it is set again");
        drop(alarm);
        assert_eq!(shard.jobs(), 0);
    }
}

//! What is due when: one list per runtime, which alone works it off.

use super::{Engine, live::Live, requests::Remembered};
use crate::session::{
    ids::{AppId, UserId},
    limits::Micros,
};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    future::pending,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};
use tokio::sync::Notify;

/// Something to do at a moment.
#[derive(Debug)]
pub enum Job {
    /// Frame a session that changed.
    Tick(Arc<Live>),
    /// Let a session notice that time has passed.
    Deadline(Weak<Live>),
    /// Wake a stream, unless it has put its alarm off.
    Alarm(Weak<Alarm>),
    /// Forget a user that is still idle.
    Forget(AppId, UserId),
    /// Forget what was remembered for requests with an id, where it is too old.
    Requests(Remembered),
}

/// The jobs of one runtime. A session that nothing happens to has none, so an idle service does no
/// work per session.
#[derive(Debug, Default)]
pub struct Shard {
    jobs: Mutex<BTreeMap<Micros, Vec<Job>>>,
    /// The runtime sleeps until then; whoever adds something earlier wakes it.
    asleep_until: AtomicU64,
    wake: Notify,
}

impl Shard {
    /// Adds a job.
    pub fn add(&self, at: Micros, job: Job) {
        self.jobs.lock().entry(at).or_default().push(job);
        if at < self.asleep_until.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    /// When something is due next.
    pub fn next(&self) -> Option<Micros> {
        self.jobs.lock().first_key_value().map(|(at, _)| *at)
    }

    /// Takes the earliest jobs out, if they are due.
    pub fn take_due(&self, now: Micros) -> Option<Vec<Job>> {
        let mut jobs = self.jobs.lock();
        let entry = jobs.first_entry().filter(|entry| *entry.key() <= now)?;
        Some(entry.remove())
    }

    /// Works the jobs off as they fall due, for ever.
    pub async fn run(&self, engine: &Engine) {
        loop {
            engine.run_due(self);
            self.asleep_until.store(u64::MAX, Ordering::SeqCst);
            let next = self.next();
            self.asleep_until.store(next.unwrap_or(u64::MAX), Ordering::SeqCst);
            // Added between the look and the store: the adder saw u64::MAX and has notified.
            let due = async {
                match next.and_then(|at| engine.clock().instant(at)) {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.wake.notified() => {}
            }
            self.asleep_until.store(0, Ordering::SeqCst);
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
    /// The moment under which the alarm is in the list.
    listed: Micros,
    waker: Option<Waker>,
}

impl Alarm {
    /// An alarm that is not set.
    pub fn new() -> Arc<Self> {
        let state = AlarmState { at: Micros::MAX, listed: Micros::MAX, waker: None };
        Arc::new(Self { rung: AtomicBool::new(false), state: Mutex::new(state) })
    }

    /// Wakes `waker` at `at` instead of whenever it was set to before.
    pub fn set(self: &Arc<Self>, shard: &Shard, at: Micros, waker: &Waker) {
        let mut state = self.state.lock();
        state.at = at;
        state.waker = Some(waker.clone());
        self.rung.store(false, Ordering::Release);
        if at < state.listed {
            state.listed = at;
            drop(state);
            shard.add(at, Job::Alarm(Arc::downgrade(self)));
        }
    }

    /// Whether it has rung since it was set.
    pub fn has_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    pub(super) fn ring(self: &Arc<Self>, shard: &Shard, now: Micros) {
        let mut state = self.state.lock();
        if state.at > now {
            if state.listed <= now {
                state.listed = state.at;
                let at = state.at;
                drop(state);
                shard.add(at, Job::Alarm(Arc::downgrade(self)));
            }
            return;
        }
        (state.at, state.listed) = (Micros::MAX, Micros::MAX);
        self.rung.store(true, Ordering::Release);
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }
}

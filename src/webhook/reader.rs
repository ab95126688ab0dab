//! The thread that reads the journals of the apps of a webhook.

use super::{State, Webhook, queue::Kept};
use crate::{
    engine::{EventGap, EventWatch, EventsFrom},
    grpc::convert::event,
    identity::Apps,
    proto::EventGapReason,
    session::ids::AppId,
};
use parking_lot::{Condvar, Mutex};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

/// How long the thread waits at most, should nobody ring.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Rings when an app has something to read, or when an app is new.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<Rung>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Rung {
    /// The apps that have something to read, each once.
    apps: VecDeque<AppId>,
    listed: FxHashSet<AppId>,
    /// There may be other apps.
    is_new: bool,
    /// The thread is reading.
    is_reading: bool,
}

/// Rings for one app.
#[derive(Debug)]
struct Ring {
    bell: Arc<Bell>,
    app: AppId,
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.bell.ring_for(&self.app);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

impl Bell {
    /// Wakes the thread.
    pub fn ring(&self) {
        self.rung.lock().is_new = true;
        self.wake.notify_all();
    }

    /// Whether nothing is read, and nothing is there to be read.
    pub fn is_quiet(&self) -> bool {
        let rung = self.rung.lock();
        rung.apps.is_empty() && !rung.is_new && !rung.is_reading
    }

    fn ring_for(&self, app: &AppId) {
        let mut rung = self.rung.lock();
        if rung.listed.insert(app.clone()) {
            rung.apps.push_back(app.clone());
        }
        drop(rung);
        self.wake.notify_all();
    }

    /// Waits until it rings; the apps to read, and whether there may be others.
    fn wait(&self) -> (VecDeque<AppId>, bool) {
        let mut rung = self.rung.lock();
        rung.is_reading = false;
        if rung.apps.is_empty() && !rung.is_new {
            self.wake.wait_for(&mut rung, LOOK_INTERVAL);
        }
        rung.is_reading = true;
        rung.listed.clear();
        (mem::take(&mut rung.apps), mem::take(&mut rung.is_new))
    }
}

impl Webhook {
    /// Reads what happens, until the webhook is over.
    pub fn read_on(&self) {
        let mut watches: FxHashMap<AppId, EventWatch> = FxHashMap::default();
        let mut key = None;
        // Its receiver knows that what was not delivered before is lost.
        self.with(|state| {
            state.queue.push_gap(None, EventGapReason::Restarted, 0, Instant::now());
        });
        self.bell.ring();
        loop {
            let (apps, is_new) = self.bell.wait();
            if self.state.lock().is_over {
                return;
            }
            if is_new {
                for app in self.apps(&mut key) {
                    if !watches.contains_key(&app) {
                        let watch = self.engine.follow_events(&app, EventsFrom::Earliest);
                        watches.extend(watch.map(|watch| (app.clone(), watch)));
                        self.bell.ring_for(&app);
                    }
                }
            }
            for app in apps {
                let Some(watch) = watches.get_mut(&app) else { continue };
                self.read(&app, watch);
                if watch.is_over() {
                    watches.remove(&app);
                    // Another journal may have begun before.
                    self.bell.ring();
                }
            }
        }
    }

    /// The apps of the webhook that may have something to read.
    fn apps(&self, key: &mut Option<usize>) -> Vec<AppId> {
        match &self.settings.apps {
            Apps::Only(apps) => apps.iter().cloned().collect(),
            Apps::All => {
                let waker = Waker::from(self.bell.clone());
                self.engine.apps_with_events(key, &Context::from_waker(&waker))
            }
        }
    }

    /// Reads a journal to its end, as fast as there is room.
    fn read(&self, app: &AppId, watch: &mut EventWatch) {
        let ring = Ring { bell: self.bell.clone(), app: app.clone() };
        let waker = Waker::from(Arc::new(ring));
        loop {
            let mut is_full = false;
            let polled = watch.poll(&Context::from_waker(&waker), |it| {
                let kinds = &self.settings.kinds;
                if !kinds.is_empty() && !kinds.contains(&event::kind(&it.what).into()) {
                    return true;
                }
                let kept = self.with(|state| state.queue.push(it, Instant::now()));
                is_full = kept.is_none();
                self.note_loss(kept);
                !is_full
            });
            let Poll::Ready(told) = polled else { return };
            if let Some(EventGap::TooOld(missing)) = told.gap {
                let (key, reason) = (Some((app.clone(), None)), EventGapReason::TooOld);
                let missing = missing.unwrap_or_default();
                self.with(|state| state.queue.push_gap(key, reason, missing, Instant::now()));
                self.note_loss(Some(Kept::Lost));
            }
            if is_full {
                let mut state = self.state.lock();
                if state.is_over {
                    return;
                }
                self.changed.wait_for(&mut state, LOOK_INTERVAL);
            }
        }
    }

    fn note_loss(&self, kept: Option<Kept>) {
        if kept == Some(Kept::Lost) && !mem::replace(&mut self.state.lock().is_losing, true) {
            let webhook = &*self.settings.name;
            tracing::error!(webhook, "webhook: events are lost; their receiver will be told");
        }
    }

    /// Does something with the queue, and wakes those who deliver.
    fn with<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        let done = what(&mut self.state.lock());
        self.changed.notify_all();
        done
    }
}

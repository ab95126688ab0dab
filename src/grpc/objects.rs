//! The object streams as the calls share them: the lock, who waits for news, and what is sent of it.

use super::{
    convert::to_proto,
    error::Refusal as Refused,
    runs::{Place, Runs},
};
use crate::{
    engine::App,
    keeper::Streams,
    object_stream::{ObjectStreams, Refusal, Unfit, Update, record::Change},
    proto,
    record::Entry,
    session::{
        ids::{AppId, Key},
        limits::Micros,
        value::Value,
    },
};
use parking_lot::{Mutex, MutexGuard};
use slab::Slab;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    task::Waker,
};

/// How much a reply holds: with what goes beside it, and however large its first value is, it stays
/// below the 1 MiB that a message may have.
pub const ROOM: usize = 768 * 1024;

/// All object streams and their subscribers. The lock is held for a write or a read, never across
/// an await or a run of a function.
#[derive(Debug)]
pub struct Objects {
    state: Mutex<State>,
    runs: Arc<Runs>,
}

/// What is behind the lock.
#[derive(Debug)]
pub struct State {
    /// The streams.
    pub streams: ObjectStreams,
    /// By app, whom the next write wakes.
    waiting: HashMap<AppId, Slab<Option<Waker>>>,
}

impl Objects {
    /// Object streams without subscribers.
    pub fn new(streams: ObjectStreams, runs: Arc<Runs>) -> Self {
        let state = Mutex::new(State { streams, waiting: HashMap::new() });
        Self { state, runs }
    }

    /// Changes streams of an app and wakes those who wait for news of it.
    pub fn write<T>(
        &self,
        app: &AppId,
        write: impl FnOnce(&mut ObjectStreams) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let (outcome, wake) = {
            let mut state = self.state.lock();
            let outcome = write(&mut state.streams)?;
            let waiting = state.waiting.get_mut(app).into_iter().flatten();
            let wake: Vec<Waker> = waiting.filter_map(|(_, waker)| waker.take()).collect();
            (outcome, wake)
        };
        wake.into_iter().for_each(Waker::wake);
        Ok(outcome)
    }

    /// The streams, to read them.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Somebody who will wait for news of an app.
    pub fn watch(self: &Arc<Self>, app: &AppId) -> Watch {
        let key = self.lock().waiting.entry(app.clone()).or_default().insert(None);
        Watch { objects: self.clone(), app: app.clone(), key }
    }

    /// A place for the functions of a reply, taken before the streams are read; none if the app has
    /// no functions.
    pub fn reserve(&self, state: &State, app: &Arc<App>) -> Result<Option<Place>, Refused> {
        state.streams.has_functions(app.id()).then(|| self.runs.reserve(app)).transpose()
    }

    /// What is new, on the wire; functions are run first, off the threads that serve and tick.
    pub async fn tell(
        &self,
        mut updates: BTreeMap<Key, Update>,
        place: Option<Place>,
    ) -> BTreeMap<String, proto::StreamUpdate> {
        let mut calls = Vec::new();
        for (name, update) in &mut updates {
            calls.extend(update.calls.drain(..).map(|call| (name.clone(), call)));
        }
        let mut told: BTreeMap<String, proto::StreamUpdate> =
            updates.into_iter().map(|(name, update)| (name.to_string(), plain(update))).collect();
        let Some(place) = place.filter(|_| !calls.is_empty()) else { return told };
        for (name, call) in calls {
            let key = call.key.clone();
            // It fails only if the server is going down, and then nobody gets the reply.
            let Some(outcome) = self.runs.run(call, &place).await else { break };
            let update = told.entry(name.to_string()).or_default();
            match outcome {
                Ok(Value::Null) => {}
                Ok(value) => update.values.push(to_proto::named_value(&key, &value)),
                Err(fault) => drop(update.failed.insert(key.to_string(), fault)),
            }
        }
        // A stream whose functions have nothing to say has nothing new.
        told.retain(|_, update| *update != proto::StreamUpdate::default());
        told
    }
}

fn entries(changes: Vec<Change>) -> Vec<Entry> {
    changes.into_iter().map(Entry::Streams).collect()
}

impl Streams for Objects {
    /// Takes in what was stored, and keeps track of what changes from then on. An app whose streams
    /// cannot be restored is lost: that is logged.
    fn restore(&self, mut changes: Vec<Change>, is_clean: bool, now: Micros) {
        let mut is_whole = true;
        let bounds = self.lock().streams.bounds();
        let mut streams = loop {
            let was_clean = is_clean && is_whole;
            match ObjectStreams::restore(bounds, changes.iter().cloned(), was_clean, now) {
                Ok(streams) => break streams,
                Err(Unfit { app, cause }) => {
                    tracing::error!(%app, %cause, "the object streams of an app are lost");
                    is_whole = false;
                    changes.retain(|change| change.app() != Some(&app));
                }
            }
        };
        streams.keep_track();
        self.lock().streams = streams;
    }

    /// What has changed since this was asked last, to be stored in this order. The last entry is the
    /// counter: where that is stored, everything before it is.
    fn take_changes(&self) -> Vec<Entry> {
        let changes = self.lock().streams.take_changes();
        entries(changes)
    }

    /// All object streams of an app, in the place of every earlier entry about them. Nothing = there is
    /// nothing to know of them any more. It is stored after what [`take_changes`](Self::take_changes)
    /// gave last.
    fn snapshot(&self, app: &AppId) -> Vec<Entry> {
        let changes = self.lock().streams.snapshot(app);
        entries(changes)
    }

    /// The counter, in the place of every earlier entry about it. It is stored after what
    /// [`take_changes`](Self::take_changes) gave last.
    fn counter(&self) -> Entry {
        Entry::Streams(self.lock().streams.counter())
    }
}

/// An update whose functions have run.
fn plain(update: Update) -> proto::StreamUpdate {
    let keys = |keys: Vec<Key>| keys.iter().map(ToString::to_string).collect();
    let Update { reset, removed, values, restarted, calls: _, ended } = update;
    proto::StreamUpdate {
        values: values.iter().map(|(key, value)| to_proto::named_value(key, value)).collect(),
        removed: keys(removed),
        ended,
        reset,
        restarted: keys(restarted),
        failed: BTreeMap::new(),
    }
}

/// Somebody who waits for news of an app.
#[derive(Debug)]
pub struct Watch {
    objects: Arc<Objects>,
    app: AppId,
    key: usize,
}

impl Watch {
    /// The app.
    pub fn app(&self) -> &AppId {
        &self.app
    }

    /// Has the next write wake a task. The caller has looked under the same lock.
    pub fn wake(&self, state: &mut State, waker: &Waker) {
        let place = state.waiting.get_mut(&self.app).and_then(|app| app.get_mut(self.key));
        if let Some(place) = place {
            *place = Some(waker.clone());
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.objects.lock();
        let Some(app) = state.waiting.get_mut(&self.app) else { return };
        app.remove(self.key);
        if app.is_empty() {
            state.waiting.remove(&self.app);
        }
    }
}

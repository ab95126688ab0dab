//! What has changed since it was last written. Nothing is noted until somebody keeps track.

use crate::session::ids::{AppId, Key};
use std::{collections::BTreeMap, mem};

/// What has changed.
#[derive(Debug, Default)]
pub struct Tracking(Option<Noted>);

/// What has changed since a revision.
#[derive(Debug, Default)]
pub struct Noted {
    /// Everything up to this one is written.
    pub revision: u64,
    /// The counter has.
    pub counter: bool,
    /// What has changed of the apps that have.
    pub apps: BTreeMap<AppId, Touched>,
}

/// What has changed of an app.
#[derive(Debug, Default)]
pub struct Touched {
    /// Something beside its streams has.
    pub own: bool,
    /// Its functions have.
    pub functions: bool,
    /// The streams that have, or that are gone.
    pub streams: BTreeMap<Key, Touch>,
}

/// What has changed of a stream, beside what its keys hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// Maybe nothing: a function has read a key.
    Recalled,
    /// A key, or where the shared cursor is.
    Changed,
    /// How it is read.
    Defined,
}

impl Tracking {
    /// Notes from now on. Everything up to a revision is written, or there is nothing.
    pub fn begin(&mut self, revision: u64) {
        self.0.get_or_insert(Noted { revision, counter: true, apps: BTreeMap::new() });
    }

    /// Takes what has changed. Everything up to a revision will be written. None = nothing has.
    pub fn take(&mut self, revision: u64) -> Option<Noted> {
        let noted = self.0.as_mut().filter(|noted| noted.counter || !noted.apps.is_empty())?;
        Some(mem::replace(noted, Noted { revision, ..Noted::default() }))
    }

    /// The revision up to which everything is written; none = nobody keeps track.
    pub fn revision(&self) -> Option<u64> {
        self.0.as_ref().map(|noted| noted.revision)
    }

    /// Something beside the streams of an app has changed.
    pub fn app(&mut self, app: &AppId) {
        self.note(app, |touched| touched.own = true);
    }

    /// The functions of an app have changed.
    pub fn functions(&mut self, app: &AppId) {
        self.note(app, |touched| touched.functions = true);
    }

    /// A stream has changed.
    pub fn stream(&mut self, app: &AppId, name: &Key, touch: Touch) {
        self.note(app, |touched| match touched.streams.get_mut(name) {
            Some(known) => *known = touch.max(*known),
            None => drop(touched.streams.insert(name.clone(), touch)),
        });
    }

    fn note(&mut self, app: &AppId, note: impl FnOnce(&mut Touched)) {
        let Some(noted) = &mut self.0 else { return };
        match noted.apps.get_mut(app) {
            Some(touched) => note(touched),
            None => note(noted.apps.entry(app.clone()).or_default()),
        }
    }
}

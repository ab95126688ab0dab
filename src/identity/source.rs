//! Keys at a URL: which there are, and when they are read again. What goes over the network is in
//! `fetch`.

use super::{
    algorithm::Algorithm,
    jwks::{self, Place},
    key::VerifyingKey,
};
use crate::session::limits::{Micros, SECOND};
use parking_lot::Mutex;
use std::sync::Arc;

/// An unknown key has the keys read again at most once in this time.
pub const ASK_INTERVAL: Micros = 30 * SECOND;

/// Keys that could not be read are tried again after this time.
const RETRY: Micros = 30 * SECOND;

/// What a source is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSettings {
    /// Where the keys are.
    pub url: String,
    /// After how long they are read again.
    pub refresh: Micros,
    /// For how long they hold if they cannot be read again.
    pub max_age: Micros,
    /// How long reading them may take.
    pub timeout: Micros,
    /// What they may verify; empty = what is usual for public keys.
    pub algorithms: Vec<Algorithm>,
    /// The authorities that the server's certificate is judged by, in PEM; none = the web's.
    pub authorities: Option<Vec<u8>>,
}

/// Keys at a URL.
#[derive(Debug)]
pub struct Source {
    /// What it is set to.
    pub settings: SourceSettings,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    keys: Option<(Arc<Vec<Arc<VerifyingKey>>>, Micros)>,
    /// When they are to be read again.
    due: Micros,
    /// When an unknown key last had them read.
    asked: Option<Micros>,
    is_reading: bool,
    is_failing: bool,
}

/// What a source says to somebody who misses a key. The greatest of several counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// It has the keys that it has.
    Nothing,
    /// It is reading them again.
    OnTheWay,
    /// It has none.
    Unavailable,
}

/// What came of reading the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// They are as before.
    Same,
    /// They are others, so many of them.
    Changed(usize),
    /// They can be read again, and are as before.
    Recovered,
    /// They cannot be read, and could before.
    Failed(String),
    /// They still cannot be read.
    StillFailing,
    /// They could not be read for so long that those that were there no longer hold.
    Lost,
}

impl Source {
    /// One that has not been read.
    pub fn new(settings: SourceSettings) -> Self {
        let state = State { keys: None, due: 0, asked: None, is_reading: false, is_failing: false };
        Self { settings, state: Mutex::new(state) }
    }

    /// The keys that hold.
    pub fn keys(&self, now: Micros) -> Option<Arc<Vec<Arc<VerifyingKey>>>> {
        let state = self.state.lock();
        let (keys, at) = state.keys.as_ref()?;
        (now < at.saturating_add(self.settings.max_age)).then(|| keys.clone())
    }

    /// What there is to know about its keys.
    pub fn state(&self, now: Micros) -> Asked {
        if self.keys(now).is_none() {
            return Asked::Unavailable;
        }
        let state = self.state.lock();
        if state.is_reading || state.due <= now { Asked::OnTheWay } else { Asked::Nothing }
    }

    /// Somebody misses a key: the keys are read again, if that has not just been.
    pub fn ask(&self, now: Micros) -> Asked {
        let mut state = self.state.lock();
        let may_ask = state.asked.is_none_or(|at| now >= at.saturating_add(ASK_INTERVAL));
        if may_ask && !state.is_reading && state.keys.is_some() {
            state.asked = Some(now);
            state.due = state.due.min(now);
        }
        drop(state);
        self.state(now)
    }

    /// When it is to be read again.
    pub fn due(&self) -> Micros {
        self.state.lock().due
    }

    /// Begins to read it, if it is time and nobody else does.
    pub fn begin(&self, now: Micros) -> bool {
        let mut state = self.state.lock();
        let begins = state.due <= now && !state.is_reading;
        state.is_reading |= begins;
        begins
    }

    /// What was read, or why nothing was. Keys that are there stay when nothing was read.
    pub fn end(&self, read: Result<Vec<u8>, String>, now: Micros) -> News {
        let read = read.and_then(|bytes| {
            let keys = jwks::read(&bytes, &self.settings.algorithms, Place::Url);
            keys.map_err(|fault| format!("the key set {fault}"))
        });
        let mut state = self.state.lock();
        state.is_reading = false;
        let was_failing = std::mem::replace(&mut state.is_failing, read.is_err());
        match read {
            Ok(keys) => {
                let same = |(old, _): &(Arc<Vec<Arc<VerifyingKey>>>, Micros)| {
                    let marks = |key: &VerifyingKey| (key.kid.clone(), key.print());
                    old.iter().map(|key| marks(key)).eq(keys.iter().map(marks))
                };
                let is_same = state.keys.as_ref().is_some_and(same);
                let number = keys.len();
                state.keys = Some((Arc::new(keys.into_iter().map(Arc::new).collect()), now));
                state.due = now.saturating_add(self.settings.refresh);
                match (is_same, was_failing) {
                    (true, true) => News::Recovered,
                    (true, false) => News::Same,
                    (false, _) => News::Changed(number),
                }
            }
            Err(reason) => {
                state.due = now.saturating_add(RETRY.min(self.settings.refresh));
                let is_over =
                    |(_, at): &(_, Micros)| now >= at.saturating_add(self.settings.max_age);
                match state.keys.take_if(|keys| is_over(keys)) {
                    Some(_) => News::Lost,
                    None if was_failing => News::StillFailing,
                    None => News::Failed(reason),
                }
            }
        }
    }
}

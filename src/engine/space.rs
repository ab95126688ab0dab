//! What is taken while the store has little space.

use super::{
    Engine,
    error::Refusal,
    live::{Live, State},
};
use crate::session::command::Cost;
use std::{
    sync::atomic::{AtomicU8, Ordering},
    task::Waker,
};

/// How much space the store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Space {
    /// None: what is accepted waits until there is some.
    Gone,
    /// As much as it takes to store what has happened anyway: nothing is taken.
    Low,
    /// A reserve: what only takes away is taken.
    Reserved,
    /// Enough.
    Free,
}

/// What is known of it.
#[derive(Debug)]
pub(super) struct Known(AtomicU8);

impl Known {
    /// There is enough.
    pub fn new() -> Self {
        Self(AtomicU8::new(Space::Free as u8))
    }

    fn is_less_than(&self, space: Space) -> bool {
        self.0.load(Ordering::Relaxed) < space as u8
    }
}

impl Engine {
    /// Refuses a command that cannot be stored where it would have to be.
    pub(super) fn check_space(&self, state: &State, cost: Cost) -> Result<(), Refusal> {
        if state.gate.is_some() { self.check_space_for(cost) } else { Ok(()) }
    }

    /// The same of what is stored wherever there is a store.
    pub fn check_space_for(&self, cost: Cost) -> Result<(), Refusal> {
        match cost {
            Cost::Nothing => Ok(()),
            Cost::Less => self.check_has(Space::Reserved),
            Cost::More => self.check_has(Space::Free),
        }
    }

    /// Refuses to subscribe to a session while nobody knows when its frame will be stored.
    pub fn check_shows_soon(&self, live: &Live) -> Result<(), Refusal> {
        self.check_shown_soon(&live.lock())
    }

    /// Refuses to wait for a frame of which nobody knows when it will be stored.
    pub(super) fn check_shown_soon(&self, state: &State) -> Result<(), Refusal> {
        if state.is_in_flight() { self.check_has(Space::Low) } else { Ok(()) }
    }

    fn check_has(&self, space: Space) -> Result<(), Refusal> {
        let keeping = self.inner.keeping.as_ref();
        let is_less = keeping.is_some_and(|keeping| keeping.space.is_less_than(space));
        if is_less { Err(Refusal::StoreFull) } else { Ok(()) }
    }

    /// The store has so much space from now on.
    pub fn note_space(&self, space: Space) {
        let Some(keeping) = &self.inner.keeping else { return };
        let before = keeping.space.0.swap(space as u8, Ordering::Relaxed);
        if space > Space::Gone || before == Space::Gone as u8 {
            return;
        }
        // A caller that waits for a frame to be stored learns that it may take long.
        let waiting = |live: &Live| -> Vec<Waker> {
            live.lock().waiting.iter().map(|(_, waker)| waker.clone()).collect()
        };
        for live in self.inner.registry.all() {
            waiting(&live).into_iter().for_each(Waker::wake);
        }
    }
}

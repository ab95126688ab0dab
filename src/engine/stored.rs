//! Waits for what is to be stored, and for what is stored before it is shown.

use super::error::Refusal;
use super::{
    Engine, TRANSMIT_INTERVAL,
    live::{Live, State},
    waiting::WAITING_READS,
};
use crate::session::{
    ids::{AppId, SessionId},
    record::Mark,
};
use parking_lot::MutexGuard;
use slab::Slab;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

impl Engine {
    /// Refuses what is to be stored in a session of which nothing is.
    pub fn check_stored(&self, live: &Live) -> Result<(), Refusal> {
        if live.lock().gate.is_some() { Ok(()) } else { Err(Refusal::NoStore) }
    }

    /// Waits until everything is stored that is accepted of a session; where it is not stored, there
    /// is nothing to wait for.
    pub async fn stored(&self, live: &Arc<Live>) {
        let Some(mark) = self.want_stored(live) else { return };
        Stored { live, mark, waiting: None }.await;
    }

    /// Has what is accepted of a session stored soon, and returns up to where that goes; none = it is
    /// stored already, or will never be.
    pub fn want_stored(&self, live: &Arc<Live>) -> Option<Mark> {
        let keeping = self.inner.keeping.as_ref()?;
        let mut state = live.lock();
        let mark = Mark { revision: state.core.pending_revision(), ..state.core.mark() };
        let gate = state.gate.as_mut().filter(|gate| gate.stored < Some(mark))?;
        gate.is_wanted = true;
        if state.core.is_open() {
            // However long the tick is, a caller that waits for the store does not wait for that.
            let at = self.clock().now().max(state.core.last_frame_at() + TRANSMIT_INTERVAL);
            self.tick_at(live, &mut state, at);
        }
        self.keep(live, &mut state);
        drop(state);
        // It may be in the queue already, without anybody who waits for it.
        keeping.hasten();
        Some(mark)
    }

    /// Waits until everything is stored that is in the queue.
    pub async fn all_stored(&self) {
        let Some(keeping) = &self.inner.keeping else { return };
        let cut = keeping.hasten();
        keeping.cut_stored(cut).await;
    }

    /// Stores everything that there is: for a stop, when nothing changes any more.
    pub async fn store_everything(&self) {
        loop {
            let sessions = self.inner.registry.all();
            let left = sessions.iter().filter(|live| self.want_stored(live).is_some()).count();
            self.all_stored().await;
            if left == 0 {
                return;
            }
        }
    }

    /// Has everything stored that there is, when nobody else does anything any more: frames are made
    /// of what is open, and what is not due is.
    pub fn want_everything_stored(&self) {
        for live in self.inner.registry.all() {
            let wake = self.flush(&live, &mut live.lock());
            wake.into_iter().for_each(Waker::wake);
            self.want_stored(&live);
        }
    }

    /// Whether everything that anybody was shown is stored.
    pub fn is_all_stored(&self) -> bool {
        self.inner.registry.all().iter().all(|live| is_stored(live))
    }

    /// What is not stored yet.
    pub fn unstored(&self) -> Unstored {
        let Some(keeping) = &self.inner.keeping else { return Unstored::default() };
        let mut sessions = self.inner.registry.all();
        sessions.retain(|live| !is_stored(live));
        sessions.extend(keeping.ended());
        let name = |live: &Arc<Live>| (live.app.clone(), live.id.clone());
        let sessions = sessions.iter().map(name).collect();
        Unstored { sessions, users: keeping.users() }
    }

    /// What is in flight will not be shown any more, as the server stops and cannot store it: its
    /// readers learn that after the last frame that they may be shown.
    pub fn give_up_storing(&self) {
        let ended = self.inner.keeping.as_ref().map(|keeping| keeping.ended());
        for live in self.inner.registry.all().into_iter().chain(ended.unwrap_or_default()) {
            let wake = live.lock().give_up();
            wake.into_iter().for_each(Waker::wake);
        }
    }

    /// Whether somebody waits for a frame that is to be stored.
    pub fn is_frame_awaited(&self) -> bool {
        let is_awaited = |live: &Arc<Live>| {
            let state = live.lock();
            let waits = state.gate.as_ref().is_some_and(|gate| !gate.waiting.is_empty());
            waits && state.core.is_open()
        };
        self.inner.registry.all().iter().any(is_awaited)
    }

    /// Whether no session has a frame in flight.
    pub fn is_all_shown(&self) -> bool {
        self.inner.registry.all().iter().all(|live| !live.lock().is_in_flight())
    }

    /// Waits until a session has no frame in flight, so that what it shows is what anybody may see.
    /// Refused while there is no space to store the frame: nobody knows how long that takes.
    pub async fn shown<'a>(
        &'a self,
        live: &'a Arc<Live>,
    ) -> Result<MutexGuard<'a, State>, Refusal> {
        Shown { engine: self, live, waiting: None }.await
    }
}

/// What of an engine is not stored.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unstored {
    /// Sessions of which something is missing, or that they have ended.
    pub sessions: Vec<(AppId, SessionId)>,
    /// How many users' props are missing.
    pub users: usize,
}

fn is_stored(live: &Live) -> bool {
    let state = live.lock();
    let gate = state.gate.as_ref();
    gate.is_none_or(|gate| gate.stored >= Some(state.core.mark()))
}

/// The wait until something of a session is stored; dropped, it leaves nothing behind.
struct Stored<'a> {
    live: &'a Arc<Live>,
    mark: Mark,
    waiting: Option<usize>,
}

impl Future for Stored<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let live = self.live;
        let mut state = live.lock();
        let mark = self.mark;
        let Some(gate) = &mut state.gate else { return Poll::Ready(()) };
        if gate.stored >= Some(mark) {
            return Poll::Ready(());
        }
        match self.waiting {
            Some(key) => gate.waiting[key].1.clone_from(cx.waker()),
            None => self.waiting = Some(gate.waiting.insert((mark, cx.waker().clone()))),
        }
        Poll::Pending
    }
}

impl Drop for Stored<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.waiting
            && let Some(gate) = &mut self.live.lock().gate
        {
            gate.waiting.remove(key);
        }
    }
}

/// The wait for the end of a flight; dropped, it leaves nothing behind.
struct Shown<'a> {
    engine: &'a Engine,
    live: &'a Arc<Live>,
    waiting: Option<usize>,
}

impl<'a> Future for Shown<'a> {
    type Output = Result<MutexGuard<'a, State>, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let live = self.live;
        let mut state = live.lock();
        if !state.is_in_flight() {
            if let Some(key) = self.waiting.take() {
                state.waiting.remove(key);
                state.waiting.tidy(Slab::is_empty);
            }
            return Poll::Ready(Ok(state));
        }
        self.engine.check_shown_soon(&state)?;
        match self.waiting {
            Some(key) => state.waiting[key].clone_from(cx.waker()),
            None if state.waiting.len() >= WAITING_READS => {
                let most = WAITING_READS;
                return Poll::Ready(Err(Refusal::LimitReached { limit: "waiting-reads", most }));
            }
            None => self.waiting = Some(state.waiting.insert(cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.waiting {
            let waiting = &mut self.live.lock().waiting;
            waiting.remove(key);
            waiting.tidy(Slab::is_empty);
        }
    }
}

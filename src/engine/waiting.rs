//! Reads that wait for a frame.

use super::error::Refusal;
use super::{Engine, Position, live::Live};
use crate::session::{error::Refusal as Rule, revision::Revision};
use slab::Slab;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// How many reads of one session may wait at a time.
pub const WAITING_READS: usize = 1024;

impl Engine {
    /// Waits until a frame is made. A position of another epoch, beyond the open frame, or of a frame
    /// that a crash has lost is refused at once: nobody knows whether there will ever be such a frame.
    pub async fn framed(&self, live: &Arc<Live>, position: Position) -> Result<(), Refusal> {
        {
            let core = &live.lock().core;
            if position.epoch != core.epoch() || core.is_unknown(position.revision) {
                return Err(Refusal::Rules(Rule::UnknownPosition));
            }
        }
        Framed { engine: self, live, revision: position.revision, waiting: None }.await
    }
}

/// The wait for a frame; dropped, it leaves nothing behind.
struct Framed<'a> {
    engine: &'a Engine,
    live: &'a Arc<Live>,
    revision: Revision,
    /// Where the session has the waker.
    waiting: Option<usize>,
}

impl Future for Framed<'_> {
    type Output = Result<(), Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let live = self.live;
        let mut state = live.lock();
        if state.core.has_ended() {
            return Poll::Ready(Err(Refusal::NOT_FOUND));
        }
        if self.revision <= state.revision() {
            return Poll::Ready(Ok(()));
        }
        self.engine.check_draining()?;
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

impl Drop for Framed<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.waiting {
            let waiting = &mut self.live.lock().waiting;
            waiting.remove(key);
            waiting.tidy(Slab::is_empty);
        }
    }
}

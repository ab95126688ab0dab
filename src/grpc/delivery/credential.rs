//! The credential of an open stream: it ends, it is renewed by a token that comes up, and it may be
//! revoked.

use super::{Server, ending::Why};
use crate::{grpc::error::Refusal, identity::Grant, session::limits::Micros};
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

/// What a call knows of its credential, where tokens may come up.
#[derive(Debug)]
pub struct Credential {
    grant: Arc<Grant>,
    is_new: bool,
}

impl Credential {
    /// The one that the call was opened with.
    pub fn new(grant: Arc<Grant>) -> Self {
        Self { grant, is_new: false }
    }

    /// What it allows.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Takes a token for the one before; a refused one changes nothing.
    pub fn renew(&mut self, server: &Server, token: &str) -> Result<(), Refusal> {
        let now = server.engine.clock().now();
        self.grant = server.entrance.renew(&self.grant, token, now)?;
        self.is_new = true;
        Ok(())
    }

    /// What was renewed since this was asked last.
    pub fn take_new(&mut self) -> Option<Arc<Grant>> {
        std::mem::take(&mut self.is_new).then(|| self.grant.clone())
    }
}

/// Watches over a credential while its stream is open.
pub struct Watch {
    grant: Arc<Grant>,
    /// As of which generation of the identity it was last found valid; none = not since the caller
    /// was let in.
    seen: Option<u64>,
    /// What wakes the task with the next generation.
    bell: Option<(Waker, Wait)>,
}

type Wait = Pin<Box<WaitForCancellationFutureOwned>>;

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("grant", &self.grant).finish_non_exhaustive()
    }
}

impl Watch {
    /// Of a credential that was found valid before.
    pub fn new(grant: Arc<Grant>) -> Self {
        Self { grant, seen: None, bell: None }
    }

    /// When the credential ends.
    pub fn expires_at(&self) -> Micros {
        self.grant.expires.unwrap_or(Micros::MAX)
    }

    /// The credential is another one now.
    pub fn renew(&mut self, grant: Arc<Grant>) {
        (self.grant, self.seen) = (grant, None);
    }

    /// Waits until it is revoked. As long as nothing has changed this takes no lock: all streams would
    /// share it.
    pub fn poll(&mut self, server: &Server, cx: &mut Context<'_>) -> Poll<Why> {
        let Some(mut generation) = server.entrance.generation() else { return Poll::Pending };
        let is_armed = self.bell.as_ref().is_some_and(|(waker, _)| waker.will_wake(cx.waker()));
        if is_armed && self.seen == Some(generation) {
            return Poll::Pending;
        }
        loop {
            if self.seen != Some(generation) {
                self.seen = Some(generation);
                if !server.entrance.is_valid(&self.grant, server.engine.clock().now()) {
                    return Poll::Ready(Why::Revoked);
                }
            }
            let Some(changed) = server.entrance.changed() else { return Poll::Pending };
            let mut wait: Wait = Box::pin(changed.cancelled_owned());
            let is_waiting = wait.as_mut().poll(cx).is_pending();
            self.bell = Some((cx.waker().clone(), wait));
            let before = generation;
            generation = server.entrance.generation().unwrap_or(before);
            // What changed while the bell was not set has rung for others only.
            if is_waiting && generation == before {
                return Poll::Pending;
            }
        }
    }
}

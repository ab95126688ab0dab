//! The credential of an open stream: it ends, it is renewed by a token that comes up, and it may be
//! revoked.

use super::{Server, ending::Why};
use crate::{grpc::error::Refusal, identity::Grant, session::limits::Micros};
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
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
    /// Something has changed in who is let in; none = nothing ever does.
    changed: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("grant", &self.grant).finish_non_exhaustive()
    }
}

impl Watch {
    /// From the moment on at which the caller was let in.
    pub fn new(server: &Server, grant: Arc<Grant>) -> Self {
        Self { grant, changed: changed(server) }
    }

    /// When the credential ends.
    pub fn expires_at(&self) -> Micros {
        self.grant.expires.unwrap_or(Micros::MAX)
    }

    /// The credential is another one now.
    pub fn renew(&mut self, grant: Arc<Grant>) {
        self.grant = grant;
    }

    /// Waits until it is revoked.
    pub fn poll(&mut self, server: &Server, cx: &mut Context<'_>) -> Poll<Why> {
        while let Some(waiting) = &mut self.changed {
            if waiting.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // From before the question on, so that no change falls between the two.
            self.changed = changed(server);
            if !server.entrance.is_valid(&self.grant, server.engine.clock().now()) {
                return Poll::Ready(Why::Revoked);
            }
        }
        Poll::Pending
    }
}

fn changed(server: &Server) -> Option<Pin<Box<WaitForCancellationFutureOwned>>> {
    server.entrance.changed().map(|changed| Box::pin(changed.cancelled_owned()))
}

//! Calls with a request id: done once, then answered from memory.

use super::{Context, convert::door::Door};
use crate::grpc::error::Refusal;
use crate::{
    engine::{self, Begun, Reply, RequestId, Scope, SessionKey},
    proto,
    session::{
        command::Actor,
        ids::{self, AppId, ID_BYTES, SessionId},
    },
};
use prost::Message;
use std::{
    future::poll_fn,
    pin::pin,
    task::{Poll, ready},
};

/// A request that may carry an id.
pub trait Repeatable: Message {
    /// Tells it from other calls of the same content.
    const CALL: &'static str;

    /// The id; empty = none.
    fn request_id(&mut self) -> &mut String;
}

macro_rules! repeatable {
    ($($request:ident)*) => {$(
        impl Repeatable for proto::$request {
            const CALL: &'static str = stringify!($request);

            fn request_id(&mut self) -> &mut String {
                &mut self.request_id
            }
        }
    )*};
}

repeatable! {
    OpenSharedSessionRequest OpenPrivateSessionRequest UpdateSessionRequest ResetSessionRequest
    JoinSessionRequest ReserveSeatsRequest ReleaseSeatsRequest LeaveSessionRequest
    DeleteSessionRequest
    SwapHostRequest SetRoleRequest KickUserRequest BanUserRequest UnbanUserRequest
    PropsWrite SetSessionDataRequest
    SetStreamRequest RemoveStreamRequest UpdateStreamDataRequest
}

/// The id of a request, taken out of it; none if it has none.
#[derive(Debug, Clone, Default)]
pub struct Once(pub Option<RequestId>);

impl Once {
    /// Takes the id out of a request, where it stands under `field`. Equal requests have equal bytes.
    pub fn of<R: Repeatable>(field: &'static str, request: &mut R) -> Self {
        if request.request_id().is_empty() {
            return Self(None);
        }
        let id = std::mem::take(request.request_id());
        let content = RequestId::content_of(R::CALL, &request.encode_to_vec());
        Self(Some(RequestId { field, id: id.into(), content }))
    }

    /// The same of a write of props, of which each session, and the user, remembers its own part.
    pub fn of_write(write: &mut proto::PropsWrite) -> Self {
        let sessions = std::mem::take(&mut write.session_ids);
        let once = Self::of("write.request_id", write);
        write.session_ids = sessions;
        once
    }
}

impl Door<'_> {
    /// Checks the id of a request: bounded like all ids.
    pub fn once(&mut self, once: &Once) {
        if let Some(RequestId { field, id, .. }) = &once.0
            && let Err(bad) = ids::check(id, ID_BYTES)
        {
            self.fault(*field, bad.to_string());
        }
    }
}

impl Context {
    /// Does what a request asks for, or answers what it was answered before. Nothing may be waited
    /// for between the success and the end of `act`: a call can be given up wherever it waits.
    pub async fn once<T: Message + Default>(
        &self,
        once: Once,
        scope: &Scope,
        act: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        self.once_about(once, scope, act, |_| None).await
    }

    /// The same of a call whose reply says which session it has changed.
    pub async fn once_about<T: Message + Default>(
        &self,
        once: Once,
        scope: &Scope,
        act: impl Future<Output = Result<T, Refusal>>,
        about: impl FnOnce(&T) -> Option<SessionId>,
    ) -> Result<T, Refusal> {
        let Once(Some(request)) = once else { return act.await };
        match self.engine.begin(scope, &request).await? {
            Begun::Act(ticket) => {
                let mut act = pin!(act);
                let (mut ticket, mut about) = (Some(ticket), Some(about));
                // The last poll does it, and with the same pin it is remembered.
                poll_fn(|cx| {
                    self.engine.pinned(|| {
                        let outcome = ready!(act.as_mut().poll(cx));
                        if let (Ok(reply), Some(ticket)) = (&outcome, ticket.take()) {
                            let about = about.take().and_then(|about| about(reply));
                            ticket.succeeded(Reply::Message(reply.encode_to_vec().into()), about);
                        }
                        Poll::Ready(outcome)
                    })
                })
                .await
            }
            // A hash tells contents apart: one that means another call is another content.
            Begun::Replay(reply) => {
                let message = match reply {
                    Reply::Message(bytes) => T::decode(bytes).ok(),
                    _ => None,
                };
                message.ok_or(Refusal::Engine(engine::Refusal::RequestIdReused {
                    field: request.field,
                }))
            }
        }
    }

    /// Waits until what was done in a session is stored: for calls whose success is reported only then,
    /// and for their replies from memory. Of a session that is not stored there is nothing to wait for.
    pub async fn stored(&self, app: &AppId, session: &str) {
        if !self.engine.has_store() {
            return;
        }
        let key = SessionId::new(session).ok().map(SessionKey::Id);
        match self.engine.find(app, key.as_ref(), &Actor::App) {
            Ok(live) => self.engine.stored(&live).await,
            // That it is gone is in the queue, if it is not stored already.
            Err(_) => self.engine.all_stored().await,
        }
    }
}

//! Calls with a request id: done once, then answered from memory.

use super::{Context, convert::door::Door};
use crate::grpc::error::Refusal;
use crate::{
    engine::{self, Begun, Reply, RequestId, Scope},
    proto,
    session::ids::{self, ID_BYTES},
};
use prost::Message;

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
        let Once(Some(request)) = once else { return act.await };
        match self.engine.begin(scope, &request).await? {
            Begun::Act(ticket) => {
                let reply = act.await?;
                ticket.succeeded(Reply::Message(reply.encode_to_vec().into()));
                Ok(reply)
            }
            // Contents are told apart by a hash: one that means another call is another content.
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
}

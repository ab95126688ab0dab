//! As whom a request is sent.

use sessiond::proto::*;
use tonic::{IntoRequest, Request};

/// A request that acts as the app, which its metadata says.
pub fn as_app<T>(request: impl IntoRequest<T>) -> Request<T> {
    let mut request = request.into_request();
    request.metadata_mut().insert("sessiond-as", "app".parse().expect("ASCII"));
    request
}

/// A request as its caller sends it: as the app if it names no user and brings in no new one.
pub fn sent<T: ByCaller>(request: T) -> Request<T> {
    if request.is_by_app() { as_app(request) } else { Request::new(request) }
}

/// A request that names the user who acts, or acts as the app.
pub trait ByCaller {
    /// Whether the app sends it.
    fn is_by_app(&self) -> bool;
}

macro_rules! by_caller {
    (act: $($request:ident)*; may join: $($joining:ident)*) => {
        $(impl ByCaller for $request {
            fn is_by_app(&self) -> bool {
                self.user_id.is_empty()
            }
        })*
        $(impl ByCaller for $joining {
            fn is_by_app(&self) -> bool {
                self.user_id.is_empty() && self.join.is_none()
            }
        })*
    };
}

by_caller! {
    act: ReserveSeatsRequest ReleaseSeatsRequest GetSessionInfoRequest ListSessionsRequest OpenPrivateSessionRequest UpdateSessionRequest
        ResetSessionRequest LeaveSessionRequest DeleteSessionRequest SetUserPropsRequest
        SetSessionDataRequest GetUpdatedUserDataRequest GetFirstMatchRequest SwapHostRequest
        SetRoleRequest KickUserRequest BanUserRequest UnbanUserRequest
        TransmitSessionUpdatesRequest SubscribeToUserRequest ReceiveSessionUpdatesRequest
        WatchSessionsRequest
        SetStreamRequest RemoveStreamRequest UpdateStreamDataRequest SetStreamFuncRequest
        AddStreamFuncRequest GetStreamUpdateRequest GetAllStreamUpdatesRequest
        SubscribeToStreamsRequest;
    may join: OpenSharedSessionRequest SubscribeToSessionRequest
}

impl ByCaller for JoinSessionRequest {
    fn is_by_app(&self) -> bool {
        false
    }
}

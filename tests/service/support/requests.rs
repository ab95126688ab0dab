//! The calls of the contract, and a request of each, as the bytes that it is.

use super::{InSession, ban_of, int, list, private, props, write};
use prost::Message;
use sessiond::proto::{self, Role};

/// A call of the contract.
pub struct Call {
    /// Its name.
    pub name: String,
    /// Its path.
    pub path: String,
    /// Whether it is a stream, up or down.
    pub is_stream: bool,
}

/// Every call of the contract.
pub fn calls() -> Vec<Call> {
    let files = descriptors();
    // Hooks are served by backends.
    let is_served = |it: &&prost_types::ServiceDescriptorProto| it.name() != "HookService";
    let services = files.iter().flat_map(|file| &file.service).filter(is_served);
    let calls = services.flat_map(|service| {
        service.method.iter().map(move |method| Call {
            name: method.name().to_owned(),
            path: format!("/sessiond.v1.{}/{}", service.name(), method.name()),
            is_stream: method.client_streaming() || method.server_streaming(),
        })
    });
    calls.collect()
}

/// The files of the contract.
pub fn descriptors() -> Vec<prost_types::FileDescriptorProto> {
    let descriptors = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS)
        .expect("the descriptors are compiled in");
    descriptors.file.into_iter().filter(|file| file.package() == "sessiond.v1").collect()
}

/// A request of a unary call by a user, none if it is empty: about the session and the object stream of
/// this name, to act on the member `target`, and with this request id where it has one.
pub fn request_of(call: &str, name: &str, user: &str, request_id: &str) -> Vec<u8> {
    let (user_id, request_id) = (user.to_owned(), request_id.to_owned());
    let (name, session_id) = (name.to_owned(), name.to_owned());
    let target_user_id = "target".to_owned();
    macro_rules! request {
        ($request:ident { $($field:ident $(: $value:expr)?),* }) => {
            proto::$request { user_id, $($field $(: $value)?,)* ..Default::default() }
                .encode_to_vec()
        };
    }
    match call {
        "GetSessionInfo" => request!(GetSessionInfoRequest { session_id }),
        "ListSessions" => request!(ListSessionsRequest {}),
        "OpenSharedSession" => request!(OpenSharedSessionRequest { request_id }),
        "OpenPrivateSession" => {
            let source = if user.is_empty() { "owner" } else { user };
            let session_id = String::new();
            let private = private(user, source, "listener");
            proto::OpenPrivateSessionRequest { session_id, request_id, ..private }.encode_to_vec()
        }
        "UpdateSession" => {
            let update_mask = Some(prost_types::FieldMask { paths: vec!["locked".to_owned()] });
            request!(UpdateSessionRequest { session_id, update_mask, request_id })
        }
        "ResetSession" => request!(ResetSessionRequest { session_id, request_id }),
        "JoinSession" => {
            request!(JoinSessionRequest { session_id, request_id, omit_snapshot: true })
        }
        "ReserveSeats" => {
            let target_user_ids = vec!["newcomer".to_owned()];
            request!(ReserveSeatsRequest { session_id, target_user_ids, request_id })
        }
        "ReleaseSeats" => {
            let target_user_ids = vec!["newcomer".to_owned()];
            request!(ReleaseSeatsRequest { session_id, target_user_ids, request_id })
        }
        "LeaveSession" => request!(LeaveSessionRequest { session_id, request_id }),
        "DeleteSession" => request!(DeleteSessionRequest { session_id, request_id }),
        "SetUserProps" => {
            let write = proto::PropsWrite { request_id, ..write([("x", int(1))]) };
            let write = Some(write.in_session(&name));
            let target_user_id = if user.is_empty() { target_user_id } else { String::new() };
            request!(SetUserPropsRequest { target_user_id, write })
        }
        "SetSessionData" => {
            let set = props([("x", int(1))]);
            request!(SetSessionDataRequest { session_id, set, request_id })
        }
        "GetUpdatedUserData" => {
            request!(GetUpdatedUserDataRequest { session_id, target_user_id })
        }
        "GetFirstMatch" => request!(GetFirstMatchRequest { session_id }),
        "SwapHost" => request!(SwapHostRequest { session_id, target_user_id, request_id }),
        "SetRole" => {
            let role = Role::Moderator.into();
            request!(SetRoleRequest { session_id, target_user_id, role, request_id })
        }
        "KickUser" => request!(KickUserRequest { session_id, target_user_id, request_id }),
        "BanUser" => {
            proto::BanUserRequest { request_id, ..ban_of(&name, user, "target") }.encode_to_vec()
        }
        "UnbanUser" => {
            let target_user_id = "banned".to_owned();
            request!(UnbanUserRequest { session_id, target_user_id, request_id })
        }
        "TransmitSessionUpdates" => request!(TransmitSessionUpdatesRequest { session_id }),
        "SetStream" => {
            let object = props([("x", list(vec![int(0)]))]);
            let readers = ["owner", "admin", "moderator", "member", "spectator"];
            let readers = readers.map(str::to_owned).to_vec();
            request!(SetStreamRequest { name, object, readers, request_id })
        }
        "RemoveStream" => request!(RemoveStreamRequest { name, request_id }),
        "UpdateStreamData" => {
            let append = props([("x", list(vec![int(1)]))]);
            request!(UpdateStreamDataRequest { name, append, request_id })
        }
        "SetStreamFunc" => request!(SetStreamFuncRequest { name }),
        "AddStreamFunc" => {
            request!(AddStreamFuncRequest { name, expression: "value".to_owned() })
        }
        "GetStreamUpdate" => request!(GetStreamUpdateRequest { name }),
        "GetAllStreamUpdates" => request!(GetAllStreamUpdatesRequest {}),
        _ => panic!("{call} has a request"),
    }
}

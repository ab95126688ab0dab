//! Clients of what one user shows to another.

use crate::support::*;
use sessiond::proto::{self, Changes, NamedValue, SnapshotReason};
use tonic::Status;

/// subscribeToUser with all defaults.
pub async fn subscribe_to_user(
    service: &Service,
    listener: &str,
    source: &str,
) -> (String, Watcher) {
    subscribe_to_user_with(service, listening(source, listener)).await
}

/// The id of the private session, and what the listener knows of it, with the snapshot applied.
pub async fn subscribe_to_user_with(
    service: &Service,
    request: proto::SubscribeToUserRequest,
) -> (String, Watcher) {
    let mut watcher = service.open_listener(request, Rebuilt::default()).await;
    assert_eq!(watcher.next_snapshot().await, SnapshotReason::First);
    // A watcher of a user keeps the id of the session where others have that of the subscriber.
    let session_id = watcher.user_id.clone();
    assert!(!session_id.is_empty(), "the first message names the session");
    (session_id, watcher)
}

/// The props that changed, as `user.key=value`.
pub fn writes_in(change: &Changes) -> Vec<String> {
    let of_member = |member: &proto::MemberChange| -> Vec<String> {
        let write = |named: &NamedValue| {
            let (key, value) = show_named(named);
            format!("{}.{key}={value}", member.user_id)
        };
        member.props.iter().map(write).collect()
    };
    change.members.iter().flat_map(of_member).collect()
}

/// Opens a private session, or is refused; no user = the app does it.
pub async fn try_open_private(
    service: &Service,
    request: proto::OpenPrivateSessionRequest,
) -> Result<proto::OpenPrivateSessionResponse, Status> {
    let answer = in_time(service.sessions().open_private_session(sent(request))).await;
    answer.map(tonic::Response::into_inner)
}

/// What opens the private session source -> listener; its id is generated.
pub fn private_opening(
    user: &str,
    source: &str,
    listener: &str,
) -> proto::OpenPrivateSessionRequest {
    proto::OpenPrivateSessionRequest {
        session_id: String::new(),
        ..private(user, source, listener)
    }
}

/// Opens a private session; returns its description.
pub async fn open_private(
    service: &Service,
    request: proto::OpenPrivateSessionRequest,
) -> proto::SessionInfo {
    let opened = try_open_private(service, request).await.expect("it opens");
    opened.session.expect("it is told")
}

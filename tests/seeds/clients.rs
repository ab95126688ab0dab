//! Clients of what one user shows to another, and of every single write.

use crate::support::*;
use sessiond::proto::{
    self, Changes, DeliveryOptions, NamedValue, SessionUpdate, SnapshotReason, session_update::Body,
};
use tonic::{Status, Streaming};

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

/// A subscription to every single write: what SessionStreaming calls onupdate.
pub struct EveryWrite {
    down: Streaming<proto::SubscribeToSessionResponse>,
    /// Where it began.
    pub snapshot: Rebuilt,
}

impl EveryWrite {
    /// Subscribes; returns with the first snapshot applied.
    pub async fn open(service: &Service, session: &str, user: &str) -> Self {
        let options =
            DeliveryOptions { delivery: proto::Delivery::All.into(), ..Default::default() };
        let request = proto::SubscribeToSessionRequest {
            options: Some(options),
            ..subscription(session, user)
        };
        let answer = in_time(service.delivery().subscribe_to_session(request)).await;
        let mut down = answer.expect("streams are refused in their trailers").into_inner();
        let first = in_time(down.message()).await.expect("the stream goes on");
        let first = first.and_then(|message| message.update).expect("a snapshot comes first");
        Self { down, snapshot: Rebuilt::from_snapshot(first) }
    }

    /// The writes and events of the next message, in order, each with its revision.
    pub async fn next(&mut self) -> Vec<(u64, Changes)> {
        let mut updates = Vec::new();
        loop {
            let message = in_time(self.down.message()).await.expect("the stream goes on");
            let update = message.and_then(|message| message.update).expect("the stream goes on");
            let SessionUpdate { more, body, .. } = update;
            let Some(Body::Log(log)) = body else { panic!("a log comes, not {body:?}") };
            let said = log.updates.into_iter();
            updates.extend(said.map(|it| (it.revision, it.change.expect("it has a change"))));
            if !more {
                return updates;
            }
        }
    }

    /// The same as `user.key=value`, for the props in it.
    pub async fn next_writes(&mut self) -> Vec<String> {
        self.next().await.iter().flat_map(|(_, change)| writes_in(change)).collect()
    }
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
    let answer = in_time(service.sessions().open_private_session(request)).await;
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

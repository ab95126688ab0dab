//! SessionStreaming: creating arbitrary multiplayer sessions, basic moderation of rooms, and update
//! scripts for incoming streams.

use crate::support::*;
use sessiond::proto::{self, JoinOptions, PropsWrite, SessionKind, SnapshotReason};
use tonic::Code;

/// createSession of the example: an app, an object that is streamed, and the keys that are shown.
fn create_session(user: &str, kind: SessionKind, keys: &[&str]) -> proto::OpenSharedSessionRequest {
    proto::OpenSharedSessionRequest {
        kind: kind.into(),
        join: Some(JoinOptions { props: props([("key1", int(0))]), ..Default::default() }),
        ..opening("session", user, propnames(keys))
    }
}

/// A room of ada's that shows key1, in which bob is, with what the two know.
async fn room_of_two(service: &Service) -> (Watcher, Watcher) {
    service.try_open(create_session("ada", SessionKind::Room, &["key1"])).await.expect("it opens");
    service.join("session", "bob").await;
    service.tick();
    (service.watch("session", "ada").await, service.watch("session", "bob").await)
}

#[tokio::test]
async fn type_room_sends_all_user_data_to_all_other_users_based_on_propnames() {
    let service = Service::start().await;
    let (mut ada, mut bob) = room_of_two(&service).await;
    service.set("bob", [("key1", int(1)), ("secret", int(2))]).await;
    service.set_in("session", "ada", [("key1", int(3)), ("secret", int(4))]).await;
    service.tick();
    for watcher in [&mut ada, &mut bob] {
        watcher.next_changes().await;
        assert_eq!(watcher.rebuilt.props("bob"), shown([("key1", int(1))]));
        assert_eq!(watcher.rebuilt.props("ada"), shown([("key1", int(3))]));
    }
}

#[tokio::test]
async fn session_id_is_the_session_to_subscribe_to() {
    let service = Service::start().await;
    service.try_open(create_session("ada", SessionKind::Room, &["key1"])).await.expect("opens");
    service.tick();
    let mut ada = service.watch("session", "ada").await;
    // Joins in the same call, as the user of the client.
    let bob = service.watch_joining("session", "bob").await;
    assert_eq!(bob.rebuilt.session().session_id, "session");
    assert_eq!(bob.rebuilt.props("ada"), shown([("key1", int(0))]));
    service.tick();
    ada.next_changes().await;
    assert!(ada.rebuilt.knows("bob"));
    let told = service.refused_watch(subscription("session", "eve")).await;
    told.is(Code::FailedPrecondition, "NOT_A_MEMBER");
    let told = service.refused_watch(tied("nowhere", "eve")).await;
    told.is(Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn default_stream_setup_is_a_datastream_which_you_can_update() {
    let service = Service::start().await;
    let (mut ada, _other) = room_of_two(&service).await;
    let mut open = stream_open("session", "eve");
    open.subscriptions[0].join = Some(JoinOptions::default());
    let mut stream = service.open_stream(open).await;
    assert_eq!(stream.next_snapshot().await, SnapshotReason::First);
    let seq = stream.write(write([("key1", text("newdata")), ("unnamed", int(1))]));
    stream.until_acked(&service, seq).await;
    assert_eq!(stream.refusals, []);
    let newdata = shown([("key1", text("newdata"))]);
    service.tick_until(&mut ada, |it| it.knows("eve") && it.props("eve") == newdata).await;
}

#[tokio::test]
async fn updates_may_merge_into_what_a_key_holds() {
    let service = Service::start().await;
    let (mut ada, _other) = room_of_two(&service).await;
    let state = map([("a", int(1)), ("b", int(2))]);
    service.set_in("session", "bob", [("key1", state)]).await;
    service.tick();
    ada.next_changes().await;
    let merge = PropsWrite { merge_maps: true, ..write([("key1", map([("b", int(3))]))]) };
    service.try_write("bob", merge.in_session("session")).await.expect("it is written");
    service.tick();
    ada.next_changes().await;
    let merged = shown([("key1", map([("a", int(1)), ("b", int(3))]))]);
    assert_eq!(ada.rebuilt.props("bob"), merged);
}

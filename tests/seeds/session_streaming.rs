//! SessionStreaming: creating arbitrary multiplayer sessions, basic moderation of rooms, and update
//! scripts for incoming streams.

mod create_session;

use crate::{clients::*, support::*};
use sessiond::proto::{
    self, JoinOptions, PropsWrite, SessionKind, SessionSettings, SnapshotReason,
};
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

mod subscribe_to_session {
    use super::*;

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
}

#[tokio::test]
async fn set_session_settings_adds_or_replaces_props_in_session_and_users_are_updated_next_loop() {
    let service = Service::start().await;
    let (mut ada, mut bob) = room_of_two(&service).await;
    service.set("bob", [("key2", int(2))]).await;
    let settings = SessionSettings {
        name: "renamed".to_owned(),
        metadata: props([("anything", text("goes")), ("limit", int(5))]),
        ..propnames(&["key1", "key2"])
    };
    let mask = ["name", "metadata", "propnames"];
    let told = refused(service.try_update("session", "bob", &mask, settings.clone()).await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW");
    service.update("session", "ada", &mask, settings).await;
    assert_eq!(ada.glance().await, None, "not before the next loop");
    service.tick();
    for watcher in [&mut ada, &mut bob] {
        // The keys that are shown changed, so the view did.
        assert_eq!(watcher.next_snapshot().await, SnapshotReason::ViewChanged);
        let settings = watcher.rebuilt.session().settings.clone().expect("they are told");
        assert_eq!(settings.name, "renamed");
        assert_eq!(show(&settings.metadata["anything"]), show(&text("goes")));
        assert_eq!(watcher.rebuilt.props("bob"), shown([("key2", int(2))]));
    }
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

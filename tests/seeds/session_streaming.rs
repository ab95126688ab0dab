//! SessionStreaming: creating arbitrary multiplayer sessions, basic moderation of rooms, and update
//! scripts for incoming streams.

mod create_session;
mod make;

use crate::{clients::*, support::*};
use sessiond::proto::{
    self, Delivery, DeliveryOptions, DepartureReason, EndReason, JoinOptions, PropsWrite, Role,
    SessionKind, SessionSettings, SnapshotReason,
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

mod subscribe_to_user {
    use super::*;

    fn with_propnames(listener: &str, source: &str) -> proto::SubscribeToUserRequest {
        let propnames = vec!["key".to_owned()];
        proto::SubscribeToUserRequest { propnames, ..listening(source, listener) }
    }

    #[tokio::test]
    async fn propnames_are_the_keys_that_the_user_streams_to_me() {
        let service = Service::start().await;
        service.open_room("lobby", "source").await;
        service.set("source", [("key", int(1)), ("other", int(1))]).await;
        service.tick();
        let (_other, mut me) =
            subscribe_to_user_with(&service, with_propnames("me", "source")).await;
        assert_eq!(me.rebuilt.props("source"), shown([("key", int(1))]));
        assert!(!me.rebuilt.member("source").disconnected, "it is in the lobby");
        // What is set on the user reaches its private sessions and its shared ones alike.
        let mut lobby = service.watch("lobby", "source").await;
        service.set("source", [("key", int(2)), ("other", int(2))]).await;
        service.tick();
        service.tick_until(&mut me, |it| it.props("source") == shown([("key", int(2))])).await;
        lobby.next_changes().await;
        assert_eq!(lobby.rebuilt.props("source"), shown([("key", int(2)), ("other", int(2))]));
    }

    #[tokio::test]
    async fn onupdate_and_onframe_come_of_a_user_as_of_a_session() {
        let service = Service::start().await;
        let (session, mut onframe) = subscribe_to_user(&service, "me", "source").await;
        let options = DeliveryOptions { delivery: Delivery::All.into(), ..Default::default() };
        let request = proto::SubscribeToUserRequest {
            options: Some(options),
            ..with_propnames("me", "source")
        };
        let (_other, mut onupdate) = subscribe_to_user_with(&service, request).await;
        for watcher in [&mut onupdate, &mut onframe] {
            service.tick_until(watcher, |it| it.knows("me")).await;
        }
        for value in [1, 1, 2] {
            service.set_in(&session, "source", [("key", int(value))]).await;
        }
        service.tick();
        let each = ["source.key=1i", "source.key=1i", "source.key=2i"];
        assert_eq!(next_writes(&mut onupdate).await, each);
        assert_eq!(writes_in(&onframe.next_changes().await), ["source.key=2i"]);
    }

    #[tokio::test]
    async fn subscribing_again_uses_the_session_that_is_there() {
        let service = Service::start().await;
        let (first, _me) = subscribe_to_user_with(&service, with_propnames("me", "source")).await;
        let (again, second) = subscribe_to_user(&service, "me", "source").await;
        assert_eq!(again, first);
        let settings = second.rebuilt.session().settings.clone().expect("they are told");
        assert_eq!(settings.propnames, ["key"], "the settings are those of the opening");
        let (another, _you) = subscribe_to_user(&service, "you", "source").await;
        assert_ne!(another, first, "one per source and listener");
        let (back, _source) = subscribe_to_user(&service, "source", "me").await;
        assert_ne!(back, first, "the other direction is another one");
    }

    #[tokio::test]
    async fn a_user_who_is_not_there_is_shown_as_disconnected() {
        let service = Service::start().await;
        let (_other, mut me) =
            subscribe_to_user_with(&service, with_propnames("me", "source")).await;
        service.tick_until(&mut me, |it| it.knows("source")).await;
        assert!(me.rebuilt.member("source").disconnected);
        service.open_room("lobby", "source").await;
        service.tick_until(&mut me, |it| !it.member("source").disconnected).await;
        service.leave("lobby", "source").await;
        service.tick_until(&mut me, |it| it.member("source").disconnected).await;
    }

    #[tokio::test]
    async fn only_i_see_it() {
        let service = Service::start().await;
        let (session, _me) = subscribe_to_user_with(&service, with_propnames("me", "source")).await;
        service.tick();
        for somebody in ["you", "outsider"] {
            let told = refused(service.try_info(&session, somebody).await);
            told.is(Code::NotFound, "SESSION_NOT_FOUND");
            let told = refused(service.try_join(&session, somebody, JoinOptions::default()).await);
            told.is(Code::NotFound, "SESSION_NOT_FOUND");
            let told = service.refused_watch(subscription(&session, somebody)).await;
            told.is(Code::NotFound, "SESSION_NOT_FOUND");
            let list =
                proto::ListSessionsRequest { user_id: somebody.to_owned(), ..Default::default() };
            assert_eq!(service.try_list(list).await.expect("it lists").sessions, []);
        }
        for insider in ["me", "source", ""] {
            let info = service.info(&session, insider).await.session.expect("it is told");
            assert_eq!((&*info.source_id, &*info.listener_id), ("source", "me"));
        }
    }

    #[tokio::test]
    async fn it_is_over_when_nobody_listens_any_more() {
        let service = Service::start().await;
        let (session, me) = subscribe_to_user_with(&service, with_propnames("me", "source")).await;
        service.tick();
        drop(me);
        in_time(async {
            while service.try_info(&session, "").await.is_ok() {
                service.tick();
            }
        })
        .await;
        let (again, _me) = subscribe_to_user(&service, "me", "source").await;
        assert_ne!(again, session, "it is a new one");
    }
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

    #[tokio::test]
    async fn without_it_it_is_to_be_handled_yourself() {
        let service = Service::start().await;
        let (_other, mut bob) = room_of_two(&service).await;
        service.set_in("session", "bob", [("key1", int(1))]).await;
        service.tick();
        bob.next_changes().await;
        assert_eq!(bob.rebuilt.props("bob"), shown([("key1", int(1))]));
    }

    #[tokio::test]
    async fn onupdate_and_onframe_come_for_subscribers_as_for_who_opened() {
        let service = Service::start().await;
        let (_other, mut onframe) = room_of_two(&service).await;
        let mut onupdate = onupdate(&service, "session", "bob").await;
        for value in [1, 1, 2] {
            service.set_in("session", "ada", [("key1", int(value))]).await;
        }
        service.tick();
        assert_eq!(next_writes(&mut onupdate).await, ["ada.key1=1i", "ada.key1=1i", "ada.key1=2i"]);
        assert_eq!(writes_in(&onframe.next_changes().await), ["ada.key1=2i"]);
    }
}

mod unsubscribe {
    use super::*;

    #[tokio::test]
    async fn user_id_is_yours_by_default() {
        let service = Service::start().await;
        let (mut ada, mut bob) = room_of_two(&service).await;
        service.leave("session", "bob").await;
        service.tick();
        bob.end().await.is_ok(EndReason::Left);
        let changes = ada.next_changes().await;
        assert_eq!(changes.left[0].user_id, "bob");
        assert!(!ada.rebuilt.knows("bob"));
    }

    #[tokio::test]
    async fn kick_is_an_alias_for_the_user_to_unsubscribe_from_session() {
        let service = Service::start().await;
        let (mut ada, mut bob) = room_of_two(&service).await;
        let told = refused(service.try_kick("session", "bob", "ada", "").await);
        told.is(Code::PermissionDenied, "ROLE_TOO_LOW");
        service.try_kick("session", "ada", "bob", "").await.expect("she owns it");
        service.tick();
        bob.end().await.is(EndReason::Kicked, Code::PermissionDenied);
        assert_eq!(ada.next_changes().await.left[0].reason(), DepartureReason::Kicked);
        service.join("session", "bob").await;
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
async fn delete_session_is_for_its_owner_and_closes_it_for_all() {
    let service = Service::start().await;
    let (mut ada, mut bob) = room_of_two(&service).await;
    let told = refused(service.try_delete("session", "bob").await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW").says("needs", "owner");
    service.try_delete("session", "ada").await.expect("she owns it");
    service.tick();
    ada.end().await.is_ok(EndReason::Deleted);
    bob.end().await.is_ok(EndReason::Deleted);
    refused(service.try_info("session", "ada").await).is(Code::NotFound, "SESSION_NOT_FOUND");
}

/// Manual session updating.
mod manual {
    use super::*;

    /// A room that ticks once a second, and what ada and bob know of it.
    async fn slow_room(service: &Service) -> (Watcher, Watcher) {
        let mut request = create_session("ada", SessionKind::Room, &["key1"]);
        request.settings.get_or_insert_default().tick_interval = Some(ms(1_000));
        service.try_open(request).await.expect("it opens");
        service.join("session", "bob").await;
        service.advance(1_000);
        let both = (service.watch("session", "ada").await, service.watch("session", "bob").await);
        service.advance(100);
        both
    }

    #[tokio::test]
    async fn update_session_users_triggers_an_update_to_all_users() {
        let service = Service::start().await;
        let (mut ada, mut bob) = slow_room(&service).await;
        service.set_in("session", "bob", [("key1", int(1))]).await;
        service.try_transmit("session", "ada", "", false).await.expect("she may");
        service.advance(0);
        for watcher in [&mut ada, &mut bob] {
            watcher.next_changes().await;
            assert_eq!(watcher.rebuilt.props("bob"), shown([("key1", int(1))]));
        }
        let told = refused(service.try_transmit("session", "bob", "", false).await);
        told.is(Code::PermissionDenied, "ROLE_TOO_LOW");
    }

    #[tokio::test]
    async fn update_user_stream_triggers_an_update_to_the_listening_user() {
        let service = Service::start().await;
        let (mut ada, _other) = room_of_two(&service).await;
        // Two messages a second at most, unless it asks for more.
        let options = DeliveryOptions { max_rate_hz: 2, ..Default::default() };
        let request = proto::SubscribeToSessionRequest {
            options: Some(options),
            ..subscription("session", "bob")
        };
        let mut bob = service.watch_with(request).await;
        service.advance(1_000);
        let mut heard = Vec::new();
        for value in [1, 2] {
            service.set_in("session", "ada", [("key1", int(value))]).await;
            service.tick();
            ada.next_changes().await;
            heard.push(bob.glance().await.is_some());
        }
        assert_eq!(heard, [true, false], "the second has to wait");
        service.try_transmit("session", "bob", "bob", false).await.expect("it is oneself");
        bob.next_changes().await;
        assert_eq!(bob.rebuilt.props("ada"), shown([("key1", int(2))]));
        assert_eq!(ada.glance().await, None, "it is for the listening user only");
    }

    #[tokio::test]
    async fn update_user_stream_of_what_was_sent_already() {
        let service = Service::start().await;
        let (mut ada, mut bob) = slow_room(&service).await;
        service.try_transmit("session", "bob", "bob", true).await.expect("it is oneself");
        assert_eq!(bob.next_snapshot().await, SnapshotReason::Resent);
        assert_eq!(ada.glance().await, None);
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
